"""
The generations of one session, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.ice.signal import MoreCandidates

_MAX_GENERATION = 255  # one byte on the wire


class Lineage:
    """
    The current generation, and the one before it.

    Numbers only go up, also when a restart failed and the generation before it is current again:
    the other side would take a number that comes twice for a repetition.

    @ivar current: the generation that checks are made for.
    @ivar former: the one whose path carries data until the current one has found another.  Its
        checks are answered until the next restart, as the other side may move later than this one.
    """

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

        @param number: L{next} or more, as the other side may be ahead.
        @param carrying: the generation that found the present path.
        @raise LocalUsageError: after 255 restarts.
        """
        if number > _MAX_GENERATION:
            raise LocalUsageError("a session restarts at most 255 times; connect again instead")
        if carrying is self.current:
            self.former = carrying
        self.current = self._make(number)
        self._latest = number
        early, self._early = self._early, None
        if early is not None:
            self.learnCandidates(early, now)

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
