"""
What is known of this host's way to others, and what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2ptwist.core.address import HostPort, isIPv6
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior, NATMapping
from p2ptwist.core.outlook import PeerKind, Situation, Way, outlook, verdict
from p2ptwist.core.portmapping.answers import isPublic
from p2ptwist.errors import PortMappingRefused
from p2ptwist.net.mappedport import MapperReport
from p2ptwist.net.natreport import NATReport
from p2ptwist.net.upnp import NETWORK_FAILURE


@dataclass(frozen=True, slots=True)
class NodeReport:
    """
    What became of the link to one rendezvous node.

    @ivar node: its endpoint, as it was named.
    @ivar name: what it calls itself; C{None} where there is no link.
    @ivar roundTrip: seconds.
    @ivar observed: where it sees this host's TCP connection come from.
    @ivar problem: why there is no link, in words for people.
    """

    node: str
    name: str | None = None
    roundTrip: float | None = None
    observed: HostPort | None = None
    problem: str | None = None

    @property
    def up(self) -> bool:
        """
        Whether there is a link.
        """
        return self.name is not None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    Everything that was found out.

    @ivar nat: what STUN servers tell; C{None} when there was none to ask.
    @ivar routers: what each port mapping protocol made of each router.
    @ivar nodes: the links, in the order in which the nodes were named.
    @ivar hosts: this host's own addresses.
    @ivar seconds: that it took.
    """

    nat: NATReport | None
    routers: tuple[MapperReport, ...] = ()
    nodes: tuple[NodeReport, ...] = ()
    hosts: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def behavior(self) -> NATBehavior:
        """
        What the NATs do; C{None} for each fact that was not found out.
        """
        return UNKNOWN_BEHAVIOR if self.nat is None else self.nat.behavior

    @property
    def addresses(self) -> tuple[HostPort, ...]:
        """
        Every address that this host was seen at over UDP.
        """
        return () if self.nat is None else self.nat.addresses

    @property
    def udp(self) -> bool:
        """
        Whether any STUN server answered over UDP.
        """
        return self.nat is not None and self.nat.udp

    @property
    def online(self) -> bool:
        """
        Whether anybody outside answered, over UDP or TCP.
        """
        return self.udp or self._overTCP or any(node.up for node in self.nodes)

    @property
    def translated(self) -> bool | None:
        """
        Whether a NAT is in front, for IPv4; C{None} where nobody said how this host is seen.
        """
        ipv4 = None if self.nat is None else self.nat.ipv4
        if ipv4 is not None and ipv4.translated is not None:
            return ipv4.translated
        observed = [each.observed for each in self.nodes if each.observed is not None]
        seen = [host for host, _ in observed if host and not isIPv6(host)]
        return seen[0] not in self.hosts if seen else None

    @property
    def ipv6(self) -> bool | None:
        """
        Whether a server answered over IPv6; C{False} also for a host without an address of the
        Internet's, and C{None} where no server has one.
        """
        report = None if self.nat is None else self.nat.ipv6
        if report is not None:
            return report.udp or bool(report.tcpAddresses)
        own = any(isIPv6(host) and isPublic(host) for host in self.hosts)
        return None if own else False

    @property
    def mapped(self) -> bool:
        """
        Whether a router has mapped a port that the whole Internet reaches.
        """
        granted = [report.external for report in self.routers if not self.isInner(report)]
        return any(external is not None and not isIPv6(external[0]) for external in granted)

    @property
    def doubleNAT(self) -> bool | None:
        """
        Whether another NAT is in front of the router; C{None} where the router has not told its
        address, or nobody else has told this host's.
        """
        if self.translated is False:
            return False
        ipv4 = [report for report in self.routers if not isIPv6(report.gateway.partition("%")[0])]
        granted = [report for report in ipv4 if report.external is not None]
        if any(map(self.isInner, granted)):
            return True
        if not self._seen:
            return None
        if granted:
            return False
        return True if any(map(_lacksAddress, ipv4)) else None

    def isInner(self, report: MapperReport) -> bool:
        """
        @return: whether what a router granted cannot be how the Internet sees it: it is private or
            shared, or not what STUN servers see.
        """
        if report.external is None:
            return False
        host = report.external[0]
        if not isPublic(host):
            return True
        return bool(self._seen) and not isIPv6(host) and host not in self._seen

    def grantedBy(self, mapper: str) -> MapperReport | None:
        """
        @return: what one protocol's router granted, over IPv4 if it did; C{None} for nothing.
        """
        granted = [each for each in self.routers if each.mapper == mapper and each.external]
        granted.sort(key=lambda each: ":" in each.gateway)
        return granted[0] if granted else None

    def routerName(self, gateway: str) -> str | None:
        """
        @return: what the router calls itself, by whichever protocol it says so.
        """
        names = [each.router for each in self.routers if each.gateway == gateway and each.router]
        return names[0] if names else None

    @property
    def situation(self) -> Situation:
        """
        What decides how this host connects.
        """
        behavior = self.behavior
        if behavior.mapping is None and self._dependent:
            # On what, is not known, and makes no difference to how others find this side.
            behavior = replace(behavior, mapping=NATMapping.ADDRESS_AND_PORT_DEPENDENT)
        udp = self.udp if self.online else None
        public = self.translated is False
        return Situation(udp, behavior, self.mapped, public)

    @property
    def outlook(self) -> dict[PeerKind, Way | None]:
        """
        How connections will go, by the kind of the other peer.
        """
        return outlook(self.situation)

    @property
    def verdict(self) -> str:
        """
        One sentence or two, for a person.
        """
        return verdict(self.situation)

    @property
    def _dependent(self) -> bool:
        """
        Whether servers see this host at several addresses of one family.
        """
        ipv4 = None if self.nat is None else self.nat.ipv4
        return ipv4 is not None and len(ipv4.addresses) > 1

    @property
    def _overTCP(self) -> bool:
        if self.nat is None:
            return False
        families = (self.nat.ipv4, self.nat.ipv6)
        return any(family is not None and bool(family.tcpAddresses) for family in families)

    @property
    def _seen(self) -> Sequence[str]:
        """
        The IPv4 hosts that servers saw this one at.
        """
        ipv4 = None if self.nat is None else self.nat.ipv4
        if ipv4 is None:
            return ()
        return [host for host, _ in (*ipv4.addresses, *ipv4.tcpAddresses)]


def _lacksAddress(report: MapperReport) -> bool:
    """
    @return: whether the router says that it has no address of the Internet.
    """
    error = report.error
    return isinstance(error, PortMappingRefused) and error.why == NETWORK_FAILURE
