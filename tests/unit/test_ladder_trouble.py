"""
Tests for L{p2ptwist.core.ladder} where something goes wrong, or is made to.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ladder.action import Fire, Open, Over, Say
from p2ptwist.core.ladder.budget import QUIET_TIME, SPRAY_LIMIT
from p2ptwist.core.ladder.ground import ROUND_LIMIT, SCATTER_SOCKETS
from p2ptwist.core.ladder.message import Busy, LadderMessage, Stand
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.ladder.proposer import BUSY_LIMIT, REPLY_LIMIT
from tests.unit.ladderworld import (
    A_HOST,
    AIMED,
    B_HOST,
    SCATTERED,
    SESSION,
    STEADY,
    UNKNOWN,
    Side,
    World,
)


class TroubleTests(SynchronousTestCase):
    """
    What goes wrong, or is made to.
    """

    def test_noSTUN(self) -> None:
        """
        Nobody can tell the port: an aimed side that proposes gives up, and one that replies leaves
        it to the next rung.
        """
        world = World(Side(A_HOST, AIMED, True, 1), Side(B_HOST, AIMED, False, 2), answers=False)
        world.start()
        world.run(100.0)
        self.assertEqual((world.said, world.sides[0].outcome), ([], Over(True)))
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, AIMED, False, 2), answers=False)
        world.start()
        world.run(100.0)
        self.assertEqual(world.sides[1].sockets, [SCATTER_SOCKETS])

    def test_noSockets(self) -> None:
        """
        A side that cannot open any stays silent; one that can open some uses those.
        """
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, SCATTERED, False, 2), sockets=0)
        world.start()
        world.run(5.0)
        self.assertEqual([len(side.fired) for side in world.sides], [0, 0])
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, SCATTERED, False, 2), sockets=9)
        world.start()
        world.run(1.0)
        sources = {source for _, source, _ in world.sides[1].fired}
        self.assertEqual(len(sources), 9)

    def test_silentSide(self) -> None:
        """
        Nobody replies: every round is proposed, and then that was all.
        """
        side = Side(A_HOST, STEADY, True, 1)
        side.ladder.learn(STEADY, side.address, AIMED, frozenset({B_HOST}), 0.0)
        said = self.runAlone(side)
        self.assertEqual([message.round for message in said], list(range(len(said))))
        self.assertLessEqual(len(said), ROUND_LIMIT)
        self.assertEqual(side.outcome, Over(True))

    def runAlone(self, side: Side, until: float = 1000.0) -> list[LadderMessage]:
        """
        @return: what a side says to nobody.
        """
        said, now = [], 0.0
        while True:
            while (action := side.ladder.pollAction()) is not None:
                if isinstance(action, Say):
                    said.append(action.message)
                elif isinstance(action, Over):
                    side.outcome = action
            due = side.ladder.deadline(now)
            if due is None or due > until:
                return said
            now = max(now, due)
            side.ladder.handleTimeout(now)

    def test_roundLimit(self) -> None:
        """
        Not even quick failures make more than so many rounds.
        """
        world = World(Side(A_HOST, AIMED, True, 1), Side(B_HOST, AIMED, False, 2), answers=False)
        world.start()
        world.run(100.0)
        self.assertLess(world.now, 101.0)
        self.assertEqual(world.sides[0].outcome, Over(True))

    def test_busy(self) -> None:
        """
        The other side sprays for somebody else: it says so, and is asked again when that is over.
        """
        b = Side(B_HOST, SCATTERED, False, 2)
        b.budget.beginSpray("somebody", 0.0)
        world = World(Side(A_HOST, STEADY, True, 1), b)
        world.start()
        world.run(10.0)
        b.budget.endSpray("somebody", world.now)
        world.run(100.0)
        self.assertGreater(world.met or 0.0, SPRAY_LIMIT)
        self.assertEqual(len([each for each in world.said if isinstance(each, Busy)]), 2)

    def test_busyForever(self) -> None:
        """
        A side that is always busy is not asked for ever; and the spray is free for others.
        """
        side = Side(A_HOST, STEADY, True, 1)
        side.ladder.learn(STEADY, side.address, SCATTERED, frozenset({B_HOST}), 0.0)
        now = 0.0
        for _ in range(BUSY_LIMIT + 1):
            now = max(now, side.ladder.deadline(now) or now)
            side.ladder.handleTimeout(now)
            side.budget.endSpray("nobody", now)
            while isinstance(action := side.ladder.pollAction(), Say):
                self.assertEqual(action.message.round, 0)
            side.ladder.receive(Busy(SESSION, 0, 65535), now)
            now += QUIET_TIME
        outcome = side.ladder.pollAction()
        self.assertEqual(outcome, Over(False))
        self.assertEqual(side.budget.beginSpray("another", now + QUIET_TIME), 0.0)

    def test_ownSpray(self) -> None:
        """
        This side sprays for another session: its own round waits.
        """
        a = Side(A_HOST, STEADY, True, 1)
        a.budget.beginSpray("somebody", 0.0)
        world = World(a, Side(B_HOST, SCATTERED, False, 2))
        world.start()
        world.run(5.0)
        self.assertEqual(world.said, [])
        a.budget.endSpray("somebody", world.now)
        world.run(200.0)
        self.assertIsNotNone(world.met)

    def test_strangers(self) -> None:
        """
        Addresses that the other side did not offer are not sent to, nor ports of services, nor
        another session's; and words that fit nothing change nothing.
        """
        b = Side(B_HOST, SCATTERED, False, 2)
        b.ladder.learn(SCATTERED, b.address, STEADY, frozenset({A_HOST}), 0.0)
        a = (A_HOST, 5000)
        for message in (
            Stand(SESSION, 0, False, Posture.STEADY, ("11.7.7.7", 5000)),
            Stand(SESSION, 0, False, Posture.STEADY, (A_HOST, 53)),
            Stand(SESSION, ROUND_LIMIT, False, Posture.STEADY, a),
            Stand(b"another.", 0, False, Posture.STEADY, a),
            Stand(SESSION, 0, True, Posture.STEADY, a),
            Stand(SESSION, 0, False, Posture.SCATTERED, (A_HOST, 0)),
            Busy(SESSION, 0, 1),
        ):
            b.ladder.receive(message, 1.0)
        self.assertIsNone(b.ladder.pollAction())
        self.assertIsNone(b.ladder.deadline(1.0))
        b.ladder.receive(Stand(SESSION, 0, False, Posture.STEADY, a), 1.0)
        self.assertEqual(b.ladder.pollAction(), Open(SCATTER_SOCKETS))
        b.ladder.receive(Stand(SESSION, 0, False, Posture.STEADY, a), 1.0)
        self.assertIsNone(b.ladder.pollAction())

    def test_wrongReplies(self) -> None:
        """
        A reply from elsewhere, for another round, or that fits no rung, is none.
        """
        a = Side(A_HOST, STEADY, True, 1)
        a.ladder.learn(STEADY, a.address, AIMED, frozenset({B_HOST}), 0.0)
        a.ladder.receive(Stand(SESSION, 0, True, Posture.AIMED, (B_HOST, 5000)), 0.0)
        a.ladder.handleTimeout(0.0)
        self.assertIsInstance(a.ladder.pollAction(), Say)
        for message in (
            Stand(SESSION, 0, True, Posture.AIMED, ("11.7.7.7", 5000)),
            Stand(SESSION, 1, True, Posture.AIMED, (B_HOST, 5000)),
            Stand(SESSION, 0, True, Posture.SCATTERED, (B_HOST, 5000)),
            Stand(SESSION, 0, False, Posture.AIMED, (B_HOST, 5000)),
            Stand(SESSION, 0, True, Posture.STEADY, (B_HOST, 5000)),
        ):
            a.ladder.receive(message, 0.1)
        a.ladder.observed((A_HOST, 5000), 0.1)
        a.ladder.opened(5, 0.1)
        self.assertIsNone(a.ladder.pollAction())
        a.ladder.receive(Stand(SESSION, 0, True, Posture.AIMED, (B_HOST, 5000)), 0.1)
        self.assertIsInstance(a.ladder.pollAction(), Fire)

    def test_wrongProposals(self) -> None:
        """
        A steady side is no goal for a spray, and where nothing is possible nothing is answered; nor
        is a proposer that has no address of its own.
        """
        for local, remote in ((STEADY, SCATTERED), (SCATTERED, SCATTERED), (UNKNOWN, STEADY)):
            b = Side(B_HOST, local, False, 2)
            b.ladder.learn(local, None, remote, frozenset({A_HOST}), 0.0)
            b.ladder.receive(Stand(SESSION, 0, False, Posture.STEADY, (A_HOST, 5000)), 0.0)
            b.ladder.observed((B_HOST, 5000), 0.0)
            b.ladder.opened(5, 0.0)
            self.assertIsNone(b.ladder.pollAction())
        b = Side(B_HOST, SCATTERED, False, 2)
        b.ladder.learn(SCATTERED, b.address, STEADY, frozenset({A_HOST}), 0.0)
        b.ladder.receive(Stand(SESSION, 0, False, Posture.SCATTERED, (A_HOST, 53)), 0.0)
        self.assertIsNone(b.ladder.pollAction())

    def test_noAddress(self) -> None:
        """
        A scattered side that does not know its own host cannot say it; a steady one cannot begin,
        and ends when it loses its address.
        """
        b = Side(B_HOST, SCATTERED, False, 2)
        b.ladder.learn(SCATTERED, None, STEADY, frozenset({A_HOST}), 0.0)
        b.ladder.receive(Stand(SESSION, 0, False, Posture.STEADY, (A_HOST, 5000)), 0.0)
        self.assertEqual(b.ladder.pollAction(), Open(SCATTER_SOCKETS))
        b.ladder.opened(SCATTER_SOCKETS, 0.0)
        self.assertIsNone(b.ladder.pollAction())
        a = Side(A_HOST, STEADY, True, 1)
        a.ladder.learn(STEADY, None, AIMED, frozenset({B_HOST}), 0.0)
        self.assertIsNone(a.ladder.deadline(0.0))
        a.ladder.learn(STEADY, a.address, AIMED, frozenset({B_HOST}), 0.0)
        a.ladder.learn(STEADY, None, AIMED, frozenset({B_HOST}), 0.0)
        a.ladder.handleTimeout(1.0)
        self.assertEqual(a.ladder.pollAction(), Over(True))

    def test_lateTimes(self) -> None:
        """
        A reply that never came is waited for so long; deadlines never lie behind.
        """
        a = Side(A_HOST, STEADY, True, 1)
        a.ladder.learn(STEADY, a.address, AIMED, frozenset({B_HOST}), 0.0)
        a.ladder.handleTimeout(0.0)
        self.assertEqual(a.ladder.deadline(0.0), REPLY_LIMIT)
