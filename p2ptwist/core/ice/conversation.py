"""
The checks of one session, both ways: ours and their answers, theirs and our answers.

It knows the side's role (RFC 8445 section 6.1.1) and settles conflicts about it; what an answered
or received check means for data is L{p2ptwist.core.ice.agent}'s to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import Candidate, CandidateType
from p2ptwist.core.ice.check import (
    ROLE_CONFLICT,
    Check,
    decodeCheck,
    encodeAnswer,
    encodeRefusal,
    encodeRoleConflict,
    errorCode,
    mappedAddress,
    userNameFragments,
)
from p2ptwist.core.ice.checklist import Pace, Pair, PairState
from p2ptwist.core.ice.events import Counters
from p2ptwist.core.ice.exchange import Exchange
from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.machine import Transmit
from p2ptwist.core.stun.message import Message, MessageClass

# Checks of the other side that are remembered, to know them again: those of the seconds in which
# a path is found, when a check means most.
_REPEAT_LIMIT = 64

# The generation and the pair that a message says something good of.
Finding: TypeAlias = tuple[Generation, Pair | None]


class Conversation:
    """
    Requests and answers.

    @ivar controlling: this side's role.
    @ivar pace: how many checks may be sent.
    @ivar exchange: the requests that may still be answered.
    @ivar transmits: what is to be sent, oldest first.
    """

    __slots__ = (
        "_answered",
        "_counters",
        "controlling",
        "exchange",
        "pace",
        "transmits",
    )

    def __init__(
        self,
        controlling: bool,
        randomBytes: Callable[[int], bytes],
        counters: Counters,
        now: float,
    ) -> None:
        self.controlling = controlling
        self.exchange = Exchange(randomBytes)
        self.pace = Pace(now)
        self.transmits: list[Transmit] = []
        self._counters = counters
        self._answered: dict[bytes, HostPort] = {}

    def send(self, generation: Generation, pair: Pair, now: float) -> None:
        """
        Send one check, if the other side's credentials are known.
        """
        if generation.remote is not None:
            self.transmits.append(
                self.exchange.request(generation, generation.remote, pair, self.controlling, now)
            )

    def sendSpare(self, generation: Generation, pair: Pair, now: float) -> None:
        """
        Send one check when the pace allows it; nothing hangs on it.
        """
        if self.pace.take(pair, now):
            self.send(generation, pair, now)

    def run(self, generation: Generation, now: float) -> None:
        """
        Send the connectivity checks that are due.
        """
        if not generation.checking:
            return
        if self.controlling:
            generation.nomination.consider(generation.checklist, generation.remoteComplete, now)
        while (pair := generation.checklist.take(now)) is not None:
            self.send(generation, pair, now)

    def receiveRequest(
        self,
        generations: Iterable[Generation],
        message: Message,
        length: int,
        address: HostPort,
        now: float,
    ) -> Finding | None:
        """
        Answer a check of the other side (RFC 8445 section 7.3).

        @param generations: those whose credentials are accepted.
        @param length: of the datagram, in bytes; what may be sent there without a proof grows by
            as much.
        @return: the pair on which the other side was heard; no pair when the check came before,
            or was refused; C{None} when it was not authentic.
        @raise MalformedDatagram: when it is authentic, but no check.
        """
        generation = _addressed(generations, message)
        if generation is None or not message.verify(generation.local.password):
            self._counters.forged += 1
            return None
        if message.transactionID in self._answered:
            self._repeatAnswer(generation, message, address)
            return generation, None
        check = decodeCheck(message)
        pair = generation.checklist.get(address) or generation.admit(
            Candidate(CandidateType.PEER_REFLEXIVE, address, check.priority), now
        )
        if pair is None:
            self._counters.refused += 1
            return generation, None
        if not self._reply(generations, generation, message, check, pair):
            return generation, None
        pair.hear(length)
        if check.nominates and not self.controlling:
            pair.nominated = True
        if generation.checking and pair.state is not PairState.SUCCEEDED:
            generation.checklist.trigger(pair, now)
        return generation, pair

    def receiveAnswer(
        self, generations: Iterable[Generation], message: Message, address: HostPort, now: float
    ) -> Finding | None:
        """
        Take the answer to a check of ours (RFC 8445 section 7.2.5).

        @param generations: those that a change of roles concerns.
        @return: the pair that it proves; no pair when it proves none; C{None} when it is not
            authentic, or answers nothing.
        @raise MalformedDatagram: when it is authentic, but no answer to a check.
        """
        request = self.exchange.match(message, address, now)
        if request is None:
            self._counters.forged += 1
            return None
        generation, pair = request.generation, request.pair
        if message.messageClass is MessageClass.ERROR:
            code = errorCode(message)
            self.exchange.forget(message.transactionID)
            if code == ROLE_CONFLICT and request.controlling == self.controlling:
                self.exchange.changeTieBreaker()
                self._changeRole(generations)
                if pair.pending:
                    pair.state = PairState.WAITING
                generation.checklist.trigger(pair, now)
            return generation, None
        mapped = mappedAddress(message)
        self.exchange.forget(message.transactionID)
        self.pace.answered(pair, now)
        pair.state = PairState.SUCCEEDED
        pair.mapped = mapped
        pair.roundTrip = now - request.sentAt
        if request.nominates and self.controlling:
            pair.nominating = False
            pair.nominated = True
        return generation, pair

    def _reply(
        self,
        generations: Iterable[Generation],
        generation: Generation,
        message: Message,
        check: Check,
        pair: Pair,
    ) -> bool:
        """
        @return: whether the check was taken, and not refused.
        """
        password = generation.local.password
        refusal = encodeRefusal(message, password)
        if refusal is None and not self._settleRoles(generations, check):
            refusal = encodeRoleConflict(message, password)
        if refusal is not None:
            self.transmits.append(Transmit(refusal, pair.address))
            return False
        if len(self._answered) >= _REPEAT_LIMIT:
            del self._answered[next(iter(self._answered))]
        self._answered[message.transactionID] = pair.address
        self.transmits.append(Transmit(encodeAnswer(message, pair.address, password), pair.address))
        return True

    def _repeatAnswer(self, generation: Generation, message: Message, address: HostPort) -> None:
        """
        A check came twice: perhaps the answer was lost (RFC 8489 section 6.3.1), and perhaps
        somebody saw the check and plays it back from elsewhere.
        """
        self._counters.repeated += 1
        if self._answered[message.transactionID] == address:
            answer = encodeAnswer(message, address, generation.local.password)
            self.transmits.append(Transmit(answer, address))

    def _settleRoles(self, generations: Iterable[Generation], check: Check) -> bool:
        """
        @return: whether the sender may keep its role (RFC 8445 section 7.3.1.1).
        """
        if check.controlling != self.controlling:
            return True
        thisSideStays = self.exchange.tieBreaker >= check.tieBreaker
        if thisSideStays == self.controlling:
            return False
        self._changeRole(generations)
        return True

    def _changeRole(self, generations: Iterable[Generation]) -> None:
        self.controlling = not self.controlling
        for generation in generations:
            generation.checklist.changeRole(self.controlling)


def _addressed(generations: Iterable[Generation], message: Message) -> Generation | None:
    """
    @return: the generation whose user name fragment the request names.
    """
    fragments = userNameFragments(message)
    if fragments is None:
        return None
    for generation in generations:
        if generation.local.fragment == fragments[0]:
            return generation
    return None
