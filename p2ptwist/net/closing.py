"""
Work that has something to close when it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

ResultT = TypeVar("ResultT")


def thenClose(
    work: Coroutine[Deferred[Any], Any, ResultT], close: Callable[[], Deferred[Any]]
) -> Deferred[ResultT]:
    """
    Do C{work}, and close what it used, whatever comes of it.

    A coroutine cannot do that itself in a C{finally}: one that is thrown away half-done, as when a
    program ends in the middle, must not await anything any more.

    @return: a Deferred that fires with the result of C{work} when all is closed.  It can be
        cancelled.
    """

    def over(result: ResultT | Failure) -> Deferred[ResultT]:
        # A Failure that a callback returns is one.
        return close().addCallback(lambda _: result)

    return Deferred.fromCoroutine(work).addBoth(over)
