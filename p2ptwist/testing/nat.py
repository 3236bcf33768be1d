"""
NAT behaviour in the words of RFC 4787: what there is to choose, and the table that does it.

Mapping and filtering are two independent choices.  Each is a key: a mapping is shared by all
packets from one inside address whose destinations have the same mapping key, and a packet from
outside passes when the inside has sent to a destination with the same filtering key.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError

# RFC 4787 REQ-5: not under two minutes, five recommended; what Linux has for replied flows.
UDP_TIMEOUT = 120.0  # seconds
# RFC 5382 REQ-5: an established connection not under 2 h 4 min, others not under 4 min.
TCP_TIMEOUT = 7_440.0  # seconds
TCP_TRANSITORY_TIMEOUT = 240.0  # seconds
# Linux: nf_conntrack_udp_timeout, a flow that was never replied to; about as much for a SYN that
# was answered with RST.
OWN_STACK_TIMEOUT = 30.0  # seconds
# One port each for everything: what a NAT with one address can have at most.
MAX_MAPPINGS = 65_536


class Mapping(enum.Enum):
    """
    RFC 4787 section 4.1: for which destinations an inside address keeps its external port.
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"

    def key(self, remote: HostPort) -> tuple[str | int, ...]:
        """
        @return: the part of a remote address that counts.
        """
        return remote[: _KEY_LENGTHS[self.value]]


class Filtering(enum.Enum):
    """
    RFC 4787 section 5: from where a mapping lets packets in.
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"

    def key(self, remote: HostPort) -> tuple[str | int, ...]:
        """
        @return: the part of a remote address that counts.
        """
        return remote[: _KEY_LENGTHS[self.value]]


_KEY_LENGTHS = {
    "endpoint-independent": 0,
    "address-dependent": 1,
    "address-and-port-dependent": 2,
}


class PortAllocation(enum.Enum):
    """
    Which external port a new mapping gets.

    @cvar PRESERVING: the inside port where it is free, else a random one.
    @cvar SEQUENTIAL: the last port plus L{NAT.portStep}.
    @cvar RANDOM: any free port.
    """

    PRESERVING = "preserving"
    SEQUENTIAL = "sequential"
    RANDOM = "random"


class Hairpinning(enum.Enum):
    """
    What a packet from inside to the router's own external address gets (RFC 4787 section 6).

    @cvar NONE: it is dropped.
    @cvar EXTERNAL: it is delivered, from the sender's external address, as REQ-9 wants.
    @cvar INTERNAL: it is delivered, from the sender's inside address.
    """

    NONE = "none"
    EXTERNAL = "external source"
    INTERNAL = "internal source"


class Uninvited(enum.Enum):
    """
    What a packet from outside that filtering does not let in gets.

    @cvar DROP: nothing.
    @cvar ICMP: an ICMP port unreachable; the router remembers nothing.
    @cvar RESET: TCP a RST, all else an ICMP port unreachable; the router remembers nothing.
    @cvar ACCEPT: the router's own stack answers (RST, ICMP), and the flow is remembered: while it
        is, the inside cannot use that external port towards that remote address and is given
        another one.  A Linux router without an input filter does so.
    """

    DROP = "drop"
    ICMP = "ICMP"
    RESET = "reset"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class NAT:
    """
    How a router translates.  The defaults are those of a common home router.

    @ivar mapping: for which destinations an inside address keeps its external port.
    @ivar filtering: from where a mapping lets packets in.
    @ivar tcpMapping: the mapping of TCP where it is another one.
    @ivar tcpFiltering: the filtering of TCP where it is another one.
    @ivar allocation: which external port a new mapping gets.
    @ivar portStep: the step of sequential allocation; may be negative.
    @ivar firstPort: the lowest port that is allocated.
    @ivar lastPort: the highest port that is allocated.
    @ivar portOverloading: whether mappings to different destinations may share one external port
        (RFC 4787 section 4.2.1), as in Linux, where ports change only when whole flows clash.
    @ivar hairpinning: what a packet to the router's own external address gets.
    @ivar uninvited: what a packet that filtering does not let in gets.
    @ivar udpTimeout: seconds after which an unused UDP mapping is forgotten.
    @ivar tcpTimeout: seconds after which an unused established TCP connection is forgotten.
    @ivar tcpTransitoryTimeout: the same while it is opened and closed.
    @ivar refreshInbound: whether packets from outside keep a mapping alive as well.
    @ivar forwardsICMP: whether ICMP errors are passed on to the inside.
    @ivar maxMappings: mappings at one time; a packet that needs one more is dropped.
    """

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    tcpMapping: Mapping | None = None
    tcpFiltering: Filtering | None = None
    allocation: PortAllocation = PortAllocation.PRESERVING
    portStep: int = 1
    firstPort: int = 1024
    lastPort: int = 65_535
    portOverloading: bool = False
    hairpinning: Hairpinning = Hairpinning.NONE
    uninvited: Uninvited = Uninvited.DROP
    udpTimeout: float = UDP_TIMEOUT
    tcpTimeout: float = TCP_TIMEOUT
    tcpTransitoryTimeout: float = TCP_TRANSITORY_TIMEOUT
    refreshInbound: bool = False
    forwardsICMP: bool = True
    maxMappings: int = MAX_MAPPINGS

    def __post_init__(self) -> None:
        if not 1 <= self.firstPort <= self.lastPort <= 65_535:
            raise LocalUsageError("the external ports of a NAT are within 1..65535")
        if self.portStep == 0:
            raise LocalUsageError("sequential allocation needs a step other than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """
    How a router filters where it does not translate: IPv6, and IPv4 without NAT.

    @ivar filtering: from where packets are let in to an inside address that has sent some.
    @ivar uninvited: what the others get.  L{Uninvited.ACCEPT} means the same as
        L{Uninvited.RESET} here.
    @ivar udpTimeout: seconds after which an unused UDP flow is forgotten.
    @ivar tcpTimeout: seconds after which an unused established TCP connection is forgotten.
    @ivar tcpTransitoryTimeout: the same while it is opened and closed.
    """

    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    uninvited: Uninvited = Uninvited.DROP
    udpTimeout: float = UDP_TIMEOUT
    tcpTimeout: float = TCP_TIMEOUT
    tcpTransitoryTimeout: float = TCP_TRANSITORY_TIMEOUT

    def asNAT(self) -> NAT:
        """
        @return: the rules of a table that filters in this way.
        """
        uninvited = self.uninvited
        return NAT(
            filtering=self.filtering,
            uninvited=Uninvited.RESET if uninvited is Uninvited.ACCEPT else uninvited,
            udpTimeout=self.udpTimeout,
            tcpTimeout=self.tcpTimeout,
            tcpTransitoryTimeout=self.tcpTransitoryTimeout,
            refreshInbound=True,
        )
