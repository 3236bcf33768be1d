"""
The datagrams of NAT-PMP, the NAT Port Mapping Protocol (RFC 6886), of both sides.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram

VERSION = 0  # RFC 6886 section 3.2

_ADDRESS_REQUEST = struct.Struct("!BB")
_MAP_REQUEST = struct.Struct("!BBxxHHI")
_HEADER = struct.Struct("!BBHI")
_ADDRESS_RESPONSE = struct.Struct("!BBHI4s")
_MAP_RESPONSE = struct.Struct("!BBHIHHI")
_RESPONSE_BIT = 0x80


class Opcode(enum.IntEnum):
    """
    What a message is about (RFC 6886 sections 3.2 and 3.3).
    """

    ADDRESS = 0
    MAP_UDP = 1
    MAP_TCP = 2


class ResultCode(enum.IntEnum):
    """
    How a request ended (RFC 6886 section 3.5).
    """

    SUCCESS = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


@dataclass(frozen=True, slots=True)
class Request:
    """
    What a client sends.

    @ivar opcode: see L{Opcode}; others are for tests.
    @ivar internalPort: of a mapping, 0..65535.
    @ivar externalPort: that is suggested; 0 for any.
    @ivar lifetime: seconds that are asked for; 0 deletes.
    """

    opcode: int
    internalPort: int = 0
    externalPort: int = 0
    lifetime: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """
    What a server sends.

    @ivar opcode: the request's.
    @ivar result: see L{ResultCode}; others may come.
    @ivar epoch: seconds since the server lost its mappings (RFC 6886 section 3.6).
    @ivar host: the external address, an IPv4 address: of a success to L{Opcode.ADDRESS} alone.
    @ivar internalPort: of a mapping; 0 where an error does not say.
    @ivar externalPort: that was assigned; 0 where none was.
    @ivar lifetime: seconds that were granted.
    """

    opcode: int
    result: int
    epoch: int
    host: str | None = None
    internalPort: int = 0
    externalPort: int = 0
    lifetime: int = 0


def encodeRequest(request: Request) -> bytes:
    """
    @raise LocalUsageError: when it does not fit its fields.
    """
    opcode = request.opcode
    try:
        if opcode == Opcode.ADDRESS:
            return _ADDRESS_REQUEST.pack(VERSION, opcode)
        return _MAP_REQUEST.pack(
            VERSION, opcode, request.internalPort, request.externalPort, request.lifetime
        )
    except struct.error as error:
        raise LocalUsageError(f"{request} cannot be sent: {error}") from None


def decodeRequest(data: bytes) -> Request:
    """
    @raise MalformedDatagram: when it is no NAT-PMP request of this version.
    """
    if len(data) < _ADDRESS_REQUEST.size:
        raise MalformedDatagram(f"a NAT-PMP request of {len(data)} bytes")
    version, opcode = data[0], data[1]
    if version != VERSION:
        raise MalformedDatagram(f"NAT-PMP version {version}")
    if opcode & _RESPONSE_BIT:
        raise MalformedDatagram("a response instead of a request")
    if opcode not in (Opcode.MAP_UDP, Opcode.MAP_TCP):
        if opcode == Opcode.ADDRESS and len(data) != _ADDRESS_REQUEST.size:
            raise MalformedDatagram(f"an address request of {len(data)} bytes")
        return Request(opcode)
    if len(data) != _MAP_REQUEST.size:
        raise MalformedDatagram(f"a mapping request of {len(data)} bytes")
    _, _, internal, external, lifetime = _MAP_REQUEST.unpack(data)
    return Request(opcode, internal, external, lifetime)


def encodeResponse(response: Response) -> bytes:
    """
    @raise LocalUsageError: when it does not fit its fields.
    """
    opcode = response.opcode | _RESPONSE_BIT
    head = (VERSION, opcode, response.result, response.epoch)
    try:
        if response.opcode == Opcode.ADDRESS:
            packed = IPv4Address(response.host or "0.0.0.0").packed
            return _ADDRESS_RESPONSE.pack(*head, packed)
        if response.opcode in (Opcode.MAP_UDP, Opcode.MAP_TCP):
            return _MAP_RESPONSE.pack(
                *head, response.internalPort, response.externalPort, response.lifetime
            )
        return _HEADER.pack(*head)
    except (struct.error, ValueError) as error:
        raise LocalUsageError(f"{response} cannot be sent: {error}") from None


def decodeResponse(data: bytes) -> Response:
    """
    Read a response.  An error may be as short as its header, as it has nothing more to say.

    @raise MalformedDatagram: when it is no NAT-PMP response of this version.
    """
    if len(data) < _HEADER.size:
        raise MalformedDatagram(f"a NAT-PMP response of {len(data)} bytes")
    version, opcode, result, epoch = _HEADER.unpack_from(data)
    if version != VERSION:
        raise MalformedDatagram(f"NAT-PMP version {version}")
    if not opcode & _RESPONSE_BIT:
        raise MalformedDatagram("a request instead of a response")
    opcode ^= _RESPONSE_BIT
    if result != ResultCode.SUCCESS and len(data) == _HEADER.size:
        return Response(opcode, result, epoch)
    if opcode == Opcode.ADDRESS and len(data) == _ADDRESS_RESPONSE.size:
        host = str(IPv4Address(data[8:12])) if result == ResultCode.SUCCESS else None
        return Response(opcode, result, epoch, host)
    if opcode in (Opcode.MAP_UDP, Opcode.MAP_TCP) and len(data) == _MAP_RESPONSE.size:
        return Response(opcode, result, epoch, None, *_MAP_RESPONSE.unpack(data)[4:])
    raise MalformedDatagram(f"a NAT-PMP response of {len(data)} bytes to opcode {opcode}")


def nameOf(result: int) -> str:
    """
    @return: the standard's name of a result code, such as C{"NOT_AUTHORIZED"}.
    """
    try:
        return ResultCode(result).name
    except ValueError:
        return f"RESULT_{result}"
