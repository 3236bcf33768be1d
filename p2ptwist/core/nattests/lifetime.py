"""
Mapping lifetime (RFC 5780 section 4.6): how long a port may be silent before its mapping is gone.

A mapping that was tried is refreshed or gone, so every trial has a port of its own, and several
delays are tried at the same time: each round divides the bounds into as many parts.
"""

from __future__ import annotations

from collections.abc import Mapping

LOW = 5.0  # seconds; no keepalive is sent more often
HIGH = 120.0  # seconds; RFC 4787 REQ-5 wants as much, and no keepalive waits for more
_DIVISIONS = 3  # delays between the bounds that one round tries; a port each
_PRECISION = 1.1  # the bounds when it ends, one to the other


class LifetimeSearch:
    """
    The search between two bounds.

    @ivar alive: seconds that a mapping is known to survive; C{None} while not even the lower bound
        is known.
    @ivar dead: seconds that none survived; C{None} while none was seen to die.
    """

    def __init__(self, low: float = LOW, high: float = HIGH) -> None:
        """
        @param low: the shortest delay to try, in seconds.
        @param high: the longest one.
        """
        self.alive: float | None = None
        self.dead: float | None = None
        self._low = low
        self._high = high
        self._failed = False

    def delays(self) -> tuple[float, ...]:
        """
        @return: what to try next, ascending; nothing when it is over.
        """
        if self._over():
            return ()
        lower = () if self.alive is not None else (self._low,)
        upper = () if self.dead is not None else (self._high,)
        between = _between(self.alive or self._low, self.dead or self._high)
        return (*lower, *between, *upper)

    def report(self, outcomes: Mapping[float, bool | None]) -> None:
        """
        Take what came of a round.

        @param outcomes: by delay: whether the mapping survived; C{None} where that is not known.
        """
        died = [delay for delay, alive in outcomes.items() if alive is False]
        self.dead = min(died, default=self.dead)
        survived = [delay for delay, alive in outcomes.items() if alive]
        credible = [each for each in survived if self.dead is None or each < self.dead]
        self.alive = max(credible, default=self.alive)
        # Nothing is to be learned, or it forgets when it likes.
        self._failed = not (died or survived) or len(credible) < len(survived)

    def _over(self) -> bool:
        if self._failed:
            return True
        if self.dead is None:
            return self.alive is not None and self.alive >= self._high
        if self.alive is None:
            return self.dead <= self._low
        return self.dead <= self.alive * _PRECISION


def _between(low: float, high: float) -> tuple[float, ...]:
    """
    @return: what divides the range between two bounds by equal factors.
    """
    factor = (high / low) ** (1 / (_DIVISIONS + 1))
    return tuple(low * factor**step for step in range(1, _DIVISIONS + 1))
