"""
The values of STUN attributes (RFC 8489 section 14).

Each pair turns a value into its bytes and back.  Encoding raises L{LocalUsageError}, decoding
L{MalformedDatagram}, and neither anything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address
from struct import Struct

from p2ptwist.core.address import HostPort, parseHost
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.stun.message import MAGIC_COOKIE, MAGIC_COOKIE_BYTES

_IPV4 = 0x01  # RFC 8489 section 14.1
_IPV6 = 0x02
_PORT_XOR = MAGIC_COOKIE >> 16  # RFC 8489 section 14.2
_MAX_PORT = 65535
_MAX_REASON = 763  # bytes; RFC 8489 section 14.8: what a receiver must take
_LOWEST_CODE, _HIGHEST_CODE = 300, 699  # RFC 8489 section 14.8

_ADDRESS = Struct("!xBH")
_ERROR = Struct("!2xBB")
_UINT32 = Struct("!I")
_UINT64 = Struct("!Q")


@lru_cache(4096)  # as many as p2ptwist.core.address keeps, for the same reason
def _packHost(host: str) -> bytes:
    return parseHost(host).packed


def _unpackHost(packed: bytes) -> str:
    if len(packed) == 4:
        return "%d.%d.%d.%d" % tuple(packed)  # noqa: UP031 - twice as fast as format
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def _xor(packed: bytes, mask: bytes) -> bytes:
    length = len(packed)
    mixed = int.from_bytes(packed, "big") ^ int.from_bytes(mask[:length], "big")
    return mixed.to_bytes(length, "big")


def _split(value: bytes) -> tuple[int, bytes]:
    """
    @return: the port and the packed host of an address attribute, as they stand there.
    """
    if len(value) not in (8, 20):
        raise MalformedDatagram(f"an address of {len(value)} bytes")
    family, port = _ADDRESS.unpack_from(value)
    if family != (_IPV4 if len(value) == 8 else _IPV6):
        raise MalformedDatagram(f"an address of family {family} in {len(value)} bytes")
    return port, value[_ADDRESS.size :]


def _join(packed: bytes, port: int) -> bytes:
    return _ADDRESS.pack(_IPV4 if len(packed) == 4 else _IPV6, port) + packed


def _checkPort(port: int) -> None:
    if not 0 <= port <= _MAX_PORT:
        raise LocalUsageError(f"port {port} is not in 0..65535")


def encodeAddress(address: HostPort) -> bytes:
    """
    MAPPED-ADDRESS and its like (RFC 8489 section 14.1).
    """
    host, port = address
    _checkPort(port)
    return _join(_packHost(host), port)


def decodeAddress(value: bytes) -> HostPort:
    """
    The reverse of L{encodeAddress}.
    """
    port, packed = _split(value)
    return _unpackHost(packed), port


def encodeXORAddress(address: HostPort, transactionID: bytes) -> bytes:
    """
    XOR-MAPPED-ADDRESS and its like (RFC 8489 section 14.2).
    """
    host, port = address
    _checkPort(port)
    packed = _xor(_packHost(host), MAGIC_COOKIE_BYTES + transactionID)
    return _join(packed, port ^ _PORT_XOR)


def decodeXORAddress(value: bytes, transactionID: bytes) -> HostPort:
    """
    The reverse of L{encodeXORAddress}.
    """
    port, packed = _split(value)
    return _unpackHost(_xor(packed, MAGIC_COOKIE_BYTES + transactionID)), port ^ _PORT_XOR


def encodeErrorCode(code: int, reason: str) -> bytes:
    """
    ERROR-CODE (RFC 8489 section 14.8).

    @param code: 300..699.
    @param reason: for people, fewer than 128 characters.
    """
    if not _LOWEST_CODE <= code <= _HIGHEST_CODE:
        raise LocalUsageError(f"error code {code} is not in 300..699")
    if len(reason) >= 128:
        raise LocalUsageError("the reason has 128 characters or more")
    return _ERROR.pack(code // 100, code % 100) + reason.encode()


def decodeErrorCode(value: bytes) -> tuple[int, str]:
    """
    The reverse of L{encodeErrorCode}.  A reason that is not UTF-8 is shown as well as it can be:
    it is only for people.
    """
    if not _ERROR.size <= len(value) <= _ERROR.size + _MAX_REASON:
        raise MalformedDatagram(f"ERROR-CODE of {len(value)} bytes")
    hundreds, rest = _ERROR.unpack_from(value)
    code = (hundreds & 7) * 100 + rest
    if rest > 99 or not _LOWEST_CODE <= code <= _HIGHEST_CODE:
        raise MalformedDatagram(f"ERROR-CODE {hundreds & 7}, {rest}")
    return code, value[_ERROR.size :].decode(errors="replace")


def encodeUnknownAttributes(types: Iterable[int]) -> bytes:
    """
    UNKNOWN-ATTRIBUTES (RFC 8489 section 14.9).
    """
    return b"".join(each.to_bytes(2, "big") for each in types)


def decodeUnknownAttributes(value: bytes) -> tuple[int, ...]:
    """
    The reverse of L{encodeUnknownAttributes}.
    """
    if len(value) % 2:
        raise MalformedDatagram(f"UNKNOWN-ATTRIBUTES of {len(value)} bytes")
    return tuple(
        int.from_bytes(value[index : index + 2], "big") for index in range(0, len(value), 2)
    )


def encodeUInt32(number: int) -> bytes:
    """
    PRIORITY, CHANGE-REQUEST.
    """
    return _pack(_UINT32, number)


def decodeUInt32(value: bytes) -> int:
    """
    The reverse of L{encodeUInt32}.
    """
    return _unpack(_UINT32, value)


def encodeResponsePort(port: int) -> bytes:
    """
    RESPONSE-PORT (RFC 5780 section 7.5): a port, and as many zeros.
    """
    return encodeUInt32(port << 16)


def decodeResponsePort(value: bytes) -> int:
    """
    The reverse of L{encodeResponsePort}.

    @raise MalformedDatagram: also for ports below 1024, where services listen that must not be
        sent answers to what they never asked.
    """
    port = decodeUInt32(value) >> 16
    if port < 1024:
        raise MalformedDatagram(f"an answer to port {port}")
    return port


def encodeUInt64(number: int) -> bytes:
    """
    ICE-CONTROLLED, ICE-CONTROLLING.
    """
    return _pack(_UINT64, number)


def decodeUInt64(value: bytes) -> int:
    """
    The reverse of L{encodeUInt64}.
    """
    return _unpack(_UINT64, value)


def _pack(layout: Struct, number: int) -> bytes:
    if not 0 <= number < 1 << 8 * layout.size:
        raise LocalUsageError(f"{number} does not fit into {layout.size} bytes")
    return layout.pack(number)


def _unpack(layout: Struct, value: bytes) -> int:
    if len(value) != layout.size:
        raise MalformedDatagram(f"{len(value)} bytes where a number has {layout.size}")
    number: int = layout.unpack(value)[0]
    return number
