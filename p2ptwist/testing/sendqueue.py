"""
The sending side of a simulated TCP connection: what is to be sent, what is under way, and what must
be sent again.
"""

from __future__ import annotations

from collections.abc import Callable

from p2ptwist.testing.packet import TCPFlag

MSS = 1_460  # octets of data in a segment; an Ethernet frame less the IPv4 and TCP headers
SEND_BUFFER = 262_144  # octets; the order of what Linux grows a socket to (net.ipv4.tcp_wmem)
FAST_RETRANSMIT = 3  # duplicate acknowledgments; RFC 5681 section 3.2


class SendQueue:
    """
    Octets with their sequence numbers, from the oldest that is not acknowledged.

    There is no congestion control: the peer's window alone limits what is under way.

    @ivar unacknowledged: the oldest sequence number that is not acknowledged.
    @ivar next: the next sequence number to send.
    @ivar window: octets beyond L{unacknowledged} that the peer is ready to take.
    @ivar finished: whether a FIN follows the last octet.
    """

    def __init__(self, emit: Callable[[int, int, bytes], None], sequence: int) -> None:
        """
        @param emit: sends a segment with these flags, this sequence number and this data.
        @param sequence: the sequence number of the SYN.
        """
        self._emit = emit
        self.unacknowledged = sequence
        self.next = sequence
        self.window = 0
        self.finished = False
        self._buffer = bytearray()
        self._first = sequence + 1  # the sequence number of the first octet in the buffer
        self._duplicates = 0
        self._recoverTo: int | None = None

    @property
    def end(self) -> int:
        """
        The sequence number after the last octet, and after the FIN once there is to be one.
        """
        return self._first + len(self._buffer) + self.finished

    @property
    def room(self) -> int:
        """
        Octets that may be written now.
        """
        return 0 if self.finished else SEND_BUFFER - len(self._buffer)

    @property
    def isUnderWay(self) -> bool:
        """
        Whether something was sent and is not acknowledged.
        """
        return self.next > self.unacknowledged

    @property
    def isBlocked(self) -> bool:
        """
        Whether something waits for the peer's window alone.
        """
        return not self.isUnderWay and self.end > self.next

    @property
    def isEmpty(self) -> bool:
        """
        Whether all, the FIN included, is acknowledged.
        """
        return self.unacknowledged == self.end

    def sendSYN(self, flags: int) -> None:
        """
        Send the SYN, for the first time or again.
        """
        self._emit(flags, self._first - 1, b"")
        self.next = self._first

    def write(self, data: bytes) -> int:
        """
        Queue as much of C{data} as there is room for.

        @return: how many octets that was.
        """
        taken = data[: self.room]
        self._buffer += taken
        return len(taken)

    def push(self) -> None:
        """
        Send what the window allows.
        """
        limit = self.unacknowledged + self.window
        dataEnd = self._first + len(self._buffer)
        while self.next < dataEnd and self.next < limit:
            self.next += self._sendAt(self.next, min(MSS, limit - self.next))
        if self.finished and self.next == dataEnd:
            self._emit(TCPFlag.FIN | TCPFlag.ACK, dataEnd, b"")
            self.next += 1

    def acknowledge(self, number: int, window: int, isPure: bool) -> bool:
        """
        The peer has taken all before C{number}.

        @param number: the acknowledgment number.
        @param window: the window that came with it.
        @param isPure: whether the segment had nothing else in it.
        @return: whether something new was acknowledged.
        """
        if number > self.next:
            return False  # it was never sent
        isSame = number == self.unacknowledged and window == self.window
        self.window = window
        if number <= self.unacknowledged:
            if isSame and isPure and self.isUnderWay:
                self._countDuplicate()
            return False
        acknowledged = min(number, self._first + len(self._buffer)) - self._first
        if acknowledged > 0:
            del self._buffer[:acknowledged]
            self._first += acknowledged
        self.unacknowledged = number
        self._duplicates = 0
        if self._recoverTo is not None:
            # A partial acknowledgment names the next hole (RFC 6582).
            if number < self._recoverTo:
                self.retransmit()
            else:
                self._recoverTo = None
        return True

    def retransmit(self) -> None:
        """
        Send the oldest segment again.
        """
        if self._first > self.unacknowledged:
            return  # only the SYN is under way, whose flags its connection knows
        if not self._sendAt(self._first, MSS) and self.finished:
            self._emit(TCPFlag.FIN | TCPFlag.ACK, self._first, b"")

    def recover(self) -> None:
        """
        Nothing has come back for long: send the oldest segment again, and every hole after it.
        """
        self._recoverTo = self.next
        self.retransmit()

    def probe(self) -> None:
        """
        Ask for the window, with an octet that the peer has already taken.
        """
        self._emit(TCPFlag.ACK, self.unacknowledged - 1, b"")

    def _countDuplicate(self) -> None:
        self._duplicates += 1
        if self._duplicates == FAST_RETRANSMIT and self._recoverTo is None:
            self.recover()

    def _sendAt(self, sequence: int, limit: int) -> int:
        """
        @return: how many octets of data were sent, from C{sequence} on.
        """
        offset = sequence - self._first
        data = bytes(self._buffer[offset : offset + limit])
        if data:
            self._emit(TCPFlag.ACK, sequence, data)
        return len(data)
