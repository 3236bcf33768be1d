"""
A stream of a session, as the transport of a Twisted protocol.

What the application writes waits here until the other side has granted room for it and QUIC takes
it; what comes waits here while the application has paused.  Both are bounded: the first by the
producer that is told to pause, the second by the grants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.session.control import CloseCode
from p2ptwist.core.session.credit import ReceiveCredit, SendCredit
from p2ptwist.errors import StreamRefused
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.outgoing import Outgoing
from p2ptwist.peer.streamhost import StreamHost, StreamSender

PAUSE_ABOVE = 64 * 1024  # bytes that wait here before a producer is told to pause; as Twisted's TCP
# Bytes that QUIC holds unsent, of one stream or of all that have something to send: more than it
# sends in a turn, and not a second of queue.
QUEUE_LIMIT = 128 * 1024
# Bytes up to which pieces are joined that wait to be read: each takes 40 bytes more than it has.
JOIN_LIMIT = 1024
ABORTED = 0  # the code of a stream that was given up; the session's close codes begin at 1

_BYTES = (bytes, bytearray, memoryview)
_log = Logger()


@implementer(ITransport, IConsumer, IPushProducer)
class Stream:
    """
    One stream.

    @ivar number: of the QUIC stream.
    @ivar service: the name of the service that it is for.
    @ivar connected: whether the protocol has not been told of the end yet.
    @ivar whenEnded: called once, after the protocol was told.
    """

    disconnecting = False

    def __init__(
        self,
        host: StreamHost,
        number: int,
        service: str,
        sendCredit: SendCredit,
        receiveCredit: ReceiveCredit,
    ) -> None:
        self.number = number
        self.service = service
        self.connected = False
        self.whenEnded: Callable[[], object] = _nothing
        self._host = host
        self._protocol: IProtocol | None = None
        self._send = sendCredit
        self._receive = receiveCredit
        self._outgoing = Outgoing()
        self._room = 0  # bytes that QUIC takes before it is asked again how much it holds
        # What the application has not taken; C{None} for nothing, as an empty one has 760 bytes.
        self._incoming: deque[bytes] | None = None
        self._finishing = False  # nothing more is written
        self._finished = False  # and QUIC knows
        self._ending: Failure | None = None  # the protocol is to be told at the next turn
        self._farewell: Failure | None = None  # the same, once it has read all
        self._paused = False
        self._delivering = False
        self._inputEnded = False
        self._inputEndTold = False
        self._producer: Any = None
        self._streaming = False
        self._producerPaused = False
        self._lost = False

    def attach(self, protocol: IProtocol) -> None:
        """
        Connect the protocol.
        """
        self._protocol = protocol
        self.connected = True
        self._guarded(protocol.makeConnection, self)
        self._deliver()

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Send bytes; after the end they are dropped, as on every transport.
        """
        if not isinstance(data, _BYTES):
            raise TypeError(f"a stream carries bytes, not {type(data).__name__}")
        if self._finishing or self._lost or not data:
            return
        size = len(data)
        straight = size <= self._room and not self._outgoing.size and self._producer is None
        if straight and self._send.take(size):
            self._room -= size
            self._host.send(self, data)
            return
        self._outgoing.append(bytes(data))  # which cannot change
        self._host.wake(self)
        if self._outgoing.size > PAUSE_ABOVE:
            self._pauseProducer()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """
        Send pieces, one after the other.
        """
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        Send what was written, then end both directions.
        """
        if self._lost or self.disconnecting:
            return
        self.disconnecting = True
        self._stopReading()
        if not self._awaitsProducer():
            self._finish()

    def loseWriteConnection(self) -> None:
        """
        Send what was written, then end this side's direction only.
        """
        if not self._lost:
            self._finish()

    def abortConnection(self) -> None:
        """
        End without sending what is left; the protocol is told soon, but not from within this call.
        """
        if not self._lost and self._ending is None:
            self._abort(Failure(ConnectionAborted()))

    def getHost(self) -> PeerAddress:
        """
        @return: this peer.
        """
        return self._host.address(self.service, own=True)

    def getPeer(self) -> PeerAddress:
        """
        @return: the other peer, and the path at this moment.
        """
        return self._host.address(self.service, own=False)

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Have C{producer} told when to write.

        @param streaming: whether it writes by itself until it is paused (a push producer), or
            once each time it is resumed (a pull producer).
        @raise RuntimeError: when there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is registered already")
        if self._lost or self._finished:
            self._guarded(producer.stopProducing)
            return
        self._producer, self._streaming, self._producerPaused = producer, streaming, False
        if not streaming:
            self._guarded(self._producer.resumeProducing)
        elif self._outgoing.size > PAUSE_ABOVE:
            self._pauseProducer()

    def unregisterProducer(self) -> None:
        """
        There is no producer any more.
        """
        self._producer = None
        if self.disconnecting:
            self._finish()

    # IPushProducer

    def pauseProducing(self) -> None:
        """
        Deliver nothing until L{resumeProducing}.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Deliver what came and what comes, but not from within this call.
        """
        self._paused = False
        if not self._lost:
            self._host.wake(self)

    def stopProducing(self) -> None:
        """
        The consumer that was fed by this stream is gone.
        """
        self.loseConnection()

    # The session's side.

    @property
    def unsent(self) -> bool:
        """
        Whether something that was written waits here, for whatever.
        """
        return self._outgoing.size > 0

    def transfer(self, sender: StreamSender, limit: int = QUEUE_LIMIT) -> bool:
        """
        Take a turn: deliver what waits, and hand over what may be sent.

        @param limit: bytes of this stream that QUIC may hold unsent.
        @return: whether something is left that waits for QUIC, and not for a grant.
        """
        if self._lost:
            return False
        self._deliver()
        if self._farewell is not None and self._inputEndTold:
            self._ending = self._ending or self._farewell
        elif self._farewell is None and self._ending is None:
            self._transmit(sender, limit)
        if self._ending is not None:
            self.end(self._ending)
        return self._outgoing.size > 0 and self._send.available > 0

    def sendHeader(self, sender: StreamSender, header: bytes) -> None:
        """
        Send what the other side needs to know before the protocol's bytes.
        """
        self._send.spend(len(header))
        sender.send(self.number, header)

    def receivedHeader(self, length: int) -> None:
        """
        What was before the protocol's bytes has come, and was read.

        @raise SessionViolation: when it is more than was granted.
        """
        self._receive.receive(length)
        self._receive.consume(length)

    def granted(self, offset: int) -> None:
        """
        The other side takes bytes up to C{offset}.
        """
        if self._send.grant(offset) and (self._outgoing.size or self._finishing):
            self._host.wake(self)

    def received(self, data: bytes, ended: bool) -> None:
        """
        Bytes came.

        @raise SessionViolation: when they are more than was granted.
        """
        plain = data and not ended and not self._delivering and self._incoming is None
        if plain and not (self._paused or self._protocol is None or self.disconnecting):
            self._hand(data, self._receive.hand(len(data)))
            if self._incoming is not None:
                self._deliver()
            return
        self._receive.receive(len(data))
        if ended:
            self._inputEnded = True
            self._receive.finish()
        if data and not (self._lost or self.disconnecting or self._ending):
            if self._incoming is None:
                self._incoming = deque()
            elif self._incoming and len(self._incoming[-1]) + len(data) <= JOIN_LIMIT:
                data = self._incoming.pop() + data
            self._incoming.append(data)
        self._deliver()

    def aborted(self, code: int) -> None:
        """
        The other side gave up sending.
        """
        if self._inputEnded:
            return
        self._inputEnded = True
        if code == CloseCode.NOT_ADMITTED:
            reason: Exception = StreamRefused(
                f"the other peer has no service {self.service!r}: check the name, and that it "
                "listens",
                CloseCode.NOT_ADMITTED.word,
            )
        elif code == CloseCode.OVERFLOW:
            reason = StreamRefused(
                "the other peer has too many streams of this one open: close some", "overflow"
            )
        else:
            reason = ConnectionLost("the other side aborted the stream")
        self._abort(Failure(reason))

    def stopped(self) -> None:
        """
        The other side wants no more: what is written from now on is lost.  What it sent before is
        still to come.
        """
        if self._finished or self._ending is not None:
            return
        self._host.abandon(self, ABORTED, sending=True, receiving=False)
        self._finished = self._finishing = True
        self._outgoing.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            self._guarded(producer.stopProducing)
        self._outputEnded()
        self._host.wake(self)

    def sessionEnded(self, reason: Failure) -> None:
        """
        The other side has ended the session.  What had come whole by then is delivered first,
        however slowly it is read.
        """
        if not self._inputEnded or self._ending is not None or self.disconnecting:
            whole = self._inputEnded and self._finished
            self.end(Failure(ConnectionDone()) if whole else reason)
            return
        clean = self._finished or (self._finishing and not self._outgoing.size)
        self._farewell = Failure(ConnectionDone()) if clean else reason
        self._finishing = self._finished = True
        self._outgoing.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            self._guarded(producer.stopProducing)
        self._host.wake(self)

    def end(self, reason: Failure) -> None:
        """
        Tell the protocol, once, and free everything.
        """
        if self._lost:
            return
        reason = self._ending or reason
        self._lost = True
        self._outgoing.clear()
        self._stopReading()
        producer, self._producer = self._producer, None
        if producer is not None:
            self._guarded(producer.stopProducing)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self.connected = False
            self._guarded(protocol.connectionLost, reason)
        self._host.forget(self)
        self._guarded(self.whenEnded)

    # Inside.

    def _stopReading(self) -> None:
        self._incoming = None
        self._receive.close()

    def _finish(self) -> None:
        self._finishing = True
        self._host.wake(self)

    def _abort(self, reason: Failure) -> None:
        """
        Give up what is left of both directions; the protocol is told at the next turn.
        """
        if not (self._finished and self._inputEnded):
            self._host.abandon(
                self, ABORTED, sending=not self._finished, receiving=not self._inputEnded
            )
        self.disconnecting = self._finishing = self._finished = True
        self._ending = self._ending or reason
        self._outgoing.clear()
        self._stopReading()
        self._host.wake(self)

    def _transmit(self, sender: StreamSender, limit: int) -> None:
        while self._outgoing.size:
            if self._room < self._outgoing.size:
                self._room = limit - sender.queued(self.number)
            room = min(self._send.available, self._room)
            if room <= 0:
                return
            piece = self._outgoing.take(room)
            self._room -= len(piece)
            self._send.spend(len(piece))
            sender.send(self.number, piece)
        if not self._finishing:
            self._resumeProducer()
            if self.disconnecting and not self._awaitsProducer():
                self._finishing = True
        if not self._finishing or self._outgoing.size:
            return
        if not self._finished:
            self._finished = True
            sender.send(self.number, b"", True)
            self._outputEnded()
        if self.disconnecting or self._inputEndTold:
            if not self._inputEnded:
                self._host.abandon(self, ABORTED, sending=False, receiving=True)
            self._ending = self._ending or Failure(ConnectionDone())

    def _outputEnded(self) -> None:
        """
        This side's direction is over: the last byte and the end are with QUIC, or unwanted.
        """
        protocol = IHalfCloseableProtocol(self._protocol, None)
        if protocol is not None and not self.disconnecting:
            self._guarded(protocol.writeConnectionLost)

    def _deliver(self) -> None:
        """
        Deliver what waits, as long as the application takes it.
        """
        if self._delivering or self._paused or self._protocol is None:
            return
        while self._incoming and not self._paused:
            data = self._incoming.popleft()
            self._hand(data, self._receive.consume(len(data)))
        if not self._incoming:
            self._incoming = None
            if self._inputEnded and not self._paused:
                self._endInput()

    def _hand(self, data: bytes, offset: int | None) -> None:
        """
        @param offset: how far the other side may send now, when that has to be told.
        """
        assert self._protocol is not None
        if offset is not None:
            self._host.grant(self, offset)
        self._delivering = True
        try:
            self._protocol.dataReceived(data)
        except Exception:
            self._failed()
        self._delivering = False

    def _endInput(self) -> None:
        if self._inputEndTold or self.disconnecting or self._protocol is None:
            return
        self._inputEndTold = True
        protocol = IHalfCloseableProtocol(self._protocol, None)
        if protocol is None:
            self.loseConnection()
        else:
            self._guarded(protocol.readConnectionLost)
        self._host.wake(self)

    def _pauseProducer(self) -> None:
        if self._producer is not None and self._streaming and not self._producerPaused:
            self._producerPaused = True
            self._guarded(self._producer.pauseProducing)

    def _awaitsProducer(self) -> bool:
        """
        @return: whether a producer has more to write before the end.  As on Twisted's transports,
            a push producer that may write, while nothing waits, has written what it wanted.
        """
        waits = not self._streaming or self._producerPaused or self._outgoing.size > 0
        return self._producer is not None and waits

    def _resumeProducer(self) -> None:
        if self._producer is None or self._outgoing.size:
            return
        if not self._streaming or self._producerPaused:
            self._producerPaused = False
            self._guarded(self._producer.resumeProducing)

    def _guarded(self, call: Callable[..., object], *arguments: object) -> None:
        """
        Call the application; as on every transport, what it raises ends the connection.
        """
        try:
            call(*arguments)
        except Exception:
            self._failed()

    def _failed(self) -> None:
        failure = Failure()
        _log.failure("a protocol failed, and its stream is aborted", failure)
        if not self._lost and self._ending is None:
            self._abort(failure)


def _nothing() -> None: ...
