"""
Tests for the node's tables: L{p2ptwist.core.link.admission}, L{p2ptwist.core.link.deadlines},
L{p2ptwist.core.link.registry} and L{p2ptwist.core.link.limits}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.link.admission import Admission, Unproven, Verdict
from p2ptwist.core.link.deadlines import Deadlines
from p2ptwist.core.link.limits import Counters, Limits
from p2ptwist.core.link.messages import UNKNOWN_ADDRESS, Prove
from p2ptwist.core.link.nodelink import NodeLink
from p2ptwist.core.link.reasons import Reason
from p2ptwist.core.link.registry import Claim, Registry
from p2ptwist.core.tokenbucket import Rate

KEY = bytes(32)


def verdicts(admission: Admission, hosts: list[str], now: float = 0.0) -> list[str]:
    """
    @return: what becomes of one connection from each of C{hosts}.
    """
    return [admission.judge((host, 1), now).value for host in hosts]


class AdmissionTests(SynchronousTestCase):
    """
    Accept rates: of a site, of a region, of all.
    """

    def test_site(self) -> None:
        """
        One address may connect 20 times at once and 5 times a second; others are not affected.
        """
        admission = Admission(Limits(), 0.0)
        self.assertEqual(verdicts(admission, ["192.0.2.1"] * 21), ["admit"] * 20 + ["refuse"])
        self.assertEqual(verdicts(admission, ["192.0.2.2"]), ["admit"])
        self.assertEqual(verdicts(admission, ["192.0.2.1"] * 6, 1.0), ["admit"] * 5 + ["refuse"])

    def test_site6(self) -> None:
        """
        The addresses of one IPv6 /64 are one site; connections without an address are another.
        """
        admission = Admission(Limits(siteAcceptRate=Rate(1, 1)), 0.0)
        hosts = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
        self.assertEqual(verdicts(admission, hosts), ["admit", "refuse", "admit"])
        self.assertIs(admission.judge(UNKNOWN_ADDRESS, 0.0), Verdict.ADMIT)
        self.assertIs(admission.judge(UNKNOWN_ADDRESS, 0.0), Verdict.REFUSE)

    def test_region(self) -> None:
        """
        A /24 may connect 80 times at once, whatever its addresses.
        """
        admission = Admission(Limits(), 0.0)
        hosts = [f"192.0.2.{number}" for number in range(100)]
        self.assertEqual(verdicts(admission, hosts), ["admit"] * 80 + ["refuse"] * 20)

    def test_all(self) -> None:
        """
        The whole world may connect 400 times at once; refusals are spoken 100 times at once.
        """
        admission = Admission(Limits(), 0.0)
        hosts = [f"10.{number // 250}.{number % 250}.1" for number in range(600)]
        expected = ["admit"] * 400 + ["refuse"] * 100 + ["ignore"] * 100
        self.assertEqual(verdicts(admission, hosts), expected)

    def test_overSite(self) -> None:
        """
        A site that is over its rate takes nothing from everybody's.
        """
        limits = Limits(acceptRate=Rate(1, 2), siteAcceptRate=Rate(1, 1))
        admission = Admission(limits, 0.0)
        self.assertEqual(
            verdicts(admission, ["192.0.2.1"] * 50 + ["198.51.100.1"]),
            ["admit"] + ["refuse"] * 49 + ["admit"],
        )


class UnprovenTests(SynchronousTestCase):
    """
    The table of connections that have proved nothing.
    """

    def setUp(self) -> None:
        """
        A small table.
        """
        limits = Limits(maxUnproven=6, maxRegionUnproven=4, maxSiteUnproven=2)
        self.table = Unproven(limits)

    def add(self, host: str) -> tuple[NodeLink, NodeLink | None]:
        """
        @return: a new link from C{host}, and which one had to go for it.
        """
        link = NodeLink((host, 1), 0.0)
        return link, self.table.add(link)

    def test_site(self) -> None:
        """
        A third connection from one address costs it its oldest.
        """
        first, _ = self.add("192.0.2.1")
        second, victim = self.add("192.0.2.1")
        self.assertIsNone(victim)
        self.assertIs(self.add("192.0.2.1")[1], first)
        self.assertIs(self.add("192.0.2.1")[1], second)
        self.assertEqual(len(self.table), 2)

    def test_region(self) -> None:
        """
        A fifth connection from one /24 costs it its oldest.
        """
        first, _ = self.add("192.0.2.1")
        for number in (2, 3, 4):
            self.assertIsNone(self.add(f"192.0.2.{number}")[1])
        self.assertIs(self.add("192.0.2.5")[1], first)

    def test_all(self) -> None:
        """
        When the table is full, the fullest prefix gives way to a newcomer from anywhere.
        """
        self.add("198.51.100.1")
        fat, _ = self.add("192.0.2.1")
        for host in ("192.0.2.2", "192.0.2.3", "203.0.113.1", "203.0.113.2"):
            self.assertIsNone(self.add(host)[1])
        self.assertIs(self.add("198.51.100.2")[1], fat)
        self.assertEqual(len(self.table), 6)

    def test_discard(self) -> None:
        """
        What leaves makes room; what is not there may leave again.
        """
        link, _ = self.add("192.0.2.1")
        self.table.discard(link)
        self.table.discard(link)
        self.assertEqual(len(self.table), 0)
        other, _ = self.add("192.0.2.1")
        self.add("192.0.2.1")
        self.table.discard(other)
        self.assertEqual(len(self.table), 1)


class DeadlineTests(SynchronousTestCase):
    """
    One queue of deadlines.
    """

    def setUp(self) -> None:
        """
        An empty queue and two links.
        """
        self.deadlines = Deadlines()
        self.links = [NodeLink(UNKNOWN_ADDRESS, 0.0) for _ in range(2)]

    def test_order(self) -> None:
        """
        Links come out when they are due, earliest first.
        """
        first, second = self.links
        self.assertIsNone(self.deadlines.next())
        self.deadlines.schedule(second, 5.0)
        self.deadlines.schedule(first, 3.0)
        self.assertEqual(self.deadlines.next(), 3.0)
        self.assertIsNone(self.deadlines.pop(2.9))
        self.assertIs(self.deadlines.pop(5.0), first)
        self.assertIs(self.deadlines.pop(5.0), second)
        self.assertIsNone(self.deadlines.pop(5.0))

    def test_sameTime(self) -> None:
        """
        Links due at the same time come out in the order in which they were scheduled.
        """
        for link in self.links:
            self.deadlines.schedule(link, 1.0)
        self.assertEqual([self.deadlines.pop(1.0) for _ in self.links], self.links)

    def test_sooner(self) -> None:
        """
        A link may be wanted sooner; later is left to who looks at it.
        """
        link = self.links[0]
        self.deadlines.schedule(link, 5.0)
        self.deadlines.schedule(link, 9.0)
        self.assertEqual(self.deadlines.next(), 5.0)
        self.deadlines.schedule(link, 2.0)
        self.assertIs(self.deadlines.pop(2.0), link)
        self.assertIsNone(self.deadlines.next())

    def test_discard(self) -> None:
        """
        A discarded link does not come out; discarding it again does nothing.
        """
        link = self.links[0]
        self.deadlines.schedule(link, 1.0)
        self.deadlines.discard(link)
        self.deadlines.discard(link)
        self.assertIsNone(self.deadlines.pop(1.0))

    def test_bounded(self) -> None:
        """
        Links that come and go leave nothing behind.
        """
        self.deadlines.schedule(self.links[0], 120.0)
        for _ in range(10_000):
            link = NodeLink(UNKNOWN_ADDRESS, 0.0)
            self.deadlines.schedule(link, 120.0)
            self.deadlines.discard(link)
        self.assertLess(len(self.deadlines), 2100)
        self.assertIs(self.deadlines.pop(120.0), self.links[0])
        self.assertIsNone(self.deadlines.pop(120.0))


class RegistryTests(SynchronousTestCase):
    """
    One link for each key.
    """

    def setUp(self) -> None:
        """
        A registry with room for two.
        """
        self.registry = Registry(Limits(maxLinks=2))

    def claim(
        self, instance: bytes = b"1", takeOver: bool = True, now: float = 0.0, key: bytes = KEY
    ) -> tuple[NodeLink, Claim]:
        """
        @return: a new link, and what became of its claim.
        """
        link = NodeLink(UNKNOWN_ADDRESS, now)
        return link, self.registry.claim(link, Prove(key, instance, takeOver), now)

    def test_free(self) -> None:
        """
        A free key goes to who proves it.
        """
        link, claim = self.claim()
        self.assertEqual(claim, Claim())
        self.assertIs(self.registry.get(KEY), link)
        self.assertEqual(link.publicKey, KEY)
        self.assertEqual(self.registry.links(), [link])

    def test_full(self) -> None:
        """
        A full node takes no new key, but lets one come back.
        """
        first, _ = self.claim()
        self.claim(key=b"k" * 32)
        self.assertEqual(self.claim(key=b"l" * 32)[1], Claim(Reason.FULL))
        self.assertEqual(self.claim()[1], Claim(None, first))
        self.assertEqual(len(self.registry), 2)

    def test_sameProgram(self) -> None:
        """
        The same program replaces its own link as often as it comes back.
        """
        link, _ = self.claim()
        for _ in range(10):
            newer, claim = self.claim()
            self.assertEqual(claim, Claim(None, link))
            link = newer

    def test_otherProgram(self) -> None:
        """
        Another program takes the key over once in 60 s, also when it came back in between.
        """
        first, _ = self.claim(b"1", now=100.0)
        second, claim = self.claim(b"2", now=101.0)
        self.assertEqual(claim, Claim(None, first))
        self.assertEqual(self.claim(b"1", now=102.0)[1], Claim(Reason.DISPLACED))
        again, claim = self.claim(b"2", now=103.0)
        self.assertEqual(claim, Claim(None, second))
        self.assertEqual(self.claim(b"1", now=160.9)[1], Claim(Reason.DISPLACED))
        self.assertEqual(self.claim(b"1", now=161.0)[1], Claim(None, again))

    def test_polite(self) -> None:
        """
        Who does not want to take over gets only a free key.
        """
        link, _ = self.claim(b"1")
        self.assertEqual(self.claim(b"2", takeOver=False, now=1e6)[1], Claim(Reason.DISPLACED))
        self.registry.release(link)
        self.assertEqual(self.claim(b"2", takeOver=False)[1], Claim())

    def test_release(self) -> None:
        """
        A link that lost its key does not take it along when it goes.
        """
        old, _ = self.claim()
        new, _ = self.claim()
        self.registry.release(old)
        self.assertIs(self.registry.get(KEY), new)
        self.registry.release(new)
        self.assertIsNone(self.registry.get(KEY))


class CounterTests(SynchronousTestCase):
    """
    What a node says that it has done.
    """

    def test_text(self) -> None:
        """
        Only what has happened is named.
        """
        self.assertEqual(str(Counters()), "")
        self.assertEqual(str(Counters(accepted=3, tooSlow=1)), "accepted=3 tooSlow=1")
