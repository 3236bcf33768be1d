"""
From the name of a server to its address.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.errors import LocalUsageError, NameNotResolved

RESOLVE_TIMEOUT = 10.0  # seconds; two queries to a server, 5 s each: resolv.conf(5)


# A reactor with IReactorPluggableNameResolver and IReactorTime; types have no word for both.
ResolvingReactor: TypeAlias = Any


@implementer(IResolutionReceiver)
class _FirstAddress:
    """
    Fires a Deferred with the first address, or C{None} when there is none.
    """

    def __init__(self, found: Deferred[str | None]) -> None:
        self._found = found

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """
        Nothing is known yet.
        """

    def addressResolved(self, address: IAddress) -> None:
        """
        Take the first.
        """
        if isinstance(address, IPv4Address | IPv6Address) and not self._found.called:
            self._found.callback(address.host)

    def resolutionComplete(self) -> None:
        """
        Nothing more will come.
        """
        if not self._found.called:
            self._found.callback(None)


def resolveAddress(
    reactor: ResolvingReactor,
    host: str,
    port: int,
    *,
    ipv6: bool = False,
    timeout: float = RESOLVE_TIMEOUT,
) -> Deferred[HostPort]:
    """
    Find the address of a server.

    @param host: a name, or a literal address, which is taken as it is.
    @param ipv6: whether an IPv6 address is wanted, for a socket that speaks IPv6.
    @param timeout: seconds.
    @return: a Deferred that fires with host and port; fails with
        L{p2ptwist.errors.NameNotResolved}.  It can be cancelled.
    """
    try:
        return succeed((canonicalHost(host), port))
    except LocalUsageError:
        pass  # a name, then
    kind = IPv6Address if ipv6 else IPv4Address
    found: Deferred[str | None] = Deferred()
    if _isName(host):
        reactor.nameResolver.resolveHostName(_FirstAddress(found), host, port, [kind], "UDP")
    else:
        found.callback(None)
    found.addTimeout(timeout, reactor, onTimeoutCancel=lambda result, _: None)

    def cbFound(address: str | None) -> HostPort:
        if address is None:
            raise NameNotResolved(
                f"the name {host!r} has no {kind.__name__[:4]} address, or no name server "
                "answered: check its spelling and this machine's network"
            )
        return canonicalHost(address), port

    return found.addCallback(cbFound)


def _isName(host: str) -> bool:
    """
    @return: whether C{host} can be asked for at all; resolvers fail without an answer if not.
    """
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False
