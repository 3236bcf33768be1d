"""
L{p2ptwist.net.deadline}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.net.deadline import DeadlineTimer


class DeadlineTests(SynchronousTestCase):
    """
    One timer for a deadline that moves.
    """

    def setUp(self) -> None:
        """
        Make one without a deadline.
        """
        self.clock = Clock()
        self.deadline: float | None = None
        self.due: list[float] = []
        self.timer = DeadlineTimer(self.clock, lambda: self.deadline, self.fired)

    def fired(self, now: float) -> None:
        """
        It is due, and there is no deadline any more.
        """
        self.due.append(now)
        self.deadline = None

    def look(self, deadline: float | None) -> None:
        """
        The deadline is another one.
        """
        self.deadline = deadline
        self.timer.look(self.clock.seconds())

    def test_due(self) -> None:
        """
        It calls once at the deadline, at once when that is over, and never without one.
        """
        self.look(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.look(2.0)
        self.clock.advance(1.5)
        self.assertEqual(self.due, [])
        self.clock.advance(0.5)
        self.look(1.0)
        self.clock.advance(0.0)
        self.assertEqual(self.due, [2.0, 2.0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_rounding(self) -> None:
        """
        A timer that fires a rounding error early is told the time that it was set for.
        """
        self.look(1.0)
        self.deadline = 1.0 + 1e-7
        self.clock.advance(1.0)
        self.assertEqual(self.due, [1.0 + 1e-7])

    def test_earlier(self) -> None:
        """
        An earlier deadline is not missed.
        """
        self.look(5.0)
        self.look(1.0)
        self.clock.advance(1.0)
        self.assertEqual(self.due, [1.0])

    def test_later(self) -> None:
        """
        A later one leaves the timer alone, which finds it out by itself.
        """
        self.look(1.0)
        for deadline in (2.0, 3.0, 4.0):
            self.look(deadline)
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), 1.0)
        self.clock.advance(1.0)
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual((call.getTime(), self.due), (4.0, []))
        self.clock.advance(3.0)
        self.assertEqual(self.due, [4.0])

    def test_far(self) -> None:
        """
        For what is years away there is no timer.
        """
        self.look(1e8)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.look(1.0)
        self.deadline = 1e8
        self.clock.advance(1.0)
        self.assertEqual((self.due, self.clock.getDelayedCalls()), ([], []))

    def test_gone(self) -> None:
        """
        A timer whose deadline is gone ends.
        """
        self.look(1.0)
        self.deadline = None
        self.clock.advance(1.0)
        self.assertEqual((self.due, self.clock.getDelayedCalls()), ([], []))

    def test_stop(self) -> None:
        """
        Nothing is left of one that was stopped, also twice.
        """
        self.look(1.0)
        for _ in range(2):
            self.timer.stop()
            self.assertEqual(self.clock.getDelayedCalls(), [])
