"""
Tests for L{p2ptwist.core.ice.checklist}, L{p2ptwist.core.ice.nomination} and
L{p2ptwist.core.ice.lineage}.
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import (
    CANDIDATE_LIMIT,
    Candidate,
    CandidateType,
    makeCandidate,
    pairPriority,
)
from p2ptwist.core.ice.checklist import (
    PATIENT_GAPS,
    QUICK_GAPS,
    REQUEST_BUDGET,
    REQUEST_LIMIT,
    Checklist,
    Pace,
    Pair,
    PairState,
)
from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.ice.lineage import Lineage
from p2ptwist.core.ice.localside import LocalSide
from p2ptwist.core.ice.nomination import GRACE, Nomination
from p2ptwist.core.ice.signal import MoreCandidates
from p2ptwist.core.nat import NATBehavior, NATMapping
from tests.unit.icewire import SPIN_LIMIT, A, B, busiestSecond, hostCandidates

GLOBAL = "8.8.8.8"
PRIVATE = "10.0.0.1"


def remote(port: int, host: str = GLOBAL, kind: CandidateType = CandidateType.HOST) -> Candidate:
    """
    @return: a remote candidate.
    """
    return makeCandidate(kind, (host, port))


class ChecklistCase(SynchronousTestCase):
    """
    One checklist, and what it sends.
    """

    def setUp(self) -> None:
        """
        A checklist to which addresses of 8.8.8.8 look reachable.
        """
        self.now = 0.0
        self.pace = Pace(0.0)
        self.checklist = self.make(True)
        self.sent: list[tuple[float, HostPort]] = []

    def make(self, controlling: bool) -> Checklist:
        """
        @return: another checklist of the same session.
        """
        return Checklist(controlling, lambda address: address[0] == GLOBAL, self.pace)

    def add(self, candidate: Candidate) -> Pair:
        """
        Add a candidate that there is room for.
        """
        pair = self.checklist.add(candidate, self.now)
        assert pair is not None
        return pair

    def takeAll(self) -> list[int]:
        """
        @return: the ports of the checks that are sent now.
        """
        taken = []
        while (pair := self.checklist.take(self.now)) is not None:
            taken.append(pair.address[1])
            self.sent.append((self.now, pair.address))
        return taken

    def run_(self, until: float) -> None:
        """
        Let time pass, from deadline to deadline.
        """
        spins = 0
        self.takeAll()
        while (deadline := self.checklist.deadline(self.now)) is not None and deadline <= until:
            spins = spins + 1 if deadline <= self.now else 0
            self.assertLess(spins, SPIN_LIMIT)
            self.now = max(self.now, deadline)
            self.takeAll()
        self.now = until

    def times(self, port: int) -> list[float]:
        """
        @return: when the checks of that port were sent.
        """
        return [round(time, 6) for time, address in self.sent if address[1] == port]


class OrderTests(ChecklistCase):
    """
    Which pair is checked next.
    """

    def test_priority(self) -> None:
        """
        Addresses that look reachable come first, then those of the highest priority.
        """
        reflexive = CandidateType.SERVER_REFLEXIVE
        for candidate in (
            remote(2002, PRIVATE),
            remote(2003, kind=reflexive),
            remote(2001, PRIVATE, CandidateType.RELAYED),
            remote(2004),
        ):
            self.add(candidate)
        self.assertEqual(self.takeAll(), [2004, 2003, 2002, 2001])

    def test_newBeforeRepeated(self) -> None:
        """
        What was never checked comes before repetitions, and of these the longest due first.
        """
        self.add(remote(2001))
        self.assertEqual(self.takeAll(), [2001])
        self.now = 0.3
        self.add(remote(2002))
        self.add(remote(2003, PRIVATE))
        self.assertEqual(self.takeAll(), [2002, 2003, 2001])
        self.now = 1.5
        self.assertEqual(self.takeAll(), [2001, 2002, 2003])

    def test_triggered(self) -> None:
        """
        Triggered pairs come first, in the order of their triggers, each once.
        """
        pairs = [self.add(remote(2000 + each)) for each in range(4)]
        for index in (3, 1, 3):
            self.checklist.trigger(pairs[index], self.now)
        self.assertEqual(self.takeAll(), [2003, 2001, 2000, 2002])

    def test_triggeredButDone(self) -> None:
        """
        A triggered pair that succeeded meanwhile is not checked.
        """
        done, other = self.add(remote(2001)), self.add(remote(2002))
        self.checklist.trigger(done, self.now)
        done.state = PairState.SUCCEEDED
        self.assertEqual(self.takeAll(), [2002])
        self.assertIs(self.checklist.get(done.address), done)
        self.assertTrue(other.pending)

    def test_bound(self) -> None:
        """
        There are 24 addresses and no more; a known one is found again.
        """
        for port in range(2000, 2000 + CANDIDATE_LIMIT):
            self.add(remote(port))
        self.assertIsNone(self.checklist.add(remote(3000), 0.0))
        self.assertEqual(self.add(remote(2000)).address, (GLOBAL, 2000))
        self.assertEqual(len(self.checklist), CANDIDATE_LIMIT)

    def test_betterKnown(self) -> None:
        """
        A candidate that was heard of only by a check takes over what signaling says of it, and
        not the other way round.
        """
        heard = remote(2001, kind=CandidateType.PEER_REFLEXIVE)
        pair = self.add(heard)
        self.add(remote(2001, kind=CandidateType.SERVER_REFLEXIVE))
        self.assertEqual(pair.remote.type, CandidateType.SERVER_REFLEXIVE)
        self.assertEqual(pair.priority >> 32, pair.remote.priority)
        self.add(heard)
        self.assertEqual(pair.remote.type, CandidateType.SERVER_REFLEXIVE)

    def test_roles(self) -> None:
        """
        A pair's priority depends on the role, and what was nominated under another is void.
        """
        pair = self.add(remote(2001, kind=CandidateType.SERVER_REFLEXIVE))
        local = remote(2001).priority
        self.assertEqual(pair.priority, pairPriority(local, pair.remote.priority))
        pair.nominating = pair.nominated = True
        self.checklist.changeRole(False)
        self.assertEqual(pair.priority, pairPriority(pair.remote.priority, local))
        self.assertFalse(pair.nominating or pair.nominated)

    def test_best(self) -> None:
        """
        Of several proved pairs the one with the highest priority is the best, and of several
        where the other side was heard and a check is on its way the likeliest.
        """
        low, high, unheard = (
            self.add(remote(2001, kind=CandidateType.RELAYED)),
            self.add(remote(2002)),
            self.add(remote(2003)),
        )
        self.assertIsNone(self.checklist.best())
        self.assertIsNone(self.checklist.likeliest())
        self.takeAll()
        low.hear(96)
        self.assertIs(self.checklist.likeliest(), low)
        high.hear(96)
        self.assertIs(self.checklist.likeliest(), high)
        self.assertEqual((high.credit, unheard.credit), (96, 0))
        for pair in (low, high):
            pair.state = PairState.SUCCEEDED
        self.assertIs(self.checklist.best(), high)
        self.assertIsNone(self.checklist.likeliest())


class RepetitionTests(ChecklistCase):
    """
    When a pair is checked again, and when it is given up.
    """

    def test_quick(self) -> None:
        """
        A likely address gets 7 requests, the first ones at once, and is given up after 6 s.
        """
        pair = self.add(remote(2001))
        self.run_(30.0)
        self.assertEqual(self.times(2001), [0.0, 0.02, 0.04, 0.2, 0.7, 1.7, 3.7])
        self.assertEqual(len(QUICK_GAPS), REQUEST_LIMIT)
        self.assertEqual(pair.state, PairState.FAILED)
        self.assertTrue(self.checklist.hopeless())
        self.assertIsNone(self.checklist.deadline(self.now))
        self.assertEqual(self.checklist.sent, REQUEST_LIMIT)

    def test_givenUpAt(self) -> None:
        """
        The last request has 2 s to be answered.
        """
        pair = self.add(remote(2001))
        self.run_(5.6)
        self.assertEqual(pair.state, PairState.IN_PROGRESS)
        self.assertFalse(self.checklist.hopeless())
        self.run_(5.71)
        self.assertEqual(pair.state, PairState.FAILED)

    def test_patient(self) -> None:
        """
        An unlikely address, or one where the other side was heard, is not hurried.
        """
        self.add(remote(2001, PRIVATE))
        self.add(remote(2002)).hear(96)
        self.run_(30.0)
        for port in (2001, 2002):
            self.assertEqual(self.times(port), [0.0, 0.2, 0.5, 1.0, 1.7, 2.7, 3.7])
        self.assertEqual(len(PATIENT_GAPS), REQUEST_LIMIT)

    def test_triggeredAgain(self) -> None:
        """
        A pair that was given up gets a full set of requests when it is triggered.
        """
        pair = self.add(remote(2001))
        self.run_(30.0)
        pair.hear(96)
        self.checklist.trigger(pair, self.now)
        self.assertEqual(pair.state, PairState.WAITING)
        self.run_(60.0)
        self.assertEqual(len(self.times(2001)), 2 * REQUEST_LIMIT)

    def test_young(self) -> None:
        """
        A trigger does not repeat a request that has just left, but begins a full set with it,
        also when it was the last one.
        """
        pair = self.add(remote(2001))
        self.run_(3.72)
        self.assertEqual(len(self.sent), REQUEST_LIMIT)
        pair.hear(96)
        self.checklist.trigger(pair, self.now)
        self.assertEqual(self.takeAll(), [])
        self.run_(30.0)
        self.assertEqual(self.times(2001)[REQUEST_LIMIT - 1 :], [3.7, 3.9, 4.2, 4.7, 5.4, 6.4, 7.4])

    def test_nominatingFails(self) -> None:
        """
        A nomination that nobody answers fails the pair.
        """
        pair = self.add(remote(2001))
        pair.state = PairState.SUCCEEDED
        self.assertEqual(self.takeAll(), [])
        pair.nominating = True
        self.checklist.trigger(pair, self.now)
        self.run_(30.0)
        self.assertEqual(len(self.sent), REQUEST_LIMIT)
        self.assertEqual(pair.state, PairState.FAILED)
        self.assertFalse(pair.nominating)
        self.assertEqual(pair.unanswered, 0)


class PaceTests(ChecklistCase):
    """
    How many checks leave.
    """

    def test_rate(self) -> None:
        """
        Five at once, then one every 50 ms: no second has more than 25.
        """
        for port in range(2000, 2000 + CANDIDATE_LIMIT):
            self.add(remote(port))
        self.assertEqual(len(self.takeAll()), 5)
        self.run_(30.0)
        self.assertEqual(len(self.sent), CANDIDATE_LIMIT * REQUEST_LIMIT)
        self.assertEqual(busiestSecond(time for time, _ in self.sent), 24)
        self.assertEqual({len(self.times(2000 + each)) for each in range(24)}, {REQUEST_LIMIT})

    def test_budget(self) -> None:
        """
        However often it is triggered, an address that never answers gets no more than the budget,
        and then one request a minute.
        """
        pair = self.add(remote(2001))
        for _ in range(1000):
            self.checklist.trigger(pair, self.now)
            self.run_(self.now + 0.1)
        self.assertLess(self.now, 101.0)
        self.assertEqual(len(self.sent), REQUEST_BUDGET.burst + 1)
        self.run_(300.0)
        self.assertLessEqual(len(self.sent), 200)
        self.assertEqual(pair.state, PairState.IN_PROGRESS)

    def test_budgetOfSession(self) -> None:
        """
        Neither other generations nor answers from other addresses renew it.
        """
        victims = 0
        for round_ in range(20):
            self.checklist = self.make(True)
            own = self.add(remote(2000))
            for port in range(2001, 2024):
                self.add(remote(port))
            self.run_(10.0 * (round_ + 1))
            victims += self.checklist.sent - own.unanswered
            self.pace.answered(own, self.now)
            self.assertEqual(own.unanswered, 0)
        self.assertLessEqual(victims, 200)
        self.assertGreater(victims, 190)

    def test_refund(self) -> None:
        """
        What went to an address that answered in the end was not sent to a stranger.
        """
        pair = self.add(remote(2001))
        for _ in range(100):
            self.checklist.trigger(pair, self.now)
            self.run_(self.now + 6.0)
            self.pace.answered(pair, self.now)
        self.assertEqual(len(self.sent), 100 * REQUEST_LIMIT)
        self.pace.answered(pair, self.now)
        self.assertEqual(self.pace.affordableAt(pair, self.now), self.now)

    def test_provedIsFree(self) -> None:
        """
        With the budget spent, a proved pair can still be nominated, before others that wait.
        """
        victim = self.add(remote(2001))
        proved = self.add(remote(2002))
        proved.state = PairState.SUCCEEDED
        for _ in range(1000):
            self.checklist.trigger(victim, self.now)
            self.run_(self.now + 0.1)
        self.checklist.trigger(victim, self.now)
        proved.nominating = True
        self.checklist.trigger(proved, self.now)
        self.assertEqual(self.checklist.deadline(self.now), self.now)
        self.assertEqual(self.takeAll(), [2002])

    @given(
        st.sampled_from([0.0, 3.1, 1e6 / 7, 1.7e9]),
        st.lists(
            st.tuples(st.floats(0.0, 3.0), st.integers(0, 30), st.integers(0, 3)), max_size=30
        ),
    )
    def test_progress(self, start: float, steps: list[tuple[float, int, int]]) -> None:
        """
        Whatever happens to the pairs, a checklist is never asked for again and again at one time,
        any second has at most 25 checks, and the budget holds.
        """
        self.setUp()
        self.now = start
        self.pace = Pace(start)
        self.checklist = self.make(True)
        for pause, number, what in steps:
            pair = self.checklist.add(remote(2000 + number, GLOBAL if number % 2 else PRIVATE), 0)
            if pair is not None and what == 1:
                self.checklist.trigger(pair, self.now)
            elif pair is not None and what == 2:
                pair.state = PairState.SUCCEEDED
            elif pair is not None and what == 3:
                pair.state, pair.nominating = PairState.SUCCEEDED, True
                self.checklist.trigger(pair, self.now)
            self.run_(self.now + pause)
        self.run_(self.now + 30.0)
        self.assertLessEqual(busiestSecond(time for time, _ in self.sent), 25)


class NominationTests(ChecklistCase):
    """
    The controlling side chooses (RFC 8445 section 8.1.1).
    """

    def setUp(self) -> None:
        """
        A pair of low and one of high priority.
        """
        super().setUp()
        self.nomination = Nomination()
        self.low = self.add(remote(2001, kind=CandidateType.SERVER_REFLEXIVE))
        self.high = self.add(remote(2002))
        self.takeAll()

    def consider(self, now: float, complete: bool = True) -> list[int]:
        """
        @return: the ports that are being nominated at C{now}.
        """
        self.now = now
        self.nomination.consider(self.checklist, complete, now)
        return [pair.address[1] for pair in self.checklist if pair.nominating]

    def test_nothingProved(self) -> None:
        """
        Nothing is nominated before it is proved.
        """
        self.assertEqual(self.consider(1.0), [])
        self.assertIsNone(self.nomination.deadline)

    def test_bestAtOnce(self) -> None:
        """
        The best of all pairs is nominated as soon as it is proved, with a check of its own.
        """
        self.high.state = PairState.SUCCEEDED
        self.assertEqual(self.consider(1.0), [2002])
        self.assertIn(2002, self.takeAll())
        self.assertEqual(self.consider(1.0), [2002])

    def test_grace(self) -> None:
        """
        A better pair that is still pending gets a moment.
        """
        self.low.state = PairState.SUCCEEDED
        self.low.roundTrip = 0.1
        self.assertEqual(self.consider(1.0), [])
        self.assertEqual(self.nomination.deadline, 1.0 + GRACE)
        self.assertEqual(self.consider(1.29), [])
        self.assertEqual(self.consider(1.3), [2001])

    def test_longGrace(self) -> None:
        """
        The moment is two round trips on long ways.
        """
        self.low.state = PairState.SUCCEEDED
        self.low.roundTrip = 0.4
        self.consider(1.0)
        self.assertEqual(self.nomination.deadline, 1.8)

    def test_betterInTime(self) -> None:
        """
        A better pair that is proved within the moment is nominated instead.
        """
        self.low.state = PairState.SUCCEEDED
        self.consider(1.0)
        self.high.state = PairState.SUCCEEDED
        self.assertEqual(self.consider(1.1), [2002])

    def test_moreToCome(self) -> None:
        """
        While the other side may have more candidates, the moment is waited out.
        """
        self.high.state = PairState.SUCCEEDED
        self.assertEqual(self.consider(1.0, complete=False), [])
        self.assertEqual(self.consider(1.3, complete=False), [2002])

    def test_lost(self) -> None:
        """
        When the proved pair fails before it is nominated, the moment is over as well.
        """
        self.low.state = PairState.SUCCEEDED
        self.consider(1.0)
        self.low.state = PairState.FAILED
        self.consider(1.1)
        self.assertIsNone(self.nomination.deadline)


class GenerationCase(SynchronousTestCase):
    """
    Generations with literal credentials.
    """

    def make(self, number: int) -> Generation:
        """
        @return: a generation of that number.
        """
        side = LocalSide(b"12345678")
        side.add(hostCandidates(A))
        return Generation(number, True, side, Pace(0.0), Random(number).randbytes, 0.0)

    def more(
        self, number: int, *addresses: HostPort, complete: bool = False, mapping: bool = False
    ) -> MoreCandidates:
        """
        @return: trickled candidates.
        """
        behavior = NATBehavior(NATMapping.ADDRESS_DEPENDENT if mapping else None)
        candidates = tuple(hostCandidates(*addresses))
        return MoreCandidates(b"12345678", number, candidates, complete, behavior)


class GenerationTests(GenerationCase):
    """
    What one round of checks learns of the other side.
    """

    def test_credentials(self) -> None:
        """
        Credentials have the characters and the entropy of RFC 8445 section 5.3.
        """
        first, second = self.make(0), self.make(1)
        self.assertEqual((len(first.local.fragment), len(first.local.password)), (8, 24))
        self.assertNotEqual(first.local, second.local)

    def test_uncheckable(self) -> None:
        """
        Addresses that nobody should be made to check are left out.
        """
        generation = self.make(0)
        generation.learnCandidates(self.more(0, ("224.0.0.1", 4000), ("192.0.2.1", 53), B), 0.0)
        self.assertEqual([pair.address for pair in generation.checklist], [B])

    def test_overtaken(self) -> None:
        """
        A signal that the complete one overtook adds nothing wrong and takes nothing back.
        """
        generation = self.make(0)
        generation.learnCandidates(self.more(0, B), 0.0)
        generation.learnCandidates(self.more(0, A, B, complete=True, mapping=True), 0.0)
        generation.learnCandidates(self.more(0, B), 0.0)
        self.assertTrue(generation.remoteComplete)
        self.assertEqual(generation.behavior.mapping, NATMapping.ADDRESS_DEPENDENT)
        self.assertEqual(len(generation.checklist), 2)


class LineageTests(GenerationCase):
    """
    Generations follow one another.
    """

    def setUp(self) -> None:
        """
        A fresh lineage.
        """
        self.lineage = Lineage(self.make)
        self.first = self.lineage.current

    def test_former(self) -> None:
        """
        The generation that carries data stays beside the current one, whatever comes between.
        """
        self.assertEqual(list(self.lineage), [self.first])
        self.lineage.begin(1, self.first, 0.0)
        second = self.lineage.current
        self.assertEqual(list(self.lineage), [second, self.first])
        self.lineage.begin(2, self.first, 0.0)
        self.assertEqual(list(self.lineage), [self.lineage.current, self.first])
        self.assertEqual(self.lineage.current.number, 2)

    def test_nothingCarries(self) -> None:
        """
        A generation that found nothing is forgotten.
        """
        self.lineage.begin(1, None, 0.0)
        self.assertEqual(list(self.lineage), [self.lineage.current])

    def test_fallBack(self) -> None:
        """
        After a restart that failed, the next one has a number that was not used.
        """
        self.lineage.begin(1, self.first, 0.0)
        failed = self.lineage.current
        self.lineage.fallBack(self.first)
        self.assertEqual(list(self.lineage), [self.first, failed])
        self.assertTrue(self.first.completed)
        self.assertEqual(self.lineage.next, 2)

    def test_follow(self) -> None:
        """
        What the other side begins has its own time only when there is a path to fall back to.
        """
        self.first.started = -5.0
        self.lineage.follow(2, None, False, 0.0)
        self.assertEqual((self.lineage.current.number, self.lineage.current.started), (2, -5.0))
        self.lineage.follow(3, None, True, 0.0)
        self.assertEqual((self.lineage.current.number, self.lineage.current.started), (3, 0.0))

    def test_early(self) -> None:
        """
        Candidates that overtook the description of their generation wait for it; others do not.
        """
        self.lineage.learnCandidates(self.more(1, B, complete=True), 0.0)
        self.assertEqual(len(self.first.checklist), 0)
        self.lineage.begin(1, None, 0.0)
        self.assertTrue(self.lineage.current.remoteComplete)
        self.assertEqual([pair.address for pair in self.lineage.current.checklist], [B])

    def test_tooEarly(self) -> None:
        """
        Candidates for a generation that never came, or that is over, are dropped.
        """
        self.lineage.learnCandidates(self.more(2, B), 0.0)
        self.lineage.begin(3, None, 0.0)
        self.lineage.learnCandidates(self.more(2, B), 0.0)
        self.assertEqual(len(self.lineage.current.checklist), 0)
        self.lineage.learnCandidates(self.more(3, B), 0.0)
        self.assertEqual(len(self.lineage.current.checklist), 1)
