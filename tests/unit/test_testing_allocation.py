"""
Which ports and addresses a simulated NAT gives out.
"""

from __future__ import annotations

import itertools
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.errors import LocalUsageError
from p2ptwist.testing import NAT, Mapping, Pooling, PortAllocation
from p2ptwist.testing.allocation import BackgroundTraffic, PortAllocator

POOL = ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
ALICE: HostPort = ("192.168.1.2", 5000)
CAROL: HostPort = ("192.168.1.3", 5000)


class Taker:
    """
    Takes what it is given, for good.
    """

    def __init__(self, nat: NAT, seed: int = 1, hosts: list[str] | None = None) -> None:
        self.allocator = PortAllocator(nat, hosts or POOL[:1], Random(seed))
        self.taken: set[HostPort] = set()

    def take(
        self, inside: HostPort = ALICE, now: float = 0.0, key: tuple[str | int, ...] = ()
    ) -> HostPort:
        """
        @return: one more external address.
        """
        external = self.allocator.allocate(inside, key, lambda each: each not in self.taken, now)
        assert external is not None
        self.taken.add(external)
        return external

    def steps(self, count: int, interval: float) -> list[int]:
        """
        @return: the distances of so many ports that are taken one each C{interval} seconds.
        """
        ports = [self.take(now=number * interval)[1] for number in range(count + 1)]
        return [after - before for before, after in itertools.pairwise(ports)]


class SequentialTests(SynchronousTestCase):
    """
    Ports one after the other.
    """

    def test_steps(self) -> None:
        """
        The step is any number but 0, down as well as up.
        """
        for step in (1, 2, 5, -1, -3):
            nat = NAT(allocation=PortAllocation.SEQUENTIAL, portStep=step)
            self.assertEqual(Taker(nat, seed=9).steps(5, 1.0), [step] * 5)

    def test_backgroundTraffic(self) -> None:
        """
        Other flows take ports meanwhile: as many as expected in the mean, and none in no time.
        """
        nat = NAT(allocation=PortAllocation.SEQUENTIAL, backgroundFlows=10.0, portStep=2)
        self.assertEqual(Taker(nat).steps(20, 0.0), [2] * 20)
        steps = [step % 64_512 for step in Taker(nat).steps(400, 1.0)]
        self.assertLess(abs(sum(steps) / 400 - 2 * (1 + 10.0)), 1.0)
        self.assertGreater(len(set(steps)), 5)
        self.assertEqual({step % 2 for step in steps}, {0})

    def test_sameSeed(self) -> None:
        """
        Background traffic is the same for the same seed, and another one for another.
        """
        nat = NAT(allocation=PortAllocation.SEQUENTIAL, backgroundFlows=10.0)
        runs = [Taker(nat, seed).steps(20, 1.0) for seed in (4, 4, 5)]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])


class BackgroundTests(SynchronousTestCase):
    """
    L{BackgroundTraffic}.
    """

    def test_arrivals(self) -> None:
        """
        Few or many, they come at the given rate, and not in equal numbers.
        """
        for rate, seconds in ((0.5, 2.0), (50.0, 10.0)):
            traffic = BackgroundTraffic(NAT(backgroundFlows=rate), Random(3))
            counts = [traffic.arrivals((turn + 1) * seconds) for turn in range(500)]
            expected = rate * seconds
            self.assertLess(abs(sum(counts) / 500 - expected), 0.2 * expected**0.5)
            spread = sum((count - expected) ** 2 for count in counts) / 500
            self.assertLess(abs(spread / expected - 1.0), 0.25)

    def test_occupies(self) -> None:
        """
        A port may be held by one of the flows that live, here half as many as ports.
        """
        nat = NAT(backgroundFlows=5.0, udpTimeout=100.0, firstPort=1001, lastPort=2000)
        traffic = BackgroundTraffic(nat, Random(3))
        occupied = sum(traffic.occupies() for _ in range(2000)) / 2000
        self.assertLess(abs(occupied - 0.39), 0.04)  # 1 - exp(-0.5)

    def test_notPreserved(self) -> None:
        """
        Then a port cannot always be preserved.
        """
        nat = NAT(backgroundFlows=5.0, udpTimeout=100.0, firstPort=1001, lastPort=2000)
        kept = [Taker(nat, seed).take(("192.168.1.2", 1500))[1] == 1500 for seed in range(100)]
        self.assertTrue(40 < sum(kept) < 80, sum(kept))

    def test_negative(self) -> None:
        """
        There is no less than none.
        """
        self.assertRaises(LocalUsageError, NAT, backgroundFlows=-1.0)


class HashedTests(SynchronousTestCase):
    """
    Ports that look random, and come back.
    """

    def test_comesBack(self) -> None:
        """
        The same flow has the same port again, until the router reboots; others have others.
        """
        nat = NAT(mapping=Mapping.ADDRESS_DEPENDENT, allocation=PortAllocation.HASHED)
        keys = [("192.0.2.1",), ("192.0.2.2",), ("192.0.2.3",)]
        taker = Taker(nat)
        ports = [taker.take(key=key) for key in keys]
        taker.taken.clear()
        self.assertEqual([taker.take(key=key) for key in keys], ports)
        others = [taker.take(CAROL, key=key) for key in keys]
        elsewhere = [Taker(nat, seed=2).take(key=key) for key in keys]
        self.assertEqual(len({*ports, *others, *elsewhere}), 9)

    def test_taken(self) -> None:
        """
        Where that port is taken the next one is given.
        """
        taker = Taker(NAT(allocation=PortAllocation.HASHED))
        first, second = taker.take(), taker.take()
        self.assertEqual(second, (first[0], first[1] + 1))


class PoolTests(SynchronousTestCase):
    """
    Several external addresses.
    """

    def hosts(self, pooling: Pooling) -> list[set[str]]:
        """
        @return: the external addresses that each of some inside hosts has.
        """
        taker = Taker(NAT(pooling=pooling, allocation=PortAllocation.RANDOM), hosts=POOL)
        insides = [f"192.168.1.{number}" for number in range(2, 12)]
        return [{taker.take((host, port))[0] for port in range(20)} for host in insides]

    def test_paired(self) -> None:
        """
        One inside host has one of them, and not all have the same.
        """
        hosts = self.hosts(Pooling.PAIRED)
        self.assertEqual({len(each) for each in hosts}, {1})
        self.assertEqual(set().union(*hosts), set(POOL))

    def test_arbitrary(self) -> None:
        """
        Every mapping has any of them.
        """
        self.assertEqual(self.hosts(Pooling.ARBITRARY), [set(POOL)] * 10)
