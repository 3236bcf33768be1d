"""
The requests of an agent that may still be answered, and the answers that fit them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import CandidateType, candidatePriority
from p2ptwist.core.ice.check import Check, Credentials, encodeCheck
from p2ptwist.core.ice.checklist import Pair
from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.machine import Transmit
from p2ptwist.core.stun.message import TRANSACTION_ID_LENGTH, Message

# 24 addresses times 7 requests, twice for a restart under way, and some of consent.  The oldest
# are forgotten first.
OUTSTANDING_LIMIT = 384
# Seconds after which an answer comes too late: as long as consent lasts (RFC 7675 section 5.1), so
# that nobody can collect requests at one time and answer them at another.
ANSWER_LIFETIME = 30.0


@dataclass(frozen=True, slots=True)
class Outstanding:
    """
    A request that may still be answered.

    @ivar generation: whose credentials it was made with.
    @ivar key: the password that authenticates the answer.
    @ivar pair: what it checks.
    @ivar sentAt: when it was sent, in seconds.
    @ivar nominates: whether it has USE-CANDIDATE.
    @ivar controlling: the role that it claimed.
    """

    generation: Generation
    key: bytes = field(repr=False)
    pair: Pair
    sentAt: float
    nominates: bool
    controlling: bool


class Exchange:
    """
    Every request has a transaction ID of its own, also when it repeats another, so that each
    answer tells the round trip without doubt.

    @ivar tieBreaker: this side's number for a conflict of roles (RFC 8445 section 16.1), 64 bits.
    @ivar sent: how many requests were made.
    """

    __slots__ = (
        "_outstanding",
        "_randomBytes",
        "sent",
        "tieBreaker",
    )

    def __init__(self, randomBytes: Callable[[int], bytes]) -> None:
        self.tieBreaker = 0
        self.sent = 0
        self._randomBytes = randomBytes
        self.changeTieBreaker()
        self._outstanding: dict[bytes, Outstanding] = {}

    def __contains__(self, transactionID: bytes) -> bool:
        return transactionID in self._outstanding

    def changeTieBreaker(self) -> None:
        """
        Take another number, as the present one lost a conflict (RFC 8445 section 16.1).
        """
        self.tieBreaker = int.from_bytes(self._randomBytes(8), "big")

    def request(
        self,
        generation: Generation,
        remote: Credentials,
        pair: Pair,
        controlling: bool,
        now: float,
    ) -> Transmit:
        """
        @return: a new check of C{pair}.
        """
        transactionID = self._randomBytes(TRANSACTION_ID_LENGTH)
        priority = candidatePriority(CandidateType.PEER_REFLEXIVE, pair.address[0])
        check = Check(priority, controlling, self.tieBreaker, pair.nominating)
        if len(self._outstanding) >= OUTSTANDING_LIMIT:
            del self._outstanding[next(iter(self._outstanding))]
        self._outstanding[transactionID] = Outstanding(
            generation, remote.password, pair, now, pair.nominating, controlling
        )
        self.sent += 1
        return Transmit(encodeCheck(transactionID, check, generation.local, remote), pair.address)

    def stray(self, generation: Generation, remote: Credentials, controlling: bool) -> bytes:
        """
        @return: a check whose answer will not be matched: it is for an address that the other side
            may have, and counts only if it arrives there.
        """
        priority = candidatePriority(CandidateType.PEER_REFLEXIVE, "0.0.0.0")
        check = Check(priority, controlling, self.tieBreaker, False)
        self.sent += 1
        transactionID = self._randomBytes(TRANSACTION_ID_LENGTH)
        return encodeCheck(transactionID, check, generation.local, remote)

    def match(self, answer: Message, source: HostPort, now: float) -> Outstanding | None:
        """
        @return: the request that C{answer} is for, when it comes in time from where the request
            went and is authentic; else C{None}.
        """
        request = self._outstanding.get(answer.transactionID)
        if request is None or request.pair.address != source:
            return None
        if now - request.sentAt > ANSWER_LIFETIME or not answer.verify(request.key):
            return None
        return request

    def forget(self, transactionID: bytes) -> None:
        """
        The request was answered: it will not be matched again.
        """
        del self._outstanding[transactionID]

    def clear(self) -> None:
        """
        Forget every request.
        """
        self._outstanding.clear()
