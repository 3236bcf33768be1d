"""
What a STUN server says, to RFC 8489 (Binding), RFC 5780 (behaviour) and RFC 3489 (classic) alike.

It keeps no state between requests, answers only requests, always to the host that they came from,
one datagram for one, and with as few attributes as the asker can do with.  Whoever forges a source
gets these bytes on the wire sent there for each byte: 1.25 (IPv4) or 1.35 (IPv6) by a server with
one address, 1.75 or 2.06 by one with an alternate address, and 1.75 for a classic request.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TypeVar

from p2ptwist.core.address import HostPort, isIPv6
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.stun.attributes import (
    decodeResponsePort,
    decodeUInt32,
    encodeAddress,
    encodeErrorCode,
    encodeUnknownAttributes,
    encodeXORAddress,
)
from p2ptwist.core.stun.binding import CHANGE_HOST, CHANGE_PORT
from p2ptwist.core.stun.message import (
    HEADER_LENGTH,
    MAGIC_COOKIE_BYTES,
    MAX_MESSAGE_LENGTH,
    AttributeType,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    encodeAttribute,
    isSTUN,
    scanAttributes,
)

UNKNOWN_ATTRIBUTE = 420  # RFC 8489 section 14.8
MAX_SOFTWARE = 64  # bytes of a server's own name, so that it does not make answers long

# The first 8 bytes of a Binding request without attributes, the commonest one there is.
PLAIN_REQUEST = b"\x00\x01\x00\x00" + MAGIC_COOKIE_BYTES

_CLASSIC_HEADER = Struct("!HH16s")  # RFC 3489 section 11.1
_BINDING_REQUEST, _BINDING_RESPONSE = 0x0001, 0x0101
# XOR-MAPPED-ADDRESS up to its port, and its length.
_IPV4_ADDRESS = b"\x00\x20\x00\x08\x00\x01", 12
_IPV6_ADDRESS = b"\x00\x20\x00\x14\x00\x02", 24

# What any Binding request may carry; a server without passwords has no use for it.
_UNDERSTOOD = frozenset(
    {
        AttributeType.MAPPED_ADDRESS,
        AttributeType.USERNAME,
        AttributeType.ERROR_CODE,
        AttributeType.UNKNOWN_ATTRIBUTES,
        AttributeType.REALM,
        AttributeType.NONCE,
        AttributeType.PASSWORD_ALGORITHM,
        AttributeType.USERHASH,
        AttributeType.XOR_MAPPED_ADDRESS,
        AttributeType.RESPONSE_PORT,
    }
)
_UNDERSTOOD_WITH_ALTERNATE = _UNDERSTOOD | {AttributeType.CHANGE_REQUEST}


_ChoiceT = TypeVar("_ChoiceT")


@dataclass(frozen=True, slots=True)
class ServerAddresses:
    """
    Where a server listens: on its primary address, and on every combination of its two hosts and
    two ports when it has an alternate one.

    @ivar primary: the address that clients are told.
    @ivar alternate: another host, another port, or both.
    """

    primary: HostPort
    alternate: HostPort | None = None

    def __post_init__(self) -> None:
        if self.alternate == self.primary:
            raise LocalUsageError("the alternate STUN address is the primary one")
        if self.alternate and isIPv6(self.alternate[0]) != isIPv6(self.primary[0]):
            raise LocalUsageError("the two STUN addresses must both be IPv4, or both IPv6")

    def all(self) -> tuple[HostPort, ...]:
        """
        @return: each address to listen on, the primary one first.
        """
        hosts, ports = self._hosts(), self._ports()
        return tuple((host, port) for host in hosts for port in ports)

    def changed(self, local: HostPort, changeHost: bool, changePort: bool) -> HostPort | None:
        """
        @return: the address with the other host, port or both; C{None} when there is no other.
        """
        if self.alternate is None:
            return None if changeHost or changePort else local
        host = _other(self._hosts(), local[0]) if changeHost else local[0]
        port = _other(self._ports(), local[1]) if changePort else local[1]
        return None if host is None or port is None else (host, port)

    def other(self, local: HostPort) -> HostPort | None:
        """
        @return: the address that differs from C{local} as much as there is to differ.
        """
        if self.alternate is None:
            return None
        return self.changed(local, len(self._hosts()) == 2, len(self._ports()) == 2)

    def _hosts(self) -> tuple[str, ...]:
        alternate = self.alternate or self.primary
        return tuple(dict.fromkeys((self.primary[0], alternate[0])))

    def _ports(self) -> tuple[int, ...]:
        alternate = self.alternate or self.primary
        return tuple(dict.fromkeys((self.primary[1], alternate[1])))


def _other(choices: tuple[_ChoiceT, ...], current: _ChoiceT) -> _ChoiceT | None:
    """
    @return: the one of two that is not C{current}; C{None} when there is only one.
    """
    return next((each for each in choices if each != current), None)


@dataclass(slots=True)
class STUNCounters:
    """
    What a server has seen and done, in datagrams.

    @ivar received: that came.
    @ivar answered: answers, classic ones and refusals included.
    @ivar classic: answers to RFC 3489 requests.
    @ivar refused: 420 answers to attributes that are not understood.
    @ivar malformed: that were dropped because they are no STUN.
    @ivar ignored: that were dropped because they are no request for an address.
    @ivar limited: that were dropped unread because their source sent too many.
    @ivar unsent: answers that the network would not take.
    """

    received: int = 0
    answered: int = 0
    classic: int = 0
    refused: int = 0
    malformed: int = 0
    ignored: int = 0
    limited: int = 0
    unsent: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """
    One answer.

    @ivar data: the datagram, to be sent to the host that the request came from.
    @ivar origin: which of the server's addresses it is sent from.
    @ivar port: which port of the host it is sent to; C{None} for where the request came from.
    """

    data: bytes
    origin: HostPort
    port: int | None = None


class Responder:
    """
    The pure part of a STUN server.

    @ivar addresses: where it listens.
    @ivar counters: what it did; L{answer} keeps C{classic}, C{refused}, C{malformed} and
        C{ignored}, whoever owns the sockets the others.
    """

    def __init__(
        self,
        addresses: ServerAddresses,
        software: str | None = None,
        counters: STUNCounters | None = None,
    ) -> None:
        """
        @param software: what the server tells about itself in every answer; nothing by default.
        @param counters: what to count in; its own by default.
        """
        encoded = (software or "").encode()
        if len(encoded) > MAX_SOFTWARE:
            raise LocalUsageError(f"the software name is longer than {MAX_SOFTWARE} bytes")
        self.addresses = addresses
        self.counters = counters or STUNCounters()
        self._software = [(int(AttributeType.SOFTWARE), encoded)] if encoded else []
        self._understood = _UNDERSTOOD_WITH_ALTERNATE if addresses.alternate else _UNDERSTOOD

    def answer(self, datagram: bytes, source: HostPort, local: HostPort) -> Reply | None:
        """
        Answer one datagram, or not.

        @param source: where it came from.
        @param local: which of the server's addresses it came to.
        """
        try:
            if isSTUN(datagram):
                return self._answerMessage(decode(datagram), source, local)
            return self._answerClassic(datagram, source, local)
        except MalformedDatagram:
            self.counters.malformed += 1
            return None

    def plainAnswer(self, local: HostPort) -> tuple[bytes, bytes, bytes]:
        """
        The constant parts of every answer to a L{PLAIN_REQUEST} that comes to C{local}.

        @return: the first 8 bytes; what stands between transaction ID and XORed port; what
            follows the XORed host.
        """
        tail = b"".join(encodeAttribute(*each) for each in self._extras(local, local))
        middle, length = _IPV6_ADDRESS if isIPv6(local[0]) else _IPV4_ADDRESS
        length += len(tail)
        head = _BINDING_RESPONSE.to_bytes(2, "big") + length.to_bytes(2, "big")
        return head + MAGIC_COOKIE_BYTES, middle, tail

    def _extras(self, local: HostPort, origin: HostPort) -> list[tuple[int, bytes]]:
        """
        @return: the attributes that do not depend on who asks.
        """
        extras = list(self._software)
        other = self.addresses.other(local)
        if other is not None:
            extras.append((AttributeType.RESPONSE_ORIGIN, encodeAddress(origin)))
            extras.append((AttributeType.OTHER_ADDRESS, encodeAddress(other)))
        return extras

    def _answerMessage(self, message: Message, source: HostPort, local: HostPort) -> Reply | None:
        if message.messageClass is not MessageClass.REQUEST or message.method != Method.BINDING:
            self.counters.ignored += 1
            return None
        unknown = message.unknownRequired(self._understood)
        if unknown:
            return self._refuse(message, unknown, local)
        origin = self._origin(message.get(AttributeType.CHANGE_REQUEST), local)
        if origin is None:
            return self._refuse(message, (AttributeType.CHANGE_REQUEST,), local)
        mapped = encodeXORAddress(source, message.transactionID)
        attributes = [(int(AttributeType.XOR_MAPPED_ADDRESS), mapped)]
        attributes += self._extras(local, origin)
        # How long a mapping lives can be seen only from outside (RFC 5780 section 4.6).  An answer
        # never goes to another host than asked, and is worth nothing to whoever did not.
        wanted = message.get(AttributeType.RESPONSE_PORT)
        port = None if wanted is None else decodeResponsePort(wanted)
        return Reply(_respond(MessageClass.SUCCESS, message, attributes), origin, port)

    def _origin(self, change: bytes | None, local: HostPort) -> HostPort | None:
        """
        @param change: the value of CHANGE-REQUEST.
        @return: where the answer is sent from; C{None} when that is not possible.
        """
        flags = 0 if change is None else decodeUInt32(change)
        return self.addresses.changed(local, bool(flags & CHANGE_HOST), bool(flags & CHANGE_PORT))

    def _refuse(self, message: Message, unknown: tuple[int, ...], local: HostPort) -> Reply:
        self.counters.refused += 1
        attributes = [
            # No words: they would make the answer half as long again as the request.
            (int(AttributeType.ERROR_CODE), encodeErrorCode(UNKNOWN_ATTRIBUTE, "")),
            (int(AttributeType.UNKNOWN_ATTRIBUTES), encodeUnknownAttributes(unknown)),
        ]
        return Reply(_respond(MessageClass.ERROR, message, attributes), local)

    def _answerClassic(self, datagram: bytes, source: HostPort, local: HostPort) -> Reply | None:
        """
        Answer as RFC 3489 says.

        What cannot be answered is dropped: old clients take an error for a lost datagram and ask
        again, some of them for ever.
        """
        transactionID, change = _decodeClassic(datagram)
        origin = self._origin(change, local)
        if origin is None or isIPv6(source[0]):
            self.counters.ignored += 1
            return None
        # Where nothing differs, the client sees that no test of filtering is possible.
        other = self.addresses.other(local) or local
        body = b"".join(
            encodeAttribute(each, encodeAddress(value))
            for each, value in (
                (AttributeType.MAPPED_ADDRESS, source),
                (AttributeType.SOURCE_ADDRESS, origin),
                (AttributeType.CHANGED_ADDRESS, other),
            )
        )
        self.counters.classic += 1
        header = _CLASSIC_HEADER.pack(_BINDING_RESPONSE, len(body), transactionID)
        return Reply(header + body, origin)


def _respond(
    messageClass: MessageClass, request: Message, attributes: list[tuple[int, bytes]]
) -> bytes:
    """
    @return: an answer that has a FINGERPRINT exactly when the request had one.
    """
    return encode(
        messageClass,
        request.method,
        request.transactionID,
        attributes,
        fingerprint=request.fingerprinted,
    )


def _decodeClassic(datagram: bytes) -> tuple[bytes, bytes | None]:
    """
    Read a Binding request of RFC 3489: no magic cookie, a transaction ID of 16 bytes.

    @return: the transaction ID and the value of CHANGE-REQUEST.
    @raise MalformedDatagram: for anything else; also for RESPONSE-ADDRESS, which asks to send the
        answer to somebody else, and for passwords.
    """
    length = len(datagram)
    if not HEADER_LENGTH <= length <= MAX_MESSAGE_LENGTH:
        raise MalformedDatagram(f"{length} bytes cannot be a STUN message")
    messageType, bodyLength, transactionID = _CLASSIC_HEADER.unpack_from(datagram)
    if messageType != _BINDING_REQUEST or bodyLength != length - HEADER_LENGTH or bodyLength % 4:
        raise MalformedDatagram("not a classic Binding request")
    change = None
    for _, attributeType, value in scanAttributes(datagram):
        if attributeType == AttributeType.CHANGE_REQUEST:
            change = value
        elif attributeType < 0x8000:
            raise MalformedDatagram(f"a classic request with attribute {attributeType:#06x}")
    return transactionID, change
