"""
Credit: how much may be sent on a stream, granted as the receiver's application reads.

It takes the place of QUIC's own flow control, which the QUIC library opens further as bytes arrive
and not as they are read.  What is granted and not consumed yet is what the receiver may have to
keep, so that is what is bounded: 64 KiB for each stream whatever happens, and beyond that what a
budget lends, which all streams of a session share.
"""

from __future__ import annotations

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.session.control import CloseCode
from p2ptwist.core.session.errors import SessionViolation

# Bytes that may be sent on a stream without a grant: more than a round trip of 80 ms brings while
# QUIC's congestion control is still finding its pace.
INITIAL_CREDIT = 64 * 1024
STREAM_WINDOW = 1024 * 1024  # bytes; fills a path of 100 Mbit/s and 80 ms
SESSION_BUDGET = 6 * 1024 * 1024  # bytes lent beyond the first 64 KiB of each stream
EARLY_LIMIT = INITIAL_CREDIT  # bytes on all streams together before the admission
# Bytes of QUIC datagrams before the admission, whatever is in them: the handshake, the early bytes
# and each of them twice again.  QUIC may keep them all, when what comes first is missing.
EARLY_DATAGRAM_LIMIT = 4 * EARLY_LIMIT
# Bytes consumed after which what is lent is counted again: counting costs as much as delivering.
_COUNTED = 4 * 1024
OFFSET_LIMIT = 2**62  # bytes; QUIC counts no further: RFC 9000 section 4.5


class EarlyCredit:
    """
    What the caller may send on all its streams together before it is admitted, because the called
    side keeps it unread.  Both sides count.  With L{EARLY_DATAGRAM_LIMIT} another one counts QUIC
    datagrams, on the called side alone.

    @ivar available: bytes that are left.
    @ivar lifted: whether the caller is admitted.
    """

    __slots__ = ("available", "lifted")

    def __init__(self, limit: int = EARLY_LIMIT) -> None:
        self.available = limit
        self.lifted = False

    def spend(self, count: int) -> None:
        """
        The caller sent C{count} bytes.

        @raise LocalUsageError: when it may not.
        """
        if count > self.available:
            raise LocalUsageError(f"{count} bytes to send, and {self.available} are allowed")
        self._take(count)

    def receive(self, count: int) -> None:
        """
        The called side received C{count} bytes.

        @raise SessionViolation: when the caller may not have sent them.
        """
        if count > self.available:
            raise SessionViolation(CloseCode.OVERFLOW, f"{count} bytes before the admission")
        self._take(count)

    def lift(self) -> None:
        """
        The caller is admitted: there is no bound any more.
        """
        self.lifted = True
        self.available = OFFSET_LIMIT

    def _take(self, count: int) -> None:
        if not self.lifted:
            self.available -= count


class SendCredit:
    """
    What may be sent on one stream.

    @ivar sent: bytes sent since the stream began, its header included.
    @ivar granted: bytes that may be sent since it began.
    """

    __slots__ = ("_early", "granted", "sent")

    def __init__(self, early: EarlyCredit | None = None) -> None:
        """
        @param early: the caller's, shared by its streams.
        """
        self.sent = 0
        self.granted = INITIAL_CREDIT
        self._early = early

    @property
    def available(self) -> int:
        """
        Bytes that may be sent now.
        """
        own = self.granted - self.sent
        return own if self._early is None else min(own, self._early.available)

    def spend(self, count: int) -> None:
        """
        Send C{count} bytes.

        @raise LocalUsageError: when they are more than L{available}, or less than nothing.
        """
        if not 0 <= count <= self.available:
            raise LocalUsageError(f"{count} bytes to send, and {self.available} are allowed")
        self.sent += count
        if self._early is not None:
            self._early.spend(count)

    def take(self, count: int) -> bool:
        """
        Send C{count} bytes, or nothing.

        @return: whether they are allowed.
        """
        if self._early is not None:
            if count > self.available:
                return False
            self.spend(count)
            if self._early.lifted:
                self._early = None
            return True
        if self.sent + count > self.granted:
            return False
        self.sent += count
        return True

    def grant(self, offset: int) -> bool:
        """
        The receiver granted everything below C{offset}.  A grant is never taken back: a lower one
        than before changes nothing.

        @return: whether more may be sent than before.
        """
        granted = min(offset, OFFSET_LIMIT)
        if granted <= self.granted:
            return False
        self.granted = granted
        return True


class SessionBudget:
    """
    What the streams of one session may be granted beyond their first 64 KiB each.

    @ivar free: bytes that are not lent.
    """

    __slots__ = ("free",)

    def __init__(self, limit: int = SESSION_BUDGET) -> None:
        self.free = limit


class ReceiveCredit:
    """
    What the other side may send on one stream.

    The window doubles from 64 KiB with each grant, as far as the budget lends, so that only a
    stream on which much comes has a large one.  A new grant is due when half the window is
    consumed.  When the budget is short the window shrinks, to 64 KiB at least: who reads all that
    came is always granted more.

    @ivar received: bytes that came since the stream began.
    @ivar consumed: bytes of them that the application took.
    @ivar granted: bytes that may come since it began.
    """

    __slots__ = (
        "_borrowed",
        "_budget",
        "_closed",
        "_finished",
        "_largest",
        "_lookAt",
        "_window",
        "consumed",
        "granted",
        "received",
    )

    def __init__(self, budget: SessionBudget, largest: int = STREAM_WINDOW) -> None:
        """
        @param budget: the session's.
        @param largest: bytes to which the window grows; at least 64 KiB.
        """
        self.received = 0
        self.consumed = 0
        self.granted = INITIAL_CREDIT
        self._budget = budget
        self._borrowed = 0
        self._window = INITIAL_CREDIT
        self._largest = max(largest, INITIAL_CREDIT)
        self._finished = False
        self._closed = False
        self._lookAt = 0

    def hand(self, count: int) -> int | None:
        """
        C{count} bytes came, and the application takes them: L{receive} and L{consume} in one.
        """
        if self._closed or self.received + count > self.granted:
            self.receive(count)
            return self.consume(count)
        self.received += count
        self.consumed += count
        return None if self.consumed < self._lookAt else self._look()

    def receive(self, count: int) -> None:
        """
        C{count} bytes came.  After L{close} they are not counted: nobody keeps them.

        @raise SessionViolation: when they are more than was granted.  The session is to be closed.
        """
        if self._closed:
            return
        if self.received + count > self.granted:
            over = self.received + count - self.granted
            raise SessionViolation(CloseCode.OVERFLOW, f"{over} bytes above the grant of a stream")
        self.received += count

    def consume(self, count: int) -> int | None:
        """
        The application took C{count} bytes.

        @return: the offset to grant when a new grant is due; it counts as granted.
        @raise LocalUsageError: when they are more than came, or less than nothing.
        """
        if self._closed:
            return None
        if not 0 <= count <= self.received - self.consumed:
            waiting = self.received - self.consumed
            raise LocalUsageError(f"{count} bytes consumed, and {waiting} were there")
        self.consumed += count
        return None if self.consumed < self._lookAt else self._look()

    def finish(self) -> None:
        """
        The other side sends no more: what it was granted and did not use goes back.
        """
        self._finished = True
        self.granted = self.received
        self._settle()

    def close(self) -> None:
        """
        Nobody reads any more: all that was lent goes back.
        """
        self._closed = True
        self.granted = self.consumed = self.received
        self._settle()

    def _look(self) -> int | None:
        self._settle()
        # Not before half the window is consumed, whatever the budget says.
        if self._finished or 2 * (self.granted - self.consumed) > self._window:
            return None
        return self._nextGrant()

    def _nextGrant(self) -> int | None:
        outstanding = self.granted - self.consumed
        affordable = INITIAL_CREDIT + self._borrowed + self._budget.free
        window = min(2 * self._window, self._largest, affordable)
        # Not by less than half a window, so that a short budget makes no crumbs.
        if 2 * outstanding > min(self._window, window):
            return None
        self._window = window
        self.granted = self.consumed + window
        self._settle()
        return self.granted

    def _settle(self) -> None:
        """
        Borrow what is granted and not consumed, beyond what every stream has.
        """
        borrowed = max(0, self.granted - self.consumed - INITIAL_CREDIT)
        self._budget.free += self._borrowed - borrowed
        self._borrowed = borrowed
        # Nothing is to be done before half the window is consumed, or some of what is lent.
        self._lookAt = self.granted - self._window // 2
        if borrowed:
            self._lookAt = min(self._lookAt, self.consumed + _COUNTED)
