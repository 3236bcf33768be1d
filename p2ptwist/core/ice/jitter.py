"""
A little randomness that need not be secret, in a few bytes: a session keeps its own, and there are
many sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Uniform(Protocol):
    """
    Where waits are spread: such as C{random.Random}, which has a state of 2,500 bytes.
    """

    def uniform(self, a: float, b: float) -> float:
        """
        @return: a number from C{a} to C{b}.
        """


class Jitter:
    """
    A linear congruential generator: Knuth, The Art of Computer Programming, section 3.3.4, with
    MMIX's constants.
    """

    __slots__ = ("_state",)

    def __init__(self, randomBytes: Callable[[int], bytes]) -> None:
        """
        @param randomBytes: a source of 16 bytes.
        """
        self._state = int.from_bytes(randomBytes(16), "big")

    def uniform(self, a: float, b: float) -> float:
        """
        @return: a number from C{a} to C{b}.
        """
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        # The upper half: the lower bits of such a generator repeat soon.
        return a + (b - a) * (self._state >> 32) / 2**32
