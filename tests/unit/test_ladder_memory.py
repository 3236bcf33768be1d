"""
Tests for L{p2ptwist.core.ladder.memory}, and for ladders that begin with what worked before.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ladder.action import Say
from p2ptwist.core.ladder.budget import Budget
from p2ptwist.core.ladder.ladder import PATIENCE
from p2ptwist.core.ladder.memory import (
    CLIMB_PAUSE,
    LIMIT,
    Means,
    Networks,
    PairMemory,
    meansOf,
    networksOf,
)
from p2ptwist.core.ladder.message import Stand
from p2ptwist.core.ladder.posture import PREDICTION_ROUNDS, Posture, Rung
from p2ptwist.core.nat import NATBehavior
from tests.unit.ladderworld import (
    A_HOST,
    AIMED,
    B_HOST,
    DELAY,
    LOOSE,
    SCATTERED,
    SESSION,
    STEADY,
    Side,
    World,
)

HERE: Networks = (A_HOST, B_HOST)


class MemoryTests(SynchronousTestCase):
    """
    One memory.
    """

    def test_worked(self) -> None:
        """
        The latest success counts, of that pair alone, and in that direction.
        """
        memory = PairMemory()
        self.assertIsNone(memory.recall(HERE))
        memory.worked(HERE, Means.PREDICTION)
        memory.worked(HERE, Means.SPRAYING)
        self.assertIs(memory.recall(HERE), Means.SPRAYING)
        self.assertIsNone(memory.recall((B_HOST, A_HOST)))

    def test_failed(self) -> None:
        """
        What came to nothing is not tried again for half an hour, unless something worked meanwhile.
        """
        memory = PairMemory()
        memory.worked(HERE, Means.SPRAYING)
        self.assertTrue(memory.mayClimb(HERE, 0.0))
        memory.failed(HERE, 10.0)
        self.assertIsNone(memory.recall(HERE))
        self.assertFalse(memory.mayClimb(HERE, 10.0 + CLIMB_PAUSE - 1.0))
        self.assertTrue(memory.mayClimb(HERE, 10.0 + CLIMB_PAUSE))
        memory.worked(HERE, Means.TCP)
        self.assertTrue(memory.mayClimb(HERE, 10.0))

    def test_missed(self) -> None:
        """
        What does not work any more is forgotten, and only that.
        """
        memory = PairMemory()
        memory.missed(HERE, Means.FRESH)
        memory.worked(HERE, Means.FRESH)
        memory.missed(HERE, Means.TCP)
        self.assertIs(memory.recall(HERE), Means.FRESH)
        memory.missed(HERE, Means.FRESH)
        self.assertIsNone(memory.recall(HERE))

    def test_unknown(self) -> None:
        """
        Of networks that nobody knows nothing is remembered, and everything may be tried.
        """
        memory = PairMemory()
        memory.worked(None, Means.TCP)
        memory.failed(None, 0.0)
        memory.missed(None, Means.TCP)
        self.assertIsNone(memory.recall(None))
        self.assertTrue(memory.mayClimb(None, 0.0))

    def test_life(self) -> None:
        """
        How long mappings last is kept beside what worked, for as many pairs.
        """
        memory = PairMemory()
        memory.lasts(None, 60.0)
        memory.lasts(HERE, 60.0)
        memory.lasts(HERE, None)
        self.assertEqual((memory.life(HERE), memory.life(None)), (60.0, None))
        memory.failed(HERE, 0.0)
        self.assertEqual(memory.life(HERE), 60.0)
        for number in range(LIMIT):
            memory.lasts((A_HOST, str(number)), 50.0)
        self.assertEqual((memory.life(HERE), memory.life((A_HOST, "0"))), (None, 50.0))

    def test_bounded(self) -> None:
        """
        The pairs that were met longest ago make room.
        """
        memory = PairMemory()
        pairs = [(A_HOST, f"11.1.{number // 256}.{number % 256}") for number in range(LIMIT)]
        for networks in pairs:
            memory.worked(networks, Means.ORDINARY)
        memory.worked(pairs[0], Means.ORDINARY)
        memory.worked(HERE, Means.ORDINARY)
        known = [networks for networks in pairs if memory.recall(networks) is not None]
        self.assertEqual(known, [pairs[0], *pairs[2:]])

    def test_means(self) -> None:
        """
        Fresh ports count for more than a rung that was climbed from them.
        """
        self.assertIs(meansOf(None, False), Means.ORDINARY)
        self.assertIs(meansOf(Rung.PREDICTION, False), Means.PREDICTION)
        self.assertIs(meansOf(Rung.SPRAYING, False), Means.SPRAYING)
        self.assertIs(meansOf(Rung.PREDICTION, True), Means.PREDICTION)
        self.assertIs(meansOf(None, True), Means.FRESH)

    def test_networks(self) -> None:
        """
        Both sides have to be known; of several hosts it is always the same one that counts.
        """
        address = (A_HOST, 5000)
        self.assertIsNone(networksOf(None, {B_HOST}))
        self.assertIsNone(networksOf(address, frozenset()))
        self.assertEqual(networksOf(address, {"11.0.0.3", B_HOST}), HERE)


class LadderTests(SynchronousTestCase):
    """
    Ladders that remember.
    """

    def world(self, a: NATBehavior, b: NATBehavior, means: Means | None) -> World:
        """
        @return: a world in which A, who proposes, remembers C{means}, and B nothing; they have met
            or given up.
        """
        memory = PairMemory()
        if means is not None:
            memory.worked(HERE, means)
        world = World(Side(A_HOST, a, True, 1, memory=memory), Side(B_HOST, b, False, 2))
        world.start()
        world.run(60.0)
        return world

    def test_sprayFirst(self) -> None:
        """
        Where spraying was what worked, predictions are skipped; the other side, which remembers
        nothing, goes along.
        """
        world = self.world(STEADY, AIMED, Means.SPRAYING)
        (proposal, reply, *_) = world.said
        self.assertEqual((proposal.round, reply.round), (PREDICTION_ROUNDS, PREDICTION_ROUNDS))
        assert isinstance(reply, Stand)
        self.assertIs(reply.posture, Posture.SCATTERED)
        self.assertIsNotNone(world.met)
        self.assertEqual([side.ladder.rung for side in world.sides], [Rung.SPRAYING] * 2)

    def test_predictionFirst(self) -> None:
        """
        Everything else begins at the first round.
        """
        for means in (None, Means.PREDICTION, Means.TCP):
            world = self.world(STEADY, AIMED, means)
            self.assertEqual(world.said[0].round, 0)
            self.assertEqual(world.sides[0].ladder.rung, Rung.PREDICTION)

    def test_noPatience(self) -> None:
        """
        Where a rung was what worked, ordinary checks get no time of their own before it.
        """
        for means, wait in ((Means.PREDICTION, 0.0), (Means.ORDINARY, PATIENCE)):
            world = self.world(LOOSE, AIMED, means)
            self.assertAlmostEqual(world.met or 0.0, wait + 4 * DELAY)

    def test_otherRungs(self) -> None:
        """
        A memory of what this pair of NATs does not allow any more changes nothing.
        """
        for a, b in ((STEADY, SCATTERED), (AIMED, AIMED)):
            world = self.world(a, b, Means.SPRAYING)
            self.assertEqual(world.said[0].round, 0)
            self.assertIsNotNone(world.met)

    def test_paused(self) -> None:
        """
        After a failure of everything nothing is proposed for a while, and no proposal is taken.
        """
        memory = PairMemory()
        memory.failed(HERE, 0.0)
        for behavior, other in ((STEADY, AIMED), (AIMED, STEADY)):
            for now, quiet in ((1.0, True), (CLIMB_PAUSE, False)):
                side = Side(A_HOST, behavior, True, 1, budget=Budget(), memory=memory)
                side.ladder.learn(behavior, side.address, other, frozenset({B_HOST}), now)
                side.ladder.handleTimeout(now)
                if behavior is AIMED:
                    stand = Stand(SESSION, 0, False, Posture.STEADY, (B_HOST, 5000))
                    side.ladder.receive(stand, now)
                self.assertEqual(side.ladder.pollAction() is None, quiet)

    def test_rung(self) -> None:
        """
        A ladder that has not sent anything was not what made them meet.
        """
        side = Side(A_HOST, STEADY, True, 1)
        side.ladder.learn(STEADY, side.address, AIMED, frozenset({B_HOST}), 0.0)
        side.ladder.handleTimeout(0.0)
        self.assertIsInstance(side.ladder.pollAction(), Say)
        self.assertIsNone(side.ladder.rung)
