"""
Port mappings: local ports that this host's own routers let the Internet in to.

All protocols are tried at once and the best is kept; see L{p2ptwist.net.lease}.  This module finds
the routers, notices when there are others, and tells how it went.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, canonicalHost, isIPv6
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.portmapping.answers import isPublic
from p2ptwist.core.portmapping.grant import Grant, MappingRequest, mappingNonce
from p2ptwist.errors import PortMappingError
from p2ptwist.interfaces import IPortMapper, IPortMapping
from p2ptwist.net.announcements import Announcements
from p2ptwist.net.gateways import defaultGateways
from p2ptwist.net.hostaddresses import hostAddresses
from p2ptwist.net.latch import Latch
from p2ptwist.net.lease import Lease
from p2ptwist.net.mappedport import MapperReport, PortMapping
from p2ptwist.net.portmapper import natpmpMapper, pcpMapper, upnpMapper
from p2ptwist.net.uplink import MapperFactory, Uplink, findUplinks

# Seconds that are asked for.  RFC 6886 section 3.3 recommends 7200: half of that, as a process that
# is killed leaves its mapping for so long.
LIFETIME = 3600.0
# Seconds between two looks whether the routers are the same and have kept their mappings: some
# bytes in the own network, and for as long a connection may be without a mapping at worst.
CHECK_INTERVAL = 30.0
STOP_LIMIT = 3.0  # seconds that taking back takes at most, however many mappings there are
MAX_MAPPINGS = 16  # ports of one program; a home router has some hundreds for all its hosts

MAPPERS: tuple[MapperFactory, ...] = (pcpMapper, natpmpMapper, upnpMapper)  # the best first

_log = Logger()


@dataclass(slots=True)
class _Way:
    """
    One way out, and the mappers for it, the best first.
    """

    uplink: Uplink
    mappers: list[IPortMapper]


class PortMappings(Service):
    """
    The port mappings of one program.
    """

    def __init__(
        self,
        reactor: Any,
        mappers: Sequence[MapperFactory] | None = None,
        *,
        secret: bytes | None = None,
        interface: str = "",
        lifetime: float = LIFETIME,
        random: Random | None = None,
    ) -> None:
        """
        @param reactor: one with time and UDP.
        @param mappers: make the mapper of each protocol, the best first, from the reactor, a
            router's literal address and this host's address towards it; C{None} for all.
        @param secret: 32 bytes that this program has each time that it is started, and nobody else:
            with them it gets its mappings back.  C{None} for random ones.
        @param interface: the only address of this host whose ports are mapped; empty for any.
        @param lifetime: the seconds that are asked for: for as long a mapping stays when this
            program is killed.
        @param random: for the spread of new tries.
        """
        self._reactor = reactor
        self._factories = MAPPERS if mappers is None else tuple(mappers)
        self._secret = os.urandom(32) if secret is None else secret
        self._interface = interface
        self._lifetime = lifetime
        self._random = random or Random()
        self._ways: list[_Way] = []
        self._mappings: dict[tuple[str, int], PortMapping] = {}
        self._told: dict[PortMapping, tuple[HostPort, ...]] = {}
        self._observers: list[Callable[[IPortMapping], object]] = []
        self._reports: dict[tuple[str, str], MapperReport] = {}
        self._seen: frozenset[str] = frozenset()
        self._settled: Latch[None] = Latch()
        self._announcements = Announcements(reactor, self._announced)
        self._checking = LoopingCall(self._check)
        self._checking.clock = reactor
        self._surveying: Deferred[None] | None = None
        # What there was when the routers were last looked for.
        self._network: tuple[tuple[str, ...], frozenset[str]] | None = None
        self._stopping: set[Deferred[Any]] = set()

    def startService(self) -> None:
        """
        Find the routers, and ask for what is wanted already.
        """
        super().startService()
        self._checking.start(CHECK_INTERVAL).addErrback(self._broken)

    def stopService(self) -> Deferred[None]:
        """
        Take back every mapping.

        @return: a Deferred that fires when the routers have answered, in L{STOP_LIMIT} seconds at
            most.  It never fails; cancel it to wait for no answer.
        """
        super().stopService()
        if self._checking.running:
            self._checking.stop()
        if self._surveying is not None:
            self._surveying.cancel()
        for transport, port in tuple(self._mappings):
            self.unmap(transport, port)
        return Deferred.fromCoroutine(self._finish())

    def map(self, transport: str, port: int) -> Deferred[IPortMapping]:
        """
        Have a local port mapped for as long as this service runs.  Whoever asks for the same port
        again gets the same mapping.

        @param transport: C{"udp"} or C{"tcp"}.
        @param port: the local port, 1024..65535.
        @return: a Deferred that fires with the mapping as soon as there is one; fails with a
            L{PortMappingError} when no router makes one, and then they are asked again, later and
            later: L{observe} tells.  Cancel it to want none.
        @raise LocalUsageError: for another transport or port, or too many of them.
        """
        self._wanted(transport, port, "0.0.0.0", "0.0.0.0")  # complains
        mapping = self._mappings.get((transport, port)) or self._newMapping(transport, port)
        result = mapping.when()
        if not result.called and not mapping.asking:
            for lease in tuple(mapping.leases.values()):
                lease.ask()
            self._changed(mapping)
        self._settle()
        return result

    def unmap(self, transport: str, port: int) -> Deferred[None]:
        """
        Want that port mapped no more.

        @return: a Deferred that fires when the router has answered, or was given up.  It never
            fails.
        """
        mapping = self._mappings.pop((transport, port), None)
        if mapping is None:
            return succeed(None)
        self._told.pop(mapping, None)
        mapping.settle(Failure(CancelledError()))
        return self._background(self._release(mapping.leases.values()))

    def observe(self, changed: Callable[[IPortMapping], object]) -> None:
        """
        @param changed: called with a mapping whenever its external addresses are others, or none.
        """
        self._observers.append(changed)

    def seen(self, hosts: Iterable[str]) -> None:
        """
        Tell how others see this host: what a router says that differs is another NAT's doing.

        @param hosts: the literal addresses that STUN servers told.
        """
        self._seen = frozenset(map(canonicalHost, hosts))

    def reports(self) -> tuple[MapperReport, ...]:
        """
        @return: what each protocol made of each router the last time, as far as it has answered.
        """
        return tuple(
            replace(
                each,
                doubleNAT=each.external is not None and self.isBehindAnother(each.external[0]),
            )
            for each in self._reports.values()
        )

    def isBehindAnother(self, host: str) -> bool:
        """
        @param host: an external address that a router told.
        @return: whether that cannot be how the Internet sees it: because it is private or shared,
            or because STUN servers see another.
        """
        if not isPublic(host):
            return True
        seen = [each for each in self._seen if not isIPv6(each)]
        return bool(seen) and not isIPv6(host) and host not in seen

    def whenSettled(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when every router has answered for what is mapped so far, or
            was given up: three seconds from then at the latest.
        """
        return self._settled.when()

    def networkChanged(self) -> None:
        """
        Look now whether there are other routers.  It is looked from time to time anyway.
        """
        if self.running and self._surveying is None:
            self._surveying = Deferred.fromCoroutine(self._survey())
            self._surveying.addErrback(self._broken).addBoth(self._surveyOver)

    def _check(self) -> None:
        """
        Look for other routers, and ask those that have mappings whether they still have.
        """
        self.networkChanged()
        leases = (lease for each in self._mappings.values() for lease in each.leases.values())
        for mapper in {lease.held.mapper for lease in leases if lease.held is not None}:
            self._background(_awaited(mapper.check()))

    async def _survey(self) -> None:
        """
        Find the ways out, where anything has changed; begin anew with those that are new.
        """
        gateways = await defaultGateways(self._reactor)
        network = (tuple(gateways), frozenset(hostAddresses(self._reactor)))
        if self._network == network:
            return
        uplinks = await findUplinks(self._reactor, gateways, self._interface)
        self._network = network
        known = {way.uplink: way for way in self._ways}
        self._ways = [known.get(each) or self._way(each) for each in uplinks]
        for uplink in known.keys() - set(uplinks):
            self._leave(known[uplink])
        for way in self._ways:
            if not isIPv6(way.uplink.gateway) and way.mappers:
                self._announcements.listen(way.uplink.interface)
        for mapping in tuple(self._mappings.values()):
            for way in self._ways:
                if way.uplink not in mapping.leases:
                    self._lease(mapping, way)
            self._changed(mapping)

    def _surveyOver(self, _: object) -> None:
        self._surveying = None

    def _way(self, uplink: Uplink) -> _Way:
        made = [make(self._reactor, uplink.gateway, uplink.interface) for make in self._factories]
        way = _Way(uplink, [mapper for mapper in made if mapper is not None])
        for mapper in way.mappers:
            mapper.restarted = lambda: self._restarted(way)
        _log.debug("ports can be mapped at the router {gateway}", gateway=uplink.gateway)
        return way

    def _leave(self, way: _Way) -> None:
        """
        That router is not the default one any more.  What it has is taken back, if it still can be
        reached.
        """
        leases = [
            lease
            for mapping in self._mappings.values()
            if (lease := mapping.leases.pop(way.uplink, None)) is not None
        ]
        self._reports = {
            key: each for key, each in self._reports.items() if each.gateway != way.uplink.gateway
        }
        self._background(self._release(leases, way))

    async def _release(self, leases: Iterable[Lease], way: _Way | None = None) -> None:
        """
        Take back what there is.

        @param way: what is closed then.
        """
        await DeferredList([lease.release() for lease in leases], consumeErrors=True)
        if way is not None:
            await self._close(way)

    def _close(self, way: _Way) -> Deferred[Any]:
        return DeferredList([mapper.stop() for mapper in way.mappers], consumeErrors=True)

    def _newMapping(self, transport: str, port: int) -> PortMapping:
        if len(self._mappings) >= MAX_MAPPINGS:
            raise LocalUsageError(f"{MAX_MAPPINGS} ports are mapped already")
        mapping = self._mappings[transport, port] = PortMapping(
            transport, port, self.isBehindAnother, lambda: self.unmap(transport, port)
        )
        for way in self._ways:
            self._lease(mapping, way)
        return mapping

    def _lease(self, mapping: PortMapping, way: _Way) -> None:
        uplink = way.uplink
        lease = Lease(
            self._reactor,
            way.mappers,
            self._wanted(mapping.transport, mapping.port, uplink.gateway, uplink.interface),
            self._random,
            lambda: self._changed(mapping),
            self._answered,
        )
        mapping.leases[uplink] = lease
        lease.ask()

    def _wanted(self, transport: str, port: int, gateway: str, interface: str) -> MappingRequest:
        nonce = mappingNonce(self._secret, transport, port, gateway, interface)
        return MappingRequest(transport, interface, port, port, self._lifetime, nonce)

    def _restarted(self, way: _Way) -> None:
        _log.info("the router {gateway} has restarted", gateway=way.uplink.gateway)
        for mapping in tuple(self._mappings.values()):
            lease = mapping.leases.get(way.uplink)
            if lease is not None:
                lease.redo()

    def _answered(self, mapper: IPortMapper, result: Grant | Failure) -> None:
        report = MapperReport(mapper.name, mapper.gateway)
        if isinstance(result, Grant):
            report = replace(
                report,
                external=result.external,
                lifetime=result.lifetime,
                router=result.router,
            )
        else:
            error = result.value if isinstance(result.value, PortMappingError) else None
            report = replace(report, problem=result.getErrorMessage(), error=error)
        self._reports[mapper.name, mapper.gateway] = report

    def _announced(self, data: bytes, address: HostPort) -> None:
        for way in self._ways:
            for mapper in way.mappers:
                announced = getattr(mapper, "announced", None)
                if announced is not None:
                    announced(data, address)

    def _changed(self, mapping: PortMapping) -> None:
        """
        Something may be different: tell those who wait, and those who observe.
        """
        if self._mappings.get((mapping.transport, mapping.port)) is not mapping:
            return
        if mapping.externals != self._told.get(mapping, ()):
            self._told[mapping] = mapping.externals
            for observer in tuple(self._observers):
                self._tell(observer, mapping)
        if mapping.externals:
            mapping.settle(mapping)
        elif self._network is not None and not mapping.asking:
            mapping.settle(mapping.failure())
        self._settle()

    def _settle(self) -> None:
        """
        See whether nobody is asked any more.
        """
        asking = any(mapping.asking for mapping in self._mappings.values())
        if asking and self._settled.settled:
            self._settled = Latch()
        elif self._network is not None and not asking:
            self._settled.settle(None)

    def _tell(self, observer: Callable[[IPortMapping], object], mapping: PortMapping) -> None:
        try:
            observer(mapping)
        except Exception:
            _log.failure("an observer of port mappings failed")

    async def _finish(self) -> None:
        """
        Wait for what is under way, and close everything.
        """
        late = self._reactor.callLater(STOP_LIMIT, self._giveUp)
        with suppress(CancelledError):  # whoever cancels waits for no answer
            await DeferredList(list(self._stopping))
        if late.active():
            late.cancel()
        ways, self._ways, self._network = self._ways, [], None
        await DeferredList([self._close(way) for way in ways], consumeErrors=True)
        await self._announcements.stop()

    def _giveUp(self) -> None:
        _log.info("some routers did not answer when their mappings were taken back")
        for each in tuple(self._stopping):
            each.cancel()

    def _background(self, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        """
        Do something that stopping waits for.

        @return: a Deferred that fires when it is over.  It never fails.
        """

        def over(result: object) -> None:
            self._stopping.discard(working)
            if isinstance(result, Failure):
                self._broken(result)

        working: Deferred[Any] = Deferred.fromCoroutine(work)
        self._stopping.add(working)
        return working.addBoth(over)

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("something in mapping ports failed", failure)


async def _awaited(work: Deferred[None]) -> None:
    await work
