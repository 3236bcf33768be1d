"""
Tests for L{p2ptwist.net.names}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IAddress, IHostnameResolver, IResolutionReceiver
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from p2ptwist.errors import NameNotResolved
from p2ptwist.net.names import RESOLVE_TIMEOUT, resolveAddress


@implementer(IHostnameResolver)
class HandResolver:
    """
    A resolver whose answers are given by hand.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, Sequence[type[IAddress]] | None, str]] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """
        Remember who asks for what.
        """
        self.asked.append((hostName, portNumber, addressTypes, transportSemantics))
        self.receiver = resolutionReceiver
        resolutionReceiver.resolutionBegan(self)  # type: ignore[arg-type]


class HandReactor(Clock):
    """
    A clock with a name resolver.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = HandResolver()


class ResolveTests(SynchronousTestCase):
    """
    L{resolveAddress}.
    """

    def setUp(self) -> None:
        """
        Make a reactor.
        """
        self.reactor: Any = HandReactor()

    def tearDown(self) -> None:
        """
        Nothing is left behind.
        """
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_literal(self) -> None:
        """
        An address needs nobody to be asked, and becomes canonical.
        """
        for text, canonical in (("192.0.2.1", "192.0.2.1"), ("2001:DB8::01", "2001:db8::1")):
            result = resolveAddress(self.reactor, text, 3478)
            self.assertEqual(self.successResultOf(result), (canonical, 3478))
        self.assertEqual(self.reactor.nameResolver.asked, [])

    def test_first(self) -> None:
        """
        The first address of a name is taken, of the wanted family.
        """
        result = resolveAddress(self.reactor, "stun.example.org", 3478)
        receiver = self.reactor.nameResolver.receiver
        receiver.addressResolved(IPv4Address("UDP", "192.0.2.1", 3478))
        receiver.addressResolved(IPv4Address("UDP", "192.0.2.2", 3478))
        receiver.resolutionComplete()
        self.assertEqual(self.successResultOf(result), ("192.0.2.1", 3478))
        asked = [("stun.example.org", 3478, [IPv4Address], "UDP")]
        self.assertEqual(self.reactor.nameResolver.asked, asked)

    def test_ipv6(self) -> None:
        """
        A socket that speaks IPv6 wants an IPv6 address.
        """
        result = resolveAddress(self.reactor, "stun.example.org", 3478, ipv6=True)
        self.assertEqual(self.reactor.nameResolver.asked[0][2], [IPv6Address])
        self.reactor.nameResolver.receiver.addressResolved(IPv6Address("UDP", "2001:DB8::1", 3478))
        self.assertEqual(self.successResultOf(result), ("2001:db8::1", 3478))

    def test_none(self) -> None:
        """
        A name without address says so.
        """
        result = resolveAddress(self.reactor, "stun.example.org", 3478)
        self.reactor.nameResolver.receiver.resolutionComplete()
        error = self.failureResultOf(result, NameNotResolved).value
        self.assertIn("'stun.example.org' has no IPv4 address", str(error))

    def test_noName(self) -> None:
        """
        What cannot be a name is not asked for.
        """
        for name in ("x" * 64, "a..b", ""):
            self.failureResultOf(resolveAddress(self.reactor, name, 1), NameNotResolved)
        self.assertEqual(self.reactor.nameResolver.asked, [])

    def test_timeout(self) -> None:
        """
        A resolver that never answers is given up; its late answer changes nothing.
        """
        result = resolveAddress(self.reactor, "stun.example.org", 3478)
        self.reactor.advance(RESOLVE_TIMEOUT)
        self.failureResultOf(result, NameNotResolved)
        receiver = self.reactor.nameResolver.receiver
        receiver.addressResolved(IPv4Address("UDP", "192.0.2.1", 3478))
        receiver.resolutionComplete()

    def test_cancel(self) -> None:
        """
        It can be cancelled.
        """
        result = resolveAddress(self.reactor, "stun.example.org", 3478)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.reactor.nameResolver.receiver.resolutionComplete()
