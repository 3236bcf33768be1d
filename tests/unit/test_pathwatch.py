"""
Tests for L{p2ptwist.peer.pathwatch}, with a path that a test makes silent.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.session.selector import PathSelector, Route
from p2ptwist.peer.pathwatch import LINK_PATIENCE, LULL_PATIENCE, STALLED, PathWatch

ROUND_TRIP = 0.08
DOUBT, TRUST = 0.125, 0.3  # seconds, of that round trip


class WatchTests(SynchronousTestCase):
    """
    A path of 80 ms that was heard at first.
    """

    def setUp(self) -> None:
        """
        Open it.
        """
        self.clock = Clock()
        self.selector = PathSelector(0.0)
        self.selector.directOpened(0.0, ROUND_TRIP)
        self.selector.heardDirect(0.0)
        self.unanswered: int | None = 0
        self.checks: list[float] = []
        self.doubts: list[float] = []
        self.repeats: list[float] = []
        self.watch = PathWatch(
            self.clock,
            self.selector,
            lambda: self.unanswered,
            lambda: self.checks.append(self.clock.seconds()),
            self.doubts.append,
            lambda: self.repeats.append(self.clock.seconds()),
        )
        self.assertAlmostEqual(self.selector.doubtTime, DOUBT)

    @property
    def route(self) -> Route:
        """
        Where a datagram goes now.
        """
        return self.selector.route(self.clock.seconds())

    def send(self) -> None:
        """
        Send something.
        """
        self.watch.sent(self.clock.seconds())

    def hear(self) -> None:
        """
        Something comes.
        """
        self.watch.heard(self.clock.seconds())

    def test_answered(self) -> None:
        """
        While answers come nothing is done, however much is sent.
        """
        for _ in range(50):
            self.send()
            self.clock.advance(ROUND_TRIP)
            self.hear()
            self.clock.advance(DOUBT)
        self.assertEqual((self.checks, self.doubts, self.repeats), ([], [], []))
        self.unanswered = None
        self.clock.advance(1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """
        An answer that is late has the path checked and the link asked, once; when trust ends what
        waits is sent again, on both ways.
        """
        self.send()
        self.clock.advance(DOUBT - 0.01)
        self.assertEqual(self.checks, [])
        self.clock.advance(0.02)
        self.assertEqual((len(self.checks), self.doubts), (1, [LINK_PATIENCE]))
        self.clock.advance(TRUST - DOUBT - 0.02)
        self.assertEqual((self.repeats, self.route), ([], Route.DIRECT))
        self.clock.advance(0.02)
        self.assertEqual((len(self.repeats), self.route), (1, Route.BOTH))
        self.clock.advance(10.0)
        self.assertEqual((len(self.checks), len(self.repeats)), (1, 1))

    def test_relayDies(self) -> None:
        """
        When QUIC repeats in vain although the relay carries as well, the link is asked again.
        """
        self.send()
        self.clock.advance(DOUBT + 0.001)
        self.clock.advance(TRUST)
        self.unanswered = STALLED
        self.send()
        self.clock.advance(DOUBT + 0.001)
        self.assertEqual(self.doubts, [LINK_PATIENCE, LINK_PATIENCE])
        self.assertEqual(len(self.repeats), 1)

    def test_nothingOnEither(self) -> None:
        """
        While somebody goes on sending, so that QUIC has hardly anything to repeat, the link is
        asked again whenever nothing came on either way for as long as makes a path silent; not
        while the relay carries.
        """
        for _ in range(20):
            self.send()
            self.clock.advance(0.1)
        self.assertEqual(len(self.doubts), 5)
        for _ in range(20):
            self.send()
            self.watch.relayed(self.clock.seconds())
            self.clock.advance(0.1)
        self.assertEqual(len(self.doubts), 5)

    def test_revived(self) -> None:
        """
        A check of the other side on a path that was late has what waits sent again; an answer to
        this side's own makes the path trusted as well.
        """
        self.send()
        self.clock.advance(TRUST)
        self.repeats.clear()
        self.clock.advance(0.1)
        self.watch.confirmed(False, ROUND_TRIP)
        self.assertEqual((len(self.repeats), self.route), (1, Route.BOTH))
        self.clock.advance(0.11)
        self.watch.confirmed(True, ROUND_TRIP)
        self.assertEqual((len(self.repeats), self.route), (2, Route.DIRECT))
        self.clock.advance(0.11)
        self.watch.confirmed(True, ROUND_TRIP)
        self.assertEqual(len(self.repeats), 2)

    def test_acknowledgementsAlone(self) -> None:
        """
        When all that was sent is acknowledged nothing is waited for.
        """
        self.unanswered = None
        self.send()
        self.clock.advance(5.0)
        self.assertEqual((self.checks, self.route), ([], Route.DIRECT))

    def test_settledTooLate(self) -> None:
        """
        What the relay has settled does not make a path that was late trusted again.
        """
        self.send()
        self.clock.advance(0.2)
        self.unanswered = None
        self.clock.advance(1.0)
        self.assertIs(self.route, Route.BOTH)
        self.assertEqual(self.repeats, [])

    def test_stalled(self) -> None:
        """
        When things come, but what this side sends is repeated in vain, the path is checked: it may
        carry one way only, or what comes may be forged.  Without an answer it is not trusted.
        """
        self.unanswered = STALLED
        for _ in range(10):
            self.send()
            self.hear()
            self.clock.advance(0.1)
            self.hear()
        self.assertGreaterEqual(len(self.checks), 1)
        self.assertIs(self.route, Route.BOTH)
        self.watch.confirmed(True, ROUND_TRIP)
        self.assertIs(self.route, Route.DIRECT)

    def test_relayed(self) -> None:
        """
        So it is when the other side sends through the relay, although the path seems well.
        """
        for _ in range(10):
            self.hear()
            self.watch.relayed(self.clock.seconds())
            self.clock.advance(0.05)
        self.assertGreaterEqual(len(self.checks), 1)
        self.assertLessEqual(len(self.checks), 2)
        self.assertIs(self.route, Route.BOTH)

    def test_relayCarries(self) -> None:
        """
        What waits is sent again when the relay is back, and when the other side is heard through
        it, but not while QUIC has repeated nothing, and not all the time.
        """
        self.watch.relayUp()
        self.send()
        self.clock.advance(TRUST)
        self.repeats.clear()
        self.clock.advance(0.2)
        self.watch.relayUp()
        self.watch.relayed(self.clock.seconds())
        self.assertEqual(len(self.repeats), 1)
        self.clock.advance(0.2)
        self.watch.relayed(self.clock.seconds())
        self.assertEqual(len(self.repeats), 1)
        self.unanswered = 1
        self.watch.relayed(self.clock.seconds())
        self.assertEqual(len(self.repeats), 2)

    def test_lull(self) -> None:
        """
        When the other side falls silent the path is checked at once, but the link not given up
        before an answer is late.
        """
        self.clock.advance(1.0)
        self.watch.lulled(0.8)
        self.assertEqual((len(self.checks), self.doubts), (1, [LULL_PATIENCE]))
        self.send()
        self.clock.advance(DOUBT + 0.001)
        self.assertEqual((len(self.checks), self.doubts), (1, [LULL_PATIENCE, LINK_PATIENCE]))
        self.assertIs(self.route, Route.BOTH)

    def test_stop(self) -> None:
        """
        Without a path there is nothing to watch.
        """
        self.send()
        self.watch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.watch.stop()
