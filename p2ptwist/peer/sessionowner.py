"""
Who decides about sessions and streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IProtocol

if TYPE_CHECKING:
    from p2ptwist.peer.session import Session
    from p2ptwist.peer.stream import Stream


class SessionOwner(Protocol):
    """
    Whoever decides about a session: L{p2ptwist.peer.service.PeerService}.
    """

    def admits(self, session: Session) -> bool:
        """
        @return: whether the peer that proved itself may have a session.
        """

    def accept(self, session: Session, stream: Stream) -> IProtocol | None:
        """
        @return: the protocol for a stream that the other side opened; C{None} when there is no such
            service.
        """

    def sessionAdmitted(self, session: Session) -> None:
        """
        The other side, which was called, has admitted this one.
        """

    def sessionChanged(self, session: Session) -> None:
        """
        The path that carries the session is another one, or there is a direct one.
        """

    def messageReceived(self, session: Session, data: bytes) -> None:
        """
        An application's datagram came.
        """
