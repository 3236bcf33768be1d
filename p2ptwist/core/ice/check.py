"""
The bytes of one connectivity check and of its answers (RFC 8445 section 7).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.stun.attributes import (
    decodeErrorCode,
    decodeUInt32,
    decodeUInt64,
    decodeXORAddress,
    encodeErrorCode,
    encodeUInt32,
    encodeUInt64,
    encodeUnknownAttributes,
    encodeXORAddress,
)
from p2ptwist.core.stun.message import AttributeType, Message, MessageClass, Method, encode

ROLE_CONFLICT = 487  # RFC 8445 section 7.3.1.1
UNKNOWN_ATTRIBUTE = 420  # RFC 8489 section 6.3.1
_UNDERSTOOD = frozenset(
    {
        int(AttributeType.USERNAME),
        int(AttributeType.PRIORITY),
        int(AttributeType.USE_CANDIDATE),
    }
)
_UNDERSTOOD_IN_ANSWERS = frozenset(
    {
        int(AttributeType.MAPPED_ADDRESS),
        int(AttributeType.USERNAME),
        int(AttributeType.ERROR_CODE),
        int(AttributeType.UNKNOWN_ATTRIBUTES),
        int(AttributeType.XOR_MAPPED_ADDRESS),
    }
)


@dataclass(frozen=True, slots=True)
class Check:
    """
    What a check says of its sender.

    @ivar priority: the PRIORITY that a peer-reflexive candidate learned from it has.
    @ivar controlling: whether the sender holds itself for the controlling side.
    @ivar tieBreaker: the sender's number for a conflict of roles, 0..2**64-1.
    @ivar nominates: whether USE-CANDIDATE is there.
    """

    priority: int
    controlling: bool
    tieBreaker: int
    nominates: bool = False


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    A user name fragment and its password (RFC 8445 section 5.3).
    """

    fragment: bytes
    password: bytes = field(repr=False)


def encodeCheck(
    transactionID: bytes, check: Check, local: Credentials, remote: Credentials
) -> bytes:
    """
    @return: the request, authenticated with the remote side's password.
    """
    role = AttributeType.ICE_CONTROLLING if check.controlling else AttributeType.ICE_CONTROLLED
    attributes: list[tuple[int, bytes]] = [
        (AttributeType.USERNAME, remote.fragment + b":" + local.fragment),
        (AttributeType.PRIORITY, encodeUInt32(check.priority)),
        (role, encodeUInt64(check.tieBreaker)),
    ]
    if check.nominates:
        attributes.append((AttributeType.USE_CANDIDATE, b""))
    return encode(
        MessageClass.REQUEST,
        Method.BINDING,
        transactionID,
        attributes,
        key=remote.password,
        fingerprint=True,
    )


def decodeCheck(message: Message) -> Check:
    """
    @param message: a request whose integrity was verified.
    @raise MalformedDatagram: when what RFC 8445 section 7.1 asks for is missing or wrong.
    """
    priority = message.get(AttributeType.PRIORITY)
    controlling = message.get(AttributeType.ICE_CONTROLLING)
    controlled = message.get(AttributeType.ICE_CONTROLLED)
    role = controlled if controlling is None else controlling
    if priority is None or role is None or (controlling is not None and controlled is not None):
        raise MalformedDatagram("a check without one priority and one role")
    value = decodeUInt32(priority)
    if not 0 < value < 2**31:
        raise MalformedDatagram(f"a check with priority {value}")
    nominates = message.get(AttributeType.USE_CANDIDATE) is not None
    return Check(value, controlling is not None, decodeUInt64(role), nominates)


def userNameFragments(message: Message) -> tuple[bytes, bytes] | None:
    """
    @return: the fragments of the receiver and of the sender, in this order; C{None} when there is
        no user name of that form.
    """
    userName = message.get(AttributeType.USERNAME)
    if userName is None:
        return None
    receiver, colon, sender = userName.partition(b":")
    return (receiver, sender) if colon else None


def encodeAnswer(request: Message, source: HostPort, password: bytes) -> bytes:
    """
    @param source: where the request came from, as this side saw it.
    @param password: this side's, with which the request was authenticated.
    """
    mapped = encodeXORAddress(source, request.transactionID)
    return encode(
        MessageClass.SUCCESS,
        Method.BINDING,
        request.transactionID,
        [(AttributeType.XOR_MAPPED_ADDRESS, mapped)],
        key=password,
        fingerprint=True,
    )


def encodeRefusal(request: Message, password: bytes) -> bytes | None:
    """
    @return: the 420 answer to a request that asks for more than is understood, or C{None} when
        everything in it is.
    """
    unknown = request.unknownRequired(_UNDERSTOOD)
    if not unknown:
        return None
    # Types that do not fit into an answer as long as the request would amplify: a few suffice.
    reason = (
        (AttributeType.ERROR_CODE, encodeErrorCode(UNKNOWN_ATTRIBUTE, "")),
        (AttributeType.UNKNOWN_ATTRIBUTES, encodeUnknownAttributes(unknown[:4])),
    )
    return _encodeError(request, reason, password)


def encodeRoleConflict(request: Message, password: bytes) -> bytes:
    """
    @return: the 487 answer, which tells the sender to change its role.
    """
    reason = ((AttributeType.ERROR_CODE, encodeErrorCode(ROLE_CONFLICT, "")),)
    return _encodeError(request, reason, password)


def _encodeError(
    request: Message, attributes: tuple[tuple[int, bytes], ...], password: bytes
) -> bytes:
    return encode(
        MessageClass.ERROR,
        Method.BINDING,
        request.transactionID,
        attributes,
        key=password,
        fingerprint=True,
    )


def mappedAddress(answer: Message) -> HostPort:
    """
    @return: the address that the other side saw the check come from.
    @raise MalformedDatagram: when a success answer does not say.
    """
    value = _getFromAnswer(answer, AttributeType.XOR_MAPPED_ADDRESS)
    return decodeXORAddress(value, answer.transactionID)


def errorCode(answer: Message) -> int:
    """
    @return: the code of an error answer.
    @raise MalformedDatagram: when it does not say.
    """
    return decodeErrorCode(_getFromAnswer(answer, AttributeType.ERROR_CODE))[0]


def _getFromAnswer(answer: Message, attributeType: AttributeType) -> bytes:
    # RFC 8489 sections 6.3.3 and 6.3.4: what is not understood makes the whole answer void.
    if answer.unknownRequired(_UNDERSTOOD_IN_ANSWERS):
        raise MalformedDatagram("an answer that asks for more than is understood")
    value = answer.get(attributeType)
    if value is None:
        raise MalformedDatagram(f"an answer without {attributeType.name}")
    return value
