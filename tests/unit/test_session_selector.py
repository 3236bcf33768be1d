"""
Tests for L{p2ptwist.core.session.selector}.
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.session.selector import PATIENCE, Backoff, PathKind, PathSelector, Route

DIRECT, RELAYED = PathKind.DIRECT, PathKind.RELAYED


def directAt(now: float, roundTrip: float = 0.08) -> PathSelector:
    """
    @return: a session whose direct path was opened and heard at C{now}, and which has said so.
    """
    selector = PathSelector(0.0)
    selector.directOpened(now, roundTrip)
    selector.heardDirect(now)
    selector.pollChange()
    return selector


class RouteTests(SynchronousTestCase):
    """
    Where a datagram goes, with literal times.
    """

    def test_relayed(self) -> None:
        """
        Without a direct path everything is relayed.
        """
        selector = PathSelector(0.0)
        self.assertIs(selector.route(0.0), Route.RELAYED)
        self.assertIs(selector.route(1000.0), Route.RELAYED)

    def test_fresh(self) -> None:
        """
        A fresh direct path does not carry alone before something came on it, however long that
        takes.
        """
        selector = PathSelector(0.0)
        selector.directOpened(1.0, 0.08)
        for now in (1.0, 1.1, 60.0):
            self.assertIs(selector.route(now), Route.BOTH)
        selector.heardDirect(60.5)
        self.assertIs(selector.route(60.5), Route.DIRECT)

    def test_heardBefore(self) -> None:
        """
        What comes where no direct path is open says nothing about the next one.
        """
        selector = PathSelector(0.0)
        selector.heardDirect(0.5)
        self.assertIs(selector.route(0.5), Route.RELAYED)
        self.assertIsNone(selector.pollChange())
        selector.directOpened(1.0, 0.08)
        self.assertIs(selector.route(1.0), Route.BOTH)

    def test_silence(self) -> None:
        """
        300 ms after the first datagram that nothing followed the path is doubted; sending more puts
        nothing off, and the first thing that comes restores it.
        """
        selector = directAt(1.0)
        selector.sentDirect(2.0)
        selector.sentDirect(2.2)
        self.assertIs(selector.route(2.25), Route.DIRECT)
        self.assertIs(selector.route(2.5), Route.BOTH)
        selector.sentDirect(2.5)
        self.assertIs(selector.route(9.0), Route.BOTH)
        selector.heardDirect(9.0)
        self.assertIs(selector.route(9.0), Route.DIRECT)

    def test_idle(self) -> None:
        """
        A path on which nothing was sent since something came is trusted however long it idles.
        """
        selector = directAt(1.0)
        self.assertIs(selector.route(3600.0), Route.DIRECT)
        selector.sentDirect(3600.0)
        self.assertIs(selector.route(3600.25), Route.DIRECT)
        self.assertIs(selector.route(3600.5), Route.BOTH)

    def test_roundTrips(self) -> None:
        """
        A long path is given three round trips, at most a second; a newer measurement counts.
        """
        selector = directAt(1.0, 0.25)
        selector.sentDirect(2.0)
        self.assertIs(selector.route(2.7), Route.DIRECT)
        self.assertIs(selector.route(2.75), Route.BOTH)
        selector.answered(2.8, 2.0)
        self.assertEqual(selector.trustTime, 1.0)
        selector.sentDirect(3.0)
        self.assertIs(selector.route(3.99), Route.DIRECT)
        self.assertIs(selector.route(4.0), Route.BOTH)
        selector.answered(4.0, 0.001)
        self.assertEqual(selector.trustTime, 0.3)

    def test_lost(self) -> None:
        """
        A direct path that is gone is not used, and what still comes on it changes nothing.
        """
        selector = directAt(1.0)
        self.assertEqual(selector.directLost(31.0), 30.0)
        self.assertIs(selector.route(31.0), Route.RELAYED)
        selector.heardDirect(31.5)
        self.assertIs(selector.route(31.5), Route.RELAYED)
        self.assertEqual(selector.directLost(32.0), 0.0)

    def test_moved(self) -> None:
        """
        A path that moves to another address is fresh again, but as old as before.
        """
        selector = directAt(1.0)
        selector.sentDirect(2.0)
        selector.directOpened(10.0, 0.1)
        self.assertIs(selector.route(10.0), Route.BOTH)
        selector.heardDirect(10.5)
        self.assertIs(selector.route(10.5), Route.DIRECT)
        self.assertEqual(selector.directLost(41.0), 40.0)

    def test_relayDown(self) -> None:
        """
        While the relay carries nothing a direct path goes alone, trusted or not; without one the
        relay is waited for.
        """
        selector = PathSelector(0.0)
        selector.relayDown()
        self.assertIs(selector.route(0.0), Route.RELAYED)
        selector.directOpened(1.0, 0.08)
        self.assertIs(selector.route(1.0), Route.DIRECT)
        selector.heardDirect(1.5)
        selector.sentDirect(2.0)
        self.assertIs(selector.route(9.0), Route.DIRECT)
        selector.relayUp()
        self.assertIs(selector.route(9.0), Route.BOTH)


class DoubtTests(SynchronousTestCase):
    """
    Doubts, which come before distrust.
    """

    def test_late(self) -> None:
        """
        An answer is late after a quarter of a round trip more than one and what QUIC may hold back,
        and after 100 ms at least; after a second while the round trip is not known.
        """
        for roundTrip, late in ((0.0, 1.0), (0.02, 0.1), (0.1, 0.15)):
            selector = PathSelector(0.0)
            selector.directOpened(0.0, roundTrip)
            self.assertAlmostEqual(selector.doubtTime, late)
            self.assertIsNone(selector.waited(5.0))
            selector.sentDirect(5.0)
            selector.sentDirect(5.5)
            self.assertEqual(selector.waited(6.0), 1.0)
            selector.heardDirect(6.0)
            self.assertIsNone(selector.waited(7.0))

    def test_awaited(self) -> None:
        """
        What the other side should have sent is waited for like an answer, unless something waits
        longer; acknowledgements are not.
        """
        selector = directAt(1.0)
        selector.awaited(2.0)
        selector.awaited(2.2)
        self.assertIs(selector.route(2.29), Route.DIRECT)
        self.assertIs(selector.route(2.31), Route.BOTH)
        selector.settled()
        self.assertIs(selector.route(2.31), Route.DIRECT)

    def test_suspected(self) -> None:
        """
        A path that was checked for a suspicion is not trusted, whatever comes on it, from the time
        when the answer should have come until it comes; a path that moved is another one.
        """
        selector = directAt(1.0)
        selector.asked(2.0)
        selector.asked(2.2)
        selector.heardDirect(2.25)
        self.assertIs(selector.route(2.29), Route.DIRECT)
        selector.heardDirect(2.31)
        self.assertIs(selector.route(2.31), Route.BOTH)
        selector.answered(2.4, 0.08)
        self.assertIs(selector.route(2.4), Route.DIRECT)
        selector.asked(3.0)
        selector.directOpened(4.0, 0.08)
        selector.heardDirect(4.0)
        self.assertIs(selector.route(9.0), Route.DIRECT)

    def test_answeredFirst(self) -> None:
        """
        An answered check alone makes the path neither trusted nor what carries the session.
        """
        selector = PathSelector(0.0)
        selector.directOpened(1.0, 0.08)
        selector.answered(1.1, 0.08)
        self.assertIs(selector.route(1.1), Route.BOTH)
        self.assertIs(selector.kind, PathKind.RELAYED)


class ChangeTests(SynchronousTestCase):
    """
    What the application is told.
    """

    def test_change(self) -> None:
        """
        It starts relayed, is direct when something came on the direct path, and relayed when that
        is gone; each is told once, with its time.
        """
        selector = PathSelector(5.0)
        self.assertEqual((selector.kind, selector.since), (RELAYED, 5.0))
        self.assertIsNone(selector.pollChange())
        selector.directOpened(6.0, 0.08)
        self.assertIsNone(selector.pollChange())
        selector.heardDirect(7.0)
        self.assertEqual(selector.pollChange(), "direct")
        self.assertEqual((selector.kind, selector.since), (DIRECT, 7.0))
        selector.heardDirect(8.0)
        self.assertEqual((selector.pollChange(), selector.since), (None, 7.0))
        selector.directLost(9.0)
        self.assertEqual(selector.pollChange(), "relayed")
        self.assertEqual((selector.pollChange(), selector.since), (None, 9.0))

    def test_unseen(self) -> None:
        """
        What changed and changed back between two calls is not told.
        """
        selector = directAt(1.0)
        selector.directLost(2.0)
        selector.directOpened(2.0, 0.08)
        selector.heardDirect(2.1)
        self.assertIsNone(selector.pollChange())

    def test_doubt(self) -> None:
        """
        A path that is only doubted, because nothing answers what was sent, is still the path.
        """
        selector = directAt(1.0)
        selector.sentDirect(2.0)
        self.assertIs(selector.route(10.0), Route.BOTH)
        self.assertIsNone(selector.pollChange())
        self.assertIs(selector.kind, DIRECT)

    def test_carriesNothing(self) -> None:
        """
        When the relay brings datagrams for a trust time while a doubted direct path brings none,
        the session is relayed; when the path speaks again it is direct.
        """
        selector = directAt(1.0)
        selector.sentDirect(2.0)
        selector.heardRelayed(2.1)
        selector.heardRelayed(2.5)
        self.assertIsNone(selector.pollChange())
        selector.heardRelayed(2.75)
        self.assertIsNone(selector.pollChange())
        selector.heardRelayed(2.875)
        self.assertIs(selector.pollChange(), RELAYED)
        self.assertEqual(selector.since, 2.875)
        self.assertIs(selector.route(2.875), Route.BOTH)
        selector.heardRelayed(3.0)
        self.assertIsNone(selector.pollChange())
        selector.heardDirect(3.5)
        self.assertIs(selector.pollChange(), DIRECT)

    def test_movedInDoubt(self) -> None:
        """
        A path that moves while it is doubted is given a trust time of its own.
        """
        selector = directAt(1.0)
        selector.sentDirect(2.0)
        selector.heardRelayed(2.5)
        selector.directOpened(2.75, 0.08)
        selector.heardRelayed(3.0)
        self.assertIsNone(selector.pollChange())
        selector.heardRelayed(3.5)
        self.assertIs(selector.pollChange(), RELAYED)

    def test_copies(self) -> None:
        """
        Relayed copies that come before the direct ones, after an idle time, change nothing.
        """
        selector = directAt(1.0)
        for start in (10.0, 20.0, 30.0):
            selector.sentDirect(start - 5.0)
            selector.heardRelayed(start)
            selector.heardDirect(start + 0.1)
        self.assertIsNone(selector.pollChange())
        self.assertEqual(selector.since, 1.0)

    @given(
        st.lists(
            st.tuples(st.integers(0, 7), st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0, 20.0])),
            max_size=60,
        )
    )
    def test_anything(self, steps: list[tuple[int, float]]) -> None:
        """
        Whatever happens in whatever order: nothing goes alone on a path that is not trusted while
        the relay is up, nothing goes direct without a path, and a trusted path is always used.
        """
        selector = PathSelector(0.0)
        now, isOpen, relay = 0.0, False, True
        for step, delay in steps:
            now += delay
            if step == 0:
                selector.directOpened(now, delay)
                isOpen = True
            elif step == 1:
                selector.directLost(now)
                isOpen = False
            elif step == 2:
                selector.relayUp()
                relay = True
            elif step == 3:
                selector.relayDown()
                relay = False
            else:
                ways = (selector.heardDirect, selector.heardRelayed, selector.sentDirect)
                ways[step % 3](now)
            trusted = selector.trusted(now)
            self.assertFalse(trusted and not isOpen)
            expected = Route.RELAYED
            if isOpen:
                expected = Route.DIRECT if trusted or not relay else Route.BOTH
            self.assertIs(selector.route(now), expected)
            self.assertTrue(0.3 <= selector.trustTime <= 1.0)


class BackoffTests(SynchronousTestCase):
    """
    L{Backoff}: when to punch again.
    """

    def test_row(self) -> None:
        """
        Each wait is between a half and the whole of 1, 2, 4, … 60 s, and is never over.
        """
        longest = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
        for seed in range(50):
            backoff = Backoff(Random(seed))
            for most in longest:
                self.assertTrue(most / 2 <= backoff.next(0.0) <= most)
            for _ in range(2000):
                self.assertTrue(30.0 <= backoff.next(0.0) <= 60.0)

    def test_rare(self) -> None:
        """
        What is sought in vain for 20 s is tried seldom; something new makes it often again.
        """
        backoff = Backoff(Random(1))
        for _ in range(2):
            self.assertLessEqual(backoff.next(PATIENCE - 0.1), 2.0)
            for most in (60.0, 120.0, 240.0, 300.0, 300.0):
                self.assertTrue(most / 2 <= backoff.next(PATIENCE) <= most)
            backoff.restart()

    def test_jitter(self) -> None:
        """
        Sessions that one cut ended do not come back together.
        """
        waits = {round(Backoff(Random(seed)).next(0.0), 2) for seed in range(200)}
        self.assertGreater(len(waits), 40)

    def test_steady(self) -> None:
        """
        After a path that lasted 30 s the row starts anew; after a shorter one it goes on.
        """
        backoff = Backoff(Random(1))
        for _ in range(5):
            backoff.next(0.0)
        backoff.pathLasted(29.9)
        self.assertGreaterEqual(backoff.next(0.0), 16.0)
        backoff.pathLasted(30.0)
        self.assertLessEqual(backoff.next(0.0), 1.0)
