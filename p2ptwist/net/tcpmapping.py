"""
How the NATs before this host map TCP: one local port makes connections to several addresses of STUN
servers, which say where they come from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATMapping
from p2ptwist.core.nattests.mapping import inferMapping
from p2ptwist.net.tcpobserve import Observation
from p2ptwist.net.tcpport import TCPPort


@dataclass(frozen=True, slots=True)
class TCPFindings:
    """
    What was found out.

    @ivar mapping: the mapping of TCP; C{None} where it is not known.
    @ivar addresses: every address that the port was seen at.
    """

    mapping: NATMapping | None = None
    addresses: tuple[HostPort, ...] = ()


def discoverTCPMapping(
    reactor: Any,
    hosts: Sequence[str],
    servers: Sequence[HostPort],
    *,
    interface: str = "",
    randomBytes: Callable[[int], bytes] = os.urandom,
) -> Deferred[TCPFindings]:
    """
    Find out how TCP is mapped, in two seconds at most.

    @param reactor: provides C{IReactorTCP} and C{IReactorTime}.
    @param hosts: this host's addresses.
    @param servers: the literal addresses of STUN servers that listen on TCP too; those of one
        server, as RFC 5780 has them, tell most.
    @param interface: a literal address to use alone; empty for all.
    @return: a Deferred that fires with the findings.  It can be cancelled.
    """
    return Deferred.fromCoroutine(_discover(reactor, hosts, servers, interface, randomBytes))


async def _discover(
    reactor: Any,
    hosts: Sequence[str],
    servers: Sequence[HostPort],
    interface: str,
    randomBytes: Callable[[int], bytes],
) -> TCPFindings:
    port = TCPPort(reactor, hosts, interface)
    port.listen(lambda: None)
    observations: list[Observation] = []
    try:
        usable = [server for server in dict.fromkeys(servers) if port.speaks(server[0])]
        observations += [Observation(reactor, port, each, randomBytes) for each in usable]
        waiting = [observation.whenSeen() for observation in observations]
        outcomes = await DeferredList(waiting, consumeErrors=True)
        seen = {
            server: address
            for server, (answered, address) in zip(usable, outcomes, strict=True)
            if answered
        }
    finally:
        for observation in observations:
            observation.close()
        await port.close()
    return TCPFindings(inferMapping(seen), tuple(dict.fromkeys(seen.values())))
