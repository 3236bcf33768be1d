"""
Experiments that several tests look at: each is made once in a process, when the first test asks.

C{trial} has no fixtures for a module; and a laboratory that lives only inside one function is
always removed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.python.failure import Failure

_T = TypeVar("_T")


class _Result(Generic[_T]):
    """
    What a function returned or raised.
    """

    def __init__(self, function: Callable[[], _T]) -> None:
        self._value: _T | None = None
        self._failure: Failure | None = None
        try:
            self._value = function()
        except Exception:
            self._failure = Failure()

    def get(self) -> _T:
        """
        @return: what the function returned.
        @raise Exception: what it raised.
        """
        if self._failure is not None:
            self._failure.raiseException()
        return self._value  # type: ignore[return-value]


def once(function: Callable[[], _T]) -> Callable[[], _T]:
    """
    Decorate a function so that it runs at most once; every caller gets the same result, or the same
    exception.
    """
    result: functools._lru_cache_wrapper[_Result[_T]] = functools.cache(lambda: _Result(function))

    @functools.wraps(function)
    def again() -> _T:
        return result().get()

    return again
