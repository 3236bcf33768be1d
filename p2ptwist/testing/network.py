"""
Networks: the public one, and one LAN behind each router.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.counters import Counters
from p2ptwist.testing.packet import Packet
from p2ptwist.testing.trace import Trace

Deliver: TypeAlias = Callable[[Packet], None]
IPNetwork: TypeAlias = IPv4Network | IPv6Network

# RFC 1918, RFC 6598 and RFC 4193.  (ipaddress also calls the documentation prefixes private, which
# tests use as public ones.)
PRIVATE_NETWORKS = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)


def isPrivate(host: str) -> bool:
    """
    @return: whether C{host} is an address that the public network does not route.
    """
    address = ip_address(host)
    return any(address in network for network in PRIVATE_NETWORKS)


class Network:
    """
    Delivers packets to whoever has their destination, or else to the gateway, if there is one.

    What nobody has is dropped without a word, as on the real Internet.

    @ivar name: how it is called in a trace.
    @ivar counters: what it dropped.
    @ivar gateways: the addresses of its default routers.
    """

    def __init__(
        self, name: str, trace: Trace, hops: int = 0, gateway: Deliver | None = None
    ) -> None:
        """
        @param name: how it is called in a trace.
        @param trace: told of what is dropped.
        @param hops: routers that every packet passes in this network; 0 for a LAN.
        @param gateway: takes packets to elsewhere.
        """
        self.name = name
        self.counters = Counters()
        self._trace = trace
        self._hops = hops
        self._gateway = gateway
        self._neighbors: dict[str, Deliver] = {}
        self._prefixes: dict[IPNetwork, Deliver] = {}
        self.gateways: list[str] = []

    def attach(self, host: str, deliver: Deliver) -> None:
        """
        Deliver packets for C{host}.

        @raise LocalUsageError: when somebody has that address.
        """
        if host in self._neighbors:
            raise LocalUsageError(f"{host} is in use on {self.name}")
        self._neighbors[host] = deliver

    def detach(self, host: str) -> None:
        """
        Nobody has C{host} any more.
        """
        del self._neighbors[host]

    def attachPrefix(self, prefix: IPNetwork, deliver: Deliver) -> None:
        """
        Deliver packets for all hosts of C{prefix} that are not attached by themselves.

        @raise LocalUsageError: when it overlaps with a prefix that is attached.
        """
        for other in self._prefixes:
            if other.version == prefix.version and other.overlaps(prefix):
                raise LocalUsageError(f"{prefix} overlaps with {other} on {self.name}")
        self._prefixes[prefix] = deliver

    def has(self, host: str) -> bool:
        """
        @return: whether somebody is attached with the address C{host}.
        """
        return host in self._neighbors

    def route(self, packet: Packet) -> None:
        """
        Pass C{packet} on.
        """
        if self._hops:
            if packet.ttl <= self._hops:
                self._drop(packet, "time to live exceeded")
                return
            packet = packet.forwarded(hops=self._hops)
        deliver = self._neighbors.get(packet.destination[0]) or self._lookUp(packet)
        if deliver is None:
            self._drop(packet, "nobody has this address")
        else:
            deliver(packet)

    def _lookUp(self, packet: Packet) -> Deliver | None:
        if self._prefixes:
            address = ip_address(packet.destination[0])
            for prefix, deliver in self._prefixes.items():
                if address in prefix:
                    return deliver
        return self._gateway

    def _drop(self, packet: Packet, reason: str) -> None:
        self.counters.countDropped(reason)
        self._trace.note(self.name, "dropped", packet, reason)
