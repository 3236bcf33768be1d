"""
What each port mapping protocol of this host's routers would do, for reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from p2ptwist.errors import PortMappingError
from p2ptwist.net.mappedport import MapperReport
from p2ptwist.net.portmapping import MAPPERS, PortMappings
from p2ptwist.net.uplink import MapperFactory

LIFETIME = 120.0  # seconds; RFC 6887 section 15 has no shorter ones
# Ports that nobody is given (RFC 6335 section 6): one for each protocol, as a router with one table
# for all of them would let only one have it.
_FIRST_PORT, _LAST_PORT = 49152, 65535


def probeMappers(
    reactor: Any,
    *,
    mappers: Sequence[MapperFactory] = MAPPERS,
    interface: str = "",
    seen: Iterable[str] = (),
    random: Random | None = None,
    told: Callable[[tuple[MapperReport, ...]], object] = lambda _: None,
) -> Deferred[tuple[MapperReport, ...]]:
    """
    Have a port mapped by each protocol alone, and take it back.

    @param reactor: one with time and UDP; with child processes, for UPnP.
    @param mappers: the protocols.
    @param interface: the only address of this host to use; empty for any.
    @param seen: the literal addresses that STUN servers see this host at.
    @param random: chooses the ports.
    @param told: called with the reports of each protocol as soon as there are any: three seconds
        from now at the latest, and before anything is taken back.
    @return: a Deferred that fires with a report for each protocol and router when everything has
        been taken back; an empty one where there is no router to ask.  It never fails, and can be
        cancelled: routers are told to take back what they have granted, but not waited for.
    """
    random = random or Random()
    ports = random.sample(range(_FIRST_PORT, _LAST_PORT + 1), len(mappers))
    hosts = tuple(seen)
    probes = [
        Deferred.fromCoroutine(
            _probe(reactor, mapper, port, interface, hosts, Random(random.random()), told)
        )
        for mapper, port in zip(mappers, ports, strict=True)
    ]
    gathered: Deferred[list[tuple[MapperReport, ...]]] = gatherResults(probes, consumeErrors=True)
    return gathered.addCallback(lambda reports: sum(reports, ()))


async def _probe(
    reactor: Any,
    mapper: MapperFactory,
    port: int,
    interface: str,
    seen: tuple[str, ...],
    random: Random,
    told: Callable[[tuple[MapperReport, ...]], object],
) -> tuple[MapperReport, ...]:
    mappings = PortMappings(
        reactor, [mapper], interface=interface, lifetime=LIFETIME, random=random
    )
    mappings.seen(seen)
    mappings.startService()
    try:
        with suppress(PortMappingError):
            await mappings.map("udp", port)
        await mappings.whenSettled()
        reports = mappings.reports()
        told(reports)
    finally:
        stopped = mappings.stopService()
    await stopped
    return reports
