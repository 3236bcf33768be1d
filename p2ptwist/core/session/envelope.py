"""
Envelopes: QUIC datagrams in relayed datagrams of the rendezvous link.

An envelope is the byte 0x51, the session's name, and datagrams with two bytes of length before
each.  The first one of a session begins with 0x53 when an early offer comes with it
(L{p2ptwist.core.session.early}): then that stands before the datagrams, with its length.  Nothing
else that peers send over a link begins so: a signal begins with its version.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.link.frames import MAX_PAYLOAD

ENVELOPE_TYPE = 0x51  # "Q"; C{core/ice/signal.py} begins its signals with 0x01
UNKNOWN_TYPE = 0x52
EARLY_TYPE = 0x53
NAME_LENGTH = 8  # bytes; tells the few sessions of one pair of peers apart, not a secret
DATAGRAM_LIMIT = 1200  # bytes; what every path carries: RFC 9000 section 14
DATAGRAM_COUNT = 64  # in one envelope: as many as one turn of a reactor takes from a UDP port
_TYPE_BYTES = (bytes((ENVELOPE_TYPE,)), bytes((EARLY_TYPE,)))
_HEAD = struct.Struct("!B8s")
_LENGTH = struct.Struct("!H")
# The least that a link must carry for sessions: one datagram of the largest size.
SMALLEST_LIMIT = _HEAD.size + _LENGTH.size + DATAGRAM_LIMIT  # bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    What one relayed datagram of a link carries for a session.

    @ivar session: the session's name, exactly 8 bytes.
    @ivar datagrams: 1 to 64 of them, each of 1 to 1,200 bytes, in the order they were sent.
    @ivar early: a sealed early offer; empty when there is none.
    """

    session: bytes
    datagrams: tuple[bytes, ...]
    early: bytes = b""


def isEnvelope(payload: bytes) -> bool:
    """
    @return: whether C{payload} is to be taken for an envelope, be it right or malformed.
    """
    return payload[:1] in _TYPE_BYTES


def encodeEnvelopes(session: bytes, datagrams: Iterable[bytes], limit: int) -> list[bytes]:
    """
    Put datagrams into as few envelopes as their order allows.

    @param session: the session's name, exactly 8 bytes.
    @param datagrams: each of 1 to 1,200 bytes.
    @param limit: bytes that a relayed datagram may carry, at least L{SMALLEST_LIMIT}; what is
        beyond the largest payload of a link is not used.
    @return: the payloads, none for no datagrams.
    @raise LocalUsageError: when an argument is out of its bounds.
    """
    if len(session) != NAME_LENGTH:
        raise LocalUsageError(f"a session's name has {NAME_LENGTH} bytes, not {len(session)}")
    if limit < SMALLEST_LIMIT:
        raise LocalUsageError(
            f"a link that carries {limit} bytes is too narrow for sessions: it takes "
            f"{SMALLEST_LIMIT}; use another rendezvous node"
        )
    head = _HEAD.pack(ENVELOPE_TYPE, session)
    room = min(limit, MAX_PAYLOAD) - len(head)
    return [head + b"".join(batch) for batch in _batches(datagrams, room)]


def encodeEarlyEnvelope(
    session: bytes, early: bytes, datagrams: Sequence[bytes], limit: int
) -> bytes | None:
    """
    Put a sealed early offer and the first datagrams of a session into one envelope.

    @param session: as for L{encodeEnvelopes}, with C{datagrams} and C{limit}.
    @return: the payload; C{None} when that is more than the link carries.
    """
    payloads = encodeEnvelopes(session, datagrams, limit)
    length = len(payloads[0]) + _LENGTH.size + len(early)
    if len(payloads) != 1 or length > min(limit, MAX_PAYLOAD):
        return None
    head = _HEAD.pack(EARLY_TYPE, session) + _LENGTH.pack(len(early)) + early
    return head + payloads[0][_HEAD.size :]


def _batches(datagrams: Iterable[bytes], room: int) -> Iterator[list[bytes]]:
    """
    @param room: bytes that a batch may have, lengths included.
    @return: lists of lengths and datagrams in turn.
    """
    batch: list[bytes] = []
    size = 0
    for datagram in datagrams:
        length = len(datagram)
        if not 0 < length <= DATAGRAM_LIMIT:
            raise LocalUsageError(f"a datagram has 1 to {DATAGRAM_LIMIT} bytes, not {length}")
        needed = _LENGTH.size + length
        if size + needed > room or len(batch) == 2 * DATAGRAM_COUNT:
            yield batch
            batch, size = [], 0
        batch += (_LENGTH.pack(length), datagram)
        size += needed
    if batch:
        yield batch


def decodeEnvelope(payload: bytes) -> Envelope:
    """
    @raise MalformedDatagram: for anything that L{encodeEnvelopes} cannot have made.
    """
    if not isEnvelope(payload) or not _HEAD.size < len(payload) <= MAX_PAYLOAD:
        raise MalformedDatagram(f"not an envelope: {len(payload)} bytes")
    session = payload[1 : _HEAD.size]
    datagrams: list[bytes] = []
    early, offset = _readEarly(payload)
    if offset >= len(payload):
        raise MalformedDatagram("an envelope without datagrams")
    while offset < len(payload):
        if len(datagrams) == DATAGRAM_COUNT:
            raise MalformedDatagram(f"an envelope with more than {DATAGRAM_COUNT} datagrams")
        start = offset + _LENGTH.size
        length = int.from_bytes(payload[offset:start], "big")
        offset = start + length
        if not 0 < length <= DATAGRAM_LIMIT or offset > len(payload):
            raise MalformedDatagram(f"a datagram of {length} bytes in an envelope")
        datagrams.append(payload[start:offset])
    return Envelope(session, tuple(datagrams), early)


def _readEarly(payload: bytes) -> tuple[bytes, int]:
    """
    @return: the sealed early offer, and where the datagrams begin.
    """
    if payload[0] != EARLY_TYPE:
        return b"", _HEAD.size
    start = _HEAD.size + _LENGTH.size
    end = start + int.from_bytes(payload[_HEAD.size : start], "big")
    if end == start:
        raise MalformedDatagram("an empty early offer")
    return payload[start:end], end


def encodeUnknown(session: bytes) -> bytes:
    """
    @param session: the name of a session that this side does not know, exactly 8 bytes.
    @return: the payload that says so.
    """
    return bytes((UNKNOWN_TYPE,)) + session


def decodeUnknown(payload: bytes) -> bytes | None:
    """
    @return: the name of the session that the other side does not know, if that is what C{payload}
        says.
    """
    if len(payload) != 1 + NAME_LENGTH or payload[0] != UNKNOWN_TYPE:
        return None
    return payload[1:]
