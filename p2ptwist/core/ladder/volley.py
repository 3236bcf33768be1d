"""
Volleys: which checks one side sends in a round, from which socket, and when.

A shot is I{near} when it is only to open this side's own NATs: sent with so low a TTL that it dies
on the way.  A router that takes uninvited packets for its own never gives the port that they came
to away afterwards, so nothing should arrive before the other side has sent something there itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import GATEWAY_PORTS, LOWEST_PORT
from p2ptwist.core.ladder.budget import SPRAY_CHECKS, Budget

# Seconds between two datagrams of a spray, until the budget makes them wait for the next second:
# what it allows leaves in the first sixth of each, half a second sooner than evenly spread, and
# is fewer bytes than a TCP connection sends at once.
SPRAY_GAP = 0.002
OPEN_GAP = 0.001  # the same of the side that opens sockets: before the other one tries them
# Ports on either side of one that was seen: carriers give a customer one block, of 512 to 2048
# ports as a rule (RFC 7422), so that others of the same one are there.
BLOCK = 1024
LATENESS = 0.02  # seconds that a timer of a busy program is late, as a rule, at most
# Seconds from the last packet that opens sockets to the next round of them.
REOPEN_GAP = 3.0
KNOCK_GAPS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds; some are lost, and the first may be early
# Seconds from opening the own NATs to sending in earnest: the other side has heard by then, unless
# its link takes longer, and then the next ones find it.
AGAIN_GAPS = (0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Shot:
    """
    One check.

    @ivar gap: seconds after the one before.
    @ivar socket: the number of an extra socket, from 0; C{None} for the peer's own.
    @ivar address: where it goes.
    @ivar near: whether it is to die on the way.
    """

    gap: float
    socket: int | None
    address: HostPort
    near: bool = False


def knock(address: HostPort) -> Iterator[Shot]:
    """
    A steady side knocks at the port that an aimed one will have.
    """
    return (Shot(gap, None, address) for gap in KNOCK_GAPS)


def prime(count: int, address: HostPort) -> Iterator[Shot]:
    """
    An aimed side opens the mappings of which one will have the foretold port, and then sends in
    earnest: who was told of that port has opened its own NATs by then.
    """
    yield from _all(count, address, 0.0, near=True)
    for gap in AGAIN_GAPS:
        yield from _all(count, address, gap)


def charge(count: int, address: HostPort) -> Iterator[Shot]:
    """
    The other of two aimed sides: the first one is ready for it.
    """
    for gap in (0.0, *AGAIN_GAPS):
        yield from _all(count, address, gap)


def scatter(count: int, address: HostPort) -> Iterator[Shot]:
    """
    A scattered side opens all of its sockets to a steady one; again, as some are lost; and at last
    every other one by a packet that goes the whole way: those before may have died inside its own
    provider's network.  Where the steady side's router takes such a packet for its own, that
    socket's port can never be found: so not all of them.
    """
    for near, pause, step in ((True, 0.0, 1), (True, REOPEN_GAP, 1), (False, REOPEN_GAP, 2)):
        for socket in range(0, count, step):
            yield Shot(OPEN_GAP if socket else pause, socket, address, near)


def spray(seen: HostPort, chance: Random) -> Iterator[Shot]:
    """
    A steady side tries ports of a scattered one, none twice: by turns one of all, and one near the
    port that was seen, which is as good as any other where it does not help.

    @param seen: an address that a mapping of the other side had.
    """
    host, port = seen
    middle = min(max(port, LOWEST_PORT + BLOCK), 65536 - BLOCK)
    near = chance.sample(range(middle - BLOCK, middle + BLOCK), SPRAY_CHECKS // 2)
    anywhere = chance.sample(range(LOWEST_PORT, 65536), SPRAY_CHECKS // 2)
    turns = chain.from_iterable(zip(near, anywhere, strict=True))
    for each in dict.fromkeys(turns):
        if each not in GATEWAY_PORTS:
            yield Shot(SPRAY_GAP, None, (host, each))


def _all(count: int, address: HostPort, gap: float, *, near: bool = False) -> Iterator[Shot]:
    for socket in range(count):
        yield Shot(0.0 if socket else gap, socket, address, near)


class Volley:
    """
    Shots in time, and no more than the budget allows; at the end of what their host may get they
    end.
    """

    def __init__(self, shots: Iterator[Shot], budget: Budget, now: float) -> None:
        self._shots = shots
        self._budget = budget
        self._next = next(shots, None)
        self._due = now + (self._next.gap if self._next else 0.0)

    def take(self, now: float) -> Shot | None:
        """
        @return: the shot that is due at C{now}, which counts as fired.
        """
        shot = self._next
        if shot is None or now < self._due:
            return None
        host = shot.address[0]
        if self._budget.left(host, now) < 1.0:
            self._next = None  # other sessions have sent there as well
            return None
        if not self._budget.take(host, now):
            return None
        self._next = next(self._shots, None)
        if self._next is not None:
            # A timer that was late is made up for; whoever was kept waiting by the budget is not.
            self._due = max(self._due, now - LATENESS) + self._next.gap
        return shot

    def deadline(self, now: float) -> float | None:
        """
        @return: when L{take} will return the next one; C{None} after the last.
        """
        return None if self._next is None else max(self._due, self._budget.readyAt(now))
