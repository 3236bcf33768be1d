"""
Every pair of NATs, by the whole stack: node, links, peers, direct paths.
"""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.errors import PunchFailed
from p2ptwist.testing import (
    NAT,
    Filtering,
    Firewall,
    Hairpinning,
    Link,
    Mapping,
    PortAllocation,
    Router,
)
from tests.sim.neighborhood import SITE_LATENCY, UNIT, Neighborhood, Party, Recorder

A_EXTERNAL = "203.0.113.1"
B_EXTERNAL = "203.0.113.2"
FILTERINGS = tuple(Filtering)
ALLOCATIONS = (PortAllocation.PRESERVING, PortAllocation.RANDOM, PortAllocation.SEQUENTIAL)
SYMMETRIC = (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT)
SITE_LINK = Link(latency=SITE_LATENCY)


class Pairs(Neighborhood):
    """
    A neighborhood with a site for each of two peers.
    """

    def site(self, name: str, external: str, nat: NAT | None, link: Link = SITE_LINK) -> Router:
        """
        @return: a router with that NAT.
        """
        return self.internet.router(name, external, nat=nat, link=link)

    def pair(self, natA: NAT, natB: NAT, link: Link = SITE_LINK) -> tuple[Party, Party]:
        """
        @return: two peers, each behind a router of its own, ready.
        """
        a = self.party(self.site("a-router", A_EXTERNAL, natA, link).host("a"))
        b = self.party(self.site("b-router", B_EXTERNAL, natB, link).host("b"))
        self.settle()
        return a, b


class PairCase(SynchronousTestCase):
    """
    What the tests of pairs share.
    """

    def neighborhood(self, seed: int = 1) -> Pairs:
        """
        @return: a fresh one, whose trace is shown if the test fails.
        """
        pairs = Pairs(seed)
        pairs.internet.showOnFailure(self)
        return pairs

    def exchange(self, pairs: Pairs, caller: Party, callee: Party) -> tuple[Recorder, float]:
        """
        Connect, send a datagram and get it back, and see that the way was direct.

        @return: the caller's end, and the seconds from the call to the echo.
        """
        began = pairs.internet.seconds()
        recorder = pairs.connect(caller, callee)
        recorder.path.write(b"are you there?")
        pairs.internet.advance(2.0)
        self.assertEqual([data for _, data in recorder.received], [b"are you there?"])
        self.assertEqual(len(callee.paths), 1)
        nodes = {pairs.node.hostAddresses()[0], pairs.node.hostAddresses()[1]}
        self.assertNotIn(self.remote(recorder)[0], nodes)
        return recorder, recorder.received[0][0] - began

    def remote(self, recorder: Recorder) -> HostPort:
        """
        @return: where the path goes.
        """
        remote = recorder.path.remote
        assert remote is not None
        return remote


class DirectTests(PairCase):
    """
    Pairs that connect directly.
    """

    def test_endpointIndependentMapping(self) -> None:
        """
        Under endpoint-independent mapping every pair of filterings connects, whether ports are
        preserved or not, and the first datagram is echoed in 1.6 units.
        """
        for filteringA, filteringB in product(FILTERINGS, repeat=2):
            for allocationA, allocationB in product(ALLOCATIONS, repeat=2):
                pairs = self.neighborhood()
                a, b = pairs.pair(
                    NAT(filtering=filteringA, allocation=allocationA),
                    NAT(filtering=filteringB, allocation=allocationB),
                )
                recorder, seconds = self.exchange(pairs, a, b)
                self.assertEqual(self.remote(recorder)[0], B_EXTERNAL)
                self.assertLessEqual(seconds, 1.6 * UNIT)
                pairs.close()

    def test_symmetricAndOpen(self) -> None:
        """
        Address-dependent mappings connect with whoever filters by address at most, from both
        sides.
        """
        for mapping, filtering, turned in product(
            SYMMETRIC,
            (Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT),
            (False, True),
        ):
            nats = [NAT(mapping=mapping), NAT(filtering=filtering)]
            pairs = self.neighborhood()
            a, b = pairs.pair(*(reversed(nats) if turned else nats))
            self.exchange(pairs, a, b)
            pairs.close()

    def test_doubleNAT(self) -> None:
        """
        A second NAT on one side or both changes nothing.
        """
        for depths in ((2, 1), (1, 2), (2, 2), (3, 3)):
            pairs = self.neighborhood()
            parties = []
            for name, external, depth in zip("ab", (A_EXTERNAL, B_EXTERNAL), depths, strict=True):
                router = pairs.site(f"{name}-router", external, NAT())
                for level in range(1, depth):
                    router = router.router(f"{name}-inner{level}", nat=NAT())
                parties.append(pairs.party(router.host(name)))
            pairs.settle()
            recorder, _ = self.exchange(pairs, *parties)
            self.assertEqual(self.remote(recorder)[0], B_EXTERNAL)
            pairs.close()

    def test_sameLAN(self) -> None:
        """
        Two peers behind one NAT without hairpinning meet on their own LAN.
        """
        for mapping in Mapping:
            pairs = self.neighborhood()
            router = pairs.site("router", A_EXTERNAL, NAT(mapping=mapping))
            a, b = (pairs.party(router.host(name)) for name in "ab")
            pairs.settle()
            recorder, _ = self.exchange(pairs, a, b)
            self.assertIn(self.remote(recorder)[0], b.host.hostAddresses())
            pairs.close()

    def test_hairpinning(self) -> None:
        """
        Two peers behind different NATs under one outer NAT meet through its hairpin.  A hairpin
        that shows inside addresses (against RFC 4787 REQ-9) gets past open filters only.
        """
        for hairpinning, filtering in (
            *product((Hairpinning.EXTERNAL,), FILTERINGS),
            (Hairpinning.INTERNAL, Filtering.ENDPOINT_INDEPENDENT),
        ):
            pairs = self.neighborhood()
            outer = pairs.site("outer", A_EXTERNAL, NAT(hairpinning=hairpinning))
            inner = NAT(filtering=filtering)
            a, b = (
                pairs.party(outer.router(f"{name}-router", nat=inner).host(name)) for name in "ab"
            )
            pairs.settle()
            self.exchange(pairs, a, b)
            pairs.close()

    def test_noNAT(self) -> None:
        """
        A peer with a public address connects with one behind any NAT, both ways.
        """
        for mapping, filtering, turned in product(Mapping, FILTERINGS, (False, True)):
            pairs = self.neighborhood()
            a = pairs.party(pairs.internet.host("a", "198.51.100.1", link=SITE_LINK))
            nat = NAT(mapping=mapping, filtering=filtering)
            b = pairs.party(pairs.site("b-router", B_EXTERNAL, nat).host("b"))
            pairs.settle()
            self.exchange(pairs, *((b, a) if turned else (a, b)))
            pairs.close()


class IPv6Tests(PairCase):
    """
    Peers with IPv6 addresses behind stateful firewalls.
    """

    def test_firewalls(self) -> None:
        """
        Two firewalls that let in only what was asked for are opened from both sides.
        """
        for filteringA, filteringB in product(FILTERINGS, repeat=2):
            pairs = self.neighborhood()
            parties = []
            for name, number, filtering in (("a", 1, filteringA), ("b", 2, filteringB)):
                router = pairs.internet.router(
                    f"{name}-router",
                    f"203.0.113.{number}",
                    nat=NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT),
                    prefix6=f"2001:db8:{number}::/64",
                    firewall=Firewall(filtering=filtering),
                    link=SITE_LINK,
                )
                parties.append(pairs.party(router.host(name)))
            pairs.settle()
            recorder, _ = self.exchange(pairs, *parties)
            self.assertTrue(self.remote(recorder)[0].startswith("2001:db8:2:"))
            pairs.close()


class ImpossibleTests(PairCase):
    """
    Pairs that cannot connect without port prediction say so.
    """

    def assertFails(self, natA: NAT, natB: NAT) -> None:
        """
        Neither side reaches the other, and each says what both NATs do.
        """
        pairs = self.neighborhood()
        a, b = pairs.pair(natA, natB)
        for caller, callee, own, other in ((a, b, natA, natB), (b, a, natB, natA)):
            began = pairs.internet.seconds()
            calling = caller.peer.connect(callee.peer.peerID)
            with self.assertRaises(PunchFailed) as failing:
                pairs.internet.runUntil(calling, timeout=30.0)
            self.assertLessEqual(pairs.internet.seconds() - began, 20.0)
            self.assertIn(
                f"this side's NAT has {own.mapping.value} mapping with {own.filtering.value} "
                f"filtering, the other side's has {other.mapping.value} mapping with "
                f"{other.filtering.value} filtering",
                str(failing.exception),
            )
        pairs.internet.advance(30.0)
        pairs.close()

    def test_symmetricAndPortDependent(self) -> None:
        """
        A symmetric NAT does not connect with one that filters by address and port.
        """
        for mapping in SYMMETRIC:
            self.assertFails(NAT(mapping=mapping), NAT())

    def test_symmetricAndSymmetric(self) -> None:
        """
        Two symmetric NATs that filter by address and port do not connect.
        """
        for mappingA, mappingB in product(SYMMETRIC, repeat=2):
            self.assertFails(NAT(mapping=mappingA), NAT(mapping=mappingB))
