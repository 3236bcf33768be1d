"""
The control stream: what the two sides of a session tell each other about it.

A message is two bytes of length, one of type, and a body; the length counts type and body.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from p2ptwist.core.errors import LocalUsageError, MalformedFrame
from p2ptwist.core.link.frames import FrameDecoder, checkEmpty, encodeFrame
from p2ptwist.core.peerid import PUBLIC_KEY_LENGTH

CONTROL_LIMIT = 2048  # bytes of type and body; the largest message, a signal, has 1,025
CHALLENGE_LENGTH = 32  # bytes: nobody guesses or repeats one
SIGNATURE_LENGTH = 64  # bytes; RFC 8032 section 5.1.6
SIGNAL_LIMIT = CONTROL_LIMIT - 1  # bytes; what a message has room for

_GRANT = struct.Struct("!QQ")
_LARGEST_NUMBER = 2**64 - 1


class ControlType(enum.IntEnum):
    """
    The first byte after the length.
    """

    CHALLENGE = 0x01
    PROOF = 0x02
    ADMITTED = 0x03
    SIGNAL = 0x10
    GRANT = 0x11


class CloseCode(enum.IntEnum):
    """
    Why a session ended, or a stream was reset: the application error code of QUIC.
    """

    CLOSED = 0
    NOT_ADMITTED = 1
    IMPOSTOR = 2
    PROTOCOL = 3
    REPLACED = 4
    OVERFLOW = 5

    @property
    def word(self) -> str:
        """
        Such as C{"not-admitted"}.
        """
        return self.name.lower().replace("_", "-")

    @property
    def text(self) -> str:
        """
        One sentence for people, which says what to do where there is something.
        """
        return _TEXTS[self]


_TEXTS = {
    CloseCode.CLOSED: "the application closed the session",
    CloseCode.NOT_ADMITTED: "the other peer does not take this one, or has no such service: ask "
    "its owner to allow this peer ID, and check the name of the service",
    CloseCode.IMPOSTOR: "a peer could not prove the identity that it was called by: check the peer "
    "ID, and beware of the rendezvous node",
    CloseCode.PROTOCOL: "a rule of sessions was broken: bring the older program up to date",
    CloseCode.REPLACED: "a newer session with the same peer took over: connect again",
    CloseCode.OVERFLOW: "more was sent than was granted: bring the other program up to date",
}


def closeWord(code: int) -> str:
    """
    @param code: as it came, known or not.
    @return: the word for it, such as C{"replaced"} or C{"unknown-77"}.
    """
    try:
        return CloseCode(code).word
    except ValueError:
        return f"unknown-{code}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """
    The called side's first message.

    @ivar value: 32 fresh random bytes.
    """

    value: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """
    The caller's first message: that it holds a key.

    @ivar publicKey: the caller's, exactly 32 bytes.
    @ivar signature: exactly 64 bytes, over L{p2ptwist.core.session.admission.proofText}.
    """

    publicKey: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Admitted:
    """
    The called side takes the caller.
    """


@dataclass(frozen=True, slots=True)
class SignalMessage:
    """
    A signal of hole punching.

    @ivar signal: 1 to 2,047 bytes, which L{p2ptwist.core.ice.signal} reads.
    """

    signal: bytes


@dataclass(frozen=True, slots=True)
class Grant:
    """
    Leave to send more on a stream.

    @ivar stream: the stream's number in QUIC, 0 to 2**64 - 1 on the wire.
    @ivar offset: bytes that may be sent on it since it began.
    """

    stream: int
    offset: int


ControlMessage = Challenge | Proof | Admitted | SignalMessage | Grant


def encodeControl(message: ControlMessage) -> bytes:
    """
    @return: the whole message, length included.
    @raise LocalUsageError: when a part of it does not have its length.
    """
    if isinstance(message, Challenge):
        return encodeFrame(ControlType.CHALLENGE, _exactly(message.value, CHALLENGE_LENGTH))
    if isinstance(message, Proof):
        key = _exactly(message.publicKey, PUBLIC_KEY_LENGTH)
        return encodeFrame(ControlType.PROOF, key + _exactly(message.signature, SIGNATURE_LENGTH))
    if isinstance(message, Admitted):
        return encodeFrame(ControlType.ADMITTED)
    if isinstance(message, SignalMessage):
        length = len(message.signal)
        if not 0 < length <= SIGNAL_LIMIT:
            raise LocalUsageError(f"a signal has 1 to {SIGNAL_LIMIT} bytes, not {length}")
        return encodeFrame(ControlType.SIGNAL, message.signal)
    return _encodeGrant(message)


def _encodeGrant(grant: Grant) -> bytes:
    if not (0 <= grant.stream <= _LARGEST_NUMBER and 0 <= grant.offset <= _LARGEST_NUMBER):
        raise LocalUsageError(f"{grant} does not fit into two numbers of 8 bytes")
    return encodeFrame(ControlType.GRANT, _GRANT.pack(grant.stream, grant.offset))


def _exactly(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise LocalUsageError(f"{len(value)} bytes, where {length} belong")
    return value


class ControlDecoder:
    """
    Cut the control stream into messages, whatever pieces it comes in.

    It keeps the beginning of one message at most, and copies each byte a bounded number of times.
    Single use: after an error it takes nothing more.
    """

    __slots__ = ("_failed", "_frames")

    def __init__(self) -> None:
        self._frames = FrameDecoder(CONTROL_LIMIT)
        self._failed = False

    def __len__(self) -> int:
        """
        @return: bytes that wait for the rest of their message, at most 2,049.
        """
        return len(self._frames)

    def receive(self, data: bytes) -> list[ControlMessage]:
        """
        @param data: the next bytes of the stream, none to many.
        @return: the messages that are whole now.
        @raise MalformedFrame: when the stream is not what this module says.  The session is to be
            closed; messages of the same call before the error are lost with it.
        """
        if self._failed:
            return []
        self._frames.feed(data)
        messages = []
        try:
            while (frame := self._frames.take()) is not None:
                messages.append(_decode(frame))
        except MalformedFrame:
            self._failed = True
            self._frames.clear()
            raise
        return messages


def _decode(frame: bytes) -> ControlMessage:
    """
    @param frame: type and body.
    """
    kind, body = frame[0], frame[1:]
    if kind == ControlType.GRANT:
        _check(body, _GRANT.size)
        return Grant(*_GRANT.unpack(body))
    if kind == ControlType.SIGNAL:
        if not body:
            raise MalformedFrame("a signal without a body")
        return SignalMessage(body)
    if kind == ControlType.CHALLENGE:
        _check(body, CHALLENGE_LENGTH)
        return Challenge(body)
    if kind == ControlType.PROOF:
        _check(body, PUBLIC_KEY_LENGTH + SIGNATURE_LENGTH)
        return Proof(body[:PUBLIC_KEY_LENGTH], body[PUBLIC_KEY_LENGTH:])
    if kind == ControlType.ADMITTED:
        checkEmpty(frame)
        return Admitted()
    raise MalformedFrame(f"a control message of type {kind}")


def _check(body: bytes, length: int) -> None:
    if len(body) != length:
        raise MalformedFrame(f"a body of {len(body)} bytes, where {length} belong")
