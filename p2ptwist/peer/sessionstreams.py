"""
What goes on in the streams of one session: opening, accepting, refusing, turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from p2ptwist.core.session.control import CloseCode, ControlMessage, Grant
from p2ptwist.core.session.credit import (
    STREAM_WINDOW,
    EarlyCredit,
    ReceiveCredit,
    SendCredit,
    SessionBudget,
)
from p2ptwist.core.session.errors import SessionViolation
from p2ptwist.errors import StreamRefused
from p2ptwist.net.quic import QUIC, StreamAborted, StreamReceived, StreamStopped
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.stream import QUEUE_LIMIT, Stream
from p2ptwist.peer.streamtable import STREAM_LIMIT, Opening, StreamTable, encodeHeader

# Bytes of each that QUIC holds unsent when many share L{QUEUE_LIMIT}: a dozen datagrams.
QUEUE_LEAST = 16 * 1024
# Bytes of all streams together that are with QUIC and were not acknowledged: more than any stream
# alone is granted.  QUIC keeps the buffer of a stream as large as it ever was, so that many streams
# must not have much in it, each in its turn.
UNANSWERED_LIMIT = STREAM_WINDOW * 3 // 2
EARLY_EVENTS = 256  # pieces of streams that wait for the admission, 64 KiB in all

StreamEvent: TypeAlias = StreamReceived | StreamAborted | StreamStopped


class StreamsHost(Protocol):
    """
    What the streams need of their session.
    """

    @property
    def over(self) -> bool:
        """
        Whether the session is over.
        """

    def say(self, message: ControlMessage) -> None:
        """
        Send something on the control stream.
        """

    def wakeUp(self) -> None:
        """
        There is something to send.
        """

    def address(self, service: str, *, own: bool) -> PeerAddress:
        """
        @return: the address of this side or the other.
        """

    def accept(self, stream: Stream) -> IProtocol | None:
        """
        @return: the protocol for a stream that the other side opened.
        """


class SessionStreams:
    """
    All streams of a session but the control stream.

    @ivar budget: what they are lent together.
    @ivar waiting: those that have something to send, or to deliver.
    """

    __slots__ = (
        "_calling",
        "_early",
        "_host",
        "_kept",
        "_quic",
        "_table",
        "budget",
        "waiting",
    )

    def __init__(self, host: StreamsHost, quic: QUIC, calling: bool) -> None:
        """
        @param calling: whether this side called.
        """
        self.budget = SessionBudget()
        self._host = host
        self._quic = quic
        self._calling = calling
        # What may be sent, or come, before the admission.
        self._early = EarlyCredit()
        self._kept: list[StreamEvent] = []
        self._table = StreamTable(calling)
        self.waiting: dict[Stream, None] = {}

    def __len__(self) -> int:
        return len(self._table)

    @property
    def unsent(self) -> bool:
        """
        Whether something that was written is not with QUIC yet.
        """
        return bool(self.waiting) or any(stream.unsent for stream in self._table)

    # What the session does.

    def open(
        self,
        service: str,
        build: Callable[[PeerAddress], IProtocol],
        ended: Callable[[], object],
    ) -> IProtocol:
        """
        Open a stream, and connect a protocol to it.

        @param build: makes the protocol.  When it raises, no stream is opened.
        @param ended: called when the stream is over.
        @raise StreamRefused: when this side has 64 streams open already.
        """
        if self._table.full:
            raise StreamRefused(
                f"{STREAM_LIMIT} streams to this peer are open: close some first", "overflow"
            )
        protocol = build(self.address(service, own=False))
        stream = self._make(self._quic.openStream(), service)
        stream.whenEnded = ended
        stream.sendHeader(self._quic, encodeHeader(service))
        stream.attach(protocol)
        self._host.wakeUp()
        return protocol

    def received(self, event: StreamEvent) -> None:
        """
        Something came on a stream.

        @raise SessionViolation: when it may not.
        """
        stream = self._table.streams.get(event.stream)
        if stream is not None and isinstance(event, StreamReceived):
            stream.received(event.data, event.ended)
            return
        if self._calling or self._early.lifted:
            self._process(event)
            return
        if isinstance(event, StreamReceived):
            self._early.receive(len(event.data))
        if len(self._kept) >= EARLY_EVENTS:
            raise SessionViolation(CloseCode.OVERFLOW, "too many pieces before the admission")
        self._kept.append(event)

    def admitted(self) -> None:
        """
        The called side has admitted the caller: do what waited for that.

        @raise SessionViolation: as for L{received}.
        """
        if self._early.lifted:
            return
        self._early.lift()
        self.waiting.update(dict.fromkeys(self._table))
        while self._kept and not self._host.over:
            self._process(self._kept.pop(0))

    def granted(self, grant: Grant) -> None:
        """
        The other side takes more on a stream.
        """
        stream = self._table.streams.get(grant.stream)
        if stream is not None:
            stream.granted(grant.offset)

    def turn(self) -> None:
        """
        Let everybody send who wants to.
        """
        # Who wakes while it has its turn gets another one.
        waiting, self.waiting = self.waiting, {}
        if not waiting:
            return
        share = max(QUEUE_LEAST, QUEUE_LIMIT // len(waiting))
        room = UNANSWERED_LIMIT - self._quic.outstanding()
        served = []
        for stream in waiting:
            limit = share if room > 0 else 0
            room -= limit
            if not stream.transfer(self._quic, limit):
                continue
            if limit:
                served.append(stream)
            else:
                self.waiting[stream] = None
        # Who has had nothing is the first one at the next turn.
        self.waiting.update(dict.fromkeys(served))

    def end(self, reason: Failure, *, whole: bool) -> None:
        """
        The session is over.

        @param whole: whether a stream that had come whole by then is delivered to its end first.
        """
        self._kept.clear()
        for stream in list(self._table):
            if whole:
                stream.sessionEnded(reason)
            else:
                stream.end(reason)

    # StreamHost

    def wake(self, stream: Stream) -> None:
        """
        C{stream} has something to send.
        """
        self.waiting[stream] = None
        self._host.wakeUp()

    def send(self, stream: Stream, data: bytes) -> None:
        """
        Send bytes of C{stream}.
        """
        self._quic.send(stream.number, data)
        self._host.wakeUp()

    def grant(self, stream: Stream, offset: int) -> None:
        """
        Tell the other side how far it may send.
        """
        self._host.say(Grant(stream.number, offset))

    def abandon(self, stream: Stream, code: int, *, sending: bool, receiving: bool) -> None:
        """
        Give up one or both directions of a stream.
        """
        if sending:
            self._quic.abort(stream.number, code)
        if receiving:
            self._quic.stop(stream.number, code)
        self._host.wakeUp()

    def forget(self, stream: Stream) -> None:
        """
        A stream is over.
        """
        self._table.remove(stream)
        self.waiting.pop(stream, None)

    def address(self, service: str, *, own: bool) -> PeerAddress:
        """
        @return: the address of this side or the other.
        """
        return self._host.address(service, own=own)

    # What comes.

    def _process(self, event: StreamEvent) -> None:
        stream = self._table.streams.get(event.stream)
        if isinstance(event, StreamReceived):
            if stream is not None:
                stream.received(event.data, event.ended)
                return
            opening = self._table.open(event.stream, event.data, event.ended)
            if opening is not None:
                self._accept(opening, event.ended)
        elif isinstance(event, StreamAborted):
            if stream is None:
                self._table.aborted(event.stream)
            else:
                stream.aborted(event.code)
        elif stream is None:
            self._table.stopped(event.stream)
        else:
            stream.stopped()

    def _accept(self, opening: Opening, ended: bool) -> None:
        """
        The other side opened a stream.
        """
        unwanted = self._table.wasStopped(opening.number)
        stream = self._make(opening.number, opening.service)
        if self._table.crowded:
            self._refuse(stream, CloseCode.OVERFLOW)
            return
        protocol = self._host.accept(stream)
        if protocol is None or self._host.over:
            self._refuse(stream, CloseCode.NOT_ADMITTED)
            return
        stream.receivedHeader(opening.headerLength)
        stream.received(opening.rest, ended)
        stream.attach(protocol)
        if unwanted:
            stream.stopped()

    def _refuse(self, stream: Stream, code: CloseCode) -> None:
        self.abandon(stream, int(code), sending=True, receiving=True)
        self.forget(stream)

    def _make(self, number: int, service: str) -> Stream:
        early = self._early if self._calling and not self._early.lifted else None
        stream = Stream(self, number, service, SendCredit(early), ReceiveCredit(self.budget))
        self._table.add(stream)
        return stream
