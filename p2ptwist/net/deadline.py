"""
A timer for a deadline that moves with every datagram.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_FAR = 86_400.0  # seconds; nobody waits for a deadline that is years away, as QUIC's last one
_ROUNDING = 1e-6  # seconds that a timer may fire early; Twisted's clock has steps of 0.24 us


class DeadlineTimer:
    """
    One timer, which is set anew only for a deadline that is earlier: one that moves away is looked
    at again when the timer fires.  That costs a call now and then, and not one for each datagram.
    """

    __slots__ = ("_armedFor", "_clock", "_deadline", "_due", "_timer")

    def __init__(
        self,
        clock: IReactorTime,
        deadline: Callable[[], float | None],
        due: Callable[[float], object],
    ) -> None:
        """
        @param deadline: says when, in seconds on the clock; C{None} for never.
        @param due: called then, with the time, which is not before the deadline.
        """
        self._clock = clock
        self._deadline = deadline
        self._due = due
        self._armedFor = 0.0
        self._timer: IDelayedCall | None = None

    def look(self, now: float) -> None:
        """
        The deadline may be another one.
        """
        deadline = self._deadline()
        if deadline is None or deadline - now > _FAR:
            return
        if self._timer is not None and deadline >= self._armedFor:
            return
        self._armedFor = deadline
        delay = max(0.0, deadline - now)
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._fired)
        else:
            self._timer.reset(delay)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self) -> None:
        self._timer = None
        now, deadline = self._clock.seconds(), self._deadline()
        if deadline is not None and deadline <= now + _ROUNDING:
            self._due(max(now, deadline))
        else:
            self.look(now)
