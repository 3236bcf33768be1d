"""
Virtual time: one queue of events for a whole simulated Internet.

The clock goes from event to event.  A call that is due at 1 s runs when C{seconds()} is exactly
1.0, however far the clock was asked to go, so that chains of timers do not drift.
(C{task.Clock.advance} jumps to the end first and then runs what is due.)
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import P2PError

# Two programs that answer each other without any delay would stop the time for ever.  The busiest
# honest instant is a host that reads a full receive buffer: some thousand events.
MAX_EVENTS_PER_INSTANT = 200_000
# Less than any real delay, more than what rounding makes of no delay at all.
INSTANT = 1e-6  # seconds

# The queue is swept when it is larger than this and mostly holds cancelled calls.
_SWEEP_SIZE = 1024


_NO_TICKET = 0  # tickets count from 1


class TimeStandsStill(P2PError):
    """
    Programs keep each other busy at one instant of virtual time: a loop without any delay.
    """


def _nobody(call: object) -> None:
    """
    Is told of calls that nobody waits for.
    """


@implementer(IDelayedCall)
class DelayedCall:
    """
    A call that is due at some time on a L{Clock}.

    @ivar function: what is called; C{None} once it was called or cancelled.
    """

    __slots__ = (
        "_called",
        "_clock",
        "_finished",
        "_ticket",
        "_time",
        "arguments",
        "function",
        "keywords",
    )

    def __init__(
        self,
        clock: Clock,
        time: float,
        finished: Callable[[DelayedCall], object],
        function: Callable[..., object],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        """
        @param clock: the clock that it is queued on.
        @param time: when it is due.
        @param finished: told once it was called or cancelled, before the function runs.
        @param function: what to call, with C{arguments} and C{keywords}.
        """
        self._clock = clock
        self._finished = finished
        self.function: Callable[..., object] | None = function
        self.arguments = arguments
        self.keywords = keywords
        self._called = False
        self._queue(time)

    def _queue(self, time: float) -> None:
        """
        Take a place in the clock's queue; the place held so far is void.
        """
        self._time = time
        self._ticket = self._clock.callAt(time, self._due)

    def _due(self) -> None:
        """
        The clock has come to this call's place in the queue.
        """
        function, self.function = self.function, None
        self._called = True
        self._finished(self)
        assert function is not None
        function(*self.arguments, **self.keywords)

    def getTime(self) -> float:
        """
        @return: when this call is due, in seconds of the clock.
        """
        return self._time

    def cancel(self) -> None:
        """
        Never make this call.

        @raise AlreadyCalled: when it was made.
        @raise AlreadyCancelled: when it was cancelled.
        """
        self._requireActive()
        self._clock.void(self._ticket)
        self.function = None
        self._finished(self)

    def reset(self, secondsFromNow: float) -> None:
        """
        Make this call C{secondsFromNow} from now instead.

        @raise AlreadyCalled: when it was made.
        @raise AlreadyCancelled: when it was cancelled.
        """
        self._requireActive()
        self._clock.void(self._ticket)
        self._queue(self._clock.seconds() + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """
        Make this call C{secondsLater} than it was due; less than 0 makes it earlier.

        @raise AlreadyCalled: when it was made.
        @raise AlreadyCancelled: when it was cancelled.
        """
        self._requireActive()
        self._clock.void(self._ticket)
        self._queue(self._time + secondsLater)

    def forget(self) -> None:
        """
        Never make this call, as the program that wanted it is no more.  What Python has kept of
        that may still cancel it, which changes nothing.
        """
        self._clock.void(self._ticket)
        self._ticket = _NO_TICKET
        self._finished = _nobody

    def active(self) -> bool:
        """
        @return: whether this call is still to be made.
        """
        return self.function is not None

    def _requireActive(self) -> None:
        if self.function is None:
            raise AlreadyCalled() if self._called else AlreadyCancelled()

    def __repr__(self) -> str:
        if self.function is None:
            return f"<DelayedCall {'called' if self._called else 'cancelled'}>"
        name = getattr(self.function, "__qualname__", repr(self.function))
        return f"<DelayedCall in {self._time - self._clock.seconds():.3f} s: {name}>"


class Clock:
    """
    The time of a simulated Internet, in seconds since it was made.

    @ivar now: the time; only this clock changes it.
    """

    def __init__(self, failed: Callable[[], object]) -> None:
        """
        @param failed: called from inside an C{except} block for each exception of an event.
        """
        self._failed = failed
        self.now = 0.0
        self._tickets = 0
        self._queue: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._voided: set[int] = set()
        self._eventsAtThisInstant = 0
        self._instantEnd = 0.0
        self._running = False

    def seconds(self) -> float:
        """
        @return: the time now.
        """
        return self.now

    def callAt(self, time: float, function: Callable[..., object], *arguments: Any) -> int:
        """
        Queue one event.  Events of one instant run in the order in which they were queued.

        @param time: when; a time that has passed means now.
        @return: a ticket for L{void}.
        """
        self._tickets = ticket = self._tickets + 1
        heappush(self._queue, (time if time > self.now else self.now, ticket, function, arguments))
        return ticket

    def void(self, ticket: int) -> None:
        """
        Forget the event that has C{ticket}.
        """
        self._voided.add(ticket)
        if len(self._queue) > _SWEEP_SIZE and len(self._voided) * 2 > len(self._queue):
            self._sweep()

    def nextEvent(self) -> float | None:
        """
        @return: when the next event is due, or C{None} when nothing is queued.
        """
        while self._queue and self._queue[0][1] in self._voided:
            self._voided.discard(heappop(self._queue)[1])
        return self._queue[0][0] if self._queue else None

    def runUntil(self, time: float) -> None:
        """
        Run every event up to and including C{time}, and stop at exactly C{time}.

        @raise TimeStandsStill: after L{MAX_EVENTS_PER_INSTANT} events at one instant.
        @raise LocalUsageError: from inside an event.
        """
        self.run(time)
        self._moveTo(max(self.now, time))

    def run(self, limit: float, isDone: Callable[[], object] | None = None) -> None:
        """
        Run one event after the other.

        @param limit: events that are due later than this are left alone.
        @param isDone: asked before each event, if given; when it says so, no more are run.
        @raise TimeStandsStill: after L{MAX_EVENTS_PER_INSTANT} events at one instant.
        @raise LocalUsageError: from inside an event.
        """
        if self._running:
            raise LocalUsageError(
                "time passes already: this is called by something that runs in it"
            )
        queue, voided = self._queue, self._voided
        self._running = True
        try:
            while queue and queue[0][0] <= limit:
                if isDone is not None and isDone():
                    break
                due, ticket, function, arguments = heappop(queue)
                if ticket in voided:
                    voided.discard(ticket)
                    continue
                self._moveTo(due)
                try:
                    function(*arguments)
                except Exception:
                    self._failed()
        finally:
            self._running = False

    def _moveTo(self, time: float) -> None:
        self.now = time
        if time > self._instantEnd:
            self._instantEnd = time + INSTANT
            self._eventsAtThisInstant = 0
            return
        self._eventsAtThisInstant += 1
        if self._eventsAtThisInstant > MAX_EVENTS_PER_INSTANT:
            raise TimeStandsStill(
                f"more than {MAX_EVENTS_PER_INSTANT} events at {self.now} s: something answers"
                " itself, or calls itself later with a delay of 0, for ever"
            )

    def _sweep(self) -> None:
        # In place, for it may run.
        self._queue[:] = [event for event in self._queue if event[1] not in self._voided]
        heapify(self._queue)
        self._voided.clear()
