"""
A UDP port that asks STUN servers, for the tests of NAT behaviour.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import isUnusable
from p2ptwist.core.machine import DatagramMachine
from p2ptwist.core.stun.binding import bindingRequest, otherAddress, reflexiveAddress
from p2ptwist.core.stun.message import TRANSACTION_ID_LENGTH, MessageClass
from p2ptwist.core.stun.transaction import Answered, ClientTransaction, TransactionEvent
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.pump import Pump

RTO = 0.1  # seconds, doubling; a request too many is 48 bytes on the wire
_SENDS = 7  # RFC 8489 section 6.2.1
_LAST_FACTOR = 16  # RFC 8489 section 6.2.1
# Ports that are tried for one of a wanted parity: that all are wrong happens once in 65,000 times.
_PARITY_TRIES = 16

EventT = TypeVar("EventT")
OpenPort = Callable[[], DatagramPort]


@dataclass(frozen=True, slots=True)
class Sighting:
    """
    An answer to a Binding request.

    @ivar server: the address that was asked.
    @ivar seen: the address that it saw the port at.
    @ivar source: where the answer came from: C{server}, or where it was asked to come from.
    @ivar other: what the server says its alternate address is.
    @ivar roundTrip: seconds; C{None} when the request was sent more than once.
    """

    server: HostPort
    seen: HostPort
    source: HostPort
    other: HostPort | None
    roundTrip: float | None


class Probe:
    """
    One port, opened for tests.
    """

    def __init__(
        self,
        clock: IReactorTime,
        port: DatagramPort,
        randomBytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param port: an open port.
        @param randomBytes: makes transaction IDs, which nobody must be able to guess.
        """
        self.port = port
        self.randomBytes = randomBytes
        self._clock = clock
        self._running: set[Callable[[], None]] = set()

    def ask(
        self,
        server: HostPort,
        timeLimit: float,
        change: int = 0,
        origin: HostPort | None = None,
        responsePort: int | None = None,
    ) -> Deferred[Sighting | None]:
        """
        Ask once; the request is sent again until it is answered.

        @param server: its literal address.
        @param timeLimit: seconds.
        @param change: what CHANGE-REQUEST asks for.
        @param origin: where the answer is to come from then.
        @param responsePort: where the answer is to go.
        @return: a Deferred that fires with the answer, or C{None} when none came that tells an
            address.  It can be cancelled.
        """
        transactionID = self.randomBytes(TRANSACTION_ID_LENGTH)
        transaction = ClientTransaction(
            bindingRequest(transactionID, change, responsePort),
            transactionID,
            server,
            self._clock.seconds(),
            rto=RTO,
            requestCount=_SENDS,
            lastFactor=_LAST_FACTOR,
            timeLimit=timeLimit,
            alternateSource=origin,
        )
        running: Deferred[TransactionEvent] = self.run(transaction)
        return running.addCallback(_sighting, server)

    def run(
        self, machine: DatagramMachine[EventT], through: Probe | None = None
    ) -> Deferred[EventT]:
        """
        Drive a machine on this port until its first event.

        @param through: what its datagrams leave by instead.
        @return: a Deferred that fires with the event.  It can be cancelled.
        """

        def stop() -> None:
            self._running.discard(stop)
            pump.stop()
            self.port.removeConsumer(pump.receiveDatagram)

        def deliver(event: EventT) -> None:
            stop()
            result.callback(event)

        result: Deferred[EventT] = Deferred(lambda _: stop())
        pump = Pump[EventT](self._clock, machine, (through or self).port.write, deliver)
        self.port.addConsumer(pump.receiveDatagram)
        self._running.add(stop)
        pump.drain()
        return result

    def close(self) -> Deferred[None]:
        """
        Give up whatever runs, without a result, and close the port.

        @return: a Deferred that fires when it is closed.
        """
        for stop in tuple(self._running):
            stop()
        return self.port.stopListening()

    def send(self, data: bytes, address: HostPort) -> None:
        """
        Send a datagram.
        """
        self.port.write(data, address)


def _sighting(event: TransactionEvent, server: HostPort) -> Sighting | None:
    if not isinstance(event, Answered) or event.message.messageClass is not MessageClass.SUCCESS:
        return None
    try:
        seen = reflexiveAddress(event.message)
    except MalformedDatagram:
        return None
    # Nobody can be seen at such an address; whoever says so lies.
    if isUnusable(seen[0]) or not seen[1] or (":" in seen[0]) != (":" in server[0]):
        return None
    return Sighting(server, seen, event.source, otherAddress(event.message), event.roundTrip)


class Probes:
    """
    The ports of one series of tests.
    """

    def __init__(
        self,
        clock: IReactorTime,
        openPort: OpenPort,
        randomBytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param openPort: makes a port that is not open yet, on any free number.
        """
        self._clock = clock
        self._makePort = openPort
        self._randomBytes = randomBytes
        self._probes: list[Probe] = []

    def open(self, odd: bool | None = None) -> Probe:
        """
        Open a port.

        @param odd: whether its number is to be odd, or even.  What another program, or this one a
            moment ago, sent from the same number may still have a mapping; so ports that must
            never have sent to a server's other addresses and those that do are kept apart.
        @return: one that lives until L{close}.
        @raise PortUnusable: when the host has none left.
        """
        for _ in range(_PARITY_TRIES):
            port = self._makePort()
            port.listen()
            probe = Probe(self._clock, port, self._randomBytes)
            self._probes.append(probe)  # also a wrong one, so that its port does not come again
            if odd is None or port.localPort % 2 == odd:
                break
        return probe

    def close(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when all ports are closed.
        """
        probes, self._probes = self._probes, []
        closing = [probe.close() for probe in probes]
        return DeferredList(closing, consumeErrors=True).addCallback(lambda _: None)
