"""
Signals: what two sides tell each other, over any reliable channel, to open a TCP path together.

The wire form is written down in C{docs/tcp.md}.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from p2ptwist.core.address import HostPort, canonicalHost, parseHost
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.ice.check import Credentials
from p2ptwist.core.ice.signal import FRAGMENT_LENGTH, PASSWORD_LENGTH, REASON_LIMIT
from p2ptwist.core.readable import readableBytes

VERSION = 2  # the first byte; signals of UDP begin with 1
CANDIDATE_LIMIT = 8  # addresses that a peer may make us dial, so that it cannot aim a scan
HELD_LIMIT = 10.0  # seconds; as long as an attempt takes at most
SIGNAL_LIMIT = 512  # bytes; the longest answer has 276

_HEADER = struct.Struct("!BB8s")
_HELD = struct.Struct("!H")
_CANDIDATE = struct.Struct("!BBH")
_ADDRESS_LENGTH = {4: 4, 6: 16}
_CREDENTIAL = re.compile(rb"[A-Za-z0-9+/]*")  # RFC 8445 section 5.3


class SignalType(enum.IntEnum):
    """
    The second byte of a signal.
    """

    OFFER = 1
    ANSWER = 2
    START = 3
    GOODBYE = 4


@dataclass(frozen=True, slots=True)
class TCPCandidate:
    """
    An address at which a side listens, and from which it dials.

    @ivar type: L{CandidateType.HOST} or L{CandidateType.SERVER_REFLEXIVE}.
    @ivar address: canonical host, and port.
    """

    type: CandidateType
    address: HostPort


@dataclass(frozen=True, slots=True)
class Offer:
    """
    The caller wants a TCP path.

    @ivar session: exactly 8 bytes.
    @ivar credentials: the caller's.
    """

    session: bytes
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The other side wants it too, and is ready.

    @ivar session: the offer's.
    @ivar held: seconds from the offer's coming to the answer's going, 0..10.
    @ivar credentials: the answerer's.
    @ivar candidates: its addresses, at most 8, the best first.
    """

    session: bytes
    held: float
    credentials: Credentials
    candidates: tuple[TCPCandidate, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """
    Dial now.

    @ivar session: the offer's.
    @ivar candidates: the caller's addresses, at most 8, the best first.
    """

    session: bytes
    candidates: tuple[TCPCandidate, ...]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """
    The attempt is over.

    @ivar session: the offer's.
    @ivar reason: at most 200 bytes of UTF-8, for a person; what cannot be printed is replaced.
    """

    session: bytes
    reason: str


TCPSignal = Offer | Answer | Start | Goodbye


def isTCPSignal(data: bytes) -> bool:
    """
    @return: whether C{data} says that it is a signal of this module.
    """
    return data[:1] == bytes((VERSION,))


def encodeSignal(signal: TCPSignal) -> bytes:
    """
    @return: the wire form, at most 512 bytes.
    """
    if isinstance(signal, Offer):
        return _head(SignalType.OFFER, signal) + _encodeCredentials(signal.credentials)
    if isinstance(signal, Answer):
        held = _HELD.pack(round(1000 * min(max(0.0, signal.held), HELD_LIMIT)))
        credentials = _encodeCredentials(signal.credentials)
        candidates = _encodeCandidates(signal.candidates)
        return _head(SignalType.ANSWER, signal) + held + credentials + candidates
    if isinstance(signal, Start):
        return _head(SignalType.START, signal) + _encodeCandidates(signal.candidates)
    reason = signal.reason.encode("utf-8", "replace")[:REASON_LIMIT].decode("utf-8", "ignore")
    return _head(SignalType.GOODBYE, signal) + reason.encode()


def decodeSignal(data: bytes) -> TCPSignal:
    """
    @raise MalformedDatagram: for anything that L{encodeSignal} cannot have made.
    """
    if not _HEADER.size <= len(data) <= SIGNAL_LIMIT:
        raise MalformedDatagram(f"a signal of {len(data)} bytes")
    version, kind, session = _HEADER.unpack_from(data)
    if version != VERSION:
        raise MalformedDatagram(f"signal version {version}")
    if kind == SignalType.GOODBYE:
        return Goodbye(session, _readReason(data[_HEADER.size :]))
    body = _Cursor(data)
    signal: TCPSignal
    if kind == SignalType.OFFER:
        signal = Offer(session, _readCredentials(body))
    elif kind == SignalType.ANSWER:
        held = _readHeld(body)
        signal = Answer(session, held, _readCredentials(body), _readCandidates(body))
    elif kind == SignalType.START:
        signal = Start(session, _readCandidates(body))
    else:
        raise MalformedDatagram(f"signal type {kind}")
    body.end()
    return signal


class _Cursor:
    """
    A place in a signal that refuses to go past its end.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = _HEADER.size

    def take(self, length: int) -> bytes:
        end = self._offset + length
        if end > len(self._data):
            raise MalformedDatagram("a signal ends too early")
        taken, self._offset = self._data[self._offset : end], end
        return taken

    def end(self) -> None:
        if self._offset < len(self._data):
            raise MalformedDatagram("a signal goes on too long")


def _head(kind: SignalType, signal: TCPSignal) -> bytes:
    return _HEADER.pack(VERSION, kind, signal.session)


def _encodeCredentials(credentials: Credentials) -> bytes:
    texts = (credentials.fragment, credentials.password)
    return b"".join(bytes((len(text),)) + text for text in texts)


def _readCredentials(body: _Cursor) -> Credentials:
    return Credentials(_readText(body, FRAGMENT_LENGTH), _readText(body, PASSWORD_LENGTH))


def _readText(body: _Cursor, bounds: tuple[int, int]) -> bytes:
    length = body.take(1)[0]
    text = body.take(length)
    if not bounds[0] <= length <= bounds[1] or not _CREDENTIAL.fullmatch(text):
        raise MalformedDatagram("a credential that RFC 8445 section 5.3 does not allow")
    return text


def _readHeld(body: _Cursor) -> float:
    held: float = _HELD.unpack(body.take(_HELD.size))[0] / 1000
    if held > HELD_LIMIT:
        raise MalformedDatagram(f"an offer that was held for {held} s")
    return held


def _encodeCandidates(candidates: tuple[TCPCandidate, ...]) -> bytes:
    taken = candidates[:CANDIDATE_LIMIT]
    return bytes((len(taken),)) + b"".join(map(_encodeCandidate, taken))


def _encodeCandidate(candidate: TCPCandidate) -> bytes:
    host = parseHost(candidate.address[0])
    return _CANDIDATE.pack(candidate.type, host.version, candidate.address[1]) + host.packed


def _readCandidates(body: _Cursor) -> tuple[TCPCandidate, ...]:
    count = body.take(1)[0]
    if count > CANDIDATE_LIMIT:
        raise MalformedDatagram(f"{count} candidates in one signal")
    return tuple(_readCandidate(body) for _ in range(count))


def _readCandidate(body: _Cursor) -> TCPCandidate:
    kind, family, port = _CANDIDATE.unpack(body.take(_CANDIDATE.size))
    if kind not in (CandidateType.HOST, CandidateType.SERVER_REFLEXIVE):
        raise MalformedDatagram(f"candidate type {kind}")
    if family not in _ADDRESS_LENGTH or not port:
        raise MalformedDatagram(f"a candidate of family {family} with port {port}")
    host = canonicalHost(str(ip_address(body.take(_ADDRESS_LENGTH[family]))))
    return TCPCandidate(CandidateType(kind), (host, port))


def _readReason(text: bytes) -> str:
    if len(text) > REASON_LIMIT:
        raise MalformedDatagram(f"a reason of {len(text)} bytes")
    return readableBytes(text)
