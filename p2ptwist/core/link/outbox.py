"""
What waits to be sent on one link: messages, which must not be lost, and relayed datagrams, which
may.
"""

from __future__ import annotations

from collections import deque

# Bytes that are counted for each relayed datagram that waits, beside its own: what Python needs to
# keep it.  Without them, tiny datagrams would cost many times what they count for.
_KEEPING = 64

# Bytes of relayed datagrams that are sent in one piece after they had to wait.  What the socket
# does not take of a piece can no longer be overtaken by a message.
_PIECE = 32 * 1024


class Outbox:
    """
    The frames that a node has for one link.

    While the transport takes everything they leave in the order in which they came.  While it is
    blocked, messages and relayed datagrams wait apart, so that the first can overtake the second
    and take their room; how much waits is bounded.

    @ivar blocked: whether the transport takes no more for now; L{setBlocked} changes it.
    @ivar frames: what goes next.
    """

    __slots__ = ("_relayed", "_relayedSize", "_size", "blocked", "frames")

    def __init__(self) -> None:
        self.blocked = False
        self.frames: list[bytes] = []
        self._size = 0  # bytes of what is in frames, counted while it is blocked
        self._relayed: deque[bytes] | None = None
        self._relayedSize = 0

    def __bool__(self) -> bool:
        """
        @return: whether anything waits.
        """
        return bool(self.frames or self._relayed)

    def setBlocked(self, blocked: bool) -> None:
        """
        The transport takes no more for now, or takes more again.
        """
        self.blocked = blocked
        self._size = sum(map(len, self.frames)) if blocked else 0

    def addMessage(self, frame: bytes, mostFrames: int, mostBytes: int) -> bool:
        """
        Have a message wait for a blocked transport.

        @param mostFrames: how many messages may wait.
        @param mostBytes: how many bytes may wait.
        @return: whether it does; if not, there is no room.
        """
        size = self._size + len(frame)
        if len(self.frames) >= mostFrames or size > mostBytes:
            return False
        self._size = size
        self.frames.append(frame)
        return True

    def addRelayed(self, frame: bytes, mostBytes: int) -> bool:
        """
        Have a relayed datagram wait for a blocked transport.

        @param mostBytes: how many bytes may wait, messages included.
        @return: whether it does; if not, it is dropped.
        """
        size = self._relayedSize + len(frame) + _KEEPING
        if self._size + size > mostBytes:
            return False
        self._relayedSize = size
        if self._relayed is None:
            self._relayed = deque()
        self._relayed.append(frame)
        return True

    def makeRoom(self, mostBytes: int) -> int:
        """
        Drop relayed datagrams, oldest first, until no more than C{mostBytes} wait or none is left.

        @return: how many were dropped.
        """
        dropped = 0
        while self._relayed and self._size + self._relayedSize > mostBytes:
            self._popRelayed()
            dropped += 1
        return dropped

    def take(self) -> bytes:
        """
        @return: what to send next: all messages, and a piece of the relayed datagrams that waited.
        """
        frames = self.frames
        size = 0
        while self._relayed and size < _PIECE:
            frame = self._popRelayed()
            size += len(frame)
            frames.append(frame)
        data = b"".join(frames)
        frames.clear()
        return data

    def clear(self) -> int:
        """
        Forget everything.

        @return: how many relayed datagrams that were.
        """
        self.frames.clear()
        self._size = 0
        dropped = len(self._relayed or ())
        self._relayed = None
        self._relayedSize = 0
        return dropped

    def _popRelayed(self) -> bytes:
        assert self._relayed is not None
        frame = self._relayed.popleft()
        self._relayedSize -= len(frame) + _KEEPING
        if not self._relayed:
            self._relayed = None
        return frame
