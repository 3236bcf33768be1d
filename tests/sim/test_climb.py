"""
Tests for L{p2ptwist.net.climb} and L{p2ptwist.net.ttl}: ladders with sockets behind simulated NATs,
with a signaling channel of the test's own, and a word in place of authenticated checks.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.ladder.budget import Budget
from p2ptwist.core.ladder.ladder import Ladder
from p2ptwist.core.ladder.message import decodeMessage
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping
from p2ptwist.core.nat import PortAllocation as Allocation
from p2ptwist.net.climb import Climb, Climber, Gear
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.stunclient import STUNClient
from p2ptwist.net.ttl import NEAR_LIMIT, nearTTL, writeNear
from p2ptwist.testing import NAT, Host, Internet, Link, Mapping, PortAllocation, Router, Uninvited
from tests.sim.neighborhood import NODE, SITE_LATENCY, STUN_PORT, Neighborhood

SERVER = (NODE, STUN_PORT)
SESSION = b"8 bytes!"
WORD = b"a check"
TRANSIT = 2  # routers between two sites: few, to tell one depth of NATs from the next
RELAYED = 0.05  # seconds, one way, of the channel
STRICT = NATFiltering.ADDRESS_AND_PORT_DEPENDENT
HOME = NAT()
COUNTING = NAT(
    mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.SEQUENTIAL, portStep=2
)
RANDOM = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)


def behaviorOf(nat: NAT) -> NATBehavior:
    """
    @return: what measuring would find.
    """
    allocation = {
        PortAllocation.SEQUENTIAL: Allocation.SEQUENTIAL,
        PortAllocation.PRESERVING: Allocation.PRESERVING,
    }.get(nat.allocation, Allocation.RANDOM)
    step = nat.portStep if allocation is Allocation.SEQUENTIAL else None
    return NATBehavior(NATMapping(nat.mapping.value), STRICT, allocation, step)


class Side:
    """
    One side.

    @ivar adopted: the socket that the first check came to.
    @ivar exhausted: what the climb said at its end.
    """

    def __init__(self, host: Host, nat: NAT, controlling: bool, seed: int) -> None:
        self.host = host
        self.nat = nat
        self.port = DatagramPort(host)
        self.port.listen()
        self.adopted: DatagramPort | None = None
        self.metAt = 0.0
        self.exhausted: bool | None = None
        self.other: Side
        self.near: int | None = None
        self.stun = True
        self.reflexive: HostPort
        budget, random = Budget(), Random(seed)
        gear = Gear(
            clock=host,
            port=self.port,
            server=lambda: SERVER if self.stun else None,
            nearTTL=lambda: self.near,
            budget=budget,
            random=random,
        )
        climber = Climber(
            check=lambda: WORD,
            receive=self.receive,
            say=lambda data: self.host.callLater(RELAYED, self.hear, data),
            over=self.over,
        )
        self.climb = Climb(gear, climber, Ladder(SESSION, controlling, budget, random, gear.memory))
        self.client = STUNClient(host, self.port.write)
        self.port.addConsumer(self.client.datagramReceived)
        self.port.addConsumer(lambda data, address: self.receive(self.port, data, address))

    def hear(self, data: bytes) -> None:
        """
        What this side said has come to the other one.
        """
        self.other.climb.receive(decodeMessage(data))

    def over(self, exhausted: bool) -> None:
        """
        Keep it.
        """
        self.exhausted = exhausted

    def receive(self, port: DatagramPort, data: bytes, address: HostPort) -> bool:
        """
        Adopt the socket that the first check comes to, and answer it.
        """
        if data != WORD:
            return False
        if self.adopted is None:
            self.adopted = port
            self.metAt = self.host.seconds()
            port.write(WORD, address)
            self.climb.stop()
        return True

    def start(self, reflexive: HostPort) -> None:
        """
        Tell the ladder what both sides know.
        """
        self.climb.ladder.learn(
            behaviorOf(self.nat),
            reflexive,
            behaviorOf(self.other.nat),
            frozenset({self.router(self.other)}),
            self.host.seconds(),
        )
        self.climb.drain()

    def router(self, side: Side) -> str:
        """
        @return: the outer address of a side's router.
        """
        return "203.0.113.1" if side.host.name == "alice" else "203.0.113.2"


class Pair:
    """
    Two sides behind NATs.
    """

    def __init__(self, a: NAT, b: NAT, seed: int = 1, depth: int = 1) -> None:
        """
        @param depth: the NATs of each side, one in the other.
        """
        self.neighborhood = Neighborhood(seed, transitHops=TRANSIT)
        self.internet: Internet = self.neighborhood.internet
        self.alice = self._side("alice", "203.0.113.1", a, True, seed, depth)
        self.bob = self._side("bob", "203.0.113.2", b, False, seed, depth)
        self.alice.other, self.bob.other = self.bob, self.alice
        self.sides = (self.alice, self.bob)

    def _side(
        self, name: str, address: str, nat: NAT, controlling: bool, seed: int, depth: int
    ) -> Side:
        link = Link(latency=SITE_LATENCY)
        router: Router = self.internet.router(f"{name}'s", address, nat=nat, link=link)
        for number in range(depth - 1):
            router = router.router(f"{name}'s {number}", nat=HOME)
        return Side(router.host(name), nat, controlling, seed)

    def climb(self, seconds: float = 60.0) -> float | None:
        """
        @return: the seconds until both had heard a check; C{None} when they did not.
        """
        for side in self.sides:
            side.reflexive = self.internet.runUntil(side.client.bind(SERVER), timeout=5.0)
        for side in self.sides:
            port = side.port.another()
            port.listen()
            side.near = self.internet.runUntil(nearTTL(side.host, port, SERVER), timeout=5.0)
            self.internet.runUntil(port.stopListening())
        began = self.internet.seconds()
        for side in self.sides:
            side.start(side.reflexive)
        while any(side.adopted is None for side in self.sides):
            if self.internet.seconds() - began > seconds:
                return None
            self.internet.advance(0.05)
        return max(side.metAt for side in self.sides) - began

    def openPorts(self) -> int:
        """
        @return: extra sockets that are open, but for those adopted.
        """
        return sum(side.climb.extra for side in self.sides)


class ClimbTests(SynchronousTestCase):
    """
    Rungs.
    """

    def test_foretold(self) -> None:
        """
        A port that a NAT counts up to is foretold, on one side or both, within a second, also
        behind a second NAT.
        """
        for a, b in ((HOME, COUNTING), (COUNTING, HOME), (COUNTING, COUNTING)):
            for depth in (1, 2):
                pair = Pair(a, b, depth=depth)
                self.assertLess(pair.climb() or 100.0, 1.0)
                self.assertEqual(pair.openPorts(), 0)

    def test_crowded(self) -> None:
        """
        Nineteen of twenty within three seconds where others make 10 mappings a second.
        """
        crowded = NAT(
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
            allocation=PortAllocation.SEQUENTIAL,
            backgroundFlows=10.0,
        )
        for a in (HOME, crowded):
            times = [Pair(a, crowded, seed).climb(20.0) or 100.0 for seed in range(20)]
            self.assertLess(sorted(times)[18], 3.0)

    def test_sprayed(self) -> None:
        """
        Random ports are found by trying, with at most a hundred datagrams in any second, and the
        socket that was found is left open.
        """
        pair = Pair(HOME, RANDOM)
        self.assertLess(pair.climb() or 100.0, 20.0)
        self.assertIsNot(pair.bob.adopted, pair.bob.port)
        self.assertIs(pair.alice.adopted, pair.alice.port)
        self.assertEqual(pair.openPorts(), 0)
        assert pair.bob.adopted is not None
        self.assertGreater(pair.bob.adopted.localPort, 0)

    def test_accepting(self) -> None:
        """
        Routers that take uninvited packets for themselves do no harm, as nothing arrives too early.
        """
        for a, b in ((HOME, COUNTING), (COUNTING, COUNTING), (HOME, RANDOM)):
            for depth in (1, 2):
                pair = Pair(_accepting(a), _accepting(b), depth=depth)
                self.assertLess(pair.climb() or 100.0, 20.0)

    def test_gaveUp(self) -> None:
        """
        What cannot be is over after 20 s, and costs no socket and no packet any more.
        """
        pair = Pair(HOME, _refusing(RANDOM))
        self.assertIsNone(pair.climb(30.0))
        self.assertEqual([side.exhausted for side in pair.sides], [True, True])
        self.assertEqual(pair.openPorts(), 0)
        pair.internet.advance(1.0)
        length = len(pair.internet.trace)
        pair.internet.advance(10.0)
        self.assertEqual(len(pair.internet.trace), length)

    def test_noServer(self) -> None:
        """
        Nobody tells an aimed side its port: it goes on as a scattered one.
        """
        pair = Pair(HOME, COUNTING)
        pair.bob.stun = False
        self.assertLess(pair.climb() or 100.0, 30.0)


def _accepting(nat: NAT) -> NAT:
    return NAT(
        mapping=nat.mapping,
        allocation=nat.allocation,
        portStep=nat.portStep,
        portOverloading=True,
        uninvited=Uninvited.ACCEPT,
    )


def _refusing(nat: NAT) -> NAT:
    """
    @return: one that has room for a few mappings only.
    """
    return NAT(mapping=nat.mapping, allocation=nat.allocation, maxMappingsPerHost=3)


class NearTests(SynchronousTestCase):
    """
    Datagrams that die on the way.
    """

    def test_measured(self) -> None:
        """
        One less than reaches the server; the most where nothing does.
        """
        for depth in (1, 2):
            pair = Pair(HOME, HOME, depth=depth)
            port = pair.alice.port.another()
            port.listen()
            near = pair.internet.runUntil(nearTTL(pair.alice.host, port, SERVER), timeout=5.0)
            far = pair.internet.runUntil(
                nearTTL(pair.alice.host, port, ("192.0.2.77", 3478)), timeout=5.0
            )
            self.assertEqual(far, NEAR_LIMIT)
            self.assertEqual(near, depth + TRANSIT)
            canceled = nearTTL(pair.alice.host, port, SERVER)
            canceled.addErrback(lambda _: None)
            canceled.cancel()
            pair.internet.runUntil(port.stopListening())
            self.assertFalse(writeNear(port, b"x", SERVER, 1))
