"""
Tests for L{p2ptwist.core.ice.candidate} and L{p2ptwist.core.ice.localside}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.ice.candidate import (
    GATEWAY_PORTS,
    LOWEST_PORT,
    OFFERED_LIMIT,
    TYPE_PREFERENCE,
    Candidate,
    CandidateType,
    candidatePriority,
    isCheckable,
    isInner,
    isPrivate,
    looksReachable,
    makeCandidate,
    pairPriority,
)
from p2ptwist.core.ice.check import Credentials
from p2ptwist.core.ice.localside import LocalSide
from p2ptwist.core.ice.signal import SignalType
from p2ptwist.core.nat import NATBehavior, NATMapping

priorities = st.integers(1, 2**31 - 1)


class PriorityTests(SynchronousTestCase):
    """
    Priorities are those of RFC 8445.
    """

    def test_formula(self) -> None:
        """
        RFC 8445 section 5.1.2.1: 2**24 times the preference of the type, 2**8 times that of the
        address, and 256 minus the component.
        """
        expected = 2**24 * 126 + 2**8 * 65535 + 255
        self.assertEqual(candidatePriority(CandidateType.HOST, "2001:db8::1"), expected)
        self.assertEqual(expected, 2130706431)
        self.assertEqual(candidatePriority(CandidateType.HOST, "192.0.2.1"), expected - 256)

    def test_typePreferences(self) -> None:
        """
        RFC 8445 section 5.1.2.2 recommends 126, 110, 100 and 0.
        """
        self.assertEqual(
            {kind.name: TYPE_PREFERENCE[kind] for kind in CandidateType},
            {"HOST": 126, "PEER_REFLEXIVE": 110, "SERVER_REFLEXIVE": 100, "RELAYED": 0},
        )

    def test_order(self) -> None:
        """
        Later interfaces come after earlier ones, and IPv4 after IPv6 of the same interface.
        """
        order = [
            candidatePriority(CandidateType.HOST, host, index)
            for index in (0, 1, 2)
            for host in ("2001:db8::1", "192.0.2.1")
        ]
        self.assertEqual(order, sorted(order, reverse=True))
        self.assertEqual(len(set(order)), len(order))
        self.assertGreater(candidatePriority(CandidateType.RELAYED, "192.0.2.1", 1000), 0)

    def test_pair(self) -> None:
        """
        RFC 8445 section 6.1.2.3: 2**32 times the lower one, twice the higher one, and 1 when the
        controlling side's is the higher.
        """
        self.assertEqual(pairPriority(5, 3), 2**32 * 3 + 2 * 5 + 1)
        self.assertEqual(pairPriority(3, 5), 2**32 * 3 + 2 * 5)
        self.assertEqual(pairPriority(4, 4), 2**32 * 4 + 2 * 4)

    @given(priorities, priorities)
    def test_pairBounds(self, one: int, other: int) -> None:
        """
        A pair's priority fits into 63 bits, and the two roles differ by one at most.
        """
        self.assertLess(pairPriority(one, other), 2**63)
        self.assertLessEqual(abs(pairPriority(one, other) - pairPriority(other, one)), 1)

    def test_makeCandidate(self) -> None:
        """
        A candidate of this side has the priority of its type and family.
        """
        self.assertEqual(
            makeCandidate(CandidateType.SERVER_REFLEXIVE, ("192.0.2.1", 4000), 1),
            Candidate(
                CandidateType.SERVER_REFLEXIVE,
                ("192.0.2.1", 4000),
                candidatePriority(CandidateType.SERVER_REFLEXIVE, "192.0.2.1", 1),
            ),
        )

    def test_noPort(self) -> None:
        """
        What cannot be sent to is no candidate.
        """
        for address in (("192.0.2.1", 0), ("192.0.2.1", 65536), ("example.org", 4000)):
            self.assertRaises(LocalUsageError, makeCandidate, CandidateType.HOST, address)


class CheckableTests(SynchronousTestCase):
    """
    Who may be made the target of checks.
    """

    def test_ports(self) -> None:
        """
        Ports of services and of application gateways in routers are left alone.
        """
        self.assertEqual(LOWEST_PORT, 1024)
        for port in {0, 1, 53, 123, 554, 1023, *GATEWAY_PORTS}:
            self.assertFalse(isCheckable(("192.0.2.1", port), allowLoopback=False), port)
        self.assertLessEqual({1720, 5060, 5061}, GATEWAY_PORTS)
        for port in (1024, 1719 + 2, 5062, 65535):
            self.assertTrue(isCheckable(("192.0.2.1", port), allowLoopback=False), port)

    def test_peers(self) -> None:
        """
        Public and private addresses of one host are taken; also IPv4's link-local ones, which two
        hosts without DHCP meet by.
        """
        for host in (
            "192.0.2.1",
            "8.8.8.8",
            "10.1.2.3",
            "100.64.0.1",
            "169.254.1.2",
            "2001:db8::1",
        ):
            self.assertTrue(isCheckable((host, 4000), allowLoopback=False), host)
        self.assertTrue(isCheckable(("fd00::1", 4000), allowLoopback=False))

    def test_groupsAndNobody(self) -> None:
        """
        Multicast, broadcast, unspecified, reserved and IPv6 link-local addresses are not.
        """
        for host in (
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "fe80::1",
        ):
            for allowLoopback in (False, True):
                self.assertFalse(isCheckable((host, 4000), allowLoopback=allowLoopback), host)

    def test_loopback(self) -> None:
        """
        Loopback is checked by those alone who offer loopback themselves.
        """
        for host in ("127.0.0.1", "127.255.0.9", "::1"):
            self.assertFalse(isCheckable((host, 4000), allowLoopback=False), host)
            self.assertTrue(isCheckable((host, 4000), allowLoopback=True), host)
            self.assertFalse(isCheckable((host, 80), allowLoopback=True), host)


class InnerTests(SynchronousTestCase):
    """
    Which addresses are of networks behind NATs.
    """

    def test_inner(self) -> None:
        """
        RFC 1918, RFC 6598 and link-local ones; none of IPv6, and none beside.
        """
        inner = ("10.1.2.3", "172.31.0.1", "192.168.0.1", "100.127.0.1", "169.254.1.1")
        self.assertEqual([isInner(host) for host in inner], [True] * 5)
        outer = ("8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.2.1", "fd00::1", "2001:db8::1")
        self.assertEqual([isInner(host) for host in outer], [False] * 6)


class ReachableTests(SynchronousTestCase):
    """
    Which addresses get the first checks.
    """

    def test_private(self) -> None:
        """
        Addresses that mean different machines in different networks are known.
        """
        for host in ("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "fd00::1", "127.0.0.1"):
            self.assertTrue(isPrivate(host), host)
        for host in ("8.8.8.8", "2600::1"):
            self.assertFalse(isPrivate(host), host)

    def test_looksReachable(self) -> None:
        """
        A global address does, and a private one of a network that this side is in.
        """
        local = [("192.168.1.2", 1), ("fd00:1::2", 1)]
        self.assertTrue(looksReachable(("8.8.8.8", 1), []))
        self.assertTrue(looksReachable(("192.168.7.7", 1), local))
        self.assertTrue(looksReachable(("fd00:1::9", 1), local))
        self.assertFalse(looksReachable(("192.168.7.7", 1), []))
        self.assertFalse(looksReachable(("10.0.0.1", 1), local))
        self.assertFalse(looksReachable(("fd00:2::9", 1), local))


class LocalSideTests(SynchronousTestCase):
    """
    What this side tells of itself.
    """

    def candidates(self, count: int, host: str = "192.0.2.1") -> list[Candidate]:
        """
        @return: C{count} candidates of one host.
        """
        return [makeCandidate(CandidateType.HOST, (host, 4000 + each)) for each in range(count)]

    def test_add(self) -> None:
        """
        The first candidate of an address stays, and only a new address is news.
        """
        side = LocalSide(b"12345678")
        host, reflexive = (
            makeCandidate(kind, ("192.0.2.1", 4000))
            for kind in (CandidateType.HOST, CandidateType.SERVER_REFLEXIVE)
        )
        self.assertTrue(side.add([host]))
        self.assertFalse(side.add([reflexive]))
        self.assertEqual(side.more(0).candidates, (host,))

    def test_bound(self) -> None:
        """
        No more is offered than leaves the other side room for what it hears from elsewhere.
        """
        side = LocalSide(b"12345678")
        self.assertTrue(side.add(self.candidates(30)))
        self.assertFalse(side.add(self.candidates(1, "192.0.2.2")))
        self.assertEqual(side.more(0).candidates, tuple(self.candidates(OFFERED_LIMIT)))

    def test_replace(self) -> None:
        """
        New addresses take the place of all old ones.
        """
        side = LocalSide(b"12345678")
        side.add(self.candidates(3))
        side.replace(self.candidates(1, "192.0.2.9"))
        self.assertEqual(side.more(0).candidates, tuple(self.candidates(1, "192.0.2.9")))

    def test_loopback(self) -> None:
        """
        The other side may be on this machine when a loopback address is offered.
        """
        side = LocalSide(b"12345678")
        side.add(self.candidates(1))
        self.assertFalse(side.offersLoopback())
        side.add(self.candidates(1, "::1"))
        self.assertTrue(side.offersLoopback())
        self.assertTrue(side.looksReachable(("192.0.9.9", 1)))

    def test_signals(self) -> None:
        """
        Both signals tell all that is known.
        """
        side = LocalSide(b"12345678")
        side.add(self.candidates(2))
        side.complete = True
        side.behavior = NATBehavior(NATMapping.ADDRESS_DEPENDENT, None)
        offer = side.describe(SignalType.OFFER, 7, Credentials(b"frag", b"p" * 22))
        self.assertEqual((offer.type, offer.generation, offer.fragment), (1, 7, b"frag"))
        more = side.more(7)
        self.assertEqual(more.generation, 7)
        for signal in (offer, more):
            self.assertEqual(signal.session, b"12345678")
            self.assertEqual(signal.candidates, tuple(self.candidates(2)))
            self.assertTrue(signal.complete)
            self.assertEqual(signal.behavior, side.behavior)
