"""
Tests for L{p2ptwist.net.latch}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.net.latch import Latch


class LatchTests(SynchronousTestCase):
    """
    A L{Latch} settles once, for everybody.
    """

    def setUp(self) -> None:
        """
        Make a latch that counts how often it was abandoned.
        """
        self.abandoned = 0
        self.latch: Latch[int] = Latch(self.abandon)

    def abandon(self) -> None:
        """
        Count.
        """
        self.abandoned += 1

    def test_waiting(self) -> None:
        """
        Nothing fires before it settles, and then all do, later callers at once.
        """
        first, second = self.latch.when(), self.latch.when()
        self.assertNoResult(first)
        self.assertFalse(self.latch.settled)
        self.latch.settle(7)
        self.assertTrue(self.latch.settled)
        for waiting in (first, second, self.latch.when()):
            self.assertEqual(self.successResultOf(waiting), 7)

    def test_failure(self) -> None:
        """
        A failure reaches those who wait and those who come later.
        """
        waiting = self.latch.when()
        self.latch.settle(Failure(ValueError("no")))
        for each in (waiting, self.latch.when()):
            self.failureResultOf(each, ValueError)

    def test_settlesOnce(self) -> None:
        """
        What comes after the first result is ignored.
        """
        self.latch.settle(1)
        self.latch.settle(2)
        self.latch.settle(Failure(ValueError("late")))
        self.assertEqual(self.successResultOf(self.latch.when()), 1)

    def test_independent(self) -> None:
        """
        What one caller turns its result into is not what another one gets.
        """
        first, second = self.latch.when(), self.latch.when()
        first.addCallback(lambda result: result + 1)
        self.latch.settle(1)
        self.assertEqual(self.successResultOf(first), 2)
        self.assertEqual(self.successResultOf(second), 1)

    def test_cancelOne(self) -> None:
        """
        Who gives up is told so; the others wait on.
        """
        first, second = self.latch.when(), self.latch.when()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.abandoned, 0)
        self.latch.settle(1)
        self.assertEqual(self.successResultOf(second), 1)

    def test_cancelLast(self) -> None:
        """
        When nobody waits any more, the owner is told.
        """
        waiting = [self.latch.when(), self.latch.when()]
        for each in waiting:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.abandoned, 1)

    def test_unobserved(self) -> None:
        """
        An owner that does not care need not say so.
        """
        waiting = Latch[int]().when()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_settleWhileAbandoned(self) -> None:
        """
        The owner may settle when it is told; the caller that gave up has its own answer.
        """
        latch: Latch[int] = Latch(lambda: latch.settle(Failure(ValueError("given up"))))
        waiting = latch.when()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.failureResultOf(latch.when(), ValueError)

    def test_cancelWhileSettling(self) -> None:
        """
        One caller may cancel another's wait when it has its result.
        """
        first = self.latch.when()
        second: Deferred[int] = self.latch.when()
        first.addCallback(lambda _: second.cancel())
        self.latch.settle(1)
        self.failureResultOf(second, CancelledError)
        self.assertIsNone(self.successResultOf(first))
        self.assertEqual(self.abandoned, 0)

    def test_tell(self) -> None:
        """
        A callback is called in its turn among those who wait, or at once; it is told of failures as
        of results.
        """
        told: list[object] = []
        self.latch.tell(told.append)
        waiting = self.latch.when()
        self.latch.tell(told.append)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual((told, self.abandoned), ([], 0))
        self.latch.settle(1)
        self.latch.tell(told.append)
        self.assertEqual(told, [1, 1, 1])
        failed: Latch[int] = Latch()
        failed.tell(told.append)
        failure = Failure(ValueError())
        failed.settle(failure)
        self.assertIs(told[-1], failure)

    def test_settleWhileSettling(self) -> None:
        """
        A second result that a callback makes is late, too.
        """
        first, second = self.latch.when(), self.latch.when()
        first.addCallback(lambda _: self.latch.settle(2))
        self.latch.settle(1)
        self.assertEqual(self.successResultOf(second), 1)
        self.successResultOf(first)
