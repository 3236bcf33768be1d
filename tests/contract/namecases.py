"""
How a Twisted reactor resolves names.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from tests.contract.settings import Cases


@implementer(IResolutionReceiver)
class Answers:
    """
    Collects the answers of one lookup.

    @ivar complete: fires with all addresses.
    """

    def __init__(self) -> None:
        self.complete: Deferred[list[IAddress]] = Deferred()
        self.began = False
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """
        The lookup has begun.
        """
        self.began = True

    def addressResolved(self, address: IAddress) -> None:
        """
        One answer.
        """
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """
        There are no more.
        """
        self.complete.callback(self._addresses)


@implementer(IHostnameResolver)
class NoNames:
    """
    A resolver for which there are no names.
    """

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        Find nothing.
        """
        resolutionReceiver.resolutionBegan(self)  # type: ignore[arg-type]
        resolutionReceiver.resolutionComplete()
        return self  # type: ignore[return-value]


class NameCases(Cases):
    """
    Cases for C{IReactorPluggableNameResolver} and C{resolve}.
    """

    async def test_resolve(self) -> None:
        """
        C{resolve} gives an IPv4 address; a literal is its own.
        """
        self.assertEqual(await self.client.resolve(self.serverName), self.serverAddress)
        self.assertEqual(await self.client.resolve("192.0.2.77"), "192.0.2.77")

    async def test_nameResolver(self) -> None:
        """
        The name resolver gives addresses of the families that were asked for, with the port.
        """
        answers = Answers()
        self.client.nameResolver.resolveHostName(answers, self.serverName, 80, [IPv4Address])
        self.assertTrue(answers.began)
        self.assertIn(IPv4Address("TCP", self.serverAddress, 80), await answers.complete)

    async def test_literal(self) -> None:
        """
        The name resolver knows literal addresses, and UDP.
        """
        answers = Answers()
        self.client.nameResolver.resolveHostName(
            answers, "::1", 53, [IPv6Address], transportSemantics="UDP"
        )
        self.assertEqual(await answers.complete, [IPv6Address("UDP", "::1", 53)])

    async def test_installNameResolver(self) -> None:
        """
        Another resolver can be installed, and the first one again.
        """
        nobody = NoNames()
        previous = self.client.installNameResolver(nobody)
        self.addCleanup(self.client.installNameResolver, previous)
        answers = Answers()
        self.client.nameResolver.resolveHostName(answers, self.serverName)
        self.assertEqual(await answers.complete, [])
        self.assertIs(self.client.installNameResolver(previous), nobody)
