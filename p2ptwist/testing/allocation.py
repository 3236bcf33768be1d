"""
Which external address a new mapping gets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from typing import TypeAlias

from p2ptwist.core.address import HostPort
from p2ptwist.testing.nat import NAT, Pooling, PortAllocation

Key: TypeAlias = tuple[str | int, ...]
IsFree: TypeAlias = Callable[[HostPort], bool]

# Above this many arrivals a Poisson distribution is as good as normal, and drawing one by one slow.
_MANY = 100


class BackgroundTraffic:
    """
    Flows of others through the same router: a Poisson process that is not run but drawn from, when
    somebody wants to know.
    """

    def __init__(self, nat: NAT, random: Random) -> None:
        """
        @param nat: says how many flows there are, and how long each holds its port.
        @param random: where randomness comes from; nobody else draws from it.
        """
        ports = nat.lastPort - nat.firstPort + 1
        self._rate = nat.backgroundFlows
        # Flows that live at one time are spread over the ports.
        self._occupied = 1.0 - math.exp(-self._rate * nat.udpTimeout / ports)
        self._random = random
        self._counted = 0.0

    def arrivals(self, now: float) -> int:
        """
        @return: the flows that began since this was asked the last time.
        """
        elapsed, self._counted = now - self._counted, now
        return _poisson(self._rate * elapsed, self._random)

    def occupies(self) -> bool:
        """
        @return: whether a port that might be taken by one of them is.
        """
        return self._random.random() < self._occupied


class PortAllocator:
    """
    Chooses the external address of new mappings.
    """

    def __init__(self, nat: NAT, hosts: Sequence[str], random: Random) -> None:
        """
        @param nat: how to choose.
        @param hosts: the addresses whose ports are given out.
        @param random: where randomness comes from.
        """
        self._nat = nat
        self._hosts = hosts
        self._random = random
        self._paired: dict[str, str] = {}
        self._next = random.randint(nat.firstPort, nat.lastPort)
        self._background = None
        if nat.backgroundFlows:
            self._background = BackgroundTraffic(nat, Random(random.getrandbits(64)))
        if nat.allocation is PortAllocation.HASHED:
            self._secret = random.getrandbits(64)

    def allocate(self, inside: HostPort, key: Key, isFree: IsFree, now: float) -> HostPort | None:
        """
        @param inside: whom it is for.
        @param key: the part of the remote address that the mapping is for.
        @param isFree: tells whether an external address may be taken.
        @param now: the time.
        @return: an external address, or C{None} when none is free.
        """
        nat, host, background = self._nat, self._hostFor(inside[0]), self._background
        if nat.allocation is PortAllocation.SEQUENTIAL:
            passed = background.arrivals(now) if background else 0
            return self._search(host, self._next + passed * nat.portStep, nat.portStep, isFree)

        def isFreeOfAll(external: HostPort) -> bool:
            return isFree(external) and not (background and background.occupies())

        if nat.allocation is PortAllocation.PRESERVING:
            preserved = (host, inside[1])
            if isFreeOfAll(preserved):
                return preserved
        if nat.allocation is PortAllocation.HASHED:
            start = nat.firstPort + self._hash(inside, key)
        else:
            start = self._random.randint(nat.firstPort, nat.lastPort)
        return self._search(host, start, 1, isFreeOfAll)

    def _search(self, host: str, start: int, step: int, isFree: IsFree) -> HostPort | None:
        """
        @return: the first free port from C{start} on, in steps, around the range.
        """
        first, count = self._nat.firstPort, self._nat.lastPort - self._nat.firstPort + 1
        for attempt in range(count):
            port = first + (start - first + attempt * step) % count
            if isFree((host, port)):
                self._next = first + (port - first + step) % count
                return (host, port)
        return None

    def _hostFor(self, inside: str) -> str:
        if len(self._hosts) == 1:
            return self._hosts[0]
        if self._nat.pooling is Pooling.ARBITRARY:
            return self._random.choice(self._hosts)
        host = self._paired.get(inside)
        if host is None:
            host = self._paired[inside] = self._random.choice(self._hosts)
        return host

    def _hash(self, inside: HostPort, key: Key) -> int:
        digest = blake2b(repr((self._secret, inside, key)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")


class IdentityAllocator:
    """
    Translates nothing: what a firewall allocates.
    """

    def allocate(self, inside: HostPort, key: Key, isFree: IsFree, now: float) -> HostPort | None:
        """
        @return: C{inside} itself.
        """
        return inside


def _poisson(mean: float, random: Random) -> int:
    """
    @return: how many events there are where C{mean} are expected.
    """
    if mean > _MANY:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    count, left = 0, mean - random.expovariate(1.0)
    while left >= 0.0:
        count += 1
        left -= random.expovariate(1.0)
    return count
