"""
A result that any number of callers wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

T = TypeVar("T")


class Latch(Generic[T]):
    """
    Something that happens once; later settling is ignored.

    @ivar settled: whether it has happened.
    """

    __slots__ = (
        "_abandoned",
        "_result",
        "_waiting",
        "settled",
    )

    def __init__(self, abandoned: Callable[[], object] = lambda: None) -> None:
        """
        @param abandoned: called when a wait was cancelled and nobody waits any more.
        """
        self.settled = False
        self._abandoned = abandoned
        # Nobody, as a rule, and latches are many.
        self._waiting: list[Deferred[T] | Callable[[T | Failure], object]] | None = None
        self._result: T | Failure | None = None

    def when(self) -> Deferred[T]:
        """
        @return: a Deferred that fires with the result, at once if there is one.  Each caller gets
            its own, and may cancel it.
        """
        if self.settled:
            if isinstance(self._result, Failure):
                return fail(self._result)
            return succeed(self._result)  # type: ignore[arg-type]
        waiting: Deferred[T] = Deferred(self._cancelled)
        self._wait(waiting)
        return waiting

    def tell(self, callback: Callable[[T | Failure], object]) -> None:
        """
        Have C{callback} called with the result, at once if there is one: as a Deferred does it that
        nobody cancels and nobody waits for in vain, in a fifth of its memory.

        @param callback: must not raise.
        """
        if self.settled:
            callback(self._result)  # type: ignore[arg-type]
        else:
            self._wait(callback)

    def _wait(self, waiting: Deferred[T] | Callable[[T | Failure], object]) -> None:
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(waiting)

    def settle(self, result: T | Failure) -> None:
        """
        Fire every Deferred, now and from now on.
        """
        if self.settled:
            return
        self.settled = True
        self._result = result
        waiting, self._waiting = self._waiting, None
        for each in waiting or ():
            if not isinstance(each, Deferred):
                each(result)
            elif not each.called:  # one that an earlier one cancelled
                each.callback(result)  # a Failure starts the errbacks

    def _cancelled(self, waiting: Deferred[T]) -> None:
        if self._waiting is not None and waiting in self._waiting:
            self._waiting.remove(waiting)
            if not self._waiting:
                self._abandoned()
