"""
Sessions between networks that other sessions have met between, or failed to.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ladder.memory import CLIMB_PAUSE, Means
from p2ptwist.core.ladder.message import Stand
from p2ptwist.core.ladder.posture import PREDICTION_ROUNDS
from p2ptwist.net.attempts import SignalTaken
from p2ptwist.net.climb import memoryOf
from p2ptwist.net.stunstreams import STUNStreamService
from p2ptwist.peer.udpsearch import FRESH_AFTER
from p2ptwist.testing import NAT, Mapping, PortAllocation, Uninvited
from tests.sim.neighborhood import NODE, STUN_PORT
from tests.sim.sessions import Caller, SessionPairs
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL

SYMMETRIC = Mapping.ADDRESS_AND_PORT_DEPENDENT
HOME = NAT()
ACCEPTING = NAT(portOverloading=True, uninvited=Uninvited.ACCEPT)
COUNTING = NAT(mapping=SYMMETRIC, allocation=PortAllocation.SEQUENTIAL)
RANDOM = NAT(mapping=SYMMETRIC, allocation=PortAllocation.RANDOM)
# UDP never meets, TCP does.
TCP_ONLY = NAT(
    mapping=SYMMETRIC, allocation=PortAllocation.RANDOM, tcpMapping=Mapping.ENDPOINT_INDEPENDENT
)


class MemoryTests(SynchronousTestCase):
    """
    Four peers: two programs of one host call two of another, one after the other.
    """

    def start(self, a: NAT, b: NAT) -> None:
        """
        Put the peers behind such routers.
        """
        self.pairs = SessionPairs()
        self.internet = self.pairs.internet
        self.hosts = [
            router.host(name)
            for router, name in zip(self.pairs.twoRouters(a, b), "ab", strict=True)
        ]
        self.callers = [self.pairs.caller(self.hosts[0]) for _ in range(2)]
        self.callees = [self.pairs.caller(self.hosts[1]) for _ in range(2)]
        self.pairs.ready()
        self.memories = [memoryOf(host) for host in self.hosts]
        for callee in self.callees:
            callee.echoes()

    def connect(self, number: int, limit: float = 40.0) -> float | None:
        """
        Let one caller call one callee.

        @return: seconds until both were direct; C{None} when they were not within the limit.
        """
        sides: tuple[Caller, Caller] = self.callers[number], self.callees[number]
        began = self.internet.seconds()
        self.pairs.talk(*sides).transport.write(b"hello")
        while self.internet.seconds() - began < limit:
            self.internet.advance(0.05)
            if all(side.events and side.events[-1][1].kind == "direct" for side in sides):
                return max(side.events[-1][0] for side in sides) - began
        return None

    def remembered(self) -> list[Means | None]:
        """
        @return: what both hosts remember of the pair.
        """
        pair = (A_EXTERNAL, B_EXTERNAL)
        keys = (pair, pair[::-1])
        return [memory.recall(key) for memory, key in zip(self.memories, keys, strict=True)]

    def test_ordinary(self) -> None:
        """
        Nothing special where nothing was needed.
        """
        self.start(HOME, HOME)
        self.connect(0)
        self.assertEqual(self.remembered(), [Means.ORDINARY] * 2)
        self.pairs.close()

    def test_rungs(self) -> None:
        """
        A rung is remembered by both sides.
        """
        for b, means in ((COUNTING, Means.PREDICTION), (RANDOM, Means.SPRAYING)):
            self.start(HOME, b)
            self.assertIsNotNone(self.connect(0))
            self.assertEqual(self.remembered(), [means] * 2)
            self.pairs.close()

    def test_sprayFirst(self) -> None:
        """
        Where spraying is remembered no prediction is proposed.
        """
        self.start(HOME, COUNTING)
        self.memories[0].worked((A_EXTERNAL, B_EXTERNAL), Means.SPRAYING)
        taken: list[object] = []
        assert self.callees[0].peer._reach is not None
        self.callees[0].peer._reach.observe(taken.append)
        self.assertIsNotNone(self.connect(0))
        signals = [each.signal for each in taken if isinstance(each, SignalTaken)]
        rounds = {each.round for each in signals if isinstance(each, Stand)}
        self.assertEqual(rounds, {PREDICTION_ROUNDS})
        self.assertEqual(self.remembered(), [Means.SPRAYING] * 2)
        self.pairs.close()

    def test_fresh(self) -> None:
        """
        Where fresh ports were needed the next session uses them as soon as it knows where the other
        side is.
        """
        self.start(ACCEPTING, ACCEPTING)
        for caller in (*self.callers, *self.callees):
            assert caller.peer._reach is not None
            caller.peer._reach.puncher.signalDelay = 0.0
        self.assertGreater(self.connect(0) or 0.0, FRESH_AFTER)
        self.assertEqual(self.remembered(), [Means.FRESH] * 2)
        self.assertLess(self.connect(1) or 100.0, FRESH_AFTER - 0.5)
        self.pairs.close()

    def test_tcp(self) -> None:
        """
        Where TCP was what worked it is tried at once.
        """
        self.start(TCP_ONLY, TCP_ONLY)
        STUNStreamService(self.pairs.node, (NODE, STUN_PORT)).startService()
        first = self.connect(0)
        self.assertEqual(self.remembered(), [Means.TCP] * 2)
        second = self.connect(1)
        assert first is not None
        assert second is not None
        self.assertLess(second, first - 0.5)
        self.pairs.close()

    def test_failed(self) -> None:
        """
        What came to nothing is not tried again by the next session.
        """
        self.start(
            HOME,
            NAT(
                mapping=SYMMETRIC,
                allocation=PortAllocation.RANDOM,
                tcpMapping=SYMMETRIC,
                maxMappingsPerHost=12,
            ),
        )
        self.assertIsNone(self.connect(0))
        pair, now = (A_EXTERNAL, B_EXTERNAL), self.internet.seconds()
        self.assertFalse(self.memories[0].mayClimb(pair, now))
        first = self.sent()
        self.assertGreater(first, 1000)
        self.assertIsNone(self.connect(1))
        self.assertLess(self.sent() - first, 300)
        self.assertTrue(self.memories[0].mayClimb(pair, now + CLIMB_PAUSE))
        self.pairs.close()

    def sent(self) -> int:
        """
        @return: how many packets the caller's host has sent.
        """
        return self.hosts[0].counters.packetsSent
