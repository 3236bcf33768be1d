"""
Where routers are, and which addresses they and their LANs have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from p2ptwist.core.address import canonicalHost
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.network import IPNetwork, Network


@dataclass(frozen=True, slots=True)
class Placement:
    """
    Where a router is, and which addresses it has.

    @ivar name: its name.
    @ivar outside: the network that it is attached to.
    @ivar depth: 1 for a router on the public network, 2 for one behind that, and so on.
    @ivar external: its own IPv4 address there, or C{None} for a router that does not translate.
    @ivar pool: the other IPv4 addresses that it translates to.
    @ivar lan: the IPv4 prefix of its LAN, if it has one.
    @ivar prefix6: the IPv6 prefix of its LAN, if it has one.
    """

    name: str
    outside: Network
    depth: int
    external: str | None
    pool: tuple[str, ...]
    lan: IPNetwork | None
    prefix6: IPNetwork | None


def placement(
    name: str,
    outside: Network,
    depth: int,
    external: str | None,
    pool: Sequence[str],
    lan: str | None,
    prefix6: str | None,
) -> Placement:
    """
    Make the addresses of a router complete.

    @raise LocalUsageError: for a router without any prefix behind it, or with a pool of addresses
        alone.
    """
    if lan is None and external is not None:
        lan = f"192.168.{depth}.0/24"
    if pool and external is None:
        raise LocalUsageError(f"{name} has a pool, but no external address")
    if lan is None and prefix6 is None:
        raise LocalUsageError(f"{name} needs an external address, a LAN prefix or an IPv6 prefix")
    return Placement(
        name,
        outside,
        depth,
        None if external is None else canonicalHost(external),
        tuple(canonicalHost(address) for address in pool),
        None if lan is None else ip_network(lan),
        None if prefix6 is None else ip_network(prefix6),
    )


def hostsOf(prefix: IPNetwork) -> Iterator[str]:
    """
    @return: the addresses of a LAN that hosts may have: all but the router's own, which is the
        first.
    """
    first = int(prefix.network_address) + 2
    last = int(prefix.broadcast_address)
    family = type(prefix.network_address)
    return (str(family(number)) for number in range(first, last))


def routerOf(prefix: IPNetwork) -> str:
    """
    @return: the address of the router on its own LAN.
    """
    return str(prefix.network_address + 1)
