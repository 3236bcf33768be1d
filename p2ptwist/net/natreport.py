"""
Everything that can be found out about the NATs before this host, at once, within one deadline.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, canonicalHost, isIPv6
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior, NATMapping
from p2ptwist.core.nattests.classic import BLOCKED, classicKind
from p2ptwist.core.nattests.servers import TestServer
from p2ptwist.errors import PortUnusable
from p2ptwist.net.classic import classicOpinion
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.hostaddresses import hostAddresses
from p2ptwist.net.latch import Latch
from p2ptwist.net.lifetime import measureLifetime
from p2ptwist.net.natdiscovery import NATFindings, Progress, discoverNAT
from p2ptwist.net.tcpmapping import TCPFindings, discoverTCPMapping
from p2ptwist.net.together import together

TIME_LIMIT = 4.6  # seconds for everything but the lifetime: a person waits for less than five

_log = Logger()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """
    What was found out for one family of addresses.

    @ivar udp: whether any server answered over UDP.
    @ivar behavior: what the NATs do; C{None} for each fact that could not be found out.
    @ivar addresses: every address that this host was seen at over UDP, the first one first; more
        than one where mapping depends on the destination.
    @ivar tcpAddresses: the same over TCP.
    @ivar translated: whether that is another address than the host has; C{None} when not seen.
    @ivar roundTrips: by server that answered: seconds, or C{None} where its first datagram was
        lost.
    @ivar server: the server that tests were made with.
    """

    udp: bool
    behavior: NATBehavior
    addresses: tuple[HostPort, ...] = ()
    tcpAddresses: tuple[HostPort, ...] = ()
    translated: bool | None = None
    roundTrips: dict[HostPort, float | None] = field(default_factory=dict)
    server: HostPort | None = None


@dataclass(frozen=True, slots=True)
class NATReport:
    """
    What was found out.

    @ivar ipv4: for IPv4; C{None} when no server has such an address.
    @ivar ipv6: for IPv6, likewise.
    @ivar classic: pystun3's word for it; C{None} when there is none.
    @ivar ourClassic: what pystun3 should say of what was found out here; C{None} where too little
        is known for that.
    """

    ipv4: FamilyReport | None
    ipv6: FamilyReport | None
    classic: str | None
    ourClassic: str | None

    @property
    def udp(self) -> bool:
        """
        Whether any server answered over UDP.
        """
        return any(each.udp for each in self._families())

    @property
    def behavior(self) -> NATBehavior:
        """
        What the NATs do for IPv4, where NATs are; for IPv6, if that is all that answers.
        """
        families = self._families()
        return next((each.behavior for each in families if each.udp), _first(families))

    @property
    def addresses(self) -> tuple[HostPort, ...]:
        """
        Every address that this host was seen at over UDP.
        """
        return tuple(address for each in self._families() for address in each.addresses)

    @property
    def classicDiffers(self) -> bool:
        """
        Whether pystun3 says something else.
        """
        return None not in (self.classic, self.ourClassic) and self.classic != self.ourClassic

    def _families(self) -> list[FamilyReport]:
        return [each for each in (self.ipv4, self.ipv6) if each is not None]


def _first(families: Sequence[FamilyReport]) -> NATBehavior:
    return families[0].behavior if families else UNKNOWN_BEHAVIOR


def measureNAT(
    reactor: Any,
    servers: Sequence[HostPort],
    *,
    interface: str = "",
    progress: Progress = lambda _: None,
    tcp: bool = True,
    classic: bool = True,
    lifetime: float | None = None,
    timeLimit: float = TIME_LIMIT,
    randomBytes: Callable[[int], bytes] = os.urandom,
) -> Deferred[NATReport]:
    """
    Find out everything, at the same time.  What fails, or is not done in time, is C{None}.

    @param reactor: provides C{IReactorUDP}, C{IReactorTCP} and C{IReactorTime}.
    @param servers: the literal addresses of STUN servers, of either family.
    @param interface: a literal address to use alone; empty for all.
    @param progress: called with a few words whenever a fact is found out.
    @param tcp: whether to find out how TCP is mapped.
    @param classic: whether to ask pystun3, for IPv4.
    @param lifetime: up to how many seconds to look for the lifetime of mappings, which takes three
        times as long at most, beyond C{timeLimit}; C{None} not to.
    @param timeLimit: seconds for everything else.
    @return: a Deferred that fires with the report, and fails with L{LocalUsageError} alone.  It
        can be cancelled.
    """
    return Deferred.fromCoroutine(
        _measure(
            _Measurement(
                reactor,
                interface,
                progress,
                tcp,
                lifetime,
                reactor.seconds() + timeLimit,
                randomBytes,
            ),
            servers,
            classic,
        )
    )


async def _measure(
    measurement: _Measurement, servers: Sequence[HostPort], classic: bool
) -> NATReport:
    canonical = [(canonicalHost(host), port) for host, port in servers]
    if not canonical:
        raise LocalUsageError("without a STUN server nothing can be found out")
    byFamily = [
        [each for each in canonical if isIPv6(each[0]) == family] for family in (False, True)
    ]
    chosen: Latch[HostPort] = Latch()
    parts: list[Deferred[Any]] = [
        Deferred.fromCoroutine(measurement.family(group, chosen)) for group in byFamily
    ]
    wanted = classic and bool(byFamily[0])
    parts.append(Deferred.fromCoroutine(measurement.classic(chosen, wanted)))
    ipv4, ipv6, said = await together(parts)
    return NATReport(ipv4, ipv6, said, _ourClassic(ipv4))


def _ourClassic(report: FamilyReport | None) -> str | None:
    if report is None:
        return None
    return classicKind(report.behavior, report.translated) if report.udp else BLOCKED


@dataclass(frozen=True, slots=True)
class _Measurement:
    """
    How to measure.
    """

    reactor: Any
    interface: str
    progress: Progress
    tcp: bool
    lifetime: float | None
    end: float
    randomBytes: Callable[[int], bytes]

    async def family(self, servers: list[HostPort], chosen: Latch[HostPort]) -> FamilyReport | None:
        """
        @param servers: of one family.
        @param chosen: told the server that tests are made with, if it is IPv4.
        @return: C{None} when there are no servers.
        """
        if not servers:
            return None
        found: Latch[TestServer | None] = Latch()
        tcp = Deferred.fromCoroutine(self._testTCP(servers, found))
        discovering = self._discover(servers, found, chosen)
        try:
            udp = await self._within(discovering, NATFindings())
            found.settle(None)  # if it has failed
            chosen.settle(servers[0])
            streams = await self._within(tcp, TCPFindings())
        finally:
            _abandon(tcp)
        lifetime = await self._measureLifetime(udp)
        behavior = replace(udp.behavior, tcpMapping=streams.mapping, lifetime=lifetime)
        seen = [*udp.addresses, *streams.addresses]
        translated = seen[0][0] not in hostAddresses(self.reactor) if seen else None
        if translated is False:
            behavior = _untranslated(behavior, bool(udp.addresses), bool(streams.addresses))
        return FamilyReport(
            udp=bool(udp.addresses),
            behavior=behavior,
            addresses=udp.addresses,
            tcpAddresses=streams.addresses,
            translated=translated,
            roundTrips=udp.roundTrips,
            server=udp.server.primary if udp.server else None,
        )

    async def classic(self, chosen: Latch[HostPort], wanted: bool) -> str | None:
        """
        @return: what pystun3 says.
        """
        if not wanted:
            return None
        server = await chosen.when()
        said = await self._within(classicOpinion(self.reactor, server), None)
        if said is not None:
            self.progress(f"pystun3 calls it {said}")
        return said

    def _discover(
        self,
        servers: list[HostPort],
        found: Latch[TestServer | None],
        chosen: Latch[HostPort],
    ) -> Deferred[NATFindings]:
        def tell(server: TestServer | None) -> None:
            found.settle(server)
            if not isIPv6(servers[0][0]):
                chosen.settle(server.primary if server else servers[0])

        return discoverNAT(
            self.reactor,
            self._openPort,
            servers,
            progress=self.progress,
            found=tell,
            randomBytes=self.randomBytes,
        )

    def _openPort(self) -> DatagramPort:
        return DatagramPort(self.reactor, self.interface)

    async def _testTCP(
        self, servers: list[HostPort], found: Latch[TestServer | None]
    ) -> TCPFindings:
        server = await found.when()
        if not self.tcp:
            return TCPFindings()
        addresses = [server.primary, *server.alternates()] if server else []
        findings = await discoverTCPMapping(
            self.reactor,
            hostAddresses(self.reactor),
            [*addresses, *servers],
            interface=self.interface,
            randomBytes=self.randomBytes,
        )
        self.progress(f"{findings.mapping or 'unknown'} mapping of TCP")
        return findings

    async def _measureLifetime(self, udp: NATFindings) -> float | None:
        if self.lifetime is None or udp.server is None:
            return None
        measuring = measureLifetime(
            self.reactor,
            self._openPort,
            udp.server.primary,
            high=self.lifetime,
            randomBytes=self.randomBytes,
        )
        found = await self._orElse(measuring, None)
        known = "not found out" if found is None else f"at least {found:.0f} s"
        self.progress(f"lifetime of mappings: {known}")
        return found

    async def _within(self, waiting: Deferred[_T], otherwise: _T) -> _T:
        """
        @return: what comes within the time limit, or else C{otherwise}.
        """
        left = max(0.0, self.end - self.reactor.seconds())
        timer = self.reactor.callLater(left, waiting.cancel)
        try:
            return await self._orElse(waiting, otherwise, lambda: not timer.active())
        finally:
            if timer.active():
                timer.cancel()

    async def _orElse(
        self,
        waiting: Deferred[_T],
        otherwise: _T,
        timedOut: Callable[[], bool] = lambda: False,
    ) -> _T:
        try:
            return await waiting
        except CancelledError:
            if not timedOut():
                raise
        except PortUnusable as error:
            _log.debug("a test of the NAT was not made: {error}", error=error)
        except Exception:
            _log.failure("a test of the NAT failed")
        return otherwise


def _abandon(deferred: Deferred[Any]) -> None:
    """
    Give up what nobody waits for.
    """
    deferred.addErrback(_forget)
    deferred.cancel()


def _forget(failure: Failure) -> None:
    failure.trap(Exception)


def _untranslated(behavior: NATBehavior, udp: bool, tcp: bool) -> NATBehavior:
    """
    @param udp: whether the host is seen at its own address over UDP.
    @param tcp: whether it is over TCP.
    @return: the same, where no NAT changes addresses: one for every destination, though a server
        with a single address could not tell.
    """
    independent = NATMapping.ENDPOINT_INDEPENDENT
    return replace(
        behavior,
        mapping=behavior.mapping or (independent if udp else None),
        tcpMapping=behavior.tcpMapping or (independent if tcp else None),
    )
