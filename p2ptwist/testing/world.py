"""
What all parts of one simulated Internet share.
"""

from __future__ import annotations

from itertools import count
from random import Random

from p2ptwist.testing.clock import Clock
from p2ptwist.testing.dns import NameTable
from p2ptwist.testing.trace import Trace


class World:
    """
    The time, the chance, the names and the trace of one Internet.

    @ivar seed: what all randomness comes from.
    @ivar clock: the one clock.
    @ivar trace: the one trace.
    @ivar names: the one DNS.
    @ivar packetNumbers: numbers for new packets.
    """

    __slots__ = ("clock", "names", "packetNumbers", "seed", "trace")

    def __init__(self, seed: int, clock: Clock, trace: Trace) -> None:
        """
        @param seed: what all randomness comes from.
        @param clock: the one clock.
        @param trace: the one trace.
        """
        self.seed = seed
        self.clock = clock
        self.trace = trace
        self.names = NameTable()
        self.packetNumbers = count(1)

    def random(self, purpose: str) -> Random:
        """
        @param purpose: a name that nothing else uses, so that one part's draws do not change those
            of another.
        @return: a source of randomness that depends on the seed and C{purpose} alone.
        """
        return Random(f"{self.seed}/{purpose}")
