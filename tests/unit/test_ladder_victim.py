"""
Tests for what L{p2ptwist.core.ladder} sends to one host that does not answer: a peer that says that
it is there, in one session after the other, cannot make it more.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ladder.action import Fire, Observe, Open, Over, Say
from p2ptwist.core.ladder.allowance import HOST_LIMIT, Allowances
from p2ptwist.core.ladder.budget import HOST_RATE, SPRAY_CHECKS, Budget
from p2ptwist.core.ladder.ladder import Ladder
from p2ptwist.core.ladder.memory import PairMemory
from p2ptwist.core.ladder.message import LadderMessage, Stand
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.ladder.volley import Shot, Volley, spray
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.tokenbucket import Rate
from tests.unit.ladderworld import A_HOST, AIMED, SCATTERED, STEADY

VICTIM = "198.51.100.9"


class Liar:
    """
    One honest process, and a peer that has it climb again and again to a host which never answers.

    @ivar hits: how many checks each host got.
    """

    def __init__(self, local: NATBehavior, remote: NATBehavior, *, controlling: bool) -> None:
        """
        @param local: what the honest side's NATs do.
        @param remote: what the peer says that its own do.
        @param controlling: whether the honest side is.
        """
        self.budget = Budget()
        self.hits: Counter[str] = Counter()
        self.now = 0.0
        self._memory = PairMemory()
        self._random = Random(1)
        self._local, self._remote, self._controlling = local, remote, controlling
        self._sessions = 0

    def climb(self, seconds: float, *, decoys: bool = True) -> Ladder:
        """
        Have one session climb, and end it.

        @param decoys: whether the peer says, in each session, that it has another address as well.
        @return: the ladder, which is over.
        """
        self._sessions += 1
        session = self._sessions.to_bytes(8, "big")
        ladder = Ladder(session, self._controlling, self.budget, self._random, self._memory)
        decoy = f"11.0.{self._sessions // 250}.{self._sessions % 250}"
        hosts = frozenset({VICTIM, decoy} if decoys else {VICTIM})
        end = self.now + seconds
        ladder.learn(self._local, (A_HOST, 5000), self._remote, hosts, self.now)
        for number in range(8):
            ladder.receive(Stand(session, number, False, Posture.STEADY, (VICTIM, 4000)), self.now)
            self._drain(ladder)
        while (due := ladder.deadline(self.now)) is not None and due <= end:
            self.now = max(self.now, due)
            ladder.handleTimeout(self.now)
            self._drain(ladder)
        ladder.stop(self.now)
        self.now = end
        return ladder

    def _drain(self, ladder: Ladder) -> None:
        while (action := ladder.pollAction()) is not None:
            if isinstance(action, Fire):
                self.hits[action.shot.address[0]] += 1
            elif isinstance(action, Say):
                self._answer(ladder, action.message)
            elif isinstance(action, Open):
                ladder.opened(action.count, self.now)
            elif isinstance(action, Observe):
                ladder.observed((A_HOST, 6000), self.now)
            elif action.exhausted:
                self._memory.failed(ladder.networks, self.now)  # as sessions do

    def _answer(self, ladder: Ladder, said: LadderMessage) -> None:
        if isinstance(said, Stand) and not said.reply:
            aimed = said.round < 3 and self._remote is AIMED
            posture = Posture.AIMED if aimed else Posture.SCATTERED
            stand = Stand(said.session, said.round, True, posture, (VICTIM, 4000))
            ladder.receive(stand, self.now)


class VictimTests(SynchronousTestCase):
    """
    Half an hour of lies.
    """

    # Whose NATs are what, and who is controlling: all that climb.
    ROLES = (
        (STEADY, SCATTERED, False),
        (STEADY, AIMED, False),
        (SCATTERED, STEADY, True),
        (AIMED, STEADY, True),
        (AIMED, AIMED, True),
        (AIMED, AIMED, False),
    )

    def assertNear(self, sent: int, expected: int) -> None:
        """
        Sprays differ by some ports that are nobody's to try.
        """
        self.assertIn(sent, range(expected - 20, expected + 21))

    def test_bounded(self) -> None:
        """
        Three sprays' worth at once and a fourth in the half hour, 7,040 checks, in whatever role,
        with decoys, whenever the sessions are ended, and nothing to anybody else.
        """
        for local, remote, controlling in self.ROLES:
            for seconds in (45.0, 19.0, 7.0, 0.5):
                liar = Liar(local, remote, controlling=controlling)
                while liar.now < 1800.0:
                    liar.climb(seconds)
                self.assertLessEqual(liar.hits[VICTIM], 7040)
                self.assertEqual(set(liar.hits), {VICTIM})

    def test_longRun(self) -> None:
        """
        In six hours as many as in three climbs, and in one each half an hour.
        """
        liar = Liar(STEADY, SCATTERED, controlling=False)
        while liar.now < 6 * 3600.0:
            liar.climb(45.0)
        self.assertLessEqual(liar.hits[VICTIM], 15 * 1760)

    def test_times(self) -> None:
        """
        Three sprays of 1,747 checks, some ports being nobody's to try; then, of the 5,280 that one
        host may get, 39 are left and 110 have come back since, and there is no fourth one before
        1,760 are: after half an hour at the most.
        """
        liar = Liar(STEADY, SCATTERED, controlling=False)
        for expected in (1747, 3494, 5241, 5241):
            ladder = liar.climb(45.0)
            self.assertNear(liar.hits[VICTIM], expected)
        self.assertEqual(
            ladder.outcome,
            "birthday spraying is put off, as this program has sent much to the other side's "
            "network that was not answered",
        )
        liar.now = 1600.0
        liar.climb(45.0)
        self.assertNear(liar.hits[VICTIM], 5241)
        liar.now = 1800.0
        liar.climb(45.0)
        self.assertNear(liar.hits[VICTIM], 6988)

    def test_noDecoys(self) -> None:
        """
        Where no host of the other side's may get any more nothing is proposed.
        """
        liar = Liar(STEADY, SCATTERED, controlling=False)
        for _ in range(10):
            liar.climb(19.0, decoys=False)
            liar.now += 21.0
        ladder = Ladder(b"8 bytes!", False, liar.budget, Random(1), PairMemory())
        ladder.learn(STEADY, (A_HOST, 5000), SCATTERED, frozenset({VICTIM}), liar.now)
        ladder.handleTimeout(liar.now)
        self.assertEqual((ladder.pollAction(), ladder.active), (Over(False), False))

    def test_answered(self) -> None:
        """
        Who answers may be climbed to again and again.
        """
        liar = Liar(STEADY, SCATTERED, controlling=False)
        for number in range(1, 31):
            liar.climb(10.0)
            liar.budget.answered(VICTIM)
            liar.now += 20.0
            self.assertEqual(liar.hits[VICTIM], number * 880)

    def test_others(self) -> None:
        """
        What one host got is not counted against another one, and what answers nobody had asked of
        changes nothing.
        """
        liar = Liar(STEADY, SCATTERED, controlling=False)
        for _ in range(5):
            liar.climb(45.0)
        liar.budget.answered("198.51.100.8")
        self.assertLess(liar.budget.left(VICTIM, liar.now), 1760.0)
        self.assertEqual(liar.budget.left("198.51.100.8", liar.now), 5280.0)

    def test_rate(self) -> None:
        """
        The numbers of the documentation.
        """
        self.assertEqual((SPRAY_CHECKS, HOST_RATE.burst), (1760, 5280.0))
        self.assertAlmostEqual(HOST_RATE.perSecond * 1800.0, 1760.0)

    def test_midway(self) -> None:
        """
        A volley to a host that others have sent too much to meanwhile is over: after a minute 58
        checks have come back.
        """
        budget = Budget()
        shots: list[Shot] = []
        for second in range(60):
            for _ in range(88):
                budget.take(VICTIM, float(second))
        volley = Volley(spray((VICTIM, 4000), Random(1)), budget, 60.0)
        now = 60.0
        while (due := volley.deadline(now)) is not None:
            now = due
            if (shot := volley.take(now)) is not None:
                shots.append(shot)
        self.assertEqual(len(shots), 58)
        self.assertIsNone(volley.take(10**6))


class AllowancesTests(SynchronousTestCase):
    """
    What is remembered of hosts.
    """

    def test_refills(self) -> None:
        """
        Two at once, and one in ten seconds.
        """
        allowances = Allowances(Rate(0.1, 2.0))
        taken = [allowances.take(VICTIM, now) for now in (0.0, 0.0, 0.0, 9.0, 10.0, 10.0)]
        self.assertEqual(taken, [True, True, False, False, True, False])
        self.assertEqual(allowances.left(VICTIM, 15.0), 0.5)
        allowances.settle(VICTIM)
        self.assertEqual(allowances.left(VICTIM, 15.0), 2.0)

    def test_bounded(self) -> None:
        """
        A host is not forgotten before its time, whoever else is named; while there is no room for
        another one, that gets nothing.
        """
        allowances = Allowances(Rate(0.1, 2.0))
        allowances.take(VICTIM, 0.0)
        for number in range(HOST_LIMIT - 1):
            self.assertTrue(allowances.take(str(number), 5.0))
        self.assertFalse(allowances.take("another", 5.0))
        self.assertEqual((len(allowances), allowances.left("another", 5.0)), (HOST_LIMIT, 0.0))
        self.assertEqual(allowances.left(VICTIM, 5.0), 1.5)
        self.assertTrue(allowances.take("another", 10.0))
        self.assertEqual(len(allowances), HOST_LIMIT)
        self.assertEqual(allowances.left("more", 100.0), 2.0)
        self.assertEqual(len(allowances), 0)

    def test_enoughRoom(self) -> None:
        """
        There is room for as many as a process can send to: whoever sends each check so that the
        most hosts are remembered at last fills it to 86 in 100.
        """
        remembered, age = 0.0, 0.0
        while age * HOST_RATE.perSecond < HOST_RATE.burst:
            remembered += 88 / max(1.0, age * HOST_RATE.perSecond)
            age += 1.0
        self.assertLess(remembered, 0.95 * HOST_LIMIT)
