"""
A timer that is set again and again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Alarm:
    """
    Calls something once, later.
    """

    __slots__ = ("_call", "_clock")

    def __init__(self, clock: IReactorTime) -> None:
        """
        @param clock: where time comes from.
        """
        self._clock = clock
        self._call: IDelayedCall | None = None

    def set(self, delay: float, call: Callable[[], object]) -> None:
        """
        Forget what was to be called, and call this.

        @param delay: in so many seconds; below 0 is 0.
        """
        self.clear()

        def due() -> None:
            self._call = None
            call()

        self._call = self._clock.callLater(max(0.0, delay), due)

    def clear(self) -> None:
        """
        Call nothing.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None
