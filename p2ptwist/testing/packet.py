"""
What travels on the simulated Internet: IP packets that carry UDP, TCP or ICMP.

A packet is never changed.  A router that translates makes a new one with the same number, so that a
trace can follow one packet through all its translations.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, TypeAlias

from p2ptwist.core.address import HostPort, formatAddress

# Octets before the payload: IP header (RFC 791, RFC 8200) and transport header.
IPV4_HEADER = 20
IPV6_HEADER = 40
UDP_HEADER = 8
TCP_HEADER = 20
ICMP_HEADER = 8

DEFAULT_TTL = 64  # hops; what Linux sends (RFC 1700 recommends 64)
MAX_UDP_PAYLOAD = 65_507  # octets; 65,535 less the IPv4 and UDP headers


class Protocol(enum.Enum):
    """
    What a packet carries.
    """

    UDP = "UDP"
    TCP = "TCP"
    ICMP = "ICMP"

    # Far faster than an enum's own, and asked for with every packet.
    __hash__ = object.__hash__


class TCPFlag:
    """
    The flags of a TCP segment that the simulation uses, with the values of RFC 9293.

    Plain numbers: an enum's arithmetic is slow, and is done several times with every segment.
    """

    FIN: Final = 0x01
    SYN: Final = 0x02
    RST: Final = 0x04
    ACK: Final = 0x10


@dataclass(frozen=True, slots=True)
class Segment:
    """
    A TCP segment.

    @ivar flags: the flags that are set: see L{TCPFlag}.
    @ivar sequence: number of the first octet (or SYN) in this segment.  It does not wrap.
    @ivar acknowledgment: number of the next octet that the sender of this segment expects.
    @ivar window: octets that the sender of this segment is ready to receive.
    @ivar data: the payload.
    """

    flags: int
    sequence: int
    acknowledgment: int
    window: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ICMPError:
    """
    An ICMP port unreachable, with what it quotes from the packet that caused it.

    It is the one ICMP error that Twisted tells an application about.

    @ivar protocol: the transport of the packet that caused it.
    @ivar source: where that packet came from, as it was where it failed.
    @ivar destination: where it was going to.
    """

    protocol: Protocol
    source: HostPort
    destination: HostPort


Payload: TypeAlias = bytes | Segment | ICMPError


class Packet:
    """
    One IP packet.  Immutable by convention: it is made far too often for anything that checks.

    @ivar number: the same for all translations of one packet.
    @ivar protocol: what it carries.
    @ivar source: where it says that it comes from.  The port is 0 for ICMP.
    @ivar destination: where it goes to.  The port is 0 for ICMP.
    @ivar payload: C{bytes} for UDP, a L{Segment} for TCP, an L{ICMPError} for ICMP.
    @ivar ttl: routers that it may still pass.
    @ivar size: octets on the wire, IP header included.
    """

    __slots__ = ("destination", "number", "payload", "protocol", "size", "source", "ttl")

    def __init__(
        self,
        number: int,
        protocol: Protocol,
        source: HostPort,
        destination: HostPort,
        payload: Payload,
        ttl: int = DEFAULT_TTL,
        size: int = 0,
    ) -> None:
        """
        @param size: the size, where it is known.
        """
        self.number = number
        self.protocol = protocol
        self.source = source
        self.destination = destination
        self.payload = payload
        self.ttl = ttl
        self.size = size or _measure(destination[0], payload)

    def forwarded(
        self,
        source: HostPort | None = None,
        destination: HostPort | None = None,
        payload: Payload | None = None,
        hops: int = 1,
    ) -> Packet:
        """
        @return: this packet after C{hops} routers, with whatever they changed.
        """
        return Packet(
            self.number,
            self.protocol,
            source or self.source,
            destination or self.destination,
            self.payload if payload is None else payload,
            self.ttl - hops,
            self.size if payload is None else 0,
        )

    def isIPv6(self) -> bool:
        """
        @return: whether this is an IPv6 packet.
        """
        return ":" in self.destination[0]

    def isError(self) -> bool:
        """
        @return: whether no error may ever be sent about this packet (RFC 1122 section 3.2.2).
        """
        payload = self.payload
        return isinstance(payload, ICMPError) or (
            isinstance(payload, Segment) and bool(payload.flags & TCPFlag.RST)
        )

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        return (
            f"#{self.number} {self.protocol.value} {formatAddress(self.source)} > "
            f"{formatAddress(self.destination)} {describePayload(self.payload)}"
        )


def _measure(host: str, payload: Payload) -> int:
    """
    @return: octets of a packet to C{host}.
    """
    header = IPV6_HEADER if ":" in host else IPV4_HEADER
    if isinstance(payload, bytes):
        return header + UDP_HEADER + len(payload)
    if isinstance(payload, Segment):
        return header + TCP_HEADER + len(payload.data)
    # An ICMP error quotes the IP header and eight octets (RFC 792).
    return header + ICMP_HEADER + header + 8


_FLAGS = {"FIN": TCPFlag.FIN, "SYN": TCPFlag.SYN, "RST": TCPFlag.RST, "ACK": TCPFlag.ACK}


def describePayload(payload: Payload) -> str:
    """
    @return: a payload in a few words.
    """
    if isinstance(payload, bytes):
        return f"{len(payload)} B"
    if isinstance(payload, Segment):
        flags = "+".join(name for name, flag in _FLAGS.items() if payload.flags & flag)
        return (
            f"[{flags}] seq {payload.sequence} ack {payload.acknowledgment} "
            f"win {payload.window} {len(payload.data)} B"
        )
    return (
        f"port unreachable: {payload.protocol.value} {formatAddress(payload.source)} > "
        f"{formatAddress(payload.destination)}"
    )


def errorAbout(packet: Packet) -> ICMPError:
    """
    @return: the ICMP port unreachable to answer C{packet} with.
    """
    return ICMPError(packet.protocol, packet.source, packet.destination)


def resetAbout(packet: Packet) -> Segment:
    """
    @return: the RST that answers a TCP packet that belongs to no connection (RFC 9293 3.10.7.1).
    """
    segment = packet.payload
    assert isinstance(segment, Segment)
    if segment.flags & TCPFlag.ACK:
        return Segment(TCPFlag.RST, segment.acknowledgment, 0, 0)
    length = len(segment.data) + bool(segment.flags & TCPFlag.SYN)
    return Segment(TCPFlag.RST | TCPFlag.ACK, 0, segment.sequence + length, 0)
