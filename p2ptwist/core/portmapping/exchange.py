"""
One question to a router: sent again until it is answered, for three seconds at most.
"""

from __future__ import annotations

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping.answers import Answer, Question

RETRANSMISSION = 0.25  # seconds until the second request, doubling; RFC 6886 section 3.1
# Seconds for which a router may be silent.  RFC 6886 section 3.1 has 64, and RFC 6887 section 8.1.1
# goes on for ever: to be used once a router is known to answer.  Here a mapping that was wanted is
# asked for anew, later and later, by whoever wants it.
TIME_LIMIT = 3.0


class Exchange:
    """
    The request, its retransmissions, and the one answer.

    @ivar token: who asked.
    @ivar sends: how often the request was sent.
    """

    __slots__ = ("_end", "_interval", "_question", "deadline", "sends", "token")

    def __init__(self, token: int, question: Question, now: float, timeLimit: float) -> None:
        self.token = token
        self.sends = 0
        self.deadline = now
        self._question = question
        self._interval = RETRANSMISSION
        self._end = now + timeLimit

    def due(self, now: float) -> bytes | None:
        """
        @return: what has to be sent at C{now}, if anything.
        """
        if now < self.deadline or self.isOver(now):
            return None
        self.sends += 1
        self.deadline = min(now + self._interval, self._end)
        self._interval *= 2
        return self._question.datagram

    def isOver(self, now: float) -> bool:
        """
        @return: whether there is nothing more to wait for.
        """
        return now >= self._end

    def read(self, data: bytes) -> Answer | None:
        """
        @return: the answer, if C{data} is that.
        """
        try:
            return self._question.read(data)
        except MalformedDatagram:
            return None
