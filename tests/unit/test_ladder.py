"""
Tests for L{p2ptwist.core.ladder.ladder}: two ladders that meet, or give up.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ladder.action import Over
from p2ptwist.core.ladder.budget import LADDER_LIMIT, SPRAY_LIMIT
from p2ptwist.core.ladder.ground import AIM_DEPTHS, SCATTER_SOCKETS
from p2ptwist.core.ladder.ladder import PATIENCE
from p2ptwist.core.ladder.message import Stand
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.ladder.responder import GRACE
from p2ptwist.core.nat import NATBehavior, PortAllocation
from tests.unit.ladderworld import (
    A_HOST,
    AIMED,
    B_HOST,
    DELAY,
    DOWNWARD,
    LOOSE,
    SCATTERED,
    SESSION,
    STEADY,
    STRICT,
    SYMMETRIC,
    UNKNOWN,
    Side,
    World,
    climb,
)


class ClimbTests(SynchronousTestCase):
    """
    Two ladders.
    """

    def test_steadyAimed(self) -> None:
        """
        One round, whoever offered: proposal, STUN, reply, knock.
        """
        for a, b in ((STEADY, AIMED), (AIMED, STEADY), (STEADY, DOWNWARD)):
            world = climb(a, b)
            self.assertAlmostEqual(world.met or 0.0, 4 * DELAY)

    def test_aimedAimed(self) -> None:
        """
        Each tells the other its port.
        """
        world = climb(AIMED, DOWNWARD)
        self.assertAlmostEqual(world.met or 0.0, 5 * DELAY)
        self.assertEqual([side.sockets for side in world.sides], [[AIM_DEPTHS[0]]] * 2)

    def test_aimedInACrowd(self) -> None:
        """
        Where others make 20 mappings a second, deeper aims find what the first one missed.
        """
        for a, b, share in ((STEADY, AIMED, 95), (AIMED, AIMED, 90)):
            worlds = [climb(a, b, seed, others=20.0) for seed in range(100)]
            met = [world for world in worlds if world.met is not None]
            self.assertGreaterEqual(len(met), share)

    def test_scattered(self) -> None:
        """
        Within 20 s nearly always, and half of the time in 4 s; never more checks a second than
        ladders may send, from 256 sockets, and none by a side that was not asked.
        """
        worlds = [climb(STEADY, SCATTERED, seed) for seed in range(100)]
        times = sorted(world.met or 100.0 for world in worlds)
        self.assertLess(times[50], 4.0)
        self.assertLess(times[94], 20.0)
        for side in (side for world in worlds for side in world.sides):
            stamps = [time for time, _, _ in side.fired]
            for first, last in zip(stamps, stamps[LADDER_LIMIT:], strict=False):
                self.assertGreaterEqual(last - first, 1.0 - 1e-9)
        self.assertEqual({tuple(world.sides[1].sockets) for world in worlds}, {(SCATTER_SOCKETS,)})

    def test_primesFirst(self) -> None:
        """
        The first shots of the side with many sockets die on the way; the others follow later.
        """
        for behavior in (AIMED, SCATTERED):
            world = climb(STEADY, behavior)
            self.assertGreater(world.sides[1].near, 0)
            self.assertEqual(world.sides[0].near, 0)

    def test_mayMeet(self) -> None:
        """
        Where ordinary checks have a chance they come first.
        """
        self.assertAlmostEqual(climb(LOOSE, AIMED).met or 0.0, PATIENCE + 4 * DELAY)

    def test_nothingToDo(self) -> None:
        """
        Nobody says or sends anything, whoever proposes.
        """
        for a, b in ((SCATTERED, SCATTERED), (STEADY, STEADY), (UNKNOWN, AIMED)):
            world = climb(a, b)
            self.assertEqual((world.said, world.met), ([], None))

    def test_gaveUp(self) -> None:
        """
        An aim that is always wrong is followed by a spray; after 20 s there is silence.
        """
        aside = NATBehavior(SYMMETRIC, STRICT, PortAllocation.SEQUENTIAL, 7)
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, aside, False, 2))
        world.sides[1].nat.behavior = SCATTERED
        world.sides[1].nat.next = lambda now: 1  # type: ignore[method-assign]
        world.start()
        world.run(100.0)
        self.assertEqual(world.sides[1].sockets, [*AIM_DEPTHS, SCATTER_SOCKETS])
        for side, end in zip(world.sides, (SPRAY_LIMIT, SPRAY_LIMIT + GRACE), strict=True):
            self.assertEqual(side.outcome, Over(True))
            self.assertLess(max(time for time, _, _ in side.fired), end + 1.0)
            self.assertIsNone(side.ladder.deadline(world.now))

    def test_active(self) -> None:
        """
        From the first proposal, on both sides, until it is over.
        """
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, AIMED, False, 2))
        self.assertEqual([side.ladder.active for side in world.sides], [False, False])
        world.start()
        self.assertEqual([side.ladder.active for side in world.sides], [True, False])
        world.run(3 * DELAY)
        self.assertEqual([side.ladder.active for side in world.sides], [True, True])
        for side in world.sides:
            side.ladder.stop(world.now)
        self.assertEqual([side.ladder.active for side in world.sides], [False, False])

    def test_stopped(self) -> None:
        """
        A path is open: nothing more is sent, whatever comes.
        """
        world = climb(STEADY, SCATTERED, until=1.0)
        for side in world.sides:
            fired = side.ladder.fired
            side.ladder.stop(world.now)
            world.drain(side)
            self.assertEqual(side.outcome, Over(False))
            side.ladder.receive(Stand(SESSION, 5, False, Posture.STEADY, (A_HOST, 5000)), 2.0)
            side.ladder.observed((A_HOST, 1), 2.0)
            side.ladder.opened(3, 2.0)
            side.ladder.handleTimeout(2.0)
            side.ladder.learn(STEADY, side.address, AIMED, frozenset({B_HOST}), 2.0)
            side.ladder.stop(3.0)
            self.assertIsNone(side.ladder.pollAction())
            self.assertEqual(side.ladder.fired, fired)
