"""
STUN messages (RFC 8489): the bytes of a datagram, and what they mean.

Parsing and authenticating are two steps: L{decode} checks the form, L{Message.verify} checks the
sender.  Both cost time in proportion to the length of the datagram, whatever it holds.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import md5
from struct import Struct
from zlib import crc32

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram

MAGIC_COOKIE = 0x2112A442  # RFC 8489 section 5
MAGIC_COOKIE_BYTES = MAGIC_COOKIE.to_bytes(4, "big")
HEADER_LENGTH = 20  # bytes; RFC 8489 section 5
TRANSACTION_ID_LENGTH = 12  # bytes; RFC 8489 section 5
# bytes.  RFC 8489 section 6.1 keeps messages within the path's MTU, and no path of the Internet
# carries more than an Ethernet frame's 1,500; the rest is room for tunnels inside a machine.
MAX_MESSAGE_LENGTH = 2048
# A connectivity check has 7, a TURN message with every extension about 15.
MAX_ATTRIBUTES = 64

_SHA1_LENGTH = 20  # bytes; RFC 8489 section 14.5
_SHA256_LENGTH = 32  # bytes; RFC 8489 section 14.6
_SHA256_SHORTEST = 16  # bytes; RFC 8489 section 14.6: the most that may be cut off
_FINGERPRINT_LENGTH = 4  # bytes; RFC 8489 section 14.7
_FINGERPRINT_XOR = 0x5354554E  # RFC 8489 section 14.7
_MAX_METHOD = 0xFFF  # 12 bits; RFC 8489 section 5

_HEADER = Struct("!HHI12s")
_ATTRIBUTE = Struct("!HH")
_UINT32 = Struct("!I")


class Method(enum.IntEnum):
    """
    What a message asks for (RFC 8489 section 18.2).
    """

    BINDING = 0x001


class MessageClass(enum.IntEnum):
    """
    What part a message plays in a transaction (RFC 8489 section 5).
    """

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


class AttributeType(enum.IntEnum):
    """
    Attributes known here.  Those below 0x8000 must be understood by whoever gets them.

    RFC 3489 section 11.2 (C{SOURCE_ADDRESS}, C{CHANGED_ADDRESS}), RFC 5780 section 7, RFC 8445
    section 16.1, RFC 8489 section 18.3.
    """

    MAPPED_ADDRESS = 0x0001
    CHANGE_REQUEST = 0x0003
    SOURCE_ADDRESS = 0x0004
    CHANGED_ADDRESS = 0x0005
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    REALM = 0x0014
    NONCE = 0x0015
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    PASSWORD_ALGORITHM = 0x001D
    USERHASH = 0x001E
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    PADDING = 0x0026
    RESPONSE_PORT = 0x0027
    PASSWORD_ALGORITHMS = 0x8002
    ALTERNATE_DOMAIN = 0x8003
    SOFTWARE = 0x8022
    ALTERNATE_SERVER = 0x8023
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A
    RESPONSE_ORIGIN = 0x802B
    OTHER_ADDRESS = 0x802C


# Plain integers: comparing with a member of an IntEnum costs three times as much.
_INTEGRITY = int(AttributeType.MESSAGE_INTEGRITY)
_INTEGRITY_SHA256 = int(AttributeType.MESSAGE_INTEGRITY_SHA256)
_FINGERPRINT = int(AttributeType.FINGERPRINT)
_COMPREHENSION_OPTIONAL = 0x8000  # RFC 8489 section 14: from here on


@dataclass(frozen=True, slots=True)
class Message:
    """
    One well-formed STUN message.

    @ivar messageClass: request, indication, success or error.
    @ivar method: what it asks for; see L{Method}.
    @ivar transactionID: exactly 12 bytes.
    @ivar attributes: type and raw value of every attribute that counts, in wire order.  Left out
        are integrity and fingerprint themselves, and whatever follows an integrity attribute
        (RFC 8489 sections 14.5 and 14.6).
    @ivar fingerprinted: whether there was a FINGERPRINT; L{decode} found it right.
    """

    messageClass: MessageClass
    method: int
    transactionID: bytes
    attributes: tuple[tuple[int, bytes], ...] = ()
    fingerprinted: bool = False
    _datagram: bytes = field(default=b"", repr=False, compare=False)
    # Where an integrity attribute starts; 0, which is in the header, for nowhere.
    _sha1Offset: int = field(default=0, repr=False, compare=False)
    _sha256Offset: int = field(default=0, repr=False, compare=False)
    _sha256Length: int = field(default=0, repr=False, compare=False)

    @property
    def authenticated(self) -> bool:
        """
        Whether there is any integrity attribute, right or wrong.
        """
        return bool(self._sha1Offset or self._sha256Offset)

    def get(self, attributeType: int) -> bytes | None:
        """
        @return: the raw value of the first attribute of that type, or C{None}.
        """
        for present, value in self.attributes:
            if present == attributeType:
                return value
        return None

    def unknownRequired(self, understood: frozenset[int]) -> tuple[int, ...]:
        """
        @param understood: the types that the receiver understands.
        @return: each comprehension-required type that is here and not understood, once.
        """
        unknown = dict.fromkeys(
            present
            for present, _ in self.attributes
            if present < _COMPREHENSION_OPTIONAL and present not in understood
        )
        return tuple(unknown)

    def verify(self, key: bytes, *, shortest: int = _SHA256_LENGTH) -> bool:
        """
        Check the sender, in constant time.  MESSAGE-INTEGRITY-SHA256 wins when both are there.

        @param key: the password (short-term credentials) or L{longTermKey}.
        @param shortest: how short a truncated SHA-256 may be, in bytes; only a usage of STUN that
            allows truncation passes less than all of it (RFC 8489 section 14.6).
        @return: C{False} when there is no integrity attribute, or it is wrong.
        """
        if self._sha256Offset:
            offset, length, digest = self._sha256Offset, self._sha256Length, "sha256"
            if length < shortest:
                return False
        elif self._sha1Offset:
            offset, length, digest = self._sha1Offset, _SHA1_LENGTH, "sha1"
        else:
            return False
        expected = _digest(self._datagram, offset, length, key, digest)
        start = offset + _ATTRIBUTE.size
        return hmac.compare_digest(expected, self._datagram[start : start + length])


def longTermKey(username: str, realm: str, password: str) -> bytes:
    """
    The key of long-term credentials with the MD5 algorithm (RFC 8489 section 18.5.1.1).

    @param username: as prepared by RFC 8265 (C{OpaqueString}); so are the other two.
    """
    joined = f"{username}:{realm}:{password}".encode()
    return md5(joined, usedforsecurity=False).digest()


def isSTUN(datagram: bytes) -> bool:
    """
    Tell STUN from whatever else shares a port, by first byte (RFC 7983), length and magic cookie.
    """
    return (
        len(datagram) >= HEADER_LENGTH and datagram[0] < 4 and datagram[4:8] == MAGIC_COOKIE_BYTES
    )


def anySTUN(datagrams: Collection[bytes]) -> bool:
    """
    @return: whether one of C{datagrams} would be taken for STUN.
    """
    for data in datagrams:  # noqa: SIM110 - a third of the time of any()
        # The first byte nearly always settles it: RFC 7983.
        if data < b"\x04" and isSTUN(data):
            return True
    return False


def decode(datagram: bytes, *, requireFingerprint: bool = False) -> Message:
    """
    Read one message.

    @param requireFingerprint: whether a message without FINGERPRINT is refused.  Connectivity
        checks always have one (RFC 8445 section 7), and asking for it closes the one gap in
        integrity: a FINGERPRINT whose type was changed looks like an attribute to ignore.
    @raise MalformedDatagram: for anything that is not exactly one well-formed message.
    """
    messageType, transactionID = _decodeHeader(datagram)
    attributes: list[tuple[int, bytes]] = []
    sha1 = sha256 = sha256Length = 0
    fingerprinted = False
    for offset, attributeType, value in scanAttributes(datagram):
        if fingerprinted:
            raise MalformedDatagram("an attribute follows FINGERPRINT")
        if attributeType == _FINGERPRINT:
            _checkFingerprint(datagram, offset, value)
            fingerprinted = True
        elif sha256:
            continue
        elif attributeType == _INTEGRITY_SHA256:
            _checkSHA256Length(len(value))
            sha256, sha256Length = offset, len(value)
        elif sha1:
            continue
        elif attributeType == _INTEGRITY:
            if len(value) != _SHA1_LENGTH:
                raise MalformedDatagram("MESSAGE-INTEGRITY is not 20 bytes long")
            sha1 = offset
        else:
            attributes.append((attributeType, value))
    if requireFingerprint and not fingerprinted:
        raise MalformedDatagram("there is no FINGERPRINT")
    return Message(
        _CLASSES[(messageType >> 7 & 2) | (messageType >> 4 & 1)],
        (messageType >> 2 & 0xF80) | (messageType >> 1 & 0x70) | (messageType & 0xF),
        transactionID,
        tuple(attributes),
        fingerprinted,
        datagram,
        sha1,
        sha256,
        sha256Length,
    )


def encode(
    messageClass: MessageClass,
    method: int,
    transactionID: bytes,
    attributes: Sequence[tuple[int, bytes]] = (),
    *,
    key: bytes | None = None,
    sha256: bool = False,
    fingerprint: bool = False,
    padding: bytes = b"\0",
) -> bytes:
    """
    Write one message.

    @param key: when given, an integrity attribute is added; see L{Message.verify}.
    @param sha256: whether that is MESSAGE-INTEGRITY-SHA256 instead of MESSAGE-INTEGRITY.
    @param fingerprint: whether a FINGERPRINT is added.
    @param padding: the one byte that fills values up to a multiple of four.
    @raise LocalUsageError: for what cannot be a message.
    """
    if len(transactionID) != TRANSACTION_ID_LENGTH:
        raise LocalUsageError(f"a transaction ID has 12 bytes, not {len(transactionID)}")
    if not 0 <= method <= _MAX_METHOD:
        raise LocalUsageError(f"method {method} is not in 0..4095")
    body = b"".join(encodeAttribute(each, value, padding) for each, value in attributes)
    messageType = (
        (method & 0xF80) << 2
        | (method & 0x70) << 1
        | (method & 0xF)
        | (messageClass & 2) << 7
        | (messageClass & 1) << 4
    )
    datagram = _HEADER.pack(messageType, len(body), MAGIC_COOKIE, transactionID) + body
    if key is not None:
        datagram = _addIntegrity(datagram, key, sha256)
    if fingerprint:
        datagram = _addFingerprint(datagram)
    if len(datagram) > MAX_MESSAGE_LENGTH:
        raise LocalUsageError(
            f"a message of {len(datagram)} bytes is longer than {MAX_MESSAGE_LENGTH}"
        )
    return datagram


def encodeAttribute(attributeType: int, value: bytes, padding: bytes = b"\0") -> bytes:
    """
    @return: the attribute as it stands in a message, header and padding included.
    @raise LocalUsageError: when the value is longer than a message.
    """
    length = len(value)
    if length > MAX_MESSAGE_LENGTH:
        raise LocalUsageError(f"an attribute of {length} bytes does not fit into a message")
    return _ATTRIBUTE.pack(attributeType, length) + value + padding * (-length % 4)


def scanAttributes(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """
    @param datagram: a header, and a body that is a multiple of four long.
    @return: offset, type and value of each attribute, in wire order.
    @raise MalformedDatagram: when they do not fill the body exactly, or are too many.
    """
    offset, end, count = HEADER_LENGTH, len(datagram), 0
    while offset < end:
        # The body is a multiple of four and so is every step: there is a whole header here.
        attributeType, length = _ATTRIBUTE.unpack_from(datagram, offset)
        start = offset + _ATTRIBUTE.size
        following = start + length + (-length % 4)
        count += 1
        if following > end:
            raise MalformedDatagram("an attribute runs past the end")
        if count > MAX_ATTRIBUTES:
            raise MalformedDatagram(f"there are more than {MAX_ATTRIBUTES} attributes")
        yield offset, attributeType, datagram[start : start + length]
        offset = following


_CLASSES = tuple(MessageClass)


def _decodeHeader(datagram: bytes) -> tuple[int, bytes]:
    """
    @return: the message type and the transaction ID.
    """
    length = len(datagram)
    if not HEADER_LENGTH <= length <= MAX_MESSAGE_LENGTH:
        raise MalformedDatagram(f"{length} bytes cannot be a STUN message")
    messageType, bodyLength, cookie, transactionID = _HEADER.unpack_from(datagram)
    if messageType > 0x3FFF:
        raise MalformedDatagram("the first two bits are not zero")
    if cookie != MAGIC_COOKIE:
        raise MalformedDatagram("there is no magic cookie")
    if bodyLength % 4 or bodyLength != length - HEADER_LENGTH:
        raise MalformedDatagram(f"a body of {bodyLength} bytes is announced in {length}")
    return messageType, transactionID


def _checkSHA256Length(length: int) -> None:
    if not _SHA256_SHORTEST <= length <= _SHA256_LENGTH or length % 4:
        raise MalformedDatagram(f"MESSAGE-INTEGRITY-SHA256 of {length} bytes")


def _checkFingerprint(datagram: bytes, offset: int, value: bytes) -> None:
    if len(value) != _FINGERPRINT_LENGTH:
        raise MalformedDatagram("FINGERPRINT is not 4 bytes long")
    if _UINT32.unpack(value)[0] != crc32(datagram[:offset]) ^ _FINGERPRINT_XOR:
        raise MalformedDatagram("FINGERPRINT is wrong")


def _digest(datagram: bytes, offset: int, length: int, key: bytes, name: str) -> bytes:
    """
    The HMAC of a message up to its integrity attribute, as if it ended with that attribute.

    @param offset: where the attribute starts.
    @param length: how long its value is.
    """
    bodyLength = offset + _ATTRIBUTE.size + length - HEADER_LENGTH
    text = datagram[:2] + bodyLength.to_bytes(2, "big") + datagram[4:offset]
    return hmac.digest(key, text, name)[:length]


def _addIntegrity(datagram: bytes, key: bytes, sha256: bool) -> bytes:
    attributeType, length, name = (
        (_INTEGRITY_SHA256, _SHA256_LENGTH, "sha256")
        if sha256
        else (_INTEGRITY, _SHA1_LENGTH, "sha1")
    )
    value = _digest(datagram, len(datagram), length, key, name)
    return _append(datagram, attributeType, value)


def _addFingerprint(datagram: bytes) -> bytes:
    complete = _append(datagram, _FINGERPRINT, bytes(_FINGERPRINT_LENGTH))
    value = crc32(complete[: len(datagram)]) ^ _FINGERPRINT_XOR
    return complete[:-_FINGERPRINT_LENGTH] + _UINT32.pack(value)


def _append(datagram: bytes, attributeType: int, value: bytes) -> bytes:
    """
    @return: the message with one more attribute, and its length mended.
    """
    attribute = encodeAttribute(attributeType, value)
    length = len(datagram) + len(attribute) - HEADER_LENGTH
    return datagram[:2] + length.to_bytes(2, "big") + datagram[4:] + attribute
