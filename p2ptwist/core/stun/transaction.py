"""
Client transactions (RFC 8489 section 6.2.1): one request, sent again until it is answered.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.machine import Transmit
from p2ptwist.core.stun.message import Message, MessageClass, decode, isSTUN

RTO = 0.5  # seconds, doubling; RFC 8489 section 6.2.1
REQUEST_COUNT = 7  # sends at most, "Rc"; RFC 8489 section 6.2.1
LAST_FACTOR = 16  # first timeouts waited for after the last send, "Rm"; RFC 8489 section 6.2.1


@dataclass(frozen=True, slots=True)
class Answered:
    """
    The response came.

    @ivar message: a success or an error, with the request's transaction ID.
    @ivar source: where it came from: where the request went, or the alternate source.
    @ivar roundTrip: seconds; C{None} when the request was sent more than once, so that nobody
        knows which one was answered.
    """

    message: Message
    source: HostPort
    roundTrip: float | None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """
    No response came.

    @ivar destination: where the requests went.
    @ivar sends: how many there were.
    """

    destination: HostPort
    sends: int


TransactionEvent: TypeAlias = Answered | TimedOut


class ClientTransaction:
    """
    One request and its response.  The request is queued at construction.

    It ends with exactly one event, and ignores everything from then on.

    @ivar transactionID: what the response must carry.
    @ivar destination: where the response must come from.
    @ivar sends: how often the request was queued.
    @ivar finished: whether it has ended.
    """

    def __init__(
        self,
        request: bytes,
        transactionID: bytes,
        destination: HostPort,
        now: float,
        *,
        rto: float = RTO,
        requestCount: int = REQUEST_COUNT,
        lastFactor: int = LAST_FACTOR,
        timeLimit: float = math.inf,
        key: bytes | None = None,
        alternateSource: HostPort | None = None,
    ) -> None:
        """
        @param request: the encoded message.
        @param destination: in canonical text, as the source of the response will be.
        @param rto: seconds until the first retransmission.
        @param requestCount: sends at most.
        @param lastFactor: how many C{rto} to wait after the last send.
        @param timeLimit: seconds after which it gives up, whatever is left to send.
        @param key: when given, a response that it does not verify is dropped as if it had never
            come (RFC 8489 section 9.1.4).
        @param alternateSource: where the response may come from as well: for a request to be
            answered from elsewhere (RFC 5780 section 7.2).
        """
        self.transactionID = transactionID
        self.destination = destination
        self.sends = 0
        self.finished = False
        self._request = request
        self._sources = (destination, alternateSource)
        self._key = key
        self._start = now
        self._end = now + timeLimit
        self._interval = rto
        self._lastWait = rto * lastFactor
        self._requestCount = requestCount
        self._deadline = now
        self._transmits: deque[Transmit] = deque()
        self._events: deque[TransactionEvent] = deque()
        self._send(now)

    def receiveDatagram(self, data: bytes, address: HostPort, now: float) -> bool:
        """
        Take the response, if this is it.

        @return: whether it was, by transaction ID, source and key.
        """
        if data[8:20] != self.transactionID or not isSTUN(data):
            return False
        try:
            message = decode(data)
        except MalformedDatagram:
            return False
        return self.receiveMessage(message, address, now)

    def receiveMessage(self, message: Message, address: HostPort, now: float) -> bool:
        """
        L{receiveDatagram}, for a message that somebody has decoded already.
        """
        if (
            self.finished
            or message.transactionID != self.transactionID
            or address not in self._sources
            or message.messageClass not in (MessageClass.SUCCESS, MessageClass.ERROR)
            or (self._key is not None and not message.verify(self._key))
        ):
            return False
        roundTrip = now - self._start if self.sends == 1 else None
        self._finish(Answered(message, address, roundTrip))
        return True

    def handleTimeout(self, now: float) -> None:
        """
        Send again, or give up, if that is due.
        """
        if self.finished or now < self._deadline:
            return
        if self.sends < self._requestCount and now < self._end:
            self._send(now)
        else:
            self._finish(TimedOut(self.destination, self.sends))

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} is due; C{None} when it has ended.
        """
        return None if self.finished else self._deadline

    def pollTransmit(self) -> Transmit | None:
        """
        @return: the next datagram to send.
        """
        return self._transmits.popleft() if self._transmits else None

    def pollEvent(self) -> TransactionEvent | None:
        """
        @return: the one event, once.
        """
        return self._events.popleft() if self._events else None

    def _send(self, now: float) -> None:
        self._transmits.append(Transmit(self._request, self.destination))
        self.sends += 1
        if self.sends < self._requestCount:
            wait = self._interval
            self._interval *= 2
        else:
            wait = self._lastWait
        self._deadline = min(now + wait, self._end)

    def _finish(self, event: TransactionEvent) -> None:
        self.finished = True
        self._transmits.clear()
        self._events.append(event)
