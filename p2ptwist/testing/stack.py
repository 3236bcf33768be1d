"""
A host's IP stack: its interfaces, and what becomes of the packets that come and go.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.counters import Counters
from p2ptwist.testing.link import Link, Wire
from p2ptwist.testing.network import Network
from p2ptwist.testing.packet import (
    DEFAULT_TTL,
    ICMPError,
    Packet,
    Payload,
    Protocol,
    errorAbout,
)
from p2ptwist.testing.poller import Poller
from p2ptwist.testing.ports import Ports
from p2ptwist.testing.sockets import osError
from p2ptwist.testing.tcpstack import TCPStack
from p2ptwist.testing.udp import DatagramSocket
from p2ptwist.testing.world import World

# A little more than nothing, so that two programs on one host that answer each other at once do
# not stop the time.
LOOPBACK_LATENCY = 0.000_020  # seconds


@dataclass(slots=True)
class Interface:
    """
    Where a host is attached to a network.

    @ivar network: the network.
    @ivar wire: the link to it.
    @ivar addresses: the host's addresses there.
    """

    network: Network
    wire: Wire
    addresses: list[str]


class Stack:
    """
    The IP stack of one host.

    @ivar counters: packets on all interfaces.
    @ivar ports: who is bound where.
    @ivar poller: who waits for which socket.
    @ivar tcp: the TCP connections.
    @ivar interfaces: where the host is attached, oldest first.
    """

    def __init__(self, world: World, name: str) -> None:
        """
        @param world: what it is part of.
        @param name: the name of the host.
        """
        self.world = world
        self.name = name
        self.counters = Counters()
        self.poller = Poller(world.clock)
        self.ports = Ports(world.random(f"ports of {name}"), self.hasAddress)
        self.tcp = TCPStack(self, world.random(f"TCP of {name}"))
        self.interfaces: list[Interface] = []
        self._byAddress: dict[str, Interface] = {}
        self._sources: dict[tuple[str, str], str] = {}

    # Interfaces

    def attach(self, network: Network, addresses: Sequence[str], link: Link) -> Interface:
        """
        Add an interface.

        @raise LocalUsageError: when an address is not one, or is in use.
        """
        number = len(self.interfaces) + 1
        name = f"{self.name} link" if number == 1 else f"{self.name} link {number}"
        world = self.world
        wire = Wire(
            name, link, world.clock, world.random(name), world.trace, self.receive, network.route
        )
        interface = Interface(network, wire, [])
        for address in addresses:
            self.addAddress(interface, address)
        self.interfaces.append(interface)
        return interface

    def addAddress(self, interface: Interface, address: str) -> None:
        """
        Give an interface one more address.
        """
        host = canonicalHost(address)
        if host in self._byAddress:
            raise LocalUsageError(f"{self.name} has {host} already")
        interface.network.attach(host, interface.wire.sendDown)
        interface.addresses.append(host)
        self._byAddress[host] = interface
        self._sources.clear()

    def removeAddress(self, address: str) -> None:
        """
        Take an address away.  Sockets that are bound to it stay, and reach nobody.

        @raise LocalUsageError: when it is not this host's.
        """
        host = canonicalHost(address)
        interface = self._byAddress.pop(host, None)
        if interface is None:
            raise LocalUsageError(f"{self.name} does not have {host}")
        interface.network.detach(host)
        interface.addresses.remove(host)
        self._sources.clear()

    def addresses(self) -> list[str]:
        """
        @return: all addresses, loopback first.
        """
        hasIPv6 = any(":" in host for host in self._byAddress)
        return ["127.0.0.1"] + (["::1"] if hasIPv6 else []) + list(self._byAddress)

    def gateways(self) -> list[str]:
        """
        @return: the routers of all interfaces, of those families that the interface has.
        """
        return [
            gateway
            for interface in self.interfaces
            for gateway in interface.network.gateways
            if any((":" in gateway) == (":" in host) for host in interface.addresses)
        ]

    def hasAddress(self, host: str) -> bool:
        """
        @return: whether C{host} is this host.
        """
        return host in self._byAddress or host == "::1" or host.startswith("127.")

    # Sending

    def sourceFor(self, destination: str, bound: str) -> str:
        """
        @param destination: canonical address of where a packet goes.
        @param bound: the address that its socket is bound to, or empty.
        @return: the address that it comes from.
        @raise OSError: C{ENETUNREACH} without a route; C{EINVAL} from loopback to elsewhere.
        """
        key = (destination, bound)
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = self._chooseSource(destination, bound)
        return source

    def _chooseSource(self, destination: str, bound: str) -> str:
        isIPv6 = ":" in destination
        if self.hasAddress(destination):
            return bound or destination
        if bound:
            if bound in self._byAddress and (":" in bound) == isIPv6:
                return bound
            raise osError(errno.EINVAL if self.hasAddress(bound) else errno.ENETUNREACH)
        candidates = [host for host in self._byAddress if (":" in host) == isIPv6]
        for host in candidates:
            if self._byAddress[host].network.has(destination):
                return host
        if not candidates:
            raise osError(errno.ENETUNREACH)
        return candidates[0]

    def send(
        self,
        protocol: Protocol,
        source: HostPort,
        destination: HostPort,
        payload: Payload,
        ttl: int | None = None,
    ) -> None:
        """
        Send a packet.
        """
        world = self.world
        packet = Packet(
            next(world.packetNumbers),
            protocol,
            source,
            destination,
            payload,
            DEFAULT_TTL if ttl is None else ttl,
        )
        world.trace.note(self.name, "sent", packet)
        interface = self._byAddress.get(source[0])
        if interface is None or self.hasAddress(destination[0]):
            world.clock.callAt(world.clock.now + LOOPBACK_LATENCY, self._deliver, packet)
            return
        self.counters.countSent(packet)
        interface.wire.sendUp(packet)

    # Receiving

    def receive(self, packet: Packet) -> None:
        """
        A packet has come over a link.
        """
        self.counters.countReceived(packet)
        self._deliver(packet)

    def _deliver(self, packet: Packet) -> None:
        if not self.hasAddress(packet.destination[0]):
            self.drop(packet, "not this host's address")
        elif packet.protocol is Protocol.UDP:
            self._deliverDatagram(packet)
        elif packet.protocol is Protocol.TCP:
            self.tcp.receive(packet)
        else:
            self._deliverError(packet)

    def _deliverDatagram(self, packet: Packet) -> None:
        sock = self.ports.receiver(socket.SOCK_DGRAM, packet.destination, packet.source)
        if sock is None:
            self.drop(packet, "nobody listens on this port")
            error = errorAbout(packet)
            self.send(Protocol.ICMP, (packet.destination[0], 0), (packet.source[0], 0), error)
            return
        assert isinstance(sock, DatagramSocket)
        if sock.deliver(packet):
            self.world.trace.note(self.name, "received", packet)
        else:
            self.drop(packet, "the receive buffer is full")

    def _deliverError(self, packet: Packet) -> None:
        error = packet.payload
        assert isinstance(error, ICMPError)
        self.world.trace.note(self.name, "received", packet)
        if error.protocol is Protocol.TCP:
            self.tcp.receiveError(error)
            return
        sock = self.ports.receiver(socket.SOCK_DGRAM, error.source, error.destination)
        # As on Linux, only a connected socket is told.
        if isinstance(sock, DatagramSocket) and sock.state.remote == error.destination:
            sock.refused()

    def drop(self, packet: Packet, reason: str) -> None:
        """
        Count and note a packet that came for nothing.
        """
        self.counters.countDropped(reason)
        self.world.trace.note(self.name, "dropped", packet, reason)
