"""
One generation of an agent: one set of credentials, and the checklist that belongs to it.

A generation is single use.  A restart (RFC 8445 section 9) makes the next one, while the path that
the previous one found goes on carrying data.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import Candidate, isCheckable
from p2ptwist.core.ice.check import Credentials
from p2ptwist.core.ice.checklist import Checklist, Pace, Pair, PairState
from p2ptwist.core.ice.localside import LocalSide
from p2ptwist.core.ice.nomination import Nomination
from p2ptwist.core.ice.signal import Description, MoreCandidates
from p2ptwist.core.nat import NATBehavior

# Bytes of randomness; 8 and 24 characters of base64 (RFC 8445 section 5.3 wants 24 and 128 bits).
_FRAGMENT_ENTROPY = 6
_PASSWORD_ENTROPY = 18
# Seconds before checks without an answer count as failed: the other side may be slow to begin
# (RFC 8863 section 4 waits 39.5 s; here a person waits, and a relay may be at hand).
PATIENCE = 10.0
PROOF_TIME = 3.0  # seconds for a check to be answered, with repetitions, by who was heard at last
LIMIT = 20.0  # seconds after which a session without a path ends, whatever is still open


class Generation:
    """
    What both sides said for one round of checks.

    @ivar number: 0 at first, counting up; 0..255.
    @ivar local: this side's credentials.
    @ivar remote: the other side's, or C{None} before its description came.
    @ivar behavior: what the other side says of its NAT.
    @ivar checklist: the remote addresses and how far their checks are.  Checks that come before
        the other side's description put addresses into it as well.
    @ivar nomination: when this side, controlling, chooses a pair.
    @ivar described: whether this side's description was queued.
    @ivar remoteComplete: whether the other side has no more candidates.
    @ivar completed: whether a pair was nominated, so that checks are over.
    @ivar started: when it began, in seconds, or as if it had.
    """

    __slots__ = (
        "_localSide",
        "behavior",
        "checklist",
        "completed",
        "described",
        "local",
        "nomination",
        "number",
        "remote",
        "remoteComplete",
        "started",
    )

    def __init__(
        self,
        number: int,
        controlling: bool,
        localSide: LocalSide,
        pace: Pace,
        randomBytes: Callable[[int], bytes],
        now: float,
    ) -> None:
        """
        @param localSide: what this side knows of itself, which decides what looks reachable, and
            whether the other side may be on this machine.
        @param pace: the session's allowance of checks, whatever its generation.
        """
        self.number = number
        self.local = Credentials(
            _randomText(randomBytes, _FRAGMENT_ENTROPY), _randomText(randomBytes, _PASSWORD_ENTROPY)
        )
        self.remote: Credentials | None = None
        self.behavior = NATBehavior(None, None)
        self.checklist = Checklist(controlling, localSide.looksReachable, pace)
        self.nomination = Nomination()
        self.described = False
        self.remoteComplete = False
        self.completed = False
        self.started = now
        self._localSide = localSide

    @property
    def checking(self) -> bool:
        """
        Whether checks may be sent: the credentials are known, and the round is not over.
        """
        return self.remote is not None and not self.completed

    def learn(self, description: Description, now: float) -> None:
        """
        Take the other side's description.  Addresses that were heard before it are checked first.
        """
        self.remote = Credentials(description.fragment, description.password)
        for pair in self.checklist:
            self.checklist.trigger(pair, now)
        self.learnCandidates(description, now)

    def learnCandidates(self, signal: Description | MoreCandidates, now: float) -> None:
        """
        Take the other side's candidates; those that nobody should be made to check are left out.
        """
        for candidate in signal.candidates:
            self.admit(candidate, now)
        # A signal that comes after the complete one was overtaken by it, and knows less.
        if signal.complete or not self.remoteComplete:
            self.behavior = signal.behavior
        self.remoteComplete = self.remoteComplete or signal.complete

    def admit(self, candidate: Candidate, now: float) -> Pair | None:
        """
        @return: the pair of a remote candidate; C{None} for an address that nobody should be made
            to send to, or when there are 24 others already.
        """
        allowLoopback = self._localSide.offersLoopback()
        if not isCheckable(candidate.address, allowLoopback=allowLoopback):
            return None
        return self.checklist.add(candidate, now)

    def proves(self, address: HostPort) -> bool:
        """
        @return: whether the other side has proved to be at C{address}.
        """
        pair = self.checklist.get(address)
        return pair is not None and (pair.heard or pair.state is PairState.SUCCEEDED)

    def deadline(self, now: float, controlling: bool) -> float | None:
        """
        @return: when a check or a nomination may be due.
        """
        if not self.checking:
            return None
        times = (self.checklist.deadline(now), self.nomination.deadline if controlling else None)
        return min((time for time in times if time is not None), default=None)

    def linger(self, now: float) -> None:
        """
        The other side was heard: do not fail before it can have answered.  A ladder may have taken
        longer than ordinary checks do.
        """
        self.started = max(self.started, now + PROOF_TIME - PATIENCE)

    def failAt(self) -> float:
        """
        @return: when it will have failed, as far as is known now.
        """
        hopeless = (
            self.remote is not None
            and self.remoteComplete
            and self._localSide.complete
            and self.checklist.hopeless()
        )
        return self.started + (PATIENCE if hopeless else LIMIT)


def _randomText(randomBytes: Callable[[int], bytes], entropy: int) -> bytes:
    # Standard base64 has exactly the characters that RFC 8445 section 5.3 allows.
    return b64encode(randomBytes(entropy))
