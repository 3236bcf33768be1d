"""
Routers: a LAN behind an address, with NAT for IPv4 and a stateful firewall for IPv6.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.portmapping.pcp import SERVER_PORT
from p2ptwist.testing.allocation import IdentityAllocator, PortAllocator
from p2ptwist.testing.counters import Counters
from p2ptwist.testing.forwards import Forward
from p2ptwist.testing.grants import Grants
from p2ptwist.testing.host import Host
from p2ptwist.testing.link import Link, Wire
from p2ptwist.testing.mappingentry import MappingEntry
from p2ptwist.testing.mappingserver import MappingServer
from p2ptwist.testing.nat import NAT, Firewall, Hairpinning, Uninvited
from p2ptwist.testing.nattable import NATTable
from p2ptwist.testing.network import Network
from p2ptwist.testing.packet import (
    ICMPError,
    Packet,
    Payload,
    Protocol,
    errorAbout,
    resetAbout,
)
from p2ptwist.testing.placement import Placement, hostsOf, placement, routerOf
from p2ptwist.testing.portmapper import Trouble
from p2ptwist.testing.stack import Interface
from p2ptwist.testing.world import World

# A home's Ethernet or a good wireless network, one way.
LAN_LINK = Link(latency=0.0005)
# Addresses that are nobody's on a LAN, for answers from elsewhere (RFC 5737, RFC 3849).
_STRANGER4, _STRANGER6 = "198.51.100.66", "2001:db8:ffff::66"


class Router:
    """
    A router, the LAN behind it, and the link to the network before it.

    @ivar name: how it is called in a trace.
    @ivar link: the link to the network before it; L{Wire.cut} it and L{Wire.restore} it.
    @ivar counters: packets and octets on that link, and what this router dropped.
    @ivar hosts: the hosts on its LAN, by name.
    """

    def __init__(
        self, world: World, place: Placement, nat: NAT, firewall: Firewall, link: Link
    ) -> None:
        """
        Use L{Internet.router<p2ptwist.testing.Internet.router>} or L{Router.router}.
        """
        self.name = world.claim(place.name)
        self.counters = Counters()
        self.hosts: dict[str, Host] = {}
        self._world = world
        self._place = place
        self._nat = nat
        self._firewall = firewall
        self._external = place.external
        self._reboots = 0
        self._lan = Network(f"{place.name} LAN", world.trace, gateway=self._fromInside)
        self.link = Wire(
            f"{place.name} link",
            link,
            world.clock,
            world.random(f"link of {place.name}"),
            world.trace,
            below=self._fromOutside,
            above=place.outside.route,
        )
        self._freeAddresses: list[Iterator[str]] = [
            hostsOf(prefix) for prefix in (place.lan, place.prefix6) if prefix is not None
        ]
        self._attach()
        self.reboot()

    @property
    def external(self) -> str | None:
        """
        Its IPv4 address on the network before it; C{None} when it does not translate.
        """
        return self._external

    def host(self, name: str, *addresses: str, link: Link = LAN_LINK) -> Host:
        """
        Put a host on the LAN.

        @param name: how it is called in a trace.
        @param addresses: its addresses; by default the next free one of each prefix of the LAN.
        @param link: its link to the LAN.
        """
        host = self.hosts[name] = Host(self._world, name)
        self.attach(host, *addresses, link=link)
        return host

    def attach(self, host: Host, *addresses: str, link: Link = LAN_LINK) -> Interface:
        """
        Attach a host that is elsewhere already to this LAN as well.

        @param host: the host; its other interfaces stay its first choice.
        @param addresses: its addresses here; by default the next free one of each prefix.
        @param link: its link to the LAN.
        """
        chosen = addresses or tuple(next(free) for free in self._freeAddresses)
        return host.attach(self._lan, chosen, link)

    def router(
        self,
        name: str,
        external: str | None = None,
        *,
        nat: NAT | None = None,
        lan: str | None = None,
        link: Link = LAN_LINK,
    ) -> Router:
        """
        Put a router behind this one, that translates once more.

        @param name: how it is called in a trace.
        @param external: its address on this router's LAN; by default the next free one.
        @param nat: how it translates.
        @param lan: the IPv4 prefix of its LAN; by default C{192.168.DEPTH.0/24}.
        @param link: its link to this router's LAN.
        """
        depth = self._place.depth + 1
        if external is None:
            external = next(self._freeAddresses[0])
        place = placement(name, self._lan, depth, external, (), lan, None)
        return Router(self._world, place, nat or NAT(), Firewall(), link)

    def mappings(self) -> list[MappingEntry]:
        """
        @return: the mappings that live now.
        """
        return self._table.entries(self._world.clock.now)

    def forwards(self) -> list[Forward]:
        """
        @return: the mappings that were made on request and live now, those of IPv6 included.
        """
        now, tables = self._world.clock.now, dict.fromkeys((self._table, self._flows))
        return [each for table in tables for each in table.forwards.living(now)]

    def reboot(self, nat: NAT | None = None) -> None:
        """
        Forget all mappings and flows, those that were made on request included, and count ports
        from elsewhere.

        @param nat: how to translate from now on, if in another way.
        """
        self._nat = nat or self._nat
        self._reboots += 1
        random = self._world.random(f"ports of {self.name}, boot {self._reboots}")
        lives = self._world.random(f"mappings of {self.name}, boot {self._reboots}")
        self._flows = NATTable(self._firewall.asNAT(), IdentityAllocator(), lives)
        if self._external is None:
            self._table = self._flows
        else:
            hosts = (self._external, *self._place.pool)
            self._table = NATTable(self._nat, PortAllocator(self._nat, hosts, random), lives)
        self._mappingServer = self._startMappingServer()

    def _startMappingServer(self) -> MappingServer | None:
        mapper = self._nat.portMapping
        if mapper is None:
            return None
        random = self._world.random(f"port mappings of {self.name}, boot {self._reboots}")
        grants = Grants(mapper, self._table, self._external, random)
        pinholes = Grants(mapper, self._flows, None, random)
        booted = self._world.clock.now
        return MappingServer(mapper, grants, pinholes, self._external, booted, random)

    def changeExternal(self, external: str) -> None:
        """
        Get another IPv4 address from the provider.  The mappings are gone with the old one.

        @raise LocalUsageError: for a router that does not translate.
        """
        if self._external is None:
            raise LocalUsageError(f"{self.name} has no external address to change")
        self._place.outside.detach(self._external)
        self._external = canonicalHost(external)
        self._place.outside.attach(self._external, self.link.sendDown)
        self.reboot()

    def _attach(self) -> None:
        place = self._place
        if self._external is not None:
            for host in (self._external, *place.pool):
                place.outside.attach(host, self.link.sendDown)
        elif place.lan is not None:
            place.outside.attachPrefix(place.lan, self.link.sendDown)
        if place.prefix6 is not None:
            place.outside.attachPrefix(place.prefix6, self.link.sendDown)
        for prefix in (place.lan, place.prefix6):
            if prefix is not None:
                self._lan.attach(routerOf(prefix), self._toItself)
                self._lan.gateways.append(routerOf(prefix))

    def _isOwn(self, host: str) -> bool:
        return host == self._external or host in self._place.pool

    def _tableFor(self, packet: Packet) -> NATTable:
        return self._flows if ":" in packet.destination[0] else self._table

    def _toItself(self, packet: Packet) -> None:
        """
        A packet from inside to the router's address on the LAN.
        """
        isForMapping = packet.protocol is Protocol.UDP and packet.destination[1] == SERVER_PORT
        if isForMapping and self._mappingServer is not None:
            self._world.trace.note(self.name, "received", packet)
            clock, delay = self._world.clock, self._mappingServer.mapper.delay
            clock.callAt(clock.seconds() + delay, self._answer, packet, self._mappingServer)
            return
        self._drop(packet, "nothing listens on this router")
        if not packet.isError():
            self._lan.route(self._refusal(packet, packet.protocol is Protocol.TCP))

    def _answer(self, request: Packet, server: MappingServer) -> None:
        """
        Answer a request for a port mapping.
        """
        assert isinstance(request.payload, bytes)
        answer = server.answer(request.payload, request.source, self._world.clock.now)
        if answer is None:
            self._drop(request, "not answered")
            return
        host, port = request.destination
        if server.mapper.trouble is Trouble.WRONG_SOURCE_ADDRESS:
            host = _STRANGER6 if request.isIPv6() else _STRANGER4
        elif server.mapper.trouble is Trouble.WRONG_SOURCE_PORT:
            port += 1
        for _ in range(server.mapper.copies):
            number = next(self._world.packetNumbers)
            packet = Packet(number, Protocol.UDP, (host, port), request.source, answer)
            self._world.trace.note(self.name, "sent", packet)
            self._lan.route(packet)

    # From inside to outside

    def _fromInside(self, packet: Packet) -> None:
        if packet.ttl <= 1:
            self._drop(packet, "time to live exceeded")
            return
        if isinstance(packet.payload, ICMPError):
            self._errorFromInside(packet, packet.payload)
            return
        table, now = self._tableFor(packet), self._world.clock.now
        if table.blocksUDP and table.isBlocked(packet.protocol, packet.destination):
            self._drop(packet, "UDP is blocked")
            return
        entry = table.outbound(
            packet.protocol, packet.source, packet.destination, packet.payload, now
        )
        if entry is None:
            self._refuseInside(packet, table)
        elif self._isOwn(packet.destination[0]):
            self._hairpin(packet, entry.external)
        else:
            self._emit(self._translated(packet, entry.external, entry.remote))

    def _errorFromInside(self, packet: Packet, error: ICMPError) -> None:
        table, now = self._tableFor(packet), self._world.clock.now
        entry = table.mappingOf(error.protocol, error.destination, error.source, now)
        if entry is None:
            self._drop(packet, "no mapping")
            return
        source = entry.external
        payload = ICMPError(error.protocol, entry.remote or error.source, source)
        self._emit(self._translated(packet, source=(source[0], 0), payload=payload))

    def _refuseInside(self, packet: Packet, table: NATTable) -> None:
        """
        A packet from inside has no mapping and gets none.
        """
        self._drop(packet, "no mapping, and none to be had")
        if (
            packet.protocol is Protocol.TCP
            and table.nat.uninvitedOf(Protocol.TCP) is not Uninvited.DROP
            and not packet.isError()
        ):
            self._lan.route(self._refusal(packet, byReset=True))

    def _hairpin(self, packet: Packet, source: HostPort) -> None:
        how, now = self._nat.hairpinning, self._world.clock.now
        if how is Hairpinning.NONE:
            self._drop(packet, "no hairpinning")
            return
        entry = self._table.inbound(
            packet.protocol, packet.destination, source, packet.payload, now
        )
        if entry is None:
            self._drop(packet, "uninvited")
            return
        seen = source if how is Hairpinning.EXTERNAL else packet.source
        self._lan.route(self._translated(packet, entry.alias or seen, entry.inside))

    def _emit(self, packet: Packet) -> None:
        self.counters.countSent(packet)
        self.link.sendUp(packet)

    # From outside to inside

    def _fromOutside(self, packet: Packet) -> None:
        self.counters.countReceived(packet)
        if isinstance(packet.payload, ICMPError):
            self._errorFromOutside(packet, packet.payload)
            return
        table, now = self._tableFor(packet), self._world.clock.now
        if table.blocksUDP and table.isBlocked(packet.protocol, packet.source):
            self._drop(packet, "UDP is blocked")
            return
        entry = table.inbound(
            packet.protocol, packet.destination, packet.source, packet.payload, now
        )
        if entry is None:
            self._refuseOutside(packet, table)
        elif packet.ttl <= 1:
            self._drop(packet, "time to live exceeded")
        else:
            self._lan.route(self._translated(packet, entry.alias, entry.inside))

    def _errorFromOutside(self, packet: Packet, error: ICMPError) -> None:
        table, now = self._tableFor(packet), self._world.clock.now
        entry = table.errorFor(error.protocol, error.source, error.destination, now)
        if entry is None:
            self._drop(packet, "no mapping")
        elif not table.nat.forwardsICMP:
            self._drop(packet, "ICMP is not forwarded")
        else:
            inside = entry.inside
            payload = ICMPError(error.protocol, inside, entry.alias or error.destination)
            self._lan.route(self._translated(packet, destination=(inside[0], 0), payload=payload))

    def _refuseOutside(self, packet: Packet, table: NATTable) -> None:
        self._drop(packet, "uninvited")
        uninvited = table.nat.uninvitedOf(packet.protocol)
        if uninvited is Uninvited.DROP or packet.isError():
            return
        # A RST ends a flow of Linux's connection tracking that nothing else was said in.
        if uninvited is Uninvited.ACCEPT and packet.protocol is Protocol.UDP:
            now = self._world.clock.now
            table.acceptUninvited(packet.protocol, packet.destination, packet.source, now)
        byReset = packet.protocol is Protocol.TCP and uninvited is not Uninvited.ICMP
        self._emit(self._refusal(packet, byReset))

    def _refusal(self, packet: Packet, byReset: bool) -> Packet:
        """
        @return: a RST or an ICMP error of the router itself that answers C{packet}.
        """
        number, here, there = next(self._world.packetNumbers), packet.destination, packet.source
        if byReset:
            answer = Packet(number, Protocol.TCP, here, there, resetAbout(packet))
        else:
            error = errorAbout(packet)
            answer = Packet(number, Protocol.ICMP, (here[0], 0), (there[0], 0), error)
        self._world.trace.note(self.name, "sent", answer)
        return answer

    def _translated(
        self,
        packet: Packet,
        source: HostPort | None = None,
        destination: HostPort | None = None,
        payload: Payload | None = None,
    ) -> Packet:
        """
        @return: C{packet} as it leaves this router, and say so in the trace.
        """
        new = packet.forwarded(source, destination, payload)
        if new.source != packet.source:
            self._world.trace.note(self.name, "translated", new, "was from ", packet.source)
        elif new.destination != packet.destination:
            self._world.trace.note(self.name, "translated", new, "was to ", packet.destination)
        else:
            self._world.trace.note(self.name, "forwarded", new)
        return new

    def _drop(self, packet: Packet, reason: str) -> None:
        self.counters.countDropped(reason)
        self._world.trace.note(self.name, "dropped", packet, reason)

    def __repr__(self) -> str:
        return f"<Router {self.name} at {self._external}>"
