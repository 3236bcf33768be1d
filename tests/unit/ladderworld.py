"""
What the tests of L{p2ptwist.core.ladder} share: two ladders, a channel between them, and counting
NATs.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.core.ladder.action import Action, Fire, Observe, Open, Over, Say
from p2ptwist.core.ladder.budget import Budget
from p2ptwist.core.ladder.ladder import Ladder
from p2ptwist.core.ladder.memory import PairMemory
from p2ptwist.core.ladder.message import LadderMessage, decodeMessage, encodeMessage
from p2ptwist.core.ladder.posture import Posture, postureOf
from p2ptwist.core.ladder.volley import (
    Shot,
)
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation

SESSION = b"8 bytes!"
STRICT = NATFiltering.ADDRESS_AND_PORT_DEPENDENT
STEADY = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, STRICT)
LOOSE = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, NATFiltering.ENDPOINT_INDEPENDENT)
SYMMETRIC = NATMapping.ADDRESS_AND_PORT_DEPENDENT
AIMED = NATBehavior(SYMMETRIC, STRICT, PortAllocation.SEQUENTIAL, 1)
DOWNWARD = NATBehavior(SYMMETRIC, STRICT, PortAllocation.SEQUENTIAL, -2)
SCATTERED = NATBehavior(SYMMETRIC, STRICT, PortAllocation.RANDOM)
UNKNOWN = NATBehavior()
A_HOST, B_HOST = "11.0.0.1", "11.0.0.2"
DELAY = 0.05  # seconds of the channel, and of a datagram


class CountingNAT:
    """
    External ports of one side, as its NAT gives them out.
    """

    def __init__(self, behavior: NATBehavior, seed: int, others: float = 0.0) -> None:
        """
        @param others: mappings that other hosts behind it make, a second.
        """
        self.behavior = behavior
        self._random = Random(seed)
        self._others = others
        self._port = self._random.randrange(20000, 30000)
        self._at = 0.0
        self._mappings: dict[tuple[int | None, HostPort | None], int] = {}

    def port(self, socket: int | None, address: HostPort, now: float) -> int:
        """
        @return: the port that a datagram from C{socket} to C{address} leaves from.
        """
        steady = self.behavior.mapping is NATMapping.ENDPOINT_INDEPENDENT
        key = (socket, None if steady else address)
        if key not in self._mappings:
            self._mappings[key] = self.next(now)
        return self._mappings[key]

    def next(self, now: float) -> int:
        """
        @return: the port of a new mapping.
        """
        if postureOf(self.behavior) is Posture.SCATTERED:
            return self._random.randrange(1024, 65536)
        step = self.behavior.step or 1
        while self._others and (self._at + self._random.expovariate(self._others)) < now:
            self._at += self._random.expovariate(self._others)
            self._port += step
        self._at = now
        self._port += step
        return self._port

    def forget(self) -> None:
        """
        Other sockets were opened.
        """
        own = {key: port for key, port in self._mappings.items() if key[0] is None}
        self._mappings = own


class Side:
    """
    One side: a ladder, its NAT, and what it let out.
    """

    def __init__(
        self,
        name: str,
        behavior: NATBehavior,
        controlling: bool,
        seed: int,
        others: float = 0.0,
        budget: Budget | None = None,
        memory: PairMemory | None = None,
    ) -> None:
        self.host = name
        self.behavior = behavior
        self.budget = budget or Budget()
        self.ladder = Ladder(
            SESSION, controlling, self.budget, Random(seed), memory or PairMemory()
        )
        self.nat = CountingNAT(behavior, seed, others)
        self.fired: list[tuple[float, HostPort, HostPort]] = []
        self.near = 0
        self.sockets: list[int] = []
        self.outcome: Over | None = None

    @property
    def address(self) -> HostPort:
        """
        What a STUN server said of the main socket.
        """
        return self.host, self.nat.port(None, ("11.9.9.9", 3478), 0.0)


class World:
    """
    Two sides in virtual time: datagrams arrive where the port is open for their source.
    """

    def __init__(self, a: Side, b: Side, *, answers: bool = True, sockets: int = 10**6) -> None:
        """
        @param answers: whether STUN servers answer.
        @param sockets: how many may be opened at once.
        """
        self.sides = (a, b)
        self.now = 0.0
        self.met: float | None = None
        self.said: list[LadderMessage] = []
        self._answers = answers
        self._sockets = sockets
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._open: set[tuple[HostPort, HostPort]] = set()
        self._counter = 0

    def start(self) -> None:
        """
        Each side learns of the other.
        """
        for side, other in (self.sides, self.sides[::-1]):
            hosts = frozenset({other.host})
            side.ladder.learn(side.behavior, side.address, other.behavior, hosts, self.now)
            self.drain(side)

    def run(self, until: float) -> None:
        """
        Go on until they meet, or until that time.
        """
        while self.met is None:
            times = [side.ladder.deadline(self.now) for side in self.sides]
            times += [min(self._later)[0]] if self._later else []
            following = min((time for time in times if time is not None), default=None)
            if following is None or following > until:
                self.now = until
                return
            self.now = max(self.now, following)
            self._deliver()
            for side in self.sides:
                side.ladder.handleTimeout(self.now)
                self.drain(side)

    def drain(self, side: Side) -> None:
        """
        Do what the ladder asks for.
        """
        while (action := side.ladder.pollAction()) is not None:
            self._act(side, action)

    def _act(self, side: Side, action: Action) -> None:
        other = self.sides[side is self.sides[0]]
        if isinstance(action, Say):
            self.said.append(action.message)
            message = decodeMessage(encodeMessage(action.message))
            self._schedule(lambda: other.ladder.receive(message, self.now))
        elif isinstance(action, Observe):
            seen = (side.host, side.nat.next(self.now)) if self._answers else None
            self._schedule(lambda: side.ladder.observed(seen, self.now))
        elif isinstance(action, Open):
            side.nat.forget()
            side.sockets.append(action.count)
            side.ladder.opened(min(action.count, self._sockets), self.now)
        elif isinstance(action, Fire):
            self._shoot(side, action.shot)
        else:
            side.outcome = action

    def _shoot(self, side: Side, shot: Shot) -> None:
        source = (side.host, side.nat.port(shot.socket, shot.address, self.now))
        side.fired.append((self.now, source, shot.address))
        side.near += shot.near
        self._open.add((source, shot.address))
        if not shot.near:
            self._schedule(lambda: self._arrive(source, shot.address))

    def _arrive(self, source: HostPort, address: HostPort) -> None:
        if (address, source) in self._open and self.met is None:
            self.met = self.now

    def _schedule(self, call: Callable[[], None]) -> None:
        self._counter += 1
        self._later.append((self.now + DELAY, self._counter, call))

    def _deliver(self) -> None:
        while self._later and min(self._later)[0] <= self.now:
            event = min(self._later)
            self._later.remove(event)
            event[2]()


def climb(
    a: NATBehavior, b: NATBehavior, seed: int = 1, others: float = 0.0, until: float = 60.0
) -> World:
    """
    @return: a world in which A, controlling, and B have met, or given up.
    """
    world = World(Side(A_HOST, a, True, seed, others), Side(B_HOST, b, False, seed + 1, others))
    world.start()
    world.run(until)
    return world
