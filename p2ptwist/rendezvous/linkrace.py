"""
Two attempts at one connection: when the first takes long, its first packet was lost, perhaps, which
TCP repeats only after a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


def raced(clock: IReactorTime, attempt: Callable[[], Deferred[T]], gap: float) -> Deferred[T]:
    """
    Make an attempt, and a second one if the first is still under way after C{gap} seconds.

    @param attempt: begins one; what it returns can be cancelled.
    @return: a Deferred that fires with what the first one brings that succeeds, and fails with the
        reason of the last one that fails.  Cancelling it cancels what is under way.
    """
    return _Race(clock, attempt, gap).result


class _Race(Generic[T]):
    def __init__(self, clock: IReactorTime, attempt: Callable[[], Deferred[T]], gap: float) -> None:
        self.result: Deferred[T] = Deferred(self._cancelled)
        self._attempt = attempt
        self._under: list[Deferred[T]] = []
        self._second: IDelayedCall | None = clock.callLater(gap, self._beginSecond)
        self._begin()

    def _begin(self) -> None:
        attempt = self._attempt()
        self._under.append(attempt)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _beginSecond(self) -> None:
        self._second = None
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
        if self._second is not None:
            self._second.cancel()
            self._second = None
        under, self._under = self._under, []
        for attempt in under:
            attempt.cancel()

    def _cancelled(self, result: Deferred[T]) -> None:
        self._end()
