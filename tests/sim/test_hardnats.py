"""
Sessions between NATs that ordinary checks do not meet through.

Each pair is tried with several seeds; C{P2PTWIST_HARD_SEEDS} says with how many.
"""

from __future__ import annotations

import os
from statistics import median

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.testing import NAT, Firewall, Mapping, PortAllocation, Router, Uninvited
from tests.sim.sessions import Caller, SessionPairs
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL, SITE_LINK

SEEDS = int(os.environ.get("P2PTWIST_HARD_SEEDS", "10"))
SYMMETRIC = Mapping.ADDRESS_AND_PORT_DEPENDENT
HOME = NAT()
WALL = Firewall()
COUNTING = NAT(mapping=SYMMETRIC, allocation=PortAllocation.SEQUENTIAL)
BUSY = NAT(mapping=SYMMETRIC, allocation=PortAllocation.SEQUENTIAL, backgroundFlows=5.0)
RANDOM = NAT(mapping=SYMMETRIC, allocation=PortAllocation.RANDOM)
HASHED = NAT(mapping=Mapping.ADDRESS_DEPENDENT, allocation=PortAllocation.HASHED)


def accepting(nat: NAT) -> NAT:
    """
    @return: the same, but that it takes uninvited packets for its own.
    """
    return NAT(
        mapping=nat.mapping,
        allocation=nat.allocation,
        backgroundFlows=nat.backgroundFlows,
        portOverloading=True,
        uninvited=Uninvited.ACCEPT,
    )


def routerFor(pairs: SessionPairs, name: str, kind: NAT | Firewall) -> Router:
    """
    @param name: C{"a"} or C{"b"}.
    @return: a router that translates, or that only filters: whoever is behind it has an address of
        the Internet's.
    """
    external, lan = {
        "a": (A_EXTERNAL, "198.51.100.0/25"),
        "b": (B_EXTERNAL, "198.51.100.128/25"),
    }[name]
    if isinstance(kind, NAT):
        return pairs.site(f"{name}-router", external, kind)
    return pairs.internet.router(f"{name}-router", lan=lan, firewall=kind, link=SITE_LINK)


def timeToDirect(a: NAT | Firewall, b: NAT | Firewall, seed: int, limit: float = 22.0) -> float:
    """
    @return: seconds from connecting until the session is direct on both sides; infinite when it is
        not within the limit.
    """
    pairs = SessionPairs(seed)
    routers = [routerFor(pairs, name, kind) for name, kind in (("a", a), ("b", b))]
    alice, bob = (
        pairs.caller(router.host(name)) for router, name in zip(routers, "ab", strict=True)
    )
    pairs.ready()
    bob.echoes()
    began = pairs.internet.seconds()
    talk = pairs.talk(alice, bob)
    talk.transport.write(b"hello")
    time = float("inf")
    while pairs.internet.seconds() - began < limit:
        pairs.internet.advance(0.05)
        if all(_isDirect(each) for each in (alice, bob)):
            time = max(each.events[-1][0] for each in (alice, bob)) - began
            break
    pairs.internet.advance(1.0)
    talk.transport.write(b" world")
    pairs.internet.advance(1.0)
    assert talk.data == b"hello world", talk.data
    pairs.close()
    return time


def _isDirect(caller: Caller) -> bool:
    return bool(caller.events) and caller.events[-1][1].kind == "direct"


class HardTests(SynchronousTestCase):
    """
    Direct, and how soon.
    """

    def times(self, a: NAT | Firewall, b: NAT | Firewall) -> list[float]:
        """
        @return: the times of all seeds, sorted.
        """
        return sorted(timeToDirect(a, b, seed) for seed in range(SEEDS))

    def share(self, times: list[float]) -> float:
        """
        @return: of the sessions, how many became direct.
        """
        return sum(time < 22.0 for time in times) / len(times)

    def test_homeCounting(self) -> None:
        """
        A port that is counted up to is foretold, whoever calls.
        """
        for a, b in ((HOME, COUNTING), (COUNTING, HOME), (HOME, BUSY)):
            times = self.times(a, b)
            self.assertGreaterEqual(self.share(times), 0.95)
            self.assertLessEqual(median(times), 1.5)

    def test_homeHashed(self) -> None:
        """
        One random port for each host.
        """
        times = self.times(HOME, HASHED)
        self.assertGreaterEqual(self.share(times), 0.95)
        self.assertLessEqual(median(times), 5.0)

    def test_homeRandom(self) -> None:
        """
        Another random port for each address.
        """
        for a, b in ((HOME, RANDOM), (RANDOM, HOME)):
            self.assertGreaterEqual(self.share(self.times(a, b)), 0.95)

    def test_firewall(self) -> None:
        """
        A host with an address of its own behind a stateful firewall is a steady side as any other:
        it is sprayed from and to, and told ports, whoever calls.
        """
        for nat, limit in ((COUNTING, 1.5), (HASHED, 5.0), (RANDOM, 20.0)):
            for a, b in ((WALL, nat), (nat, WALL)):
                times = self.times(a, b)
                self.assertGreaterEqual(self.share(times), 0.95, (a, b, times))
                self.assertLessEqual(median(times), limit, (a, b, times))

    def test_firewalls(self) -> None:
        """
        Two firewalls, and one with a common router, need no more than ordinary checks.
        """
        for a, b in ((WALL, WALL), (WALL, HOME), (HOME, WALL)):
            times = self.times(a, b)
            self.assertLess(max(times), 1.0, times)

    def test_countingCounting(self) -> None:
        """
        Both foretell.
        """
        for a, b in ((COUNTING, COUNTING), (BUSY, BUSY)):
            self.assertGreaterEqual(self.share(self.times(a, b)), 0.9)

    def test_randomRandom(self) -> None:
        """
        Relayed.
        """
        self.assertEqual(self.share(self.times(RANDOM, RANDOM)), 0.0)

    def test_accepting(self) -> None:
        """
        The same, where routers take uninvited packets for their own.
        """
        for a, b in ((HOME, COUNTING), (HOME, RANDOM), (COUNTING, COUNTING)):
            times = self.times(accepting(a), accepting(b))
            self.assertGreaterEqual(self.share(times), 0.9)


class SpoiledTests(SynchronousTestCase):
    """
    A router took a datagram that came too early for its own: another port is needed.
    """

    def test_freshPort(self) -> None:
        """
        Where priming did not help, as signals take longer than this side's link tells, an attempt
        from fresh ports does, and the next one begins with those.
        """
        pairs = SessionPairs()
        routers = pairs.twoRouters(accepting(HOME), accepting(HOME))
        alice, bob = (
            pairs.caller(router.host(name)) for router, name in zip(routers, "ab", strict=True)
        )
        pairs.ready()
        bob.echoes()
        for caller in (alice, bob):
            assert caller.peer._reach is not None
            caller.peer._reach.puncher.signalDelay = 0.0
        began = pairs.internet.seconds()
        talk = pairs.talk(alice, bob)
        pairs.internet.advance(1.5)
        self.assertFalse(_isDirect(alice))
        pairs.internet.advance(3.0)
        self.assertTrue(_isDirect(alice) and _isDirect(bob))
        self.assertLess(alice.events[-1][0] - began, 4.0)
        talk.transport.write(b"hello")
        pairs.internet.advance(1.0)
        self.assertEqual(talk.data, b"hello")
        pairs.close()
