"""
The client of one router, in PCP or NAT-PMP: questions, answers, and whether it has restarted.

An answer counts when it comes from the router's own address and port and fits a question that is
waiting.  Nothing else changes anything: not the epoch, not a question, not a mapping.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.machine import Transmit
from p2ptwist.core.portmapping.answers import Address, Answer, Dialect, Question
from p2ptwist.core.portmapping.exchange import TIME_LIMIT, Exchange
from p2ptwist.core.portmapping.pcp import SERVER_PORT

# Questions that may wait at once: one for each mapping that a program has, and a few more.
MAX_OUTSTANDING = 64


@dataclass(frozen=True, slots=True)
class Answered:
    """
    A question was answered.

    @ivar token: which.
    @ivar answer: with what.
    """

    token: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Unanswered:
    """
    A question was not answered.

    @ivar token: which.
    @ivar sends: how often it was sent.
    """

    token: int
    sends: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """
    The router has lost its mappings since it was last heard, or has another external address.
    """


RouterEvent: TypeAlias = Answered | Unanswered | Restarted


@dataclass(frozen=True, slots=True)
class _Heard:
    """
    @ivar epoch: what the router last told.
    @ivar at: when.
    """

    epoch: int
    at: float


class RouterClient:
    """
    What one protocol has under way with one router.

    @ivar ignored: datagrams that were no answers.
    """

    def __init__(self, dialect: Dialect, router: str) -> None:
        """
        @param router: its address, in canonical text.
        """
        self.ignored = 0
        self._dialect = dialect
        self._address = (router, SERVER_PORT)
        self._tokens = 0
        self._exchanges: dict[int, Exchange] = {}
        self._heard: _Heard | None = None
        self._host: str | None = None
        self._transmits: deque[Transmit] = deque()
        self._events: deque[RouterEvent] = deque()

    def ask(self, question: Question, now: float, timeLimit: float = TIME_LIMIT) -> int:
        """
        Send a question.

        @param timeLimit: seconds to wait for the answer.
        @return: a token, which the one event that it ends with will carry.
        @raise LocalUsageError: when too many wait already.
        """
        if len(self._exchanges) >= MAX_OUTSTANDING:
            raise LocalUsageError(f"{MAX_OUTSTANDING} questions to the router wait already")
        self._tokens += 1
        exchange = Exchange(self._tokens, question, now, timeLimit)
        self._exchanges[exchange.token] = exchange
        self.handleTimeout(now)
        return exchange.token

    def forget(self, token: int) -> None:
        """
        Ask no more; there will be no event.
        """
        self._exchanges.pop(token, None)

    def receiveDatagram(self, data: bytes, address: HostPort, now: float) -> bool:
        """
        Take an answer from the router, to a question that waits.

        @return: whether it was one.
        """
        if address == self._address:
            for exchange in self._exchanges.values():
                answer = exchange.read(data)
                if answer is not None:
                    del self._exchanges[exchange.token]
                    self._events.append(Answered(exchange.token, answer))
                    self._follow(answer, now)
                    return True
        self.ignored += 1
        return False

    def receiveAnnouncement(self, data: bytes, address: HostPort, now: float) -> bool:
        """
        Take what the router tells everybody.  Anybody can forge that, so nothing of it is kept: it
        is a reason to ask the router, and that will tell.

        @return: whether the router seems to have restarted.
        """
        if address != self._address or self._heard is None:
            self.ignored += 1
            return False
        try:
            told = self._dialect.announced(data)
        except MalformedDatagram:
            self.ignored += 1
            return False
        if self._hasKept(told.epoch, now) and told.host in (None, self._host):
            return False
        self._events.append(Restarted())
        return True

    def handleTimeout(self, now: float) -> None:
        """
        Send again, or give up, whatever that is due for.
        """
        for exchange in tuple(self._exchanges.values()):
            if exchange.isOver(now):
                del self._exchanges[exchange.token]
                self._events.append(Unanswered(exchange.token, exchange.sends))
                continue
            data = exchange.due(now)
            if data is not None:
                self._transmits.append(Transmit(data, self._address))

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} is due; C{None} while nothing waits.
        """
        return min((each.deadline for each in self._exchanges.values()), default=None)

    def pollTransmit(self) -> Transmit | None:
        """
        @return: the next datagram to send.
        """
        return self._transmits.popleft() if self._transmits else None

    def pollEvent(self) -> RouterEvent | None:
        """
        @return: the next event.
        """
        return self._events.popleft() if self._events else None

    def _follow(self, answer: Answer, now: float) -> None:
        """
        Keep what an answer tells of the router itself.
        """
        restarted = False
        if answer.epoch is not None:
            restarted = self._heard is not None and not self._hasKept(answer.epoch, now)
            self._heard = _Heard(answer.epoch, now)
        if isinstance(answer.result, Address):
            restarted = restarted or self._host not in (None, answer.result.host)
            self._host = answer.result.host
        if restarted:
            self._events.append(Restarted())

    def _hasKept(self, epoch: int, now: float) -> bool:
        """
        @return: whether a router with that epoch has all that it had when it was last heard.
        """
        heard = self._heard
        assert heard is not None
        return self._dialect.continues(heard.epoch, epoch, now - heard.at)
