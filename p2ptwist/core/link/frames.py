"""
Frames of the rendezvous link: where each begins and ends, and the hot ones.

A frame is two bytes of length, one of type, and a body; the length counts type and body.
C{docs/protocol.md} is the whole wire format.
"""

from __future__ import annotations

import enum
import struct

from p2ptwist.core.errors import LocalUsageError, MalformedFrame
from p2ptwist.core.peerid import PUBLIC_KEY_LENGTH

LENGTH_SIZE = 2  # bytes
HANDSHAKE_FRAME_LIMIT = 2 * 1024  # bytes; the largest small message, a welcome, needs 1,062
FRAME_LIMIT = 16 * 1024  # bytes; holds the largest sealed offer many times over
HOT_OVERHEAD = 1 + PUBLIC_KEY_LENGTH  # bytes of type and key before a payload
MAX_PAYLOAD = FRAME_LIMIT - HOT_OVERHEAD  # bytes

_LENGTH = struct.Struct("!H")


class FrameType(enum.IntEnum):
    """
    The first byte after the length.
    """

    HELLO = 0x01
    PROVE = 0x02
    WELCOME = 0x03
    GOODBYE = 0x04
    PING = 0x05
    PONG = 0x06
    SEND = 0x10
    RECEIVE = 0x11
    UNREACHABLE = 0x12
    RELAY = 0x13
    RELAYED = 0x14


def encodeFrame(frameType: int, body: bytes = b"") -> bytes:
    """
    @param body: at most C{FRAME_LIMIT - 1} bytes.
    @raise LocalUsageError: when C{body} is longer.
    """
    if len(body) >= FRAME_LIMIT:
        raise LocalUsageError(f"a frame carries {FRAME_LIMIT - 1} bytes, not {len(body)}")
    return _LENGTH.pack(1 + len(body)) + bytes((frameType,)) + body


def encodeHot(frameType: int, key: bytes, payload: bytes = b"") -> bytes:
    """
    A send, receive, unreachable, relay or relayed frame.

    @param key: a public key, exactly 32 bytes.
    @raise LocalUsageError: when the key is not one, or C{payload} is longer than a frame carries.
    """
    if len(key) != PUBLIC_KEY_LENGTH:
        raise LocalUsageError(f"a public key has {PUBLIC_KEY_LENGTH} bytes, not {len(key)}")
    if len(payload) > MAX_PAYLOAD:
        raise LocalUsageError(
            f"a frame carries at most {MAX_PAYLOAD} bytes, not {len(payload)}: split them"
        )
    return _LENGTH.pack(HOT_OVERHEAD + len(payload)) + bytes((frameType,)) + key + payload


def decodeHot(frame: bytes) -> tuple[bytes, bytes]:
    """
    @param frame: type and body of a send, receive, relay or relayed frame.
    @return: the key and the payload.
    @raise MalformedFrame: when the frame is too short for a key.
    """
    if len(frame) < HOT_OVERHEAD:
        raise MalformedFrame("too short for a public key")
    return frame[1:HOT_OVERHEAD], frame[HOT_OVERHEAD:]


def decodeKey(frame: bytes) -> bytes:
    """
    @param frame: type and body of an unreachable frame.
    @return: the key.
    @raise MalformedFrame: when the body is not exactly a key.
    """
    if len(frame) != HOT_OVERHEAD:
        raise MalformedFrame("not exactly a public key")
    return frame[1:]


def checkEmpty(frame: bytes) -> None:
    """
    @param frame: type and body of a frame whose body says nothing.
    @raise MalformedFrame: when there is a body.
    """
    if len(frame) != 1:
        raise MalformedFrame("a body where there is none")


class FrameDecoder:
    """
    Cut a stream of bytes into frames, whatever pieces it comes in.

    Feed what arrives, then take frames until there is none.  Each byte is copied at most three
    times, however the stream is cut; and what waits for the rest of a frame is that frame's
    beginning alone, not all that it came with.

    @ivar limit: what a length may say at most; the owner raises it when the link is up.
    """

    __slots__ = ("_buffer", "_offset", "limit")

    def __init__(self, limit: int = HANDSHAKE_FRAME_LIMIT) -> None:
        self.limit = limit
        self._buffer: bytes | bytearray = b""
        self._offset = 0

    def __len__(self) -> int:
        """
        @return: bytes that were fed and are not taken.
        """
        return len(self._buffer) - self._offset

    def feed(self, data: bytes) -> None:
        """
        Add bytes to the end.  Bytes that fill an empty buffer are kept as they are, not copied.
        """
        if not self._buffer:
            self._buffer = data
            return
        self._dropTaken()
        if isinstance(self._buffer, bytes):
            self._buffer = bytearray(self._buffer)
        self._buffer += data

    def take(self) -> bytes | None:
        """
        @return: type and body of the next whole frame, or C{None} when more bytes are needed.
        @raise MalformedFrame: when the next length is 0 or over L{limit}.  Nothing after it
            makes sense, so the connection is to be closed.
        """
        buffer = self._buffer
        start = self._offset + LENGTH_SIZE
        if len(buffer) < start:
            self._dropTaken()
            return None
        length = buffer[start - 2] << 8 | buffer[start - 1]
        end = start + length
        if not 0 < length <= self.limit:
            raise MalformedFrame(f"a frame of {length} bytes, where 1 to {self.limit} may come")
        if len(buffer) < end:
            self._dropTaken()
            return None
        if len(buffer) == end:
            self._buffer = b""
            self._offset = 0
        else:
            self._offset = end
        return bytes(buffer[start:end])

    def _dropTaken(self) -> None:
        if self._offset:
            self._buffer = bytearray(self._buffer[self._offset :])
            self._offset = 0

    def clear(self) -> None:
        """
        Forget what was fed.
        """
        self._buffer = b""
        self._offset = 0
