"""
The ways out of this host: each default router, and this host's own address towards it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

from p2ptwist.core.address import canonicalHost, isIPv6
from p2ptwist.core.ice.candidate import isLoopback
from p2ptwist.core.portmapping.pcp import SERVER_PORT
from p2ptwist.interfaces import IPortMapper

# Where an IPv6 host's own address is looked up towards, as its router has a link-local address as a
# rule: any of the Internet's will do, and nothing is sent there.  RFC 3849: for documentation.
_IPV6_ANYWHERE = "2001:db8::1"

MapperFactory: TypeAlias = Callable[[Any, str, str], IPortMapper | None]


@dataclass(frozen=True, slots=True)
class Uplink:
    """
    One way out.

    @ivar gateway: the router's literal address; a link-local one with its scope.
    @ivar interface: this host's address towards it.
    """

    gateway: str
    interface: str


async def findUplinks(
    reactor: Any, gateways: Sequence[str], interface: str = ""
) -> Sequence[Uplink]:
    """
    @param reactor: one with UDP.
    @param gateways: this host's default routers, the best first.
    @param interface: the only address of this host to use; empty for any.
    @return: the best default router of each address family, IPv4 first.
    """
    found: dict[bool, Uplink] = {}
    for gateway in gateways:
        family = isIPv6(gateway)
        local = None if family in found else await localAddress(reactor, gateway)
        if local is not None and interface in ("", local):
            found[family] = Uplink(gateway, local)
    return [found[family] for family in sorted(found)]


async def localAddress(reactor: Any, gateway: str) -> str | None:
    """
    @return: the address that this host's datagrams to C{gateway} come from, or, where that is a
        link-local one, to what is behind it; C{None} where there is none that could be used.
    """
    scoped = isIPv6(gateway) and gateway.startswith("fe80")
    protocol = DatagramProtocol()
    protocol.noisy = False
    try:
        port = reactor.listenUDP(0, protocol, "::" if isIPv6(gateway) else "0.0.0.0")
    except CannotListenError:
        return None
    try:
        # Connecting sends nothing: it looks up the route.
        port.connect(_IPV6_ANYWHERE if scoped else gateway, SERVER_PORT)
        host = canonicalHost(port.getHost().host)
    except OSError:
        return None
    finally:
        closed: Deferred[None] | None = port.stopListening()
        if closed is not None:
            await closed
    return None if isLoopback(host) else host
