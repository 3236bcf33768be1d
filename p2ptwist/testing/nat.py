"""
NAT behaviour in the words of RFC 4787: what there is to choose, and the table that does it.

Mapping and filtering are two independent choices.  Each is a key: a mapping is shared by all
packets from one inside address whose destinations have the same mapping key, and a packet from
outside passes when the inside has sent to a destination with the same filtering key.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.packet import Protocol
from p2ptwist.testing.portmapper import PortMapper

# RFC 4787 REQ-5: not under two minutes, five recommended; what Linux has for replied flows.
UDP_TIMEOUT = 120.0  # seconds
# RFC 5382 REQ-5: an established connection not under 2 h 4 min, others not under 4 min.
TCP_TIMEOUT = 7_440.0  # seconds
TCP_TRANSITORY_TIMEOUT = 240.0  # seconds
# Linux: nf_conntrack_udp_timeout, a flow that was never replied to.
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

    @property
    def keyLength(self) -> int:
        """
        How many parts of a remote address count: neither, the host, or the host and the port.
        """
        return _KEY_LENGTHS[self.value]


class Filtering(enum.Enum):
    """
    RFC 4787 section 5: from where a mapping lets packets in.
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"

    @property
    def keyLength(self) -> int:
        """
        How many parts of a remote address count: neither, the host, or the host and the port.
        """
        return _KEY_LENGTHS[self.value]


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
    @cvar HASHED: a port that looks random, but is the same whenever the same mapping is made: a
        hash of the inside address, and of as much of the destination as the mapping depends on.
    """

    PRESERVING = "preserving"
    SEQUENTIAL = "sequential"
    RANDOM = "random"
    HASHED = "hashed"


class Pooling(enum.Enum):
    """
    Which external address a new mapping gets, of a router that has several (RFC 4787 section 4.1).

    @cvar PAIRED: always the same one for one inside host, as REQ-2 wants.
    @cvar ARBITRARY: any.
    """

    PAIRED = "paired"
    ARBITRARY = "arbitrary"


class WhenFull(enum.Enum):
    """
    What becomes of a packet that needs a mapping when the table has no room for one more.

    @cvar REFUSE: it is dropped.
    @cvar EVICT: it gets a mapping, and the oldest one is forgotten: of the same host, if it is that
        host which has too many.
    """

    REFUSE = "refuse"
    EVICT = "evict the oldest"


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
    @cvar ACCEPT: the router's own stack answers (RST, ICMP), and a UDP flow is remembered: while it
        is, the inside cannot use that external port towards that remote address and is given
        another one.  A Linux router without an input filter does so.  (It forgets a TCP flow at
        once when its only answer is a RST.)
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
    @ivar pooling: which external address, where there are several.
    @ivar portStep: the step of sequential allocation; may be negative.
    @ivar firstPort: the lowest port that is allocated.
    @ivar lastPort: the highest port that is allocated.
    @ivar backgroundFlows: flows a second that others open through the same router, at random times.
        Each takes the next port of sequential allocation, and holds some port for L{udpTimeout}.
    @ivar portOverloading: whether mappings to different destinations may share one external port
        (RFC 4787 section 4.2.1), as in Linux, where ports change only when whole flows clash.
    @ivar hairpinning: what a packet to the router's own external address gets.
    @ivar uninvited: what a packet that filtering does not let in gets.
    @ivar tcpUninvited: the same for TCP where it is something else.
    @ivar udpPorts: the remote ports that UDP passes to and from, or C{None} for all.  An empty set
        blocks UDP.
    @ivar udpLife: the least and the most seconds after which a UDP mapping is forgotten however
        much it is used, or C{None} for no such end.  Some carriers' NATs do so after 50 to 75 s.
    @ivar udpTimeout: seconds after which an unused UDP mapping is forgotten.
    @ivar tcpTimeout: seconds after which an unused established TCP connection is forgotten.
    @ivar tcpTransitoryTimeout: the same while it is opened and closed.
    @ivar refreshInbound: whether packets from outside keep a mapping alive as well.
    @ivar forwardsICMP: whether ICMP errors are passed on to the inside.
    @ivar maxMappings: mappings at one time.
    @ivar maxMappingsPerHost: mappings of one inside host at one time, or C{None} for no such limit.
    @ivar whenFull: what becomes of a packet that needs one more than these.
    @ivar portMapping: how the router maps ports on request, or C{None} when it does not.  It also
        opens the firewall for IPv6.
    """

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    tcpMapping: Mapping | None = None
    tcpFiltering: Filtering | None = None
    allocation: PortAllocation = PortAllocation.PRESERVING
    pooling: Pooling = Pooling.PAIRED
    portStep: int = 1
    firstPort: int = 1024
    lastPort: int = 65_535
    backgroundFlows: float = 0.0
    portOverloading: bool = False
    hairpinning: Hairpinning = Hairpinning.NONE
    uninvited: Uninvited = Uninvited.DROP
    tcpUninvited: Uninvited | None = None
    udpPorts: frozenset[int] | None = None
    udpLife: tuple[float, float] | None = None
    udpTimeout: float = UDP_TIMEOUT
    tcpTimeout: float = TCP_TIMEOUT
    tcpTransitoryTimeout: float = TCP_TRANSITORY_TIMEOUT
    refreshInbound: bool = False
    forwardsICMP: bool = True
    maxMappings: int = MAX_MAPPINGS
    maxMappingsPerHost: int | None = None
    whenFull: WhenFull = WhenFull.REFUSE
    portMapping: PortMapper | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.firstPort <= self.lastPort <= 65_535:
            raise LocalUsageError("the external ports of a NAT are within 1..65535")
        if self.portStep == 0:
            raise LocalUsageError("sequential allocation needs a step other than 0")
        if self.backgroundFlows < 0.0:
            raise LocalUsageError("there cannot be less than no background traffic")
        if self.udpLife is not None and not 0.0 < self.udpLife[0] <= self.udpLife[1]:
            raise LocalUsageError("the life of a mapping is from some seconds to no fewer")

    def uninvitedOf(self, protocol: Protocol) -> Uninvited:
        """
        @return: what an uninvited packet of C{protocol} gets.
        """
        if protocol is Protocol.TCP and self.tcpUninvited is not None:
            return self.tcpUninvited
        return self.uninvited


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """
    How a router filters where it does not translate: IPv6, and IPv4 without NAT.

    @ivar filtering: from where packets are let in to an inside address that has sent some.
    @ivar uninvited: what the others get.  L{Uninvited.ACCEPT} means the same as
        L{Uninvited.RESET} here.
    @ivar tcpUninvited: the same for TCP where it is something else.
    @ivar udpPorts: the remote ports that UDP passes to and from, or C{None} for all.  An empty set
        blocks UDP.
    @ivar udpTimeout: seconds after which an unused UDP flow is forgotten.
    @ivar tcpTimeout: seconds after which an unused established TCP connection is forgotten.
    @ivar tcpTransitoryTimeout: the same while it is opened and closed.
    """

    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    uninvited: Uninvited = Uninvited.DROP
    tcpUninvited: Uninvited | None = None
    udpPorts: frozenset[int] | None = None
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
            tcpUninvited=self.tcpUninvited,
            udpPorts=self.udpPorts,
            udpTimeout=self.udpTimeout,
            tcpTimeout=self.tcpTimeout,
            tcpTransitoryTimeout=self.tcpTransitoryTimeout,
            refreshInbound=True,
        )
