"""
Tests for L{p2ptwist.rendezvous.linkrace}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.rendezvous.linkrace import raced


class RaceTests(SynchronousTestCase):
    """
    L{raced}, with a gap of 0.25 s.
    """

    def setUp(self) -> None:
        """
        Begin.
        """
        self.clock = Clock()
        self.attempts: list[Deferred[str]] = []
        self.cancelled: list[int] = []
        self.result = raced(self.clock, self.attempt, 0.25)

    def attempt(self) -> Deferred[str]:
        """
        @return: one more.
        """
        number = len(self.attempts)
        self.attempts.append(Deferred(lambda _: self.cancelled.append(number)))
        return self.attempts[-1]

    def assertOver(self) -> None:
        """
        Nothing is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_quick(self) -> None:
        """
        One that is quick enough stays the only one.
        """
        self.clock.advance(0.2)
        self.attempts[0].callback("first")
        self.assertEqual(self.successResultOf(self.result), "first")
        self.assertEqual(len(self.attempts), 1)
        self.assertOver()

    def test_second(self) -> None:
        """
        When the second one is the first to succeed the first one is cancelled.
        """
        self.clock.advance(0.25)
        self.assertNoResult(self.result)
        self.attempts[1].callback("second")
        self.assertEqual(self.successResultOf(self.result), "second")
        self.assertEqual(self.cancelled, [0])
        self.assertOver()

    def test_further(self) -> None:
        """
        Each further one comes after twice as long a wait as the one before; four are enough.
        """
        counts = []
        for _ in range(12):
            counts.append(len(self.attempts))
            self.clock.advance(0.25)
        self.assertEqual(counts, [1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4])
        self.attempts[3].callback("last")
        self.assertEqual(self.successResultOf(self.result), "last")
        self.assertEqual(self.cancelled, [0, 1, 2])
        self.assertOver()

    def test_firstAfterAll(self) -> None:
        """
        And the other way round.
        """
        self.clock.advance(0.25)
        self.attempts[0].callback("first")
        self.assertEqual(self.successResultOf(self.result), "first")
        self.assertEqual(self.cancelled, [1])

    def test_refused(self) -> None:
        """
        A failure before there is a second one is the result.
        """
        self.attempts[0].errback(Failure(ConnectionRefusedError()))
        self.failureResultOf(self.result, ConnectionRefusedError)
        self.assertOver()
        self.clock.advance(1.0)
        self.assertEqual(len(self.attempts), 1)

    def test_bothFail(self) -> None:
        """
        With two under way both have to fail.
        """
        self.clock.advance(0.25)
        self.attempts[1].errback(Failure(ConnectionRefusedError()))
        self.assertNoResult(self.result)
        self.attempts[0].errback(Failure(ConnectionRefusedError()))
        self.failureResultOf(self.result, ConnectionRefusedError)

    def test_cancel(self) -> None:
        """
        Who cancels it cancels everything.
        """
        self.clock.advance(0.25)
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        self.assertEqual(self.cancelled, [0, 1])
        self.assertOver()
