"""
A TCP connection that carries datagrams, in frames (RFC 4571).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import MalformedFrame
from p2ptwist.core.tcppath.framing import FrameDecoder, encodeFrames

# What the kernel is asked to accept beyond what it has sent, in bytes: more would only wait there.
UNSENT_LIMIT = 32 * 1024
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux, macOS


@implementer(IPushProducer)
class FramedConnection(Protocol):
    """
    One connection.

    @ivar full: whether the transport takes no more for the moment.
    @ivar dropped: datagrams that were dropped because it was.
    @ivar receive: called with the frames that came together.
    @ivar progressed: called when the transport takes more again, as the other end took something.
    @ivar lost: called once when the connection is gone, unless L{abort} was called.
    """

    transport: Any

    def __init__(
        self,
        made: Callable[[FramedConnection], object],
        receive: Callable[[Sequence[bytes]], object] = lambda frames: None,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        """
        @param made: called when it stands; it sets the others.
        """
        self.full = False
        self.dropped = 0
        self.receive = receive
        self.lost = lost
        self.progressed: Callable[[], object] = lambda: None
        self._made = made
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
        self.full = True
        lost, self.lost, self.receive = self.lost, lambda: None, lambda frames: None
        lost()

    def send(self, datagrams: Sequence[bytes]) -> bool:
        """
        Send datagrams, unless the transport is full: then they are dropped, as QUIC wants it, which
        goes more slowly where something is lost.

        @return: whether they were taken.
        """
        if self.full:
            self.dropped += len(datagrams)
            return False
        self.transport.write(encodeFrames(datagrams))
        return True

    def sendCheck(self, frame: bytes) -> None:
        """
        Send a STUN message, of which there are few, whatever waits before it.
        """
        self.transport.write(encodeFrames((frame,)))

    def close(self) -> None:
        """
        Close once what was written is sent.
        """
        self.full = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        Close with RST, so that nothing lingers in TIME-WAIT; L{lost} is not called.
        """
        self.full = True
        self.lost, self.receive = lambda: None, lambda frames: None
        self.transport.abortConnection()

    # IPushProducer

    def pauseProducing(self) -> None:
        """
        The transport is full.
        """
        self.full = True

    def resumeProducing(self) -> None:
        """
        It is not any more.
        """
        self.full = False
        self.progressed()

    def stopProducing(self) -> None:
        """
        It takes no more at all.
        """
        self.full = True
