"""
NAT behaviour discovery on a UDP port that the application already uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.discovery import (
    TIME_LIMIT,
    Discovered,
    DiscoveryEvent,
    NATDiscovery,
    ReflexiveFound,
)
from p2ptwist.errors import STUNRefused, STUNTimeout
from p2ptwist.net.pump import Pump
from p2ptwist.net.stunclient import readAddress

Receiver: TypeAlias = Callable[[bytes, HostPort], bool]


def discoverNAT(
    clock: IReactorTime,
    send: Callable[[bytes, HostPort], object],
    server: HostPort,
    *,
    found: Callable[[HostPort], object] | None = None,
    timeLimit: float = TIME_LIMIT,
    randomBytes: Callable[[int], bytes] = os.urandom,
) -> tuple[Receiver, Deferred[Discovered]]:
    """
    Find out which address a port has, and how the NATs before it behave.

    @param clock: a reactor.
    @param send: called with a datagram and where it goes, such as C{transport.write}.
    @param server: the literal address of a STUN server; see
        L{p2ptwist.net.names.resolveAddress} for names.
    @param found: called with the reflexive address as soon as that is known, long before the end.
    @param timeLimit: seconds for everything.
    @param randomBytes: makes transaction IDs, which nobody must be able to guess.
    @return: a callable, to be offered each datagram that comes and its source, which says whether
        it took it; and a Deferred that fires with the result, or fails with
        L{p2ptwist.errors.STUNTimeout} or L{p2ptwist.errors.STUNRefused}.  It can be cancelled.
    @raise LocalUsageError: when the address is not literal.
    """
    destination = (canonicalHost(server[0]), server[1])
    result: Deferred[Discovered] = Deferred(lambda _: pump.stop())

    def transmit(data: bytes, address: HostPort) -> None:
        # No route, or a full buffer: it is sent again, and unanswered at last.
        with suppress(OSError):
            send(data, address)

    def deliver(event: DiscoveryEvent) -> None:
        if isinstance(event, ReflexiveFound):
            if found is not None:
                found(event.address)
            return
        pump.stop()
        if isinstance(event, Discovered):
            result.callback(event)
            return
        try:
            readAddress(event.server, event.event, timeLimit)
        except (STUNTimeout, STUNRefused) as error:
            result.errback(error)

    def receive(data: bytes, address: HostPort) -> bool:
        return pump.receiveDatagram(data, (canonicalHost(address[0]), address[1]))

    machine = NATDiscovery(destination, clock.seconds(), randomBytes, timeLimit)
    pump = Pump[DiscoveryEvent](clock, machine, transmit, deliver)
    pump.drain()
    return receive, result
