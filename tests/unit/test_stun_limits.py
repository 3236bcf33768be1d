"""
Tests for L{p2ptwist.core.stun.limits}.
"""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.stun.limits import UNLIMITED, SourceLimits, STUNLimits
from p2ptwist.core.tokenbucket import Rate

SECRET = 0x9E3779B97F4A7C15


def admitted(limits: SourceLimits, hosts: list[str], now: float) -> int:
    """
    @return: how many of these may pass.
    """
    return sum(limits.admitHost(host, now) for host in hosts)


class SourceLimitsTests(SynchronousTestCase):
    """
    L{SourceLimits} are token buckets by source.
    """

    def test_host(self) -> None:
        """
        A host has its burst at once, and its rate from then on, on a clock that starts anywhere.
        """
        for start in (0.0, 1e6):
            limits = SourceLimits(STUNLimits(), SECRET)
            self.assertEqual(admitted(limits, ["192.0.2.1"] * 100, start), 60)
            self.assertEqual(admitted(limits, ["192.0.2.1"] * 100, start + 1), 20)
            self.assertEqual(admitted(limits, ["192.0.2.1"] * 100, start + 1.5), 10)
            self.assertEqual(admitted(limits, ["192.0.2.1"] * 100, start + 100), 60)

    def test_independent(self) -> None:
        """
        What one host spends is not missing to another.
        """
        limits = SourceLimits(STUNLimits(), SECRET)
        admitted(limits, ["192.0.2.1"] * 100, 0.0)
        self.assertEqual(admitted(limits, ["198.51.100.1"] * 100, 0.0), 60)

    def test_network(self) -> None:
        """
        The hosts of a /24 share an allowance of ten times that, and a refusal costs nothing.
        """
        limits = SourceLimits(STUNLimits(), SECRET)
        hosts = [f"192.0.2.{host}" for host in range(200)] * 5
        self.assertEqual(admitted(limits, hosts, 0.0), 600)
        self.assertEqual(admitted(limits, ["192.0.3.1"], 0.0), 1)
        self.assertEqual(admitted(limits, hosts, 1.0), 200)

    def test_ipv6(self) -> None:
        """
        IPv6 hosts share a /64, and sites a /48.
        """
        limits = SourceLimits(STUNLimits(), SECRET)
        one = [f"2001:db8:1:1::{host:x}" for host in range(1, 101)]
        self.assertEqual(admitted(limits, one, 0.0), 60)
        self.assertEqual(admitted(limits, ["2001:db8:1:2::1"], 0.0), 1)
        site = [f"2001:db8:1:{subnet:x}::1" for subnet in range(3, 1003)]
        self.assertEqual(admitted(limits, site, 0.0), 600 - 61)

    def test_mapped(self) -> None:
        """
        An IPv4-mapped address is the IPv4 address.
        """
        limits = SourceLimits(STUNLimits(Rate(1, 1), None), SECRET)
        self.assertTrue(limits.admitHost("192.0.2.1", 0.0))
        self.assertFalse(limits.admitHost("::ffff:192.0.2.1", 0.0))

    def test_unlimited(self) -> None:
        """
        Limits can be switched off, each for itself.
        """
        self.assertEqual(admitted(SourceLimits(UNLIMITED, SECRET), ["192.0.2.1"] * 5000, 1.0), 5000)
        only = SourceLimits(STUNLimits(None, Rate(1, 10)), SECRET)
        self.assertEqual(admitted(only, ["192.0.2.1"] * 100, 1.0), 10)

    def test_infinite(self) -> None:
        """
        An infinite rate is no limit; a rate of nothing is a mistake.
        """
        endless = Rate(math.inf, math.inf)
        limits = SourceLimits(STUNLimits(endless, endless), SECRET)
        self.assertEqual(admitted(limits, ["192.0.2.1"] * 5000, 1.0), 5000)
        self.assertRaises(LocalUsageError, SourceLimits, STUNLimits(Rate(0, 1), None), SECRET)

    def test_forgedFlood(self) -> None:
        """
        A flood from 100,000 forged sources leaves a real one its allowance: there is nothing to
        push out.
        """
        limits = SourceLimits(STUNLimits(), SECRET)
        admitted(limits, ["198.51.100.1"] * 60, 0.0)
        for source in range(100_000):
            limits.admit(source * 40_503, source * 40_503 >> 8, source / 100_000)
        self.assertGreaterEqual(admitted(limits, ["203.0.113.5"] * 100, 1.0), 50)
        self.assertLessEqual(admitted(limits, ["198.51.100.1"] * 100, 1.0), 20)
