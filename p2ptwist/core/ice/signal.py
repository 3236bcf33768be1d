"""
Signals: what two agents tell each other over a signaling channel.

The wire form is written down in C{docs/punching.md}.  A channel carries signals whole and should be
reliable; what it reorders or repeats does no harm.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

from p2ptwist.core.address import HostPort, canonicalHost, parseHost
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import CANDIDATE_LIMIT, Candidate, CandidateType
from p2ptwist.core.ice.details import addDetails, encodeDetails
from p2ptwist.core.ladder.message import TYPES as LADDER_TYPES
from p2ptwist.core.ladder.message import Busy, LadderMessage, Stand, decodeMessage, encodeMessage
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping
from p2ptwist.core.readable import readableBytes

VERSION = 1
SESSION_LENGTH = 8  # bytes; told apart among the few sessions of one pair of peers, not a secret
FRAGMENT_LENGTH = (4, 32)  # bytes of a user name fragment; RFC 8445 section 5.3 wants 24 bits
PASSWORD_LENGTH = (22, 64)  # bytes of a password; RFC 8445 section 5.3 wants 128 bits
REASON_LIMIT = 200  # bytes of text, for a person to read
# 24 candidates of 24 bytes, the two longest strings, a header, extensions: well below one frame of
# a link.
SIGNAL_LIMIT = 1024  # bytes

_HEADER = struct.Struct("!BB8s")
_CANDIDATE = struct.Struct("!BBIH")
_ADDRESS_LENGTH = {4: 4, 6: 16}
# RFC 8445 section 5.3: letters, digits, "+" and "/"; so no ":" that would split a user name.
_CREDENTIAL = re.compile(rb"[A-Za-z0-9+/]*")
# The types of extensions.
_NAT_DETAILS = 1
_FRESH = 2


class SignalType(enum.IntEnum):
    """
    The second byte of a signal.
    """

    OFFER = 1
    ANSWER = 2
    CANDIDATES = 3
    GOODBYE = 4


@dataclass(frozen=True, slots=True)
class Description:
    """
    An offer or an answer: all that one side needs to check the other.

    @ivar type: L{SignalType.OFFER} or L{SignalType.ANSWER}.
    @ivar session: exactly 8 bytes, made by the side that offered first.
    @ivar generation: 0 at first; each restart counts up by one, to 255.
    @ivar fragment: the user name fragment, 4..32 bytes of ASCII.
    @ivar password: 22..64 bytes of ASCII.
    @ivar candidates: what is known so far, at most 24.
    @ivar complete: whether no more candidates of this generation will follow.
    @ivar behavior: what this side's NAT was measured to do, for a reason that a person reads.
    @ivar fresh: whether this side uses a fresh port, and asks the other one for the same.
    """

    type: SignalType
    session: bytes
    generation: int
    fragment: bytes
    password: bytes = field(repr=False)
    candidates: tuple[Candidate, ...]
    complete: bool
    behavior: NATBehavior
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class MoreCandidates:
    """
    The candidates known by now, sent again whenever there are more (RFC 8838).

    @ivar session: exactly 8 bytes.
    @ivar generation: the generation of the description that they belong to.
    @ivar candidates: all of the generation so far, at most 24, so that a later signal makes up
        for one that was lost.
    @ivar complete: whether these are all there will be.
    @ivar behavior: what is known of this side's NAT by now.
    """

    session: bytes
    generation: int
    candidates: tuple[Candidate, ...]
    complete: bool
    behavior: NATBehavior


@dataclass(frozen=True, slots=True)
class Goodbye:
    """
    The end of a session.

    @ivar session: exactly 8 bytes.
    @ivar reason: at most 200 bytes of UTF-8, for a person; what cannot be printed is replaced.
    """

    session: bytes
    reason: str


Signal = Description | MoreCandidates | Goodbye | LadderMessage

_MAPPINGS: tuple[NATMapping | None, ...] = (None, *NATMapping)
_FILTERINGS: tuple[NATFiltering | None, ...] = (None, *NATFiltering)


def encodeSignal(signal: Signal) -> bytes:
    """
    @return: the wire form, at most 1,024 bytes.
    """
    if isinstance(signal, Stand | Busy):
        return encodeMessage(signal)
    if isinstance(signal, Goodbye):
        reason = signal.reason.encode("utf-8", "replace")[:REASON_LIMIT].decode("utf-8", "ignore")
        return _HEADER.pack(VERSION, SignalType.GOODBYE, signal.session) + reason.encode()
    if isinstance(signal, MoreCandidates):
        head = _HEADER.pack(VERSION, SignalType.CANDIDATES, signal.session)
        credentials = b""
    else:
        head = _HEADER.pack(VERSION, signal.type, signal.session)
        credentials = _encodeText(signal.fragment) + _encodeText(signal.password)
    return b"".join(
        (
            head,
            bytes((signal.generation, signal.complete)),
            credentials,
            _encodeBehavior(signal.behavior),
            bytes((len(signal.candidates),)),
            *map(_encodeCandidate, signal.candidates),
            _encodeExtensions(signal),
        )
    )


def decodeSignal(data: bytes) -> Signal:
    """
    @raise MalformedDatagram: for anything that L{encodeSignal} cannot have made.
    """
    if not _HEADER.size <= len(data) <= SIGNAL_LIMIT:
        raise MalformedDatagram(f"a signal of {len(data)} bytes")
    version, signalType, session = _HEADER.unpack_from(data)
    if version != VERSION:
        raise MalformedDatagram(f"signal version {version}")
    body = _Reader(data, _HEADER.size)
    if signalType == SignalType.GOODBYE:
        return Goodbye(session, readableBytes(body.rest(REASON_LIMIT)))
    if signalType == SignalType.CANDIDATES:
        return _readCandidates(body, session)
    if signalType in (SignalType.OFFER, SignalType.ANSWER):
        return _readDescription(body, SignalType(signalType), session)
    if signalType in LADDER_TYPES:
        return decodeMessage(data)
    raise MalformedDatagram(f"signal type {signalType}")


class _Reader:
    """
    A cursor over a signal that refuses to go past its end.
    """

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._offset = offset

    def take(self, length: int) -> bytes:
        end = self._offset + length
        if end > len(self._data):
            raise MalformedDatagram("a signal ends too early")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    @property
    def ended(self) -> bool:
        return self._offset == len(self._data)

    def byte(self) -> int:
        return self.take(1)[0]

    def rest(self, limit: int) -> bytes:
        length = len(self._data) - self._offset
        if length > limit:
            raise MalformedDatagram("a signal goes on too long")
        return self.take(length)


def _readCandidates(body: _Reader, session: bytes) -> MoreCandidates:
    generation, complete = body.byte(), _flag(body.byte())
    behavior, candidates = _readBehavior(body), _readCandidateList(body)
    behavior, _ = _readExtensions(body, behavior)
    return MoreCandidates(session, generation, candidates, complete, behavior)


def _readDescription(body: _Reader, signalType: SignalType, session: bytes) -> Description:
    generation, complete = body.byte(), _flag(body.byte())
    fragment, password = _readText(body, FRAGMENT_LENGTH), _readText(body, PASSWORD_LENGTH)
    behavior, candidates = _readBehavior(body), _readCandidateList(body)
    behavior, fresh = _readExtensions(body, behavior)
    return Description(
        signalType, session, generation, fragment, password, candidates, complete, behavior, fresh
    )


def _flag(value: int) -> bool:
    if value > 1:
        raise MalformedDatagram(f"a flag of {value}")
    return bool(value)


def _encodeText(text: bytes) -> bytes:
    return bytes((len(text),)) + text


def _readText(body: _Reader, bounds: tuple[int, int]) -> bytes:
    length = body.byte()
    if not bounds[0] <= length <= bounds[1]:
        raise MalformedDatagram(f"a credential of {length} bytes")
    text = body.take(length)
    if not _CREDENTIAL.fullmatch(text):
        raise MalformedDatagram("a credential with characters that RFC 8445 does not allow")
    return text


def _encodeBehavior(behavior: NATBehavior) -> bytes:
    return bytes((_MAPPINGS.index(behavior.mapping), _FILTERINGS.index(behavior.filtering)))


def _readBehavior(body: _Reader) -> NATBehavior:
    mapping, filtering = body.byte(), body.byte()
    if mapping >= len(_MAPPINGS) or filtering >= len(_FILTERINGS):
        raise MalformedDatagram(f"NAT behavior {mapping}, {filtering}")
    return NATBehavior(_MAPPINGS[mapping], _FILTERINGS[filtering])


def _encodeExtensions(signal: Description | MoreCandidates) -> bytes:
    details = encodeDetails(signal.behavior)
    encoded = bytes((_NAT_DETAILS, len(details))) + details if details else b""
    if isinstance(signal, Description) and signal.fresh:
        encoded += bytes((_FRESH, 0))
    return encoded


def _readExtensions(body: _Reader, behavior: NATBehavior) -> tuple[NATBehavior, bool]:
    """
    Read to the end.  Types come in ascending order, so that none comes twice; what later versions
    add is skipped.

    @return: the behavior with its details, and whether the port is a fresh one.
    """
    last, fresh = 0, False
    while not body.ended:
        kind = body.byte()
        value = body.take(body.byte())
        if kind <= last:
            raise MalformedDatagram(f"an extension of type {kind} after one of type {last}")
        if kind == _NAT_DETAILS:
            behavior = addDetails(behavior, value)
        fresh = fresh or kind == _FRESH
        last = kind
    return behavior, fresh


def _encodeCandidate(candidate: Candidate) -> bytes:
    host, port = candidate.address
    parsed = parseHost(host)
    return _CANDIDATE.pack(candidate.type, parsed.version, candidate.priority, port) + parsed.packed


def _readCandidateList(body: _Reader) -> tuple[Candidate, ...]:
    count = body.byte()
    if count > CANDIDATE_LIMIT:
        raise MalformedDatagram(f"{count} candidates in one signal")
    return tuple(_readCandidate(body) for _ in range(count))


def _readCandidate(body: _Reader) -> Candidate:
    kind, family, priority, port = _CANDIDATE.unpack(body.take(_CANDIDATE.size))
    if family not in _ADDRESS_LENGTH:
        raise MalformedDatagram(f"address family {family}")
    host = ip_address(body.take(_ADDRESS_LENGTH[family]))
    try:
        candidateType = CandidateType(kind)
    except ValueError:
        raise MalformedDatagram(f"candidate type {kind}") from None
    if not 0 < priority < 2**31 or port == 0:
        raise MalformedDatagram("a candidate without a priority or a port")
    address: HostPort = (canonicalHost(str(host)), port)
    return Candidate(candidateType, address, priority)
