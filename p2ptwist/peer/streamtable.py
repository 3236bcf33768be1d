"""
The streams of one session, and how the other side opens one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.session.control import CloseCode
from p2ptwist.core.session.errors import SessionViolation
from p2ptwist.peer.stream import Stream

STREAM_LIMIT = 64  # streams that the other side may have open at a time
SERVICE_LIMIT = 64  # bytes of a service's name
# Streams that may be opened while the header of an earlier one is still missing.  What a peer may
# have open at a time may come in any order, and end before the missing one comes.
SKIPPED_LIMIT = 4 * STREAM_LIMIT
# QUIC numbers the streams of one kind in steps of four; RFC 9000 section 2.1.
_STEP = 4


@dataclass(frozen=True, slots=True)
class Opening:
    """
    A stream that the other side opened, whose header has come.

    @ivar number: of the QUIC stream.
    @ivar service: the name in the header.
    @ivar headerLength: bytes of the header.
    @ivar rest: the protocol's bytes that came with it.
    """

    number: int
    service: str
    headerLength: int
    rest: bytes


def encodeHeader(service: str) -> bytes:
    """
    @return: the first bytes of a stream.
    @raise LocalUsageError: when C{service} has no name that fits: 1 to 64 bytes of UTF-8.
    """
    name = service.encode()
    if not 0 < len(name) <= SERVICE_LIMIT:
        raise LocalUsageError(f"a service's name has 1 to {SERVICE_LIMIT} bytes, not {len(name)}")
    return bytes((len(name),)) + name


class StreamTable:
    """
    The streams by number.

    @ivar streams: those that are open.
    """

    __slots__ = (
        "_above",
        "_below",
        "_headers",
        "_stopped",
        "_theirs",
        "streams",
    )

    def __init__(self, calling: bool) -> None:
        """
        @param calling: whether this side is the QUIC client, which decides whose numbers are
            whose.
        """
        self._theirs = 1 if calling else 0
        self.streams: dict[int, Stream] = {}
        self._headers: dict[int, bytes] = {}
        # Dictionaries, as an empty set has 216 bytes, and sessions are many.
        self._stopped: dict[int, None] = {}
        # All of their numbers below this one were opened, and some above it.  The called side's
        # first stream is the control stream, which is not in this table.
        self._below = _STEP + 1 if calling else 0
        self._above: dict[int, None] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.streams.values())

    def __len__(self) -> int:
        return len(self.streams)

    @property
    def crowded(self) -> bool:
        """
        Whether the other side has more streams open than it may.
        """
        theirs = [number for number in self.streams if number % _STEP == self._theirs]
        return len(theirs) > STREAM_LIMIT

    @property
    def full(self) -> bool:
        """
        Whether this side has as many streams open as it may.
        """
        ours = [number for number in self.streams if number % _STEP != self._theirs]
        return len(ours) >= STREAM_LIMIT

    def add(self, stream: Stream) -> None:
        """
        A stream is open.
        """
        self.streams[stream.number] = stream

    def remove(self, stream: Stream) -> None:
        """
        A stream is over.
        """
        self.streams.pop(stream.number, None)

    def open(self, number: int, data: bytes, ended: bool) -> Opening | None:
        """
        Bytes came on a stream that is not open.

        @return: the opening when its header is complete; C{None} before, and for a stream that
            was open once.
        @raise SessionViolation: when it cannot become a stream.
        """
        if not self._mayOpen(number):
            return None
        data = self._headers.pop(number, b"") + data
        if data and not 0 < data[0] <= SERVICE_LIMIT:
            raise SessionViolation(CloseCode.PROTOCOL, "a service's name is too long, or empty")
        if not data or len(data) <= data[0]:
            if ended or len(self._headers) >= STREAM_LIMIT:
                raise SessionViolation(CloseCode.PROTOCOL, "a stream without a whole header")
            self._headers[number] = data
            return None
        self._opened(number)
        length = 1 + data[0]
        try:
            service = data[1:length].decode()
        except UnicodeDecodeError:
            raise SessionViolation(CloseCode.PROTOCOL, "a service's name is not UTF-8") from None
        return Opening(number, service, length, data[length:])

    def aborted(self, number: int) -> None:
        """
        The other side gave up sending on a stream that is not open: it will not be opened any more.

        @raise SessionViolation: as for L{open}.
        """
        self._headers.pop(number, None)
        self._stopped.pop(number, None)
        if self._mayOpen(number):
            self._opened(number)

    def stopped(self, number: int) -> None:
        """
        The other side wants nothing on a stream that is not open.  Its header may still come.
        """
        if self._mayOpen(number) and len(self._stopped) < SKIPPED_LIMIT:
            self._stopped[number] = None

    def wasStopped(self, number: int) -> bool:
        """
        @return: whether a stream was unwanted before it was opened; asked once.
        """
        stopped = number in self._stopped
        self._stopped.pop(number, None)
        return stopped

    def _mayOpen(self, number: int) -> bool:
        theirs = number % _STEP == self._theirs
        return theirs and number >= self._below and number not in self._above

    def _opened(self, number: int) -> None:
        if len(self._above) >= SKIPPED_LIMIT:
            raise SessionViolation(
                CloseCode.OVERFLOW, "too many streams above one without a header"
            )
        if number > self._below:
            self._above[number] = None
            return
        self._below += _STEP
        while self._below in self._above:
            del self._above[self._below]
            self._below += _STEP
