"""
The checklist: which remote addresses are checked, in what order, when and how often.

It is single use: a restart makes a new one.  All pairs start out I{Waiting}; RFC 8445's I{Frozen}
spares checks between several components and streams, and an agent here has one of each.

Pacing.  RFC 8445 section 14.2 spaces checks by 50 ms.  Here a token bucket spaces them by 50 ms in
the long run and lets five go at once, so that any second has at most 25.  The first requests to an
address that looks reachable follow each other by 20 ms: the other side starts up to one signaling
delay later, and whatever reaches its NAT before that is lost.  After 7 requests without an answer
an address is given up, until the other side is heard from there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import (
    CANDIDATE_LIMIT,
    Candidate,
    CandidateType,
    candidatePriority,
    pairPriority,
)
from p2ptwist.core.tokenbucket import Rate, TokenBucket

PACING = Rate(perSecond=20.0, burst=5.0)  # checks; RFC 8445 section 14.2: Ta is 50 ms
# Seconds from one request to the next, and from the last one to giving up: 7 requests as in
# RFC 8489 section 6.2.1, in 6 s instead of 40, as another candidate or a relay is at hand.  The
# quick ones are for addresses that look reachable and were not heard yet.
QUICK_GAPS = (0.02, 0.02, 0.16, 0.5, 1.0, 2.0, 2.0)
PATIENT_GAPS = (0.2, 0.3, 0.5, 0.7, 1.0, 1.0, 2.0)
REQUEST_LIMIT = len(QUICK_GAPS)
# Requests to addresses that never answered: all of 24 addresses times 7 and some triggered ones,
# and no more than 200 in the first five minutes.  One a minute comes back, for a session that
# lives for days and restarts whenever its network changes.
REQUEST_BUDGET = Rate(perSecond=1 / 60, burst=195.0)
# Seconds.  A request that young is likely to get through, when a check that was sent after it left
# its round trip ago did; so hearing the other side is no reason to repeat it.
_YOUNG = 0.05


class Pace:
    """
    How many checks one session may send, whatever the other side asks for.

    L{REQUEST_BUDGET} is for requests to addresses that never answered, whatever other addresses
    did and however often the session restarts: a peer that is real itself cannot aim more than
    those few packets at somebody who did not ask for them.
    """

    __slots__ = ("_budget", "_rate")

    def __init__(self, now: float) -> None:
        self._rate = TokenBucket(PACING, now)
        self._budget = TokenBucket(REQUEST_BUDGET, now)

    def take(self, pair: Pair, now: float) -> bool:
        """
        @return: whether one more check of C{pair} may be sent at C{now}; if so it counts as sent.
        """
        if self.affordableAt(pair, now) > now or not self._rate.take(now):
            return False
        if pair.state is not PairState.SUCCEEDED:
            self._budget.take(now)
            pair.unanswered += 1
        return True

    def answered(self, pair: Pair, now: float) -> None:
        """
        A check of C{pair} was answered: what was sent there did not go to a stranger.
        """
        level = self._budget.refill(now) + pair.unanswered
        self._budget.level = min(self._budget.rate.burst, level)
        pair.unanswered = 0

    def affordableAt(self, pair: Pair, now: float) -> float:
        """
        @return: when the budget allows one more check of C{pair}, never before C{now}.
        """
        return now if pair.state is PairState.SUCCEEDED else self._budget.readyAt(now)

    def readyAt(self, now: float) -> float:
        """
        @return: when the pacing allows one more check of any pair, never before C{now}.
        """
        return self._rate.readyAt(now)


class PairState(enum.Enum):
    """
    How far a pair is (RFC 8445 section 6.1.2.6).
    """

    WAITING = "waiting"
    IN_PROGRESS = "in progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Pair:
    """
    The local socket and one remote address.

    @ivar remote: the remote candidate.
    @ivar priority: see L{pairPriority}.
    @ivar reachable: whether the address looks as if it will answer; decides the order only.
    @ivar state: how far it is.
    @ivar requests: requests sent since it was last triggered.
    @ivar unanswered: requests sent since it last answered, that L{Pace} counts.
    @ivar lastRequest: when the latest was sent, in seconds.
    @ivar due: when the next is due, or when the pair is given up after the last one.
    @ivar heard: whether an authenticated check came from there.
    @ivar credit: bytes of authenticated checks that came from there and are not spent yet.
    @ivar nominated: whether the other side, controlling, chose it.
    @ivar nominating: whether this side, controlling, asks the other one to choose it.
    @ivar roundTrip: seconds, of the latest answered check; C{None} before one.
    @ivar mapped: this side's address as the other side saw it; C{None} before an answer.
    """

    remote: Candidate
    priority: int
    reachable: bool
    state: PairState = PairState.WAITING
    requests: int = 0
    unanswered: int = 0
    lastRequest: float = 0.0
    due: float = 0.0
    heard: bool = False
    credit: int = 0
    nominated: bool = False
    nominating: bool = False
    roundTrip: float | None = None
    mapped: HostPort | None = field(default=None)

    @property
    def address(self) -> HostPort:
        """
        The remote address, which is what tells pairs apart.
        """
        return self.remote.address

    @property
    def pending(self) -> bool:
        """
        Whether an answer may still come without the other side's doing.
        """
        return self.state in (PairState.WAITING, PairState.IN_PROGRESS)

    def hear(self, length: int) -> None:
        """
        An authenticated check came from there.

        @param length: of the check, in bytes.
        """
        self.heard = True
        self.credit += length


class Checklist:
    """
    The pairs of one generation.

    @ivar sent: how many checks were taken from it.
    @ivar primeUntil: until when one check of each pair is enough, that only opens this side's NATs.
    """

    __slots__ = (
        "_controlling",
        "_looksReachable",
        "_pace",
        "_pairs",
        "_triggered",
        "primeUntil",
        "sent",
    )

    def __init__(
        self, controlling: bool, looksReachable: Callable[[HostPort], bool], pace: Pace
    ) -> None:
        """
        @param controlling: this side's role, for the priorities of pairs.
        @param pace: the allowance of the session that this is the checklist of.
        @param looksReachable: whether an address is worth one of the first checks.
        """
        self._controlling = controlling
        self._looksReachable = looksReachable
        self._pairs: dict[HostPort, Pair] = {}
        self._triggered: list[Pair] = []
        self._pace = pace
        self.primeUntil = 0.0
        self.sent = 0

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs.values())

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, address: HostPort) -> Pair | None:
        """
        @return: the pair of that remote address.
        """
        return self._pairs.get(address)

    def add(self, candidate: Candidate, now: float) -> Pair | None:
        """
        Add a remote candidate; one whose address is known takes over the better-known type.

        @return: its pair, or C{None} when there are 24 already: the peer that offers more only
            wants us to send more.
        """
        pair = self._pairs.get(candidate.address)
        if pair is not None:
            if pair.remote.type is CandidateType.PEER_REFLEXIVE:
                pair.remote = candidate
                pair.priority = self._priority(candidate)
            return pair
        if len(self._pairs) >= CANDIDATE_LIMIT:
            return None
        reachable = self._looksReachable(candidate.address)
        pair = Pair(candidate, self._priority(candidate), reachable, due=now)
        self._pairs[candidate.address] = pair
        return pair

    def changeRole(self, controlling: bool) -> None:
        """
        Compute every priority anew (RFC 8445 section 7.3.1.1), and forget what was nominated: the
        wrong side did.
        """
        self._controlling = controlling
        for pair in self:
            pair.priority = self._priority(pair.remote)
            pair.nominating = pair.nominated = False

    def trigger(self, pair: Pair, now: float) -> None:
        """
        Check that pair next, with a full set of requests: there is a reason to think that it will
        answer now (RFC 8445 section 7.3.1.4).
        """
        if pair.state is PairState.IN_PROGRESS and now - pair.lastRequest < _YOUNG:
            pair.requests = 1
            pair.due = pair.lastRequest + PATIENT_GAPS[0]
            return
        pair.state = PairState.WAITING if pair.state is PairState.FAILED else pair.state
        pair.requests = 0
        pair.due = now
        if pair not in self._triggered:
            self._triggered.append(pair)

    def take(self, now: float) -> Pair | None:
        """
        @return: the pair that one check is to be sent for at C{now}, which counts as sent; C{None}
            when none is due, or the pace does not allow it yet.
        """
        self._giveUp(now)
        pair = self._next(now)
        if pair is None or not self._pace.take(pair, now):
            return None
        if pair in self._triggered:
            self._triggered.remove(pair)
        if pair.state is PairState.WAITING:
            pair.state = PairState.IN_PROGRESS
        # Once the other side was heard both NATs are open, and there is nothing to hurry for.
        quick = pair.reachable and not pair.heard
        pair.due = now + (QUICK_GAPS if quick else PATIENT_GAPS)[pair.requests]
        if quick:
            pair.due = max(pair.due, self.primeUntil)
        pair.requests += 1
        pair.lastRequest = now
        self.sent += 1
        return pair

    def deadline(self, now: float) -> float | None:
        """
        @return: when L{take} may have something to do next.
        """
        starts = [
            max(pair.due, self._pace.affordableAt(pair, now))
            for pair in self
            if self._wanted(pair) and pair.requests < REQUEST_LIMIT
        ]
        ends = [pair.due for pair in self if self._exhausted(pair)]
        if starts:
            ends.append(max(min(starts), self._pace.readyAt(now)))
        return min(ends, default=None)

    def best(self) -> Pair | None:
        """
        @return: the pair with the highest priority that an own check has proved.
        """
        proved = [pair for pair in self if pair.state is PairState.SUCCEEDED]
        return max(proved, key=lambda pair: pair.priority, default=None)

    def likeliest(self) -> Pair | None:
        """
        @return: the pair with the highest priority on which the other side was heard and that a
            check of our own is on its way to.
        """
        heard = [pair for pair in self if pair.heard and pair.state is PairState.IN_PROGRESS]
        return max(heard, key=lambda pair: pair.priority, default=None)

    def hopeless(self) -> bool:
        """
        @return: whether every pair was given up, or there is none.
        """
        return all(pair.state is PairState.FAILED for pair in self)

    def _priority(self, remote: Candidate) -> int:
        local = candidatePriority(CandidateType.HOST, remote.address[0])
        if self._controlling:
            return pairPriority(local, remote.priority)
        return pairPriority(remote.priority, local)

    def _wanted(self, pair: Pair) -> bool:
        return pair.pending or pair.nominating

    def _exhausted(self, pair: Pair) -> bool:
        return self._wanted(pair) and pair.requests >= REQUEST_LIMIT

    def _giveUp(self, now: float) -> None:
        for pair in self:
            if self._exhausted(pair) and pair.due <= now:
                pair.state = PairState.FAILED
                pair.nominating = False

    def _next(self, now: float) -> Pair | None:
        """
        Triggered pairs in the order of their triggers; then those never checked, the likely ones
        first; then repetitions, the longest due first.
        """
        for pair in self._triggered:
            if self._mayStart(pair, now):
                return pair
        due = [pair for pair in self if pair.due <= now and self._mayStart(pair, now)]
        return min(due, key=_urgency, default=None)

    def _mayStart(self, pair: Pair, now: float) -> bool:
        return (
            self._wanted(pair)
            and pair.requests < REQUEST_LIMIT
            and self._pace.affordableAt(pair, now) <= now
        )


def _urgency(pair: Pair) -> tuple[bool, bool, float, int]:
    if pair.requests:
        return (True, not pair.reachable, pair.due, 0)
    return (False, not pair.reachable, 0.0, -pair.priority)
