"""
NAT behaviour discovery (RFC 5780): which address a port has, and how the NATs before it behave.

Everything is asked of one STUN server from the very port whose behaviour matters:

 1. One Binding request tells the reflexive address, and the server's alternate address.
 2. Filtering: the server is asked to answer from its other host and port, and, unless that comes
    in, from its other port; this port has never sent anything there.
 3. Mapping: those other addresses are asked for the reflexive address themselves.

No answer is an answer in step 2, but only when step 3 shows that there was somebody to answer; see
L{Evidence}.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from p2ptwist.core.address import HostPort, parseHost
from p2ptwist.core.behavior import Evidence, Response
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.machine import Transmit
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.stun.binding import (
    CHANGE_HOST,
    CHANGE_PORT,
    bindingRequest,
    otherAddress,
    reflexiveAddress,
)
from p2ptwist.core.stun.message import TRANSACTION_ID_LENGTH, MessageClass
from p2ptwist.core.stun.transaction import Answered, ClientTransaction, TransactionEvent

TIME_LIMIT = 3.0  # seconds for everything: as long as somebody waits for a program to start
_RTO = 0.1  # seconds, doubling; a request too many is 48 bytes on the wire
_SENDS = 7  # RFC 8489 section 6.2.1; of these 5 find room in the time limit
_LAST_FACTOR = 16  # RFC 8489 section 6.2.1
# Silence costs 1.5 s: sends at 0, 0.1, 0.3 and 0.7 s, and then a round trip by satellite.  With one
# datagram of ten lost on each way, one test in 770 mistakes loss for a filter.
_FILTERING_SENDS = 4
_FILTERING_LAST_FACTOR = 8
# How long the answer from the other host may take before the other port is tried as well, in round
# trips and in seconds: what is let in is lost as evidence of the mapping, see Evidence.
_HEAD_START = 2
_HEAD_START_LEAST, _HEAD_START_MOST = 0.1, 0.5


@dataclass(frozen=True, slots=True)
class ReflexiveFound:
    """
    The server answered; the tests go on.

    @ivar address: the address that the server sees this port at.
    """

    address: HostPort


@dataclass(frozen=True, slots=True)
class Discovered:
    """
    The end of a discovery.

    @ivar reflexive: the address that the server sees this port at.
    @ivar behavior: what was found out.
    @ivar addresses: every address that this port was seen at, C{reflexive} first; more than one
        where mapping depends on the destination.
    """

    reflexive: HostPort
    behavior: NATBehavior
    addresses: tuple[HostPort, ...]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """
    The end of a discovery whose server told no address.

    @ivar server: which it was.
    @ivar event: how the one request to it ended.
    """

    server: HostPort
    event: TransactionEvent


DiscoveryEvent: TypeAlias = ReflexiveFound | Discovered | Unanswered


class _Step(enum.Enum):
    """
    Which tests are running.
    """

    FIRST = enum.auto()
    FILTERING = enum.auto()
    MAPPING = enum.auto()
    NONE = enum.auto()


@dataclass(frozen=True, slots=True)
class _Test:
    """
    One request.

    @ivar transaction: sends it.
    @ivar origin: where its answer is to come from.
    """

    transaction: ClientTransaction
    origin: HostPort


class NATDiscovery:
    """
    One run of the tests: a machine in the sense of L{p2ptwist.core.machine}.

    Its events are L{ReflexiveFound} and then L{Discovered}, or L{Unanswered}.
    """

    def __init__(
        self,
        server: HostPort,
        now: float,
        randomBytes: Callable[[int], bytes],
        timeLimit: float = TIME_LIMIT,
    ) -> None:
        """
        @param server: a STUN server, in canonical text.
        @param randomBytes: makes transaction IDs, which nobody must be able to guess.
        @param timeLimit: seconds for everything.
        """
        self._server = server
        self._randomBytes = randomBytes
        self._end = now + timeLimit
        self._step = _Step.FIRST
        self._evidence = Evidence(server, server)
        self._headStart = _HEAD_START_MOST
        self._askOtherPortAt: float | None = None
        self._tests: dict[bytes, _Test] = {}  # by transaction ID; three at most
        self._transmits: deque[Transmit] = deque()
        self._events: deque[DiscoveryEvent] = deque()
        self._ask(server, now)
        self._collect(now)

    def receiveDatagram(self, data: bytes, address: HostPort, now: float) -> bool:
        """
        Take an answer to one of the tests.

        @return: whether it was one.
        """
        test = self._tests.get(data[8:20])
        if test is None or not test.transaction.receiveDatagram(data, address, now):
            return False
        self._collect(now)
        return True

    def handleTimeout(self, now: float) -> None:
        """
        Ask again, or take silence for an answer, where that is due.
        """
        for test in self._tests.values():
            test.transaction.handleTimeout(now)
        if self._askOtherPortAt is not None and now >= self._askOtherPortAt:
            self._askOtherPort(now)
        self._collect(now)

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} is due; C{None} after the end.
        """
        deadlines = [test.transaction.deadline() for test in self._tests.values()]
        deadlines.append(self._askOtherPortAt)
        return min((each for each in deadlines if each is not None), default=None)

    def pollTransmit(self) -> Transmit | None:
        """
        @return: the next datagram to send.
        """
        return self._transmits.popleft() if self._transmits else None

    def pollEvent(self) -> DiscoveryEvent | None:
        """
        @return: the next event.
        """
        return self._events.popleft() if self._events else None

    def _ask(
        self, destination: HostPort, now: float, origin: HostPort | None = None, change: int = 0
    ) -> None:
        """
        Start a test.

        @param origin: where the answer is to come from, if not from C{destination}.
        @param change: how to say so to the server.
        """
        transactionID = self._randomBytes(TRANSACTION_ID_LENGTH)
        transaction = ClientTransaction(
            bindingRequest(transactionID, change),
            transactionID,
            destination,
            now,
            rto=_RTO,
            requestCount=_FILTERING_SENDS if change else _SENDS,
            lastFactor=_FILTERING_LAST_FACTOR if change else _LAST_FACTOR,
            timeLimit=self._end - now,
            alternateSource=origin,
        )
        self._tests[transactionID] = _Test(transaction, origin or destination)

    def _collect(self, now: float) -> None:
        """
        Take what the tests have to send and to tell, and go on when all have ended.
        """
        for transactionID, test in tuple(self._tests.items()):
            while (transmit := test.transaction.pollTransmit()) is not None:
                self._transmits.append(transmit)
            event = test.transaction.pollEvent()
            if event is not None:
                del self._tests[transactionID]
                self._conclude(test, event)
        if self._step is _Step.FILTERING and self._evidence.filtering() is not None:
            self._tests.clear()  # whoever lets everybody in lets in whom the other tests
            self._askOtherPortAt = None
        if self._tests:
            return
        if self._askOtherPortAt is not None:
            self._askOtherPort(now)
            self._collect(now)
        else:
            self._advance(now)

    def _conclude(self, test: _Test, event: TransactionEvent) -> None:
        """
        Note how a test ended.
        """
        evidence = self._evidence
        if self._step is _Step.FILTERING:
            evidence.responses[test.origin] = _response(test, event)
            return
        seen = _seenAt(event)
        if seen is not None:
            evidence.seen[test.origin] = seen
        if self._step is _Step.FIRST:
            self._concludeFirst(event, seen)

    def _concludeFirst(self, event: TransactionEvent, seen: HostPort | None) -> None:
        if seen is None or not isinstance(event, Answered):
            self._events.append(Unanswered(self._server, event))
            return
        self._events.append(ReflexiveFound(seen))
        if event.roundTrip is not None:
            wanted = max(_HEAD_START_LEAST, _HEAD_START * event.roundTrip)
            self._headStart = min(wanted, _HEAD_START_MOST)
        other = otherAddress(event.message)
        if other is not None and _usable(other, self._server):
            self._evidence.other = other

    def _advance(self, now: float) -> None:
        """
        Start the next tests, or end.
        """
        evidence = self._evidence
        if self._step is _Step.FIRST and evidence.other != self._server:
            self._step = _Step.FILTERING
            self._askFiltering(evidence, now)
            self._collect(now)
        elif self._step is _Step.FILTERING:
            self._step = _Step.MAPPING
            self._askMapping(evidence, now)
            self._collect(now)
        elif self._step is not _Step.NONE:
            self._step = _Step.NONE
            if self._server in evidence.seen:
                addresses = tuple(dict.fromkeys(evidence.seen.values()))
                self._events.append(Discovered(addresses[0], evidence.behavior(), addresses))

    def _askFiltering(self, evidence: Evidence, now: float) -> None:
        port = CHANGE_PORT if evidence.portsDiffer else 0
        if not evidence.hostsDiffer:
            self._askOtherPort(now)
            return
        self._askElsewhere(evidence.other, CHANGE_HOST | port, now)
        if port:
            self._askOtherPortAt = now + self._headStart

    def _askOtherPort(self, now: float) -> None:
        self._askOtherPortAt = None
        self._askElsewhere(self._evidence.otherPort, CHANGE_PORT, now)

    def _askElsewhere(self, origin: HostPort, change: int, now: float) -> None:
        self._evidence.responses[origin] = Response.PENDING
        self._ask(self._server, now, origin, change)

    def _askMapping(self, evidence: Evidence, now: float) -> None:
        for address in dict.fromkeys((evidence.otherHost, evidence.otherPort, evidence.other)):
            if address != self._server:
                self._ask(address, now)


def _response(test: _Test, event: TransactionEvent) -> Response:
    if not isinstance(event, Answered):
        return Response.NONE
    asAsked = event.message.messageClass is MessageClass.SUCCESS and event.source == test.origin
    return Response.AS_ASKED if asAsked else Response.OTHERWISE


def _seenAt(event: TransactionEvent) -> HostPort | None:
    """
    @return: the address that an answer tells, if there is an answer and it tells one.
    """
    if not isinstance(event, Answered) or event.message.messageClass is not MessageClass.SUCCESS:
        return None
    try:
        return reflexiveAddress(event.message)
    except MalformedDatagram:
        return None


def _usable(other: HostPort, server: HostPort) -> bool:
    """
    @return: whether an alternate address may be used: an address of a host, of the same family.
    """
    host = parseHost(other[0])
    return (
        other[1] > 0
        and host.version == parseHost(server[0]).version
        and not (host.is_multicast or host.is_unspecified)
        and other[0] != "255.255.255.255"
    )
