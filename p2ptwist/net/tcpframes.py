"""
A TCP connection that carries datagrams, in frames (RFC 4571).
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import MalformedFrame
from p2ptwist.core.tcppath.framing import FrameDecoder, encodeFrames

# bytes of datagrams that wait for the transport.  A sender of QUIC doubles what is under way until
# something is lost, so this is to hold what TCP needs to catch up: 100 ms at 10 MB/s.
QUEUE_LIMIT = 1024 * 1024
# Seconds that the first of them may have waited when another one comes: more would make everything
# late where the network is slow, and TCP has a queue of its own.
QUEUE_AGE = 0.25
_PIECE = 32 * 1024  # bytes that are given to the transport at once
# What the kernel is asked to accept beyond what it has sent, in bytes: more would only wait there.
UNSENT_LIMIT = 32 * 1024
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux, macOS


@implementer(IPushProducer)
class FramedConnection(Protocol):
    """
    One connection.

    @ivar dropped: datagrams that were dropped because too many waited.
    @ivar receive: called with the frames that came together.
    @ivar progressed: called when the transport takes more again, as the other end took something.
    @ivar lost: called once when the connection is gone, unless L{abort} was called.
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        made: Callable[[FramedConnection], object],
        receive: Callable[[Sequence[bytes]], object] = lambda frames: None,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        """
        @param made: called when it stands; it sets the others.
        """
        self.dropped = 0
        self.receive = receive
        self.lost = lost
        self.progressed: Callable[[], object] = lambda: None
        self._clock = clock
        self._made = made
        self._paused = False
        self._closed = False
        self._queue: deque[tuple[float, bytes]] = deque()  # since when
        self._queued = 0
        self._decoder = FrameDecoder()

    @property
    def peer(self) -> HostPort:
        """
        The other end's address.
        """
        peer = self.transport.getPeer()
        return (canonicalHost(peer.host), peer.port)

    def connectionMade(self) -> None:
        """
        Keep what cannot be sent yet out of the kernel.
        """
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        if _NOTSENT_LOWAT is not None:
            with suppress(OSError):
                handle = transport.getHandle()
                handle.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_LIMIT)
        transport.registerProducer(self, True)
        self._made(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Cut it into frames.
        """
        try:
            frames = self._decoder.receive(data)
        except MalformedFrame:
            self.close()
            return
        if frames:
            self.receive(frames)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        self._end()
        lost, self.lost, self.receive = self.lost, lambda: None, lambda frames: None
        lost()

    def send(self, datagrams: Sequence[bytes]) -> None:
        """
        Send datagrams.  Those for which there is no room are dropped, as QUIC wants it, which goes
        more slowly where something is lost.
        """
        if self._closed:
            return
        now = self._clock.seconds()
        if self._queue and now - self._queue[0][0] > QUEUE_AGE:
            self.dropped += len(datagrams)
            return
        for data in datagrams:
            if self._queued + len(data) > QUEUE_LIMIT:
                self.dropped += 1
            else:
                self._queue.append((now, data))
                self._queued += len(data)
        self._drain()

    def sendCheck(self, frame: bytes) -> None:
        """
        Send a STUN message, of which there are few, before the datagrams that wait.
        """
        self.transport.write(encodeFrames((frame,)))

    def close(self) -> None:
        """
        Close once what was written is sent.
        """
        if self._queue:
            self.transport.write(encodeFrames(data for _, data in self._queue))
        self._end()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        Close with RST, so that nothing lingers in TIME-WAIT; L{lost} is not called.
        """
        self._end()
        self.lost, self.receive = lambda: None, lambda frames: None
        self.transport.abortConnection()

    # IPushProducer

    def pauseProducing(self) -> None:
        """
        The transport has enough.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        The transport has given everything to the kernel.
        """
        self._paused = False
        self.progressed()
        self._drain()

    def stopProducing(self) -> None:
        """
        The transport takes no more at all.
        """
        self._end()

    def _drain(self) -> None:
        while self._queue and not self._paused:
            piece, length = [], 0
            while self._queue and length < _PIECE:
                _, data = self._queue.popleft()
                piece.append(data)
                length += len(data)
            self._queued -= length
            self.transport.write(encodeFrames(piece))

    def _end(self) -> None:
        self._closed = True
        self._queue.clear()
        self._queued = 0
