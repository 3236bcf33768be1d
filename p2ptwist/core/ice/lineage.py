"""
The generations of one session, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.ice.signal import MoreCandidates

MAX_GENERATION = 255  # one byte on the wire


class Lineage:
    """
    The current generation, and the one before it.

    Numbers only go up, also when a restart failed and the generation before it is current again:
    the other side would take a number that comes twice for a repetition.

    @ivar current: the generation that checks are made for.
    @ivar former: the one whose path carries data until the current one has found another.  Its
        checks are answered until the next restart, as the other side may move later than this one.
    """

    __slots__ = (
        "_early",
        "_latest",
        "_make",
        "current",
        "former",
    )

    def __init__(self, make: Callable[[int], Generation]) -> None:
        """
        @param make: makes the generation of that number.
        """
        self.current = make(0)
        self.former: Generation | None = None
        self._make = make
        self._latest = 0
        self._early: MoreCandidates | None = None

    def __iter__(self) -> Iterator[Generation]:
        yield self.current
        if self.former is not None:
            yield self.former

    @property
    def next(self) -> int:
        """
        The number of the generation that a restart begins.
        """
        return self._latest + 1

    def begin(self, number: int, carrying: Generation | None, now: float) -> None:
        """
        Make a new generation current.

        @param number: L{next} or more, as the other side may be ahead; at most L{MAX_GENERATION}.
        @param carrying: the generation that found the present path; C{None} while there is none.
        """
        self.former = carrying
        self.current = self._make(number)
        self._latest = number
        early, self._early = self._early, None
        if early is not None:
            self.learnCandidates(early, now)

    def follow(self, number: int, carrying: Generation | None, proved: bool, now: float) -> None:
        """
        Begin anew because the other side did.  Without a path that does not put off the end of the
        session: whoever waits for one waits no longer than was said.

        @param proved: whether the present path may carry data.
        """
        started = self.current.started
        self.begin(number, carrying, now)
        if not proved:
            self.current.started = started

    def learnCandidates(self, signal: MoreCandidates, now: float) -> None:
        """
        Take the other side's candidates; those that overtook their description wait for it.
        """
        if signal.generation == self.current.number:
            self.current.learnCandidates(signal, now)
        elif signal.generation > self._latest:
            self._early = signal

    def fallBack(self, generation: Generation) -> None:
        """
        The current generation found nothing: the one that carries data is current again.
        """
        self.former, self.current = self.current, generation
        generation.completed = True
