"""
The retransmission timer of a simulated TCP connection (RFC 6298).
"""

from __future__ import annotations

from collections.abc import Callable

from p2ptwist.testing.clock import Clock

INITIAL_RTO = 1.0  # seconds; RFC 6298 section 2.1
MIN_RTO = 0.2  # seconds; Linux (RFC 6298 says 1 s)
MAX_RTO = 120.0  # seconds; Linux


class RetransmissionTimer:
    """
    Measures the round trip and fires when nothing has been acknowledged for too long.
    """

    def __init__(self, clock: Clock, fire: Callable[[], None]) -> None:
        """
        @param clock: the clock of the Internet.
        @param fire: called when time is up; the timer has then stopped.
        """
        self._clock = clock
        self._fire = fire
        self._rto = INITIAL_RTO
        self._smoothed: float | None = None
        self._variation = 0.0
        self._backOff = 1
        self._ticket: int | None = None
        # One segment at a time is measured: where it ends, and when it was sent.
        self._measured: tuple[int, float] | None = None

    def start(self) -> None:
        """
        Start, unless it runs.
        """
        if self._ticket is None:
            delay = min(MAX_RTO, self._rto * self._backOff)
            self._ticket = self._clock.callAt(self._clock.now + delay, self._due)

    def stop(self) -> None:
        """
        Stop, if it runs.
        """
        if self._ticket is not None:
            self._clock.void(self._ticket)
            self._ticket = None

    def backOff(self) -> None:
        """
        Start again with twice the delay.
        """
        self._backOff *= 2
        self.start()

    def sent(self, end: int, isRetransmission: bool) -> None:
        """
        A segment that ends before C{end} was sent.
        """
        if isRetransmission:
            self._measured = None  # Karn's algorithm
        elif self._measured is None:
            self._measured = (end, self._clock.now)

    def acknowledged(self, number: int) -> None:
        """
        All before C{number} has come back: start afresh.
        """
        if self._measured is not None and number >= self._measured[0]:
            self._learn(self._clock.now - self._measured[1])
            self._measured = None
        self._backOff = 1
        self.stop()

    def _learn(self, sample: float) -> None:
        if self._smoothed is None:
            self._smoothed, self._variation = sample, sample / 2
        else:
            self._variation += (abs(self._smoothed - sample) - self._variation) / 4
            self._smoothed += (sample - self._smoothed) / 8
        self._rto = max(MIN_RTO, self._smoothed + 4 * self._variation)

    def _due(self) -> None:
        self._ticket = None
        self._fire()
