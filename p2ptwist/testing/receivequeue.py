"""
The receiving side of a simulated TCP connection: puts octets into order.
"""

from __future__ import annotations

from p2ptwist.testing.packet import Segment, TCPFlag

RECEIVE_BUFFER = 262_144  # octets; the order of what Linux grows a socket to (net.ipv4.tcp_rmem)


class ReceiveQueue:
    """
    Octets that have come, in order, and those that wait for earlier ones.

    @ivar next: the next sequence number that is expected.
    @ivar finished: whether the peer's FIN has come, and all before it.
    """

    def __init__(self) -> None:
        self.next = 0
        self.finished = False
        self._buffer = bytearray()
        # Within the window, so not more than it holds.
        self._waiting: dict[int, Segment] = {}

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def window(self) -> int:
        """
        Octets that there is room for.
        """
        return RECEIVE_BUFFER - len(self._buffer)

    def take(self, segment: Segment) -> None:
        """
        Take the data and the FIN of a segment.
        """
        if self.finished or segment.sequence + _length(segment) <= self.next:
            return
        if segment.sequence > self.next:
            if segment.sequence < self.next + self.window:
                self._waiting[segment.sequence] = segment
            return
        self._append(segment)
        while self._waiting:
            following = self._waiting.pop(self.next, None) or self._popOverlapping()
            if following is None:
                break
            self._append(following)

    def read(self, size: int) -> bytes:
        """
        @return: up to C{size} octets.
        """
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _popOverlapping(self) -> Segment | None:
        """
        @return: a segment that waits no longer, for it begins before what is expected next.
        """
        for sequence in [each for each in self._waiting if each < self.next]:
            segment = self._waiting.pop(sequence)
            if sequence + _length(segment) > self.next:
                return segment
        return None

    def _append(self, segment: Segment) -> None:
        data = segment.data[self.next - segment.sequence :]
        taken = data[: self.window]
        self._buffer += taken
        self.next += len(taken)
        if segment.flags & TCPFlag.FIN and len(taken) == len(data):
            self.next += 1
            self.finished = True


def _length(segment: Segment) -> int:
    """
    @return: the sequence numbers that the data and the FIN of a segment take.
    """
    return len(segment.data) + bool(segment.flags & TCPFlag.FIN)
