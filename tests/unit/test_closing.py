"""
Tests for L{p2ptwist.net.closing}.
"""

from __future__ import annotations

import gc
import sys

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.net.closing import thenClose


class ThenCloseTests(SynchronousTestCase):
    """
    Work that waits for one thing, and then for what it used to be closed.
    """

    def setUp(self) -> None:
        """
        Nothing has happened.
        """
        self.waiting: Deferred[int] = Deferred()
        self.closed: Deferred[None] | None = None

    async def work(self) -> int:
        """
        @return: what was waited for.
        """
        return await self.waiting

    def close(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when the test says so.
        """
        assert self.closed is None
        self.closed = Deferred()
        return self.closed

    def finish(self) -> None:
        """
        All is closed.
        """
        assert self.closed is not None
        self.closed.callback(None)

    def test_result(self) -> None:
        """
        It comes when all is closed, which is not begun before the work is done.
        """
        over = thenClose(self.work(), self.close)
        self.assertIsNone(self.closed)
        self.waiting.callback(7)
        self.assertNoResult(over)
        self.finish()
        self.assertEqual(self.successResultOf(over), 7)

    def test_failure(self) -> None:
        """
        So does a failure.
        """
        over = thenClose(self.work(), self.close)
        self.waiting.errback(KeyError("no"))
        self.assertNoResult(over)
        self.finish()
        self.failureResultOf(over, KeyError)

    def test_cancelled(self) -> None:
        """
        What is cancelled is closed as well.
        """
        over = thenClose(self.work(), self.close)
        over.cancel()
        self.assertNoResult(over)
        self.finish()
        self.failureResultOf(over, CancelledError)

    def test_thrownAway(self) -> None:
        """
        Work that nobody will ever finish can be collected without a word.
        """
        said: list[object] = []
        self.patch(sys, "unraisablehook", said.append)
        thenClose(self.work(), self.close)
        self.waiting = Deferred()
        gc.collect()
        self.assertEqual((said, self.closed), ([], None))
