"""
Several attempts at one connection: when the first takes long, a packet of it was lost, perhaps,
which TCP repeats only after a second; or a NAT has forgotten it, and nothing will ever come of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")

# Attempts at once, with the gap doubled from each to the next.  A node takes 20 connections at once
# from one address, behind which others may be in the same hurry, and keeps 16 that prove nothing.
RACERS = 4


def raced(clock: IReactorTime, attempt: Callable[[], Deferred[T]], gap: float) -> Deferred[T]:
    """
    Make an attempt, another one if the first is still under way after C{gap} seconds, then one
    after twice as long, and a last one after twice as long again.

    @param attempt: begins one; what it returns can be cancelled.
    @return: a Deferred that fires with what the first one brings that succeeds, and fails with the
        reason of the last one that fails.  Cancelling it cancels what is under way.
    """
    return _Race(clock, attempt, gap).result


class _Race(Generic[T]):
    def __init__(self, clock: IReactorTime, attempt: Callable[[], Deferred[T]], gap: float) -> None:
        self.result: Deferred[T] = Deferred(self._cancelled)
        self._clock = clock
        self._attempt = attempt
        self._gap = gap
        self._left = RACERS
        self._under: list[Deferred[T]] = []
        self._next: IDelayedCall | None = None
        self._begin()

    def _begin(self) -> None:
        self._left -= 1
        if self._left:
            self._next = self._clock.callLater(self._gap, self._nextDue)
        self._gap *= 2
        attempt = self._attempt()
        self._under.append(attempt)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _nextDue(self) -> None:
        self._next = None
        self._begin()

    def _won(self, result: T, attempt: Deferred[T]) -> None:
        self._under.remove(attempt)
        self._end()
        self.result.callback(result)

    def _lost(self, failure: Failure, attempt: Deferred[T]) -> None:
        if attempt not in self._under:
            return  # it was cancelled
        self._under.remove(attempt)
        if not self._under:
            self._end()
            self.result.errback(failure)

    def _end(self) -> None:
        """
        Give up what is under way.
        """
        if self._next is not None:
            self._next.cancel()
            self._next = None
        under, self._under = self._under, []
        for attempt in under:
            attempt.cancel()

    def _cancelled(self, result: Deferred[T]) -> None:
        self._end()
