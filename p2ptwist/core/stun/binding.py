"""
The Binding method (RFC 8489 section 3): asking for one's own address as others see it.
"""

from __future__ import annotations

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.stun.attributes import (
    decodeAddress,
    decodeErrorCode,
    decodeXORAddress,
    encodeResponsePort,
    encodeUInt32,
)
from p2ptwist.core.stun.message import AttributeType, Message, MessageClass, Method, encode

CHANGE_HOST = 0x4  # "change IP"; RFC 5780 section 7.2
CHANGE_PORT = 0x2  # "change port"; RFC 5780 section 7.2

_UNDERSTOOD = frozenset(
    {
        AttributeType.MAPPED_ADDRESS,
        AttributeType.XOR_MAPPED_ADDRESS,
        AttributeType.ERROR_CODE,
        AttributeType.UNKNOWN_ATTRIBUTES,
        AttributeType.REALM,
        AttributeType.NONCE,
    }
)


def bindingRequest(transactionID: bytes, change: int = 0, responsePort: int | None = None) -> bytes:
    """
    @param change: C{CHANGE_HOST}, C{CHANGE_PORT} or both, to be answered from elsewhere.
    @param responsePort: which port the answer is to go to instead.
    @return: the shortest request that asks for it.  It has no FINGERPRINT: whoever shares a port
        tells answers by their transaction ID.
    """
    attributes = [(AttributeType.CHANGE_REQUEST, encodeUInt32(change))] if change else []
    if responsePort is not None:
        attributes.append((AttributeType.RESPONSE_PORT, encodeResponsePort(responsePort)))
    return encode(MessageClass.REQUEST, Method.BINDING, transactionID, attributes)


def reflexiveAddress(response: Message) -> HostPort:
    """
    @return: the address that a success tells: XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS of a server
        that knows no other.
    @raise MalformedDatagram: when it tells none, or requires what is not understood here (RFC 8489
        section 6.3.3).
    """
    unknown = response.unknownRequired(_UNDERSTOOD)
    if unknown:
        raise MalformedDatagram(f"the answer requires attribute {unknown[0]:#06x}")
    value = response.get(AttributeType.XOR_MAPPED_ADDRESS)
    if value is not None:
        return decodeXORAddress(value, response.transactionID)
    value = response.get(AttributeType.MAPPED_ADDRESS)
    if value is None:
        raise MalformedDatagram("the answer has no address")
    return decodeAddress(value)


def otherAddress(response: Message) -> HostPort | None:
    """
    @return: the server's alternate address (RFC 5780 section 7.4), or C{None} when it tells none
        that can be used.
    """
    value = response.get(AttributeType.OTHER_ADDRESS)
    if value is None:
        return None
    try:
        return decodeAddress(value)
    except MalformedDatagram:
        return None


def errorOf(response: Message) -> tuple[int, str]:
    """
    @return: code and reason of an error.
    @raise MalformedDatagram: when it tells none.
    """
    value = response.get(AttributeType.ERROR_CODE)
    if value is None:
        raise MalformedDatagram("the error has no code")
    return decodeErrorCode(value)
