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
from p2ptwist.core.nattests.servers import testServer
from p2ptwist.net.closing import thenClose
from p2ptwist.net.latch import Latch
from p2ptwist.net.tcpobserve import Observation
from p2ptwist.net.tcpport import TCPPort

_ROUND = 1.5  # seconds: a connection, of which one packet may be lost, and an answer


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
    Find out how TCP is mapped, in three seconds at most.

    @param reactor: provides C{IReactorTCP} and C{IReactorTime}.
    @param hosts: this host's addresses.
    @param servers: the literal addresses of STUN servers that listen on TCP too; those of one
        server, as RFC 5780 has them, tell most.
    @param interface: a literal address to use alone; empty for all.
    @return: a Deferred that fires with the findings.  It can be cancelled.
    """
    port = TCPPort(reactor, hosts, interface)
    return thenClose(_discover(reactor, port, servers, randomBytes), port.close)


async def _discover(
    reactor: Any,
    port: TCPPort,
    servers: Sequence[HostPort],
    randomBytes: Callable[[int], bytes],
) -> TCPFindings:
    port.listen(lambda: None)
    asking = _Asking(reactor, port, randomBytes)
    try:
        await asking.ask([server for server in dict.fromkeys(servers) if port.speaks(server[0])])
        # Those that are not known from UDP.
        await asking.ask(asking.alternates())
    finally:
        asking.close()
    return TCPFindings(inferMapping(asking.seen), tuple(dict.fromkeys(asking.seen.values())))


class _Asking:
    """
    One port's questions.

    @ivar seen: what the servers that answered saw.
    """

    def __init__(self, reactor: Any, port: TCPPort, randomBytes: Callable[[int], bytes]) -> None:
        self.seen: dict[HostPort, HostPort] = {}
        self._reactor = reactor
        self._port = port
        self._randomBytes = randomBytes
        self._observations: dict[HostPort, Observation] = {}

    async def ask(self, servers: Sequence[HostPort]) -> None:
        """
        Ask servers at the same time, and wait until all have answered, or for L{_ROUND}.
        """
        over: Latch[None] = Latch()
        waiting = DeferredList([self._ask(each) for each in servers], consumeErrors=True)
        waiting.addBoth(lambda _: over.settle(None))
        timer = self._reactor.callLater(_ROUND, over.settle, None)
        try:
            await over.when()
        finally:
            if timer.active():
                timer.cancel()

    def alternates(self) -> list[HostPort]:
        """
        @return: the other addresses of the first server that has any, as far as they were not asked
            yet.
        """
        answered = (testServer(each, self._observations[each].other) for each in self.seen)
        server = next((each for each in answered if each.hasAlternate), None)
        if server is None:
            return []
        return [each for each in server.alternates() if each not in self._observations]

    def close(self) -> None:
        """
        Close every connection.
        """
        for observation in self._observations.values():
            observation.close()

    def _ask(self, server: HostPort) -> Deferred[None]:
        observation = Observation(self._reactor, self._port, server, self._randomBytes)
        self._observations[server] = observation

        def saw(address: HostPort) -> None:
            self.seen[server] = address

        return observation.whenSeen().addCallback(saw)
