"""
What a stream belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from p2ptwist.peer.address import PeerAddress

if TYPE_CHECKING:
    from p2ptwist.peer.stream import Stream


class StreamHost(Protocol):
    """
    What a stream needs of its session.
    """

    def wake(self, stream: Stream) -> None:
        """
        C{stream} has something to send.
        """

    def send(self, stream: Stream, data: bytes) -> None:
        """
        Send bytes of C{stream}, as soon as this turn of the reactor is over.
        """

    def grant(self, stream: Stream, offset: int) -> None:
        """
        The other side may send up to C{offset}.
        """

    def abandon(self, stream: Stream, code: int, *, sending: bool, receiving: bool) -> None:
        """
        Give up one or both directions.
        """

    def forget(self, stream: Stream) -> None:
        """
        Nothing more will be asked of C{stream}.
        """

    def address(self, service: str, *, own: bool) -> PeerAddress:
        """
        @return: the address of this side or the other.
        """


class StreamSender(Protocol):
    """
    What a stream hands its bytes to: L{p2ptwist.net.quic.QUIC}.
    """

    def send(self, stream: int, data: bytes | memoryview, ended: bool = False) -> None:
        """
        Queue bytes.
        """

    def queued(self, stream: int | None = None) -> int:
        """
        @return: bytes not sent yet.
        """
