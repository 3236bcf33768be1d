"""
Datagrams on a stream of bytes (RFC 4571): each behind its length, in two bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from p2ptwist.core.errors import LocalUsageError, MalformedFrame

# bytes; no path of the Internet carries longer datagrams, and sessions send 1,200.
FRAME_LIMIT = 1500
_LENGTH = struct.Struct("!H")


def encodeFrames(datagrams: Iterable[bytes]) -> bytes:
    """
    @param datagrams: each 1 to 1,500 bytes.
    @return: the frames, one behind the other.
    @raise LocalUsageError: when one is shorter or longer.
    """
    parts: list[bytes] = []
    for data in datagrams:
        if not 0 < len(data) <= FRAME_LIMIT:
            raise LocalUsageError(f"a frame has 1 to {FRAME_LIMIT} bytes, not {len(data)}")
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


class FrameDecoder:
    """
    Cut a stream into datagrams, whatever pieces it comes in.

    It keeps the beginning of one frame at most.  Single use: after an error it takes nothing more.
    """

    __slots__ = ("_failed", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._failed = False

    def __len__(self) -> int:
        """
        @return: bytes that wait for the rest of their frame, at most 1,501.
        """
        return len(self._rest)

    def receive(self, data: bytes) -> list[bytes]:
        """
        @param data: the next bytes of the stream, none to many.
        @return: the datagrams that are whole now, without those of no bytes.
        @raise MalformedFrame: when a length is above the limit.  The connection is to be closed;
            datagrams of the same call before the error are lost with it.
        """
        if self._failed:
            return []
        data = self._rest + data if self._rest else data
        frames, offset, end = [], 0, len(data)
        while end - offset >= _LENGTH.size:
            length = data[offset] << 8 | data[offset + 1]
            if length > FRAME_LIMIT:
                self._failed, self._rest = True, b""
                raise MalformedFrame(f"a frame of {length} bytes, where {FRAME_LIMIT} may come")
            start = offset + _LENGTH.size
            if end - start < length:
                break
            offset = start + length
            if length:
                frames.append(data[start:offset])
        self._rest = data[offset:]
        return frames
