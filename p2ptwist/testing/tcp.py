"""
A simulated TCP connection: RFC 9293 without options and without congestion control.

It is reliable over links that lose, duplicate and reorder; it is opened by one side or by both at
once; it survives a short cut of the link and times out after a long one; and it is reset where the
real one is.  Times and limits are those of Linux.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable

from p2ptwist.testing.clock import Clock
from p2ptwist.testing.packet import Segment, TCPFlag
from p2ptwist.testing.receivequeue import ReceiveQueue
from p2ptwist.testing.rto import RetransmissionTimer
from p2ptwist.testing.sendqueue import MSS, SendQueue

SYN_RETRIES = 6  # net.ipv4.tcp_syn_retries: gives up after 127 s
SYN_ACK_RETRIES = 5  # net.ipv4.tcp_synack_retries
DATA_RETRIES = 15  # net.ipv4.tcp_retries2: gives up after some 15 minutes
ORPHAN_RETRIES = 8  # net.ipv4.tcp_orphan_retries: once nobody has the socket any more
TIME_WAIT_DELAY = 60.0  # seconds; Linux's fixed value, also for FIN_WAIT_2 without a socket


class TCPState(enum.Enum):
    """
    The states of RFC 9293 section 3.3.2 in which a connection differs in what it does here.

    Those between ESTABLISHED and TIME_WAIT follow from which side has sent its FIN.
    """

    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    TIME_WAIT = "TIME-WAIT"
    CLOSED = "CLOSED"


class TCPConnection:
    """
    One end of a connection.

    @ivar state: where it is in its life.
    @ivar error: the errno of what ended it early, until somebody reads it; else 0.
    @ivar isOrphan: whether the socket was closed: nobody reads any more.
    """

    def __init__(
        self,
        clock: Clock,
        transmit: Callable[[Segment], None],
        changed: Callable[[], None],
        ended: Callable[[], None],
        sequence: int,
    ) -> None:
        """
        @param clock: for retransmissions.
        @param transmit: sends a segment to the other side.
        @param changed: told when there may be more to read, to write, or an error.
        @param ended: told once the connection needs no more segments.
        @param sequence: the initial sequence number.
        """
        self.state = TCPState.CLOSED
        self.error = 0
        self.isOrphan = False
        self._transmit = transmit
        self._changed = changed
        self._ended = ended
        self._clock = clock
        self._sending = SendQueue(self._emit, sequence)
        self._receiving = ReceiveQueue()
        self._advertised = 0
        self._retries = 0
        self._timer = RetransmissionTimer(clock, self._timedOut)
        self._lingering: int | None = None
        self._peerFinishedFirst = False

    # Opening

    def open(self) -> None:
        """
        Send a SYN.
        """
        self.state = TCPState.SYN_SENT
        self._sending.sendSYN(TCPFlag.SYN)
        self._timer.start()

    def accept(self, segment: Segment) -> None:
        """
        Answer a SYN with a SYN of this side's own.
        """
        self.state = TCPState.SYN_RECEIVED
        self._receiving.next = segment.sequence + 1
        self._sending.window = segment.window
        self._sending.sendSYN(TCPFlag.SYN | TCPFlag.ACK)
        self._timer.start()

    # What an application does

    @property
    def isOpen(self) -> bool:
        """
        Whether the three-way handshake is done and nothing has ended the connection.
        """
        return self.state is TCPState.ESTABLISHED

    @property
    def unread(self) -> int:
        """
        Octets that may be read.
        """
        return len(self._receiving)

    @property
    def peerFinished(self) -> bool:
        """
        Whether the peer will send no more.
        """
        return self._receiving.finished

    @property
    def room(self) -> int:
        """
        Octets that may be written now.
        """
        return self._sending.room if self.isOpen else 0

    @property
    def finished(self) -> bool:
        """
        Whether this side will send no more.
        """
        return self._sending.finished

    def write(self, data: bytes) -> int:
        """
        Send data.

        @return: how many octets were taken; 0 when there is no room.
        """
        taken = self._sending.write(data)
        self._push()
        return taken

    def read(self, size: int) -> bytes:
        """
        @return: up to C{size} octets that have come.
        """
        data = self._receiving.read(size)
        # Tell of a window that was as good as closed (RFC 9293 section 3.8.6.2.2).
        if self._advertised < MSS <= self._receiving.window and self.isOpen:
            self._acknowledge()
        return data

    def shutdownWrite(self) -> None:
        """
        Send a FIN after all that was written.
        """
        if self.state in (TCPState.ESTABLISHED, TCPState.SYN_RECEIVED):
            self._peerFinishedFirst = self._receiving.finished
            self._sending.finished = True
            self._push()

    def close(self) -> None:
        """
        The socket is closed.  What was written is still sent; what was not read is answered with a
        RST.
        """
        self.isOrphan = True
        if self.state is TCPState.SYN_SENT or len(self._receiving):
            self.abort()
        elif self.state in (TCPState.ESTABLISHED, TCPState.SYN_RECEIVED):
            self.shutdownWrite()
            self._finishIfDone()

    def abort(self) -> None:
        """
        End at once, with a RST if there is a peer who needs to know.
        """
        if self.state in (TCPState.ESTABLISHED, TCPState.SYN_RECEIVED):
            flags = TCPFlag.RST | TCPFlag.ACK
            self._transmit(Segment(flags, self._sending.next, self._receiving.next, 0))
        self._end(0)

    def vanish(self) -> None:
        """
        End at once without telling anybody, as when the power fails.
        """
        self._end(0)

    def refuse(self) -> None:
        """
        An ICMP port unreachable came for this connection: fatal only for one that is being opened.
        """
        if self.state is TCPState.SYN_SENT:
            self._end(errno.ECONNREFUSED)

    # What comes from the other side

    def receive(self, segment: Segment) -> None:
        """
        Take a segment.
        """
        if self.state is TCPState.SYN_SENT:
            self._receiveInSynSent(segment)
        elif segment.flags & TCPFlag.RST:
            self._receiveReset(segment)
        elif segment.flags & TCPFlag.SYN:
            self._receiveSYNAgain(segment)
        else:
            self._receiveInOrder(segment)

    def _receiveInSynSent(self, segment: Segment) -> None:
        flags = segment.flags
        if flags & TCPFlag.ACK and segment.acknowledgment != self._sending.next:
            if not flags & TCPFlag.RST:
                self._transmit(Segment(TCPFlag.RST, segment.acknowledgment, 0, 0))
            return
        if flags & TCPFlag.RST:
            if flags & TCPFlag.ACK:
                self._end(errno.ECONNREFUSED)
            return
        if not flags & TCPFlag.SYN:
            return
        self._receiving.next = segment.sequence + 1
        self._sending.window = segment.window
        if flags & TCPFlag.ACK:
            self._establish(segment)
            self._acknowledge()
            return
        # Both sides have opened at once (RFC 9293 section 3.5, figure 8).
        self.state = TCPState.SYN_RECEIVED
        self._sending.sendSYN(TCPFlag.SYN | TCPFlag.ACK)

    def _receiveReset(self, segment: Segment) -> None:
        receiving = self._receiving
        if not receiving.next <= segment.sequence <= receiving.next + receiving.window:
            return
        if self.state is TCPState.SYN_RECEIVED:
            self._end(errno.ECONNREFUSED)
        else:
            self._end(errno.EPIPE if receiving.finished else errno.ECONNRESET)

    def _receiveSYNAgain(self, segment: Segment) -> None:
        """
        A SYN after the first: in a simultaneous open, or a repetition whose answer was lost.
        """
        if self.state is TCPState.SYN_RECEIVED and segment.flags & TCPFlag.ACK:
            if segment.acknowledgment == self._sending.next:
                self._establish(segment)
                self._acknowledge()
        elif self.state is TCPState.SYN_RECEIVED:
            self._sending.sendSYN(TCPFlag.SYN | TCPFlag.ACK)
        else:
            self._acknowledge()

    def _receiveInOrder(self, segment: Segment) -> None:
        if self.state is TCPState.SYN_RECEIVED:
            if segment.acknowledgment < self._sending.next:
                return
            self._establish(segment)
        isPure = not segment.data and not segment.flags & TCPFlag.FIN
        if self._sending.acknowledge(segment.acknowledgment, segment.window, isPure):
            self._retries = 0
            self._timer.acknowledged(self._sending.unacknowledged)
        elif self._sending.isBlocked:
            self._retries = 0  # the answer to a probe of the window
        if segment.data and self.isOrphan:
            # Nobody will ever read it (RFC 9293 section 3.6.1).
            self.abort()
            return
        if not isPure:
            self._receiving.take(segment)
            self._acknowledge()
        elif segment.sequence < self._receiving.next:
            self._acknowledge()  # a probe of the window
        self._push()
        self._changed()
        self._finishIfDone()

    def _establish(self, segment: Segment) -> None:
        self.state = TCPState.ESTABLISHED
        self._retries = 0
        self._sending.acknowledge(segment.acknowledgment, segment.window, False)
        self._timer.acknowledged(segment.acknowledgment)
        self._timer.stop()
        self._push()
        self._changed()

    # Sending

    def _emit(self, flags: int, sequence: int, data: bytes) -> None:
        self._advertised = self._receiving.window
        acknowledgment = self._receiving.next if flags & TCPFlag.ACK else 0
        self._timer.sent(sequence + len(data), sequence < self._sending.next)
        self._transmit(Segment(flags, sequence, acknowledgment, self._advertised, data))

    def _acknowledge(self) -> None:
        self._advertised = self._receiving.window
        self._transmit(
            Segment(TCPFlag.ACK, self._sending.next, self._receiving.next, self._advertised)
        )

    def _push(self) -> None:
        if not self.isOpen:
            return
        self._sending.push()
        if self._sending.isUnderWay or self._sending.isBlocked:
            self._timer.start()
        else:
            self._timer.stop()

    def _timedOut(self) -> None:
        """
        Nothing has come back for as long as the retransmission timer runs.
        """
        self._retries += 1
        if self._retries > self._retryLimit():
            self._end(errno.ETIMEDOUT)
            return
        if self.state is TCPState.SYN_SENT:
            self._sending.sendSYN(TCPFlag.SYN)
        elif self.state is TCPState.SYN_RECEIVED:
            self._sending.sendSYN(TCPFlag.SYN | TCPFlag.ACK)
        elif self._sending.isUnderWay:
            self._sending.recover()
        else:
            self._sending.probe()
        self._timer.backOff()

    def _retryLimit(self) -> int:
        if self.state is TCPState.SYN_SENT:
            return SYN_RETRIES
        if self.state is TCPState.SYN_RECEIVED:
            return SYN_ACK_RETRIES
        return ORPHAN_RETRIES if self.isOrphan else DATA_RETRIES

    # Ending

    def _finishIfDone(self) -> None:
        """
        See whether both sides have said all, or whether to stop waiting for the other one.
        """
        if not self.isOpen or not (self.finished and self._sending.isEmpty):
            return
        if self._peerFinishedFirst:
            self._end(0)
            return
        if self._receiving.finished:
            self._timer.stop()
            self.state = TCPState.TIME_WAIT
            self._changed()
        if (self._receiving.finished or self.isOrphan) and self._lingering is None:
            due = self._clock.now + TIME_WAIT_DELAY
            self._lingering = self._clock.callAt(due, self._lingered)

    def _lingered(self) -> None:
        """
        Nothing more is expected from the other side.
        """
        self._lingering = None
        self._end(0)

    def _end(self, error: int) -> None:
        if self.state is TCPState.CLOSED:
            return
        self.state = TCPState.CLOSED
        self.error = error
        self._timer.stop()
        if self._lingering is not None:
            self._clock.void(self._lingering)
        self._ended()
        self._changed()
