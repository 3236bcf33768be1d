"""
Datagrams that die on the way: sent with a low time to live.

They open this side's own NATs for a peer without arriving at the other side's, where some routers
would take the uninvited packet for their own (C{docs/ladder.md}).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from p2ptwist.core.address import HostPort
from p2ptwist.core.stun.binding import bindingRequest
from p2ptwist.core.stun.message import TRANSACTION_ID_LENGTH
from p2ptwist.net.datagramport import DatagramPort

DEFAULT_TTL = 64  # RFC 1700's, and what sockets have that were not told otherwise
# Routers that a near datagram passes at most: three NATs and some routers inside a provider's
# network; another peer is seldom as close.
NEAR_LIMIT = 6
MEASURE_TIME = 1.0  # seconds; a round trip by satellite
_REPEAT_AFTER = 0.3  # seconds; one of ten datagrams may be lost


def writeNear(port: DatagramPort, data: bytes, address: HostPort, ttl: int) -> bool:
    """
    Send one datagram that passes C{ttl - 1} routers and dies at the next.

    @return: whether the operating system took it.
    """
    transport: Any = port.transport
    if transport is None:
        return False
    options = [(socket.IPPROTO_IP, socket.IP_TTL)] if port.hasIPv4 else []
    if port.hasIPv6:
        # Which of the two is for IPv4 from a socket of both families depends on the system.
        options.append((socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS))
    for level, option in options:
        transport.socket.setsockopt(level, option, ttl)
    try:
        return port.write(data, address)
    finally:
        for level, option in options:
            transport.socket.setsockopt(level, option, DEFAULT_TTL)


def nearTTL(
    clock: IReactorTime,
    port: DatagramPort,
    server: HostPort,
    randomBytes: Callable[[int], bytes] = os.urandom,
) -> Deferred[int]:
    """
    Find the time to live for near datagrams: one less than reaches a STUN server, so that it passes
    every NAT of this side's if any does, but nothing at the other end of the way.

    @param port: an open one that nothing else uses; it stays open.
    @param server: a literal address.
    @return: a Deferred that fires with 1..6, after a second: with 6 where nothing of 7 or less
        arrives.  It never fails, and can be cancelled.
    """
    return _Measurement(clock, port, server, randomBytes).result


class _Measurement:
    """
    One request for each time to live, all at once.
    """

    def __init__(
        self,
        clock: IReactorTime,
        port: DatagramPort,
        server: HostPort,
        randomBytes: Callable[[int], bytes],
    ) -> None:
        self.result: Deferred[int] = Deferred(lambda _: self._end())
        self._port = port
        self._server = server
        self._requests = {
            randomBytes(TRANSACTION_ID_LENGTH): ttl for ttl in range(1, NEAR_LIMIT + 2)
        }
        self._least = NEAR_LIMIT + 1
        port.addConsumer(self._received)
        self._timers = [
            clock.callLater(_REPEAT_AFTER, self._send),
            clock.callLater(MEASURE_TIME, self._finish),
        ]
        self._send()

    def _send(self) -> None:
        for transactionID, ttl in self._requests.items():
            writeNear(self._port, bindingRequest(transactionID), self._server, ttl)

    def _received(self, data: bytes, address: HostPort) -> bool:
        ttl = self._requests.get(data[8:20])
        if ttl is None or address != self._server:
            return False
        self._least = min(self._least, ttl)
        return True

    def _finish(self) -> None:
        self._end()
        self.result.callback(max(1, self._least - 1))

    def _end(self) -> None:
        self._port.removeConsumer(self._received)
        for timer in self._timers:
            if timer.active():
                timer.cancel()
