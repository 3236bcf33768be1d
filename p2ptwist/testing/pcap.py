"""
Traces as capture files, for Wireshark and C{tcpdump -r}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address

from p2ptwist.core.address import HostPort
from p2ptwist.testing.packet import ICMPError, Packet, Payload, Protocol, Segment
from p2ptwist.testing.trace import TraceEntry

_MAGIC = 0xA1B2C3D4  # microseconds; https://www.tcpdump.org/manpages/pcap-savefile.5.html
_LINKTYPE_RAW = 101  # packets begin with the IP header
_SNAPLEN = 262_144  # octets; more than any packet has
_IP_PROTOCOLS = {Protocol.UDP: 17, Protocol.TCP: 6}
_ICMPV4, _ICMPV6 = 1, 58
_UNREACHABLE = {4: (3, 3), 6: (1, 4)}  # type and code of a port unreachable; RFC 792, RFC 4443
_QUOTED = 8  # octets of the transport header that an ICMP error quotes; RFC 792


def capture(entries: Iterable[TraceEntry]) -> bytes:
    """
    @return: a capture file of the packets of C{entries}.
    """
    parts = [struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAPLEN, _LINKTYPE_RAW)]
    for entry in entries:
        data = encode(entry.packet)
        seconds, microseconds = divmod(round(entry.time * 1_000_000), 1_000_000)
        parts.append(struct.pack("<IIII", seconds, microseconds, len(data), len(data)) + data)
    return b"".join(parts)


def encode(packet: Packet) -> bytes:
    """
    @return: a packet as it would be on the wire, header checksums included.
    """
    version = 6 if packet.isIPv6() else 4
    if isinstance(packet.payload, ICMPError):
        number = _ICMPV6 if version == 6 else _ICMPV4
    else:
        number = _IP_PROTOCOLS[packet.protocol]
    body = _transport(packet.source, packet.destination, packet.payload)
    return _ip(version, number, packet.source[0], packet.destination[0], body, packet.ttl)


def _transport(source: HostPort, destination: HostPort, payload: Payload) -> bytes:
    """
    @return: the transport header and what follows.
    """
    if isinstance(payload, bytes):
        header = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0)
        number, body, at = 17, header + payload, 6
    elif isinstance(payload, Segment):
        header = struct.pack(
            "!HHIIBBHHH",
            source[1],
            destination[1],
            payload.sequence & 0xFFFF_FFFF,
            payload.acknowledgment & 0xFFFF_FFFF,
            5 << 4,
            payload.flags,
            min(payload.window, 0xFFFF),
            0,
            0,
        )
        number, body, at = 6, header + payload.data, 16
    else:
        version = 6 if ":" in source[0] else 4
        header = struct.pack("!BBHI", *_UNREACHABLE[version], 0, 0)
        number, body, at = _ICMPV6, header + _quote(version, payload), 2
        if version == 4:
            return _withChecksum(body, at, b"")  # ICMPv4 has no pseudo-header
    return _withChecksum(body, at, _pseudoHeader(source[0], destination[0], number, len(body)))


def _quote(version: int, error: ICMPError) -> bytes:
    ports = struct.pack("!HHHH", error.source[1], error.destination[1], _QUOTED, 0)
    number = _IP_PROTOCOLS[error.protocol]
    return _ip(version, number, error.source[0], error.destination[0], ports, 1)


def _ip(version: int, number: int, source: str, destination: str, body: bytes, ttl: int) -> bytes:
    hosts = ip_address(source).packed + ip_address(destination).packed
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, len(body) & 0xFFFF, number, ttl) + hosts + body
    length = (20 + len(body)) & 0xFFFF
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, ttl, number, 0) + hosts
    return _withChecksum(header, 10, b"") + body


def _pseudoHeader(source: str, destination: str, number: int, length: int) -> bytes:
    hosts = ip_address(source).packed + ip_address(destination).packed
    return hosts + struct.pack("!II", length, number)


def _withChecksum(data: bytes, at: int, pseudo: bytes) -> bytes:
    """
    @return: C{data} with its Internet checksum (RFC 1071), which also covers C{pseudo}, at C{at}.
    """
    covered = pseudo + data
    if len(covered) % 2:
        covered += b"\0"
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = ~total & 0xFFFF
    # In UDP, 0 would mean that there is no checksum (RFC 768); elsewhere both mean the same.
    return data[:at] + struct.pack("!H", checksum or 0xFFFF) + data[at + 2 :]
