"""
STUN over TCP (RFC 8489 section 6.2.2): messages follow one another, and each says how long it is.
"""

from __future__ import annotations

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.stun.message import HEADER_LENGTH, MAGIC_COOKIE_BYTES, MAX_MESSAGE_LENGTH


class MessageSplitter:
    """
    Cuts a byte stream into messages.  It never holds more than one message and what came with it.
    """

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """
        @return: the messages that are whole by now.
        @raise MalformedDatagram: when it is not STUN, or a message is too long; the stream is lost.
        """
        data = self._buffer + data
        messages, start = [], 0
        while len(data) - start >= HEADER_LENGTH:
            end = start + _length(data[start : start + HEADER_LENGTH])
            if end > len(data):
                break
            messages.append(data[start:end])
            start = end
        self._buffer = data[start:]
        return messages


def _length(header: bytes) -> int:
    """
    @return: bytes of the message that begins so.
    """
    body = int.from_bytes(header[2:4], "big")
    if header[0] > 3 or header[4:8] != MAGIC_COOKIE_BYTES or body % 4:
        raise MalformedDatagram("the stream is not STUN")
    if HEADER_LENGTH + body > MAX_MESSAGE_LENGTH:
        raise MalformedDatagram(f"a STUN message of {HEADER_LENGTH + body} bytes")
    return HEADER_LENGTH + body
