"""
The examination of this host's way to others: everything at the same time, within five seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from twisted.application.service import IService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, formatAddress, isIPv6
from p2ptwist.core.portmapping.answers import isPublic
from p2ptwist.errors import NameNotResolved, P2PError
from p2ptwist.interfaces import ILink
from p2ptwist.net.closing import thenClose
from p2ptwist.net.hostaddresses import hostAddresses
from p2ptwist.net.latch import Latch
from p2ptwist.net.mappedport import MapperReport
from p2ptwist.net.mapperprobe import probeMappers
from p2ptwist.net.names import resolveAddress
from p2ptwist.net.natreport import NATReport, measureNAT
from p2ptwist.net.portmapping import MAPPERS
from p2ptwist.net.together import together
from p2ptwist.net.uplink import MapperFactory
from p2ptwist.peer.diagnosis import Diagnosis, NodeReport

TIME_LIMIT = 4.2  # seconds for everything but the lifetime: a person waits for less than five
# Seconds that one link which is up waits for others, whose nodes name more STUN servers.
_GRACE = 0.2
# Seconds for the first link: what is left is enough for every other test.
_LINKING = 1.0
_RESOLVING = 1.0  # seconds for the names of servers
_GOODBYE = 0.3  # seconds that links may take to close

_T = TypeVar("_T")

Progress = Callable[[str], object]


def examine(
    reactor: Any,
    nodes: Sequence[tuple[str, ILink]],
    stunServers: Sequence[HostPort] = (),
    *,
    mappers: Sequence[MapperFactory] = MAPPERS,
    lifetime: float | None = None,
    progress: Progress = lambda _: None,
    randomBytes: Callable[[int], bytes] = os.urandom,
) -> Deferred[Diagnosis]:
    """
    Find out everything about this host's way to others.

    @param reactor: a Twisted reactor, or a host of a simulated Internet.
    @param nodes: names of rendezvous nodes, and links to them that were not started.
    @param stunServers: names or literal addresses, and ports, of servers to ask besides those that
        the nodes name.
    @param mappers: the port mapping protocols to try.
    @param lifetime: up to how many seconds to look for the lifetime of mappings, which takes up to
        four times as long; C{None} not to.
    @param progress: called with a few words whenever something is found out.
    @param randomBytes: a cryptographic source.
    @return: a Deferred that fires with what was found out; what fails, or is late, is not.  It can
        be cancelled.
    """
    examination = _Examination(reactor, nodes, stunServers, mappers, progress, randomBytes)
    return thenClose(examination.run(lifetime), examination.close)


class _Examination:
    """
    One run.
    """

    def __init__(
        self,
        reactor: Any,
        nodes: Sequence[tuple[str, ILink]],
        stunServers: Sequence[HostPort],
        mappers: Sequence[MapperFactory],
        progress: Progress,
        randomBytes: Callable[[int], bytes],
    ) -> None:
        self._reactor = reactor
        self._nodes = nodes
        self._mappers = mappers
        self._progress = progress
        self._randomBytes = randomBytes
        self._start = reactor.seconds()
        self._end = self._start + TIME_LIMIT
        self._hosts = tuple(hostAddresses(reactor))
        self._reports = {name: NodeReport(name) for name, _ in nodes}
        self._servers = list(stunServers)
        self._waiting = len(nodes)
        self._linked: Latch[None] = Latch()
        self._grace: Any = None
        self._routers: list[MapperReport] = []

    async def run(self, lifetime: float | None) -> Diagnosis:
        """
        @return: what was found out.
        """
        links = [Deferred.fromCoroutine(self._link(name, link)) for name, link in self._nodes]
        parts: list[Deferred[Any]] = [
            Deferred.fromCoroutine(self._measure(lifetime)),
            Deferred.fromCoroutine(self._map()),
            *links,
        ]
        nat, *_ = await together(parts)
        return self._diagnosis(nat)

    def _diagnosis(self, nat: NATReport | None) -> Diagnosis:
        nodes = tuple(self._reports[name] for name, _ in self._nodes)
        seconds = self._reactor.seconds() - self._start
        known = Diagnosis(nat, tuple(self._routers), nodes, self._hosts, seconds)
        routers = tuple(replace(each, doubleNAT=known.isInner(each)) for each in known.routers)
        return replace(known, routers=routers)

    # Links

    async def _link(self, name: str, link: ILink) -> None:
        """
        Bring one link up, and see which STUN servers its node names.
        """
        IService(link).startService()
        try:
            arrived = await self._arrives(link.whenUp(), self._end)
        except P2PError as error:
            self._reports[name] = NodeReport(name, problem=str(error))
        else:
            if arrived is None:
                self._reports[name] = NodeReport(name, problem=f"{name} did not answer in time")
            else:
                self._reports[name] = NodeReport(
                    name, arrived.nodeName, arrived.roundTrip, arrived.observedAddress
                )
                self._servers += arrived.stunServers
        self._told(self._reports[name])

    def _told(self, report: NodeReport) -> None:
        if report.roundTrip is not None:
            self._progress(f"link to {report.node}: {report.roundTrip * 1000:.0f} ms")
        else:
            self._progress(report.problem or f"no link to {report.node}")
        self._waiting -= 1
        if not self._waiting:
            self._linked.settle(None)
        elif report.up and self._grace is None:
            self._grace = self._reactor.callLater(_GRACE, self._linked.settle, None)

    def close(self) -> Deferred[None]:
        """
        Give up the links.
        """
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        stopping = [maybeDeferred(IService(link).stopService) for _, link in self._nodes]
        stopped = DeferredList(stopping, consumeErrors=True)
        await self._arrives(stopped, self._reactor.seconds() + _GOODBYE)

    # NATs

    async def _measure(self, lifetime: float | None) -> NATReport | None:
        """
        @return: what STUN servers tell; C{None} where nobody knows one.
        """
        if self._waiting:
            patience = _LINKING if self._servers else TIME_LIMIT / 2
            await self._arrives(self._linked.when(), self._start + patience)
        servers = await self._addresses()
        if not servers:
            return None
        left = max(_LINKING, self._end - self._reactor.seconds())
        return await measureNAT(
            self._reactor,
            servers,
            progress=self._progress,
            lifetime=lifetime,
            timeLimit=left,
            randomBytes=self._randomBytes,
        )

    async def _addresses(self) -> list[HostPort]:
        """
        @return: the servers' literal addresses, IPv6 ones where this host has any itself.
        """
        families = [False]
        if any(isIPv6(host) and isPublic(host) for host in self._hosts):
            families.append(True)
        names = list(dict.fromkeys(self._servers))
        found = await together([self._resolve(*name, ipv6) for name in names for ipv6 in families])
        return list(dict.fromkeys(address for address in found if address is not None))

    def _resolve(self, host: str, port: int, ipv6: bool) -> Deferred[HostPort | None]:
        resolving = resolveAddress(self._reactor, host, port, ipv6=ipv6, timeout=_RESOLVING)
        return resolving.addErrback(_unresolved)

    # Routers

    async def _map(self) -> None:
        """
        Have each protocol map a port, and take it back.
        """

        def told(reports: tuple[MapperReport, ...]) -> None:
            self._routers += reports
            for report in reports:
                self._progress(_words(report))

        random = Random(self._randomBytes(16))
        probing = probeMappers(self._reactor, mappers=self._mappers, random=random, told=told)
        await self._arrives(probing, self._end)

    async def _arrives(self, waiting: Deferred[_T], end: float) -> _T | None:
        """
        Wait, but not longer than that.

        @return: what came; C{None} when it is late, and given up.
        @raise Exception: what it failed with.
        """
        over: Latch[None] = Latch()
        outcome: list[_T | Failure] = []

        def arrived(result: _T | Failure) -> None:
            if not over.settled:  # else nobody cares how it ends
                outcome.append(result)
                over.settle(None)

        waiting.addBoth(arrived)
        timer = self._reactor.callLater(max(0.0, end - self._reactor.seconds()), over.settle, None)
        try:
            await over.when()
        finally:
            over.settle(None)
            if timer.active():
                timer.cancel()
            if not outcome:
                waiting.cancel()
        result = outcome[0] if outcome else None
        if isinstance(result, Failure):
            result.raiseException()
        return result


def _words(report: MapperReport) -> str:
    if report.external is None:
        return f"{report.mapper}: {report.problem}"
    return f"{report.mapper}: {formatAddress(report.external)}"


def _unresolved(failure: Failure) -> None:
    """
    A name without such an address is a server that is not asked.
    """
    failure.trap(NameNotResolved)
