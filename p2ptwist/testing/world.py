"""
What all parts of one simulated Internet share.
"""

from __future__ import annotations

from itertools import count
from random import Random
from typing import TYPE_CHECKING

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.clock import Clock
from p2ptwist.testing.dns import NameTable
from p2ptwist.testing.trace import Trace

if TYPE_CHECKING:
    from p2ptwist.testing.host import Host


class World:
    """
    The time, the chance, the names and the trace of one Internet.

    @ivar seed: what all randomness comes from.
    @ivar clock: the one clock.
    @ivar trace: the one trace.
    @ivar names: the one DNS.
    @ivar packetNumbers: numbers for new packets.
    @ivar hosts: every host, by name.
    """

    __slots__ = ("_taken", "clock", "hosts", "names", "packetNumbers", "seed", "trace")

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
        self.hosts: dict[str, Host] = {}
        self._taken: set[str] = set()

    def claim(self, name: str) -> str:
        """
        Take a name for a host or a router.

        @return: C{name}.
        @raise LocalUsageError: when it is taken.
        """
        if name in self._taken:
            raise LocalUsageError(f"there is a {name!r} already: traces and seeds need other names")
        self._taken.add(name)
        return name

    def random(self, purpose: str) -> Random:
        """
        @param purpose: a name that nothing else uses, so that one part's draws do not change those
            of another.
        @return: a source of randomness that depends on the seed and C{purpose} alone.
        """
        return Random(f"{self.seed}/{purpose}")
