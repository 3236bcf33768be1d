"""
What two sides say to each other about a round of the ladder.

The wire form is written down in C{docs/ladder.md}.  These messages travel where signals do
(L{p2ptwist.core.ice.signal}) and begin as they do, with types of their own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from p2ptwist.core.address import HostPort, parseHost
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ladder.posture import Posture

VERSION = 1  # that of signals
STAND = 5
BUSY = 6
TYPES = frozenset({STAND, BUSY})
PAUSE_LIMIT = 0xFFFF  # seconds; two bytes

_HEADER = struct.Struct("!BB8s")
_STAND = struct.Struct("!BBB4sH")
_BUSY = struct.Struct("!BH")


@dataclass(frozen=True, slots=True)
class Stand:
    """
    One side says where it stands in a round.

    @ivar session: exactly 8 bytes, of the punching session that the round is for.
    @ivar round: 0 at first, counting up; 0..255.
    @ivar reply: whether this answers a proposal.
    @ivar posture: what C{address} means.
    @ivar address: an IPv4 host, and the port: of a steady side its own; of an aimed one the one
        that it will have; of a scattered one any that a mapping of its has.
    """

    session: bytes
    round: int
    reply: bool
    posture: Posture
    address: HostPort


@dataclass(frozen=True, slots=True)
class Busy:
    """
    The side that was asked cannot now.

    @ivar session: as in L{Stand}.
    @ivar round: the one that was proposed.
    @ivar pause: seconds after which to ask again, 0..65535, whole.
    """

    session: bytes
    round: int
    pause: int


LadderMessage: TypeAlias = Stand | Busy


def encodeMessage(message: LadderMessage) -> bytes:
    """
    @return: the wire form, 13 or 19 bytes.
    """
    if isinstance(message, Busy):
        pause = min(message.pause, PAUSE_LIMIT)
        return _HEADER.pack(VERSION, BUSY, message.session) + _BUSY.pack(message.round, pause)
    host, port = message.address
    return _HEADER.pack(VERSION, STAND, message.session) + _STAND.pack(
        message.round, message.reply, message.posture, IPv4Address(host).packed, port
    )


def decodeMessage(data: bytes) -> LadderMessage:
    """
    @raise MalformedDatagram: for anything that L{encodeMessage} cannot have made.
    """
    if len(data) < _HEADER.size:
        raise MalformedDatagram(f"a ladder message of {len(data)} bytes")
    version, kind, session = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    if version != VERSION:
        raise MalformedDatagram(f"ladder message version {version}")
    if kind == BUSY and len(body) == _BUSY.size:
        return Busy(session, *_BUSY.unpack(body))
    if kind == STAND and len(body) == _STAND.size:
        return _readStand(session, body)
    raise MalformedDatagram(f"a ladder message of type {kind} and {len(body)} bytes")


def _readStand(session: bytes, body: bytes) -> Stand:
    number, reply, posture, host, port = _STAND.unpack(body)
    if reply > 1 or posture not in list(Posture):
        raise MalformedDatagram(f"a ladder message with flag {reply} and posture {posture}")
    if port == 0:
        raise MalformedDatagram("a ladder message with port 0")
    address = (str(parseHost(str(IPv4Address(host)))), port)
    return Stand(session, number, bool(reply), Posture(posture), address)
