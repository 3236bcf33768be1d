"""
The checks of one session, both ways: ours and their answers, theirs and our answers.

It knows the side's role (RFC 8445 section 6.1.1) and settles conflicts about it; what an answered
or received check means for data is L{p2ptwist.core.ice.agent}'s to decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

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


class Conversation:
    """
    Requests and answers.

    @ivar controlling: this side's role.
    @ivar pace: how many checks may be sent.
    @ivar exchange: the requests that may still be answered.
    @ivar transmits: what is to be sent, oldest first.
    """

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
        self.transmits: deque[Transmit] = deque()
        self._counters = counters

    def send(self, generation: Generation, pair: Pair, now: float) -> None:
        """
        Send one check, if the other side's credentials are known.
        """
        if generation.remote is not None:
            self.transmits.append(
                self.exchange.request(generation, generation.remote, pair, self.controlling, now)
            )

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
    ) -> tuple[Generation, Pair] | None:
        """
        Answer a check of the other side (RFC 8445 section 7.3).

        @param generations: those whose credentials are accepted.
        @param length: of the datagram, in bytes; what may be sent there without a proof grows by
            as much.
        @return: the pair on which the other side was heard; C{None} when the check was not
            authentic, or refused, or 24 other addresses were heard before.
        @raise MalformedDatagram: when it is authentic, but no check.
        """
        generation = _addressed(generations, message)
        if generation is None or not message.verify(generation.local.password):
            self._counters.forged += 1
            return None
        password = generation.local.password
        refusal = encodeRefusal(message, password)
        if refusal is not None:
            self.transmits.append(Transmit(refusal, address))
            return None
        check = decodeCheck(message)
        if not self._settleRoles(generation, check):
            self.transmits.append(Transmit(encodeRoleConflict(message, password), address))
            return None
        self.transmits.append(Transmit(encodeAnswer(message, address, password), address))
        candidate = Candidate(CandidateType.PEER_REFLEXIVE, address, check.priority)
        pair = generation.checklist.hear(candidate, length, now)
        if pair is None:
            return None
        if check.nominates and not self.controlling:
            pair.nominated = True
        if generation.checking and pair.state is not PairState.SUCCEEDED:
            generation.checklist.trigger(pair, now)
        return generation, pair

    def receiveAnswer(
        self, message: Message, address: HostPort, now: float
    ) -> tuple[Generation, Pair] | None:
        """
        Take the answer to a check of ours (RFC 8445 section 7.2.5).

        @return: the pair that it proves; C{None} when it proves nothing.
        @raise MalformedDatagram: when it is authentic, but no answer to a check.
        """
        request = self.exchange.match(message, address)
        if request is None:
            self._counters.forged += 1
            return None
        generation, pair = request.generation, request.pair
        if message.messageClass is MessageClass.ERROR:
            code = errorCode(message)
            self.exchange.forget(message.transactionID)
            if code == ROLE_CONFLICT and request.controlling == self.controlling:
                self._changeRole(generation)
                generation.checklist.trigger(pair, now)
            return None
        mapped = mappedAddress(message)
        self.exchange.forget(message.transactionID)
        self.pace.answered()
        pair.state = PairState.SUCCEEDED
        pair.mapped = mapped
        pair.roundTrip = now - request.sentAt
        if request.nominates and self.controlling:
            pair.nominating = False
            pair.nominated = True
        return generation, pair

    def _settleRoles(self, generation: Generation, check: Check) -> bool:
        """
        @return: whether the sender may keep its role (RFC 8445 section 7.3.1.1).
        """
        if check.controlling != self.controlling:
            return True
        thisSideStays = self.exchange.tieBreaker >= check.tieBreaker
        if thisSideStays == self.controlling:
            return False
        self._changeRole(generation)
        return True

    def _changeRole(self, generation: Generation) -> None:
        self.controlling = not self.controlling
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
