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
    machine = NATDiscovery(_canonical(server), clock.seconds(), randomBytes, timeLimit)
    run = _Run(clock, machine, send, found, timeLimit)
    run.start()
    return run.receive, run.result


def _canonical(address: HostPort) -> HostPort:
    return canonicalHost(address[0]), address[1]


class _Run:
    """
    A discovery and the Deferred that waits for it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        machine: NATDiscovery,
        send: Callable[[bytes, HostPort], object],
        found: Callable[[HostPort], object] | None,
        timeLimit: float,
    ) -> None:
        self._send = send
        self._found = found
        self._timeLimit = timeLimit
        self._pump = Pump[DiscoveryEvent](clock, machine, self._transmit, self._deliver)
        self.result: Deferred[Discovered] = Deferred(lambda _: self._pump.stop())

    def start(self) -> None:
        """
        Send the first request.
        """
        self._pump.drain()

    def receive(self, data: bytes, address: HostPort) -> bool:
        """
        @return: whether that answered one of the tests.
        """
        return self._pump.receiveDatagram(data, _canonical(address))

    def _transmit(self, data: bytes, address: HostPort) -> None:
        # No route, or a full buffer: it is sent again, and unanswered at last.
        with suppress(OSError):
            self._send(data, address)

    def _deliver(self, event: DiscoveryEvent) -> None:
        if isinstance(event, ReflexiveFound):
            if self._found is not None:
                self._found(event.address)
            return
        self._pump.stop()
        if isinstance(event, Discovered):
            self.result.callback(event)
            return
        try:
            readAddress(event.server, event.event, self._timeLimit)
        except (STUNTimeout, STUNRefused) as error:
            self.result.errback(error)
