"""
Tests for L{p2ptwist.core.ice.reason}, and for what a ladder says of itself.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.reason import explainFailure, explainTCP
from p2ptwist.core.ladder.budget import Budget
from p2ptwist.core.ladder.ladder import Ladder
from p2ptwist.core.ladder.memory import PairMemory
from p2ptwist.core.ladder.message import Busy, Stand
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation

_APD = NATMapping.ADDRESS_AND_PORT_DEPENDENT
_STRICT = NATFiltering.ADDRESS_AND_PORT_DEPENDENT
HOME = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, _STRICT)
COUNTING = NATBehavior(_APD, _STRICT, PortAllocation.SEQUENTIAL, 1)
RANDOM = NATBehavior(_APD, _STRICT, PortAllocation.RANDOM, tcpMapping=_APD)
UNKNOWN = NATBehavior()
OWN, OTHER = ("8.8.4.4", 4001), "8.8.8.8"


class ReasonTests(SynchronousTestCase):
    """
    One line.
    """

    def test_cause(self) -> None:
        """
        Pairs that nothing makes meet are told of; others are not, nor unknown ones.
        """
        both = explainFailure(1.0, 2, 3, RANDOM, RANDOM)
        self.assertIn("; both sides' ports are random, ", both)
        for pair in ((RANDOM, COUNTING), (COUNTING, RANDOM)):
            self.assertIn("; one side's ports are random, ", explainFailure(1.0, 2, 3, *pair))
        for pair in ((HOME, HOME), (HOME, RANDOM), (COUNTING, COUNTING), (UNKNOWN, RANDOM)):
            self.assertNotIn("ports are random", explainFailure(1.0, 2, 3, *pair))
        self.assertIn(
            "; it found nothing; ", explainFailure(1.0, 2, 3, RANDOM, HOME, "it found nothing")
        )

    def test_blocked(self) -> None:
        """
        Where UDP is blocked, NATs are only told of where they were measured.
        """
        both = explainFailure(1.0, 2, 3, UNKNOWN, UNKNOWN, None, (True, True))
        here = explainFailure(1.0, 2, 3, UNKNOWN, HOME, None, (True, False))
        there = explainFailure(1.0, 2, 3, HOME, UNKNOWN, None, (False, True))
        self.assertIn("blocked on both sides", both)
        self.assertIn("blocked on this side, as no STUN server answers it; the other side's", here)
        self.assertIn("blocked on the other side, as no STUN server answers it; this side's", there)
        for words in (both, here, there):
            self.assertNotIn("unknown", words)

    def test_tcp(self) -> None:
        """
        The NATs that have another TCP port for every destination are named.
        """
        self.assertEqual(explainTCP("it failed", HOME, UNKNOWN), "it failed")
        words = explainTCP("it failed", HOME, RANDOM)
        self.assertTrue(
            words.startswith("it failed, and the other side's NAT has another TCP port")
        )
        self.assertIn(" and this side's and the other", explainTCP("it failed", RANDOM, RANDOM))


class OutcomeTests(SynchronousTestCase):
    """
    What a ladder says of itself.
    """

    def ladder(self, memory: PairMemory | None = None, local: NATBehavior = HOME) -> Ladder:
        """
        @return: one that knows both sides; the other one's ports are random.
        """
        self.budget = Budget()
        ladder = Ladder(b"session!", True, self.budget, Random(1), memory or PairMemory())
        self.assertIsNone(ladder.outcome)
        ladder.learn(local, OWN, RANDOM, {OTHER}, 0.0)
        return ladder

    def test_nothing(self) -> None:
        """
        Nothing, where there is nothing to climb, or it has not begun.
        """
        self.assertIsNone(self.ladder(local=RANDOM).outcome)
        self.assertIsNone(self.ladder().outcome)

    def test_fired(self) -> None:
        """
        Checks were sent.
        """
        ladder = self.ladder()
        ladder.handleTimeout(0.0)
        reply = Stand(b"session!", 0, True, Posture.SCATTERED, (OTHER, 5000))
        ladder.receive(reply, 0.1)
        for tenth in range(2, 20):
            ladder.handleTimeout(tenth / 10)
        self.assertRegex(ladder.outcome or "", r"^birthday spraying sent \d\d+ checks, and none")

    def test_unanswered(self) -> None:
        """
        The other side does not answer proposals.
        """
        ladder = self.ladder()
        ladder.handleTimeout(0.0)
        self.assertIn("did not take part", ladder.outcome or "")

    def test_putOff(self) -> None:
        """
        The other side sprays for somebody else, or this one does.
        """
        ladder = self.ladder()
        ladder.handleTimeout(0.0)
        self.assertFalse(ladder.putOff)
        ladder.receive(Busy(b"session!", 0, 5), 0.1)
        self.assertTrue(ladder.putOff)
        self.assertIn("birthday spraying is put off", ladder.outcome or "")

    def test_paused(self) -> None:
        """
        It came to nothing before.
        """
        memory = PairMemory()
        memory.failed((OWN[0], OTHER), 0.0)
        self.assertIn("came to nothing between these networks", self.ladder(memory).outcome or "")
