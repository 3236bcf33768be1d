"""
Tests for L{p2ptwist.core.address}.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import canonicalHost, formatAddress, isIPv6, parseHost, prefixOf
from p2ptwist.core.errors import LocalUsageError, P2PError

HOSTS = st.ip_addresses(v=4) | st.ip_addresses(v=6)


class ParseHostTests(SynchronousTestCase):
    """
    L{parseHost} reads literal addresses and nothing else.
    """

    def test_ipv4(self) -> None:
        """
        A dotted quad is an IPv4 address.
        """
        self.assertEqual(parseHost("192.0.2.1"), IPv4Address("192.0.2.1"))

    def test_ipv6(self) -> None:
        """
        Colon notation is an IPv6 address.
        """
        self.assertEqual(parseHost("2001:DB8::1"), IPv6Address("2001:db8::1"))

    def test_mapped(self) -> None:
        """
        An IPv4-mapped IPv6 address is the IPv4 address that it stands for.
        """
        self.assertEqual(parseHost("::ffff:192.0.2.1"), IPv4Address("192.0.2.1"))

    def test_notLiteral(self) -> None:
        """
        A name, an empty text and a bracketed address are the caller's mistake, and named.
        """
        for host in ("node.example", "", "[::1]", "192.0.2.1:80", "192.0.2.256", "1.2.3"):
            error = self.assertRaises(LocalUsageError, parseHost, host)
            self.assertIsInstance(error, P2PError)
            self.assertEqual(str(error), f"{host!r} is not an IP address")


class CanonicalHostTests(SynchronousTestCase):
    """
    L{canonicalHost} gives each address one text.
    """

    def test_rfc5952(self) -> None:
        """
        IPv6 text is lower case, without leading zeros, with the longest run of zeros elided.

        @see: RFC 5952 section 4.
        """
        self.assertEqual(canonicalHost("2001:0DB8:0:0:0:0:0:0001"), "2001:db8::1")

    @given(HOSTS)
    def test_idempotent(self, host: IPv4Address | IPv6Address) -> None:
        """
        The canonical text of a canonical text is itself, and stands for the same address.
        """
        text = canonicalHost(host.exploded)
        self.assertEqual(canonicalHost(text), text)
        self.assertEqual(ip_address(text), parseHost(str(host)))

    @given(st.ip_addresses(v=4))
    def test_mappedIsIPv4(self, host: IPv4Address) -> None:
        """
        Every IPv4 address has the same text when it comes mapped into IPv6.
        """
        self.assertEqual(canonicalHost(f"::ffff:{host}"), str(host))

    @given(st.text(max_size=40))
    def test_anyText(self, text: str) -> None:
        """
        Any text is an address or a L{LocalUsageError}, never another error.
        """
        try:
            canonicalHost(text)
        except LocalUsageError:
            return
        ip_address(text)


class IsIPv6Tests(SynchronousTestCase):
    """
    L{isIPv6} tells the families apart.
    """

    def test_families(self) -> None:
        """
        Mapped addresses count as what they stand for.
        """
        self.assertTrue(isIPv6("2001:db8::1"))
        self.assertFalse(isIPv6("192.0.2.1"))
        self.assertFalse(isIPv6("::ffff:192.0.2.1"))


class PrefixTests(SynchronousTestCase):
    """
    L{prefixOf} gives the key of a limit that a site shares.
    """

    def test_examples(self) -> None:
        """
        The bits are chosen by the family.
        """
        self.assertEqual(prefixOf("192.0.2.77", 24, 56), "192.0.2.0/24")
        self.assertEqual(prefixOf("2001:db8:0:1ff::9", 24, 56), "2001:db8:0:100::/56")
        self.assertEqual(prefixOf("::ffff:192.0.2.77", 32, 56), "192.0.2.77/32")

    @given(HOSTS, st.integers(0, 32), st.integers(0, 128))
    def test_contains(self, host: IPv4Address | IPv6Address, ipv4Bits: int, ipv6Bits: int) -> None:
        """
        A host is in its own prefix, which has the length asked for.
        """
        parsed = parseHost(str(host))
        network = ip_network(prefixOf(str(host), ipv4Bits, ipv6Bits))
        self.assertIn(parsed, network)
        self.assertEqual(network.prefixlen, ipv4Bits if parsed.version == 4 else ipv6Bits)


class FormatAddressTests(SynchronousTestCase):
    """
    L{formatAddress} writes addresses as people read them.
    """

    def test_families(self) -> None:
        """
        IPv6 hosts are bracketed.
        """
        self.assertEqual(formatAddress(("192.0.2.1", 3478)), "192.0.2.1:3478")
        self.assertEqual(formatAddress(("2001:db8::1", 3478)), "[2001:db8::1]:3478")
