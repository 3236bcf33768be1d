"""
The datagrams of PCP, the Port Control Protocol (RFC 6887), of both sides.

What is reserved is written as zeros and not looked at, as the standard says; lengths are exact.
Options are carried; none is made here: PREFER_FAILURE and THIRD_PARTY are not used.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from p2ptwist.core.address import canonicalHost, parseHost
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram

SERVER_PORT = 5351  # UDP; RFC 6887 section 19.1
CLIENT_PORT = 5350  # UDP, for announcements to 224.0.0.1 and ff02::1; RFC 6887 section 19.1
VERSION = 2  # RFC 6887 section 7.1
MAX_LENGTH = 1100  # octets of a message; RFC 6887 section 7
HEADER_LENGTH = 24  # octets; RFC 6887 section 7.1
MAP_LENGTH = 36  # octets after the header; RFC 6887 section 11.1

_REQUEST = struct.Struct("!BBHI16s")
_RESPONSE = struct.Struct("!BBBBII12x")
_MAP = struct.Struct("!12sB3xHH16s")
_OPTION = struct.Struct("!BxH")
_RESPONSE_BIT = 0x80


class Opcode(enum.IntEnum):
    """
    What a message is about (RFC 6887 section 19.2).
    """

    ANNOUNCE = 0
    MAP = 1
    PEER = 2


class ResultCode(enum.IntEnum):
    """
    How a request ended (RFC 6887 section 7.4).
    """

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


class IPProtocol(enum.IntEnum):
    """
    The transports that are mapped, by their IANA numbers.
    """

    TCP = 6
    UDP = 17


@dataclass(frozen=True, slots=True)
class Mapping:
    """
    The part of a MAP message that both sides fill in (RFC 6887 section 11.1).

    @ivar nonce: exactly 12 bytes.
    @ivar protocol: an IANA number, see L{IPProtocol}; 0 for all.
    @ivar internalPort: 0..65535; 0 for all.
    @ivar externalPort: suggested or assigned; 0 for none.
    @ivar externalHost: suggested or assigned, in canonical text; C{0.0.0.0} or C{::} for none.
    """

    nonce: bytes = field(repr=False)
    protocol: int
    internalPort: int
    externalPort: int
    externalHost: str


Options = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """
    What a client sends.

    @ivar opcode: see L{Opcode}; 0..127.
    @ivar lifetime: seconds that are asked for; 0 deletes.
    @ivar client: the client's own address, in canonical text.
    @ivar mapping: of a MAP request, and of no other.
    @ivar options: codes and contents.
    """

    opcode: int
    lifetime: int
    client: str
    mapping: Mapping | None = None
    options: Options = ()


@dataclass(frozen=True, slots=True)
class Response:
    """
    What a server sends.

    @ivar opcode: the request's.
    @ivar result: see L{ResultCode}; others may come.
    @ivar lifetime: seconds that were granted, or that an error will last.
    @ivar epoch: seconds since the server lost its mappings (RFC 6887 section 8.5).
    @ivar mapping: of a MAP response, and of no other.
    @ivar options: codes and contents.
    """

    opcode: int
    result: int
    lifetime: int
    epoch: int
    mapping: Mapping | None = None
    options: Options = ()


def encodeRequest(request: Request) -> bytes:
    """
    @raise LocalUsageError: when it does not fit its fields.
    """
    try:
        head = _REQUEST.pack(
            VERSION, request.opcode, 0, request.lifetime, _packHost(request.client)
        )
        return _finish(head, request.opcode, request.mapping, request.options)
    except struct.error as error:
        raise LocalUsageError(f"{request} cannot be sent: {error}") from None


def encodeResponse(response: Response) -> bytes:
    """
    @raise LocalUsageError: when it does not fit its fields.
    """
    opcode = response.opcode | _RESPONSE_BIT
    try:
        head = _RESPONSE.pack(
            VERSION, opcode, 0, response.result, response.lifetime, response.epoch
        )
        return _finish(head, response.opcode, response.mapping, response.options)
    except struct.error as error:
        raise LocalUsageError(f"{response} cannot be sent: {error}") from None


def decodeRequest(data: bytes) -> Request:
    """
    @raise MalformedDatagram: when it is no PCP request of this version.
    """
    _checkLength(data)
    version, opcode, _, lifetime, client = _REQUEST.unpack_from(data)
    if version != VERSION:
        raise MalformedDatagram(f"PCP version {version}")
    if opcode & _RESPONSE_BIT:
        raise MalformedDatagram("a response instead of a request")
    mapping, options = _decodeBody(data, opcode)
    return Request(opcode, lifetime, _unpackHost(client), mapping, options)


def decodeResponse(data: bytes) -> Response:
    """
    @raise MalformedDatagram: when it is no PCP response of this version.
    """
    _checkLength(data)
    version, opcode, _, result, lifetime, epoch = _RESPONSE.unpack_from(data)
    if version != VERSION:
        raise MalformedDatagram(f"PCP version {version}")
    if not opcode & _RESPONSE_BIT:
        raise MalformedDatagram("a request instead of a response")
    opcode ^= _RESPONSE_BIT
    mapping, options = _decodeBody(data, opcode)
    return Response(opcode, result, lifetime, epoch, mapping, options)


def unsupportedVersion(data: bytes, opcode: int) -> int | None:
    """
    Read the answer of a server that speaks other versions only: one that knows nothing but NAT-PMP
    says so in the shape of NAT-PMP (RFC 6887 section 9, RFC 6886 section 3.5).

    @param opcode: of the request.
    @return: the version that the server speaks, 0 for NAT-PMP; C{None} when this is no such answer.
    """
    if len(data) < 8 or data[1] != opcode | _RESPONSE_BIT:
        return None
    if data[0] == VERSION or data[2] or data[3] != ResultCode.UNSUPP_VERSION:
        return None
    if data[0] and not HEADER_LENGTH <= len(data) <= MAX_LENGTH:
        return None
    # A server of NAT-PMP may send back as much as it was sent.
    return data[0] if len(data) <= MAX_LENGTH else None


def nameOf(result: int) -> str:
    """
    @return: the standard's name of a result code, such as C{"NOT_AUTHORIZED"}.
    """
    try:
        return ResultCode(result).name
    except ValueError:
        return f"RESULT_{result}"


def _finish(head: bytes, opcode: int, mapping: Mapping | None, options: Options) -> bytes:
    if (mapping is not None) != (opcode == Opcode.MAP):
        raise LocalUsageError("a MAP message, and no other, has a mapping")
    body = b"" if mapping is None else _packMapping(mapping)
    data = head + body + b"".join(map(_packOption, options))
    if len(data) > MAX_LENGTH:
        raise LocalUsageError(f"a PCP message has at most {MAX_LENGTH} bytes")
    return data


def _packMapping(mapping: Mapping) -> bytes:
    if len(mapping.nonce) != 12:
        raise LocalUsageError("a nonce has 12 bytes")
    return _MAP.pack(
        mapping.nonce,
        mapping.protocol,
        mapping.internalPort,
        mapping.externalPort,
        _packHost(mapping.externalHost),
    )


def _packOption(option: tuple[int, bytes]) -> bytes:
    code, content = option
    padding = bytes(-len(content) % 4)
    return _OPTION.pack(code, len(content)) + content + padding


def _checkLength(data: bytes) -> None:
    if len(data) % 4 or not HEADER_LENGTH <= len(data) <= MAX_LENGTH:
        raise MalformedDatagram(f"a PCP message of {len(data)} bytes")


def _decodeBody(data: bytes, opcode: int) -> tuple[Mapping | None, Options]:
    """
    @return: what follows the header; nothing, of an opcode that is not known here.
    """
    if opcode == Opcode.ANNOUNCE:
        return None, _decodeOptions(data, HEADER_LENGTH)
    if opcode != Opcode.MAP:
        return None, ()
    if len(data) < HEADER_LENGTH + MAP_LENGTH:
        raise MalformedDatagram("a MAP message that is cut off")
    nonce, protocol, internal, external, host = _MAP.unpack_from(data, HEADER_LENGTH)
    mapping = Mapping(nonce, protocol, internal, external, _unpackHost(host))
    return mapping, _decodeOptions(data, HEADER_LENGTH + MAP_LENGTH)


def _decodeOptions(data: bytes, offset: int) -> Options:
    options = []
    while offset < len(data):  # at least 4 octets, as the length is a multiple of 4
        code, length = _OPTION.unpack_from(data, offset)
        offset += _OPTION.size
        if offset + length > len(data):
            raise MalformedDatagram("an option that is cut off")
        options.append((code, data[offset : offset + length]))
        offset += length + -length % 4
    return tuple(options)


def _packHost(host: str) -> bytes:
    """
    @return: 16 bytes: IPv4 as IPv4-mapped IPv6 (RFC 6887 section 5).
    """
    parsed = parseHost(host)
    if isinstance(parsed, IPv6Address):
        return parsed.packed
    return b"\0" * 10 + b"\xff\xff" + parsed.packed


def _unpackHost(packed: bytes) -> str:
    return canonicalHost(str(IPv6Address(packed)))
