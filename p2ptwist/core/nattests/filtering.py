"""
Filtering (RFC 5780 section 4.4): a port that never sent to anybody else asks a server to answer
from its other addresses.

The machine asks in rounds.  Each round has a request to be answered from the other host and port,
one to be answered from the other port, and a plain one, whose answer shows that at this moment
datagrams got through.  Silence is evidence of a filter by as many rounds as make loss too unlikely
an explanation, given how many plain requests were lost.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.machine import Transmit
from p2ptwist.core.nat import NATFiltering
from p2ptwist.core.nattests.servers import TestServer
from p2ptwist.core.stun.binding import CHANGE_HOST, CHANGE_PORT, bindingRequest
from p2ptwist.core.stun.message import TRANSACTION_ID_LENGTH, MessageClass, decode, isSTUN

ROUNDS = 10
INTERVAL = 0.08  # seconds between two rounds
# Seconds to wait for answers after the last round: a round trip by satellite.
LAST_WAIT = 0.8
# How likely loss may be to explain all silence.
_DOUBT = 1e-4


class Answer(enum.Enum):
    """
    What came of asking to be answered from elsewhere.
    """

    NONE = enum.auto()
    AS_ASKED = enum.auto()
    OTHERWISE = enum.auto()


@dataclass(frozen=True, slots=True)
class FilteringEvidence:
    """
    The end of the test, and its event.

    @ivar server: who was asked.
    @ivar fromOther: whether an answer came from the other host (and the other port, if any).
    @ivar fromOtherPort: whether one came from the other port.
    @ivar rounds: how often was asked.
    @ivar lost: how many plain requests were not answered.
    """

    server: TestServer
    fromOther: Answer
    fromOtherPort: Answer
    rounds: int
    lost: int

    def infer(
        self, alive: Collection[HostPort], honoured: bool | None = None
    ) -> NATFiltering | None:
        """
        @param alive: the addresses that are known to answer when they are asked.
        @param honoured: whether the server is known to answer from elsewhere when nothing stops it;
            C{None} where that could not be tried.
        @return: what follows, with what servers of one host or one port can tell.
        """
        server = self.server
        if server.hostsDiffer:
            if self.fromOther is Answer.AS_ASKED:
                return NATFiltering.ENDPOINT_INDEPENDENT
            if self.fromOther is Answer.OTHERWISE or server.other not in alive:
                return None
        if not server.portsDiffer or not self._conclusive(honoured):
            return None
        if self.fromOtherPort is Answer.AS_ASKED:
            return NATFiltering.ADDRESS_DEPENDENT if server.hostsDiffer else None
        if self.fromOtherPort is Answer.OTHERWISE or server.otherPort not in alive:
            return None
        return NATFiltering.ADDRESS_AND_PORT_DEPENDENT

    def _conclusive(self, honoured: bool | None) -> bool:
        """
        @return: whether silence means anything.
        """
        lossRate = (self.lost + 1) / (self.rounds + 2)  # Laplace's rule of succession
        return honoured is not False and lossRate**self.rounds < _DOUBT


@dataclass(slots=True)
class _Question:
    """
    One kind of request, sent in every round until it is answered.

    @ivar change: what it asks for.
    @ivar origin: where its answer is to come from.
    @ivar pending: the transaction IDs that were sent.
    """

    change: int
    origin: HostPort
    pending: set[bytes]
    answer: Answer = Answer.NONE


class FilteringTest:
    """
    One run of the test: a machine in the sense of L{p2ptwist.core.machine}.

    Its one event is a L{FilteringEvidence}.
    """

    def __init__(
        self,
        server: TestServer,
        now: float,
        randomBytes: Callable[[int], bytes],
        rounds: int = ROUNDS,
    ) -> None:
        """
        @param server: one with an alternate address.
        @param randomBytes: makes transaction IDs, which nobody must be able to guess.
        """
        self._server = server
        self._randomBytes = randomBytes
        self._rounds = rounds
        self._done = 0
        self._plain: set[bytes] = set()
        port = CHANGE_PORT if server.portsDiffer else 0
        self._other = _Question(CHANGE_HOST | port, server.other, set())
        self._otherPort = _Question(CHANGE_PORT, server.otherPort, set())
        if not server.hostsDiffer:
            self._other.answer = Answer.OTHERWISE
        if not server.portsDiffer:
            self._otherPort.answer = Answer.OTHERWISE
        self._deadline: float | None = now
        self._transmits: deque[Transmit] = deque()
        self._events: deque[FilteringEvidence] = deque()
        self.handleTimeout(now)

    def receiveDatagram(self, data: bytes, address: HostPort, now: float) -> bool:
        """
        Take an answer.

        @return: whether it was one, by transaction ID and source.
        """
        transactionID = data[8:20]
        if self._deadline is None or not isSTUN(data):
            return False
        if transactionID in self._plain and address == self._server.primary:
            self._plain.discard(transactionID)
            return True
        for question in (self._other, self._otherPort):
            if transactionID in question.pending and self._take(question, data, address):
                self._conclude()
                return True
        return False

    def handleTimeout(self, now: float) -> None:
        """
        Ask once more, or take silence for an answer, where that is due.
        """
        if self._deadline is None or now < self._deadline:
            return
        if self._done == self._rounds:
            self._finish()
            return
        self._done += 1
        for question in (self._other, self._otherPort):
            if question.answer is Answer.NONE:
                question.pending.add(self._send(question.change))
        self._plain.add(self._send(0))
        self._deadline = now + (INTERVAL if self._done < self._rounds else LAST_WAIT)

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} is due; C{None} after the end.
        """
        return self._deadline

    def pollTransmit(self) -> Transmit | None:
        """
        @return: the next datagram to send.
        """
        return self._transmits.popleft() if self._transmits else None

    def pollEvent(self) -> FilteringEvidence | None:
        """
        @return: the one event, once.
        """
        return self._events.popleft() if self._events else None

    def _send(self, change: int) -> bytes:
        transactionID = self._randomBytes(TRANSACTION_ID_LENGTH)
        request = bindingRequest(transactionID, change)
        self._transmits.append(Transmit(request, self._server.primary))
        return transactionID

    def _take(self, question: _Question, data: bytes, address: HostPort) -> bool:
        try:
            messageClass = decode(data).messageClass
        except MalformedDatagram:
            return False
        if messageClass is MessageClass.SUCCESS and address == question.origin:
            question.answer = Answer.AS_ASKED
        elif (
            messageClass in (MessageClass.SUCCESS, MessageClass.ERROR)
            and address == self._server.primary
        ):
            question.answer = Answer.OTHERWISE
        else:
            return False
        question.pending.clear()
        return True

    def _conclude(self) -> None:
        """
        End early where nothing more can be learned.
        """
        other, otherPort = self._other.answer, self._otherPort.answer
        open_ = self._server.hostsDiffer and other is Answer.AS_ASKED
        if open_ or Answer.NONE not in (other, otherPort):
            self._finish()

    def _finish(self) -> None:
        self._deadline = None
        self._transmits.clear()
        evidence = FilteringEvidence(
            self._server, self._other.answer, self._otherPort.answer, self._done, len(self._plain)
        )
        self._events.append(evidence)
