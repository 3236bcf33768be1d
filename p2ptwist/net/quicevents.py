"""
What a QUIC connection tells: L{p2ptwist.net.quic.QUIC.pollEvent}.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """
    The connection is encrypted.

    @ivar peerKey: the raw Ed25519 key of the called side's certificate, 32 bytes; empty when it
        is of another kind.  C{None} on the called side, which has seen no certificate.
    """

    peerKey: bytes | None


@dataclass(slots=True)
class StreamReceived:
    """
    Bytes of a stream, in order.  Not frozen as the others are, which takes three times as long to
    make: there is one for each datagram.

    @ivar ended: whether they are the last.
    """

    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class StreamAborted:
    """
    The other side gave up sending on a stream.
    """

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """
    The other side wants no more of a stream.
    """

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """
    An application's datagram.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """
    The other side acknowledged a ping: it is there, and knows the connection.
    """


@dataclass(frozen=True, slots=True)
class Terminated:
    """
    The connection is over.

    @ivar code: of CONNECTION_CLOSE.
    @ivar reason: its text; what cannot be printed is replaced.
    @ivar byApplication: whether C{code} is the session's own, or QUIC's.
    """

    code: int
    reason: str
    byApplication: bool


QUICEvent = (
    HandshakeDone
    | StreamReceived
    | StreamAborted
    | StreamStopped
    | MessageReceived
    | Answered
    | Terminated
)
