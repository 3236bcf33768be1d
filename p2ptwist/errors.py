"""
Every error of p2ptwist, under one root: L{P2PError}.

Outcomes also subclass Twisted's own errors, so that code which traps C{ConnectError} works
unchanged.  Each message says what happened and what to do about it.
"""

from __future__ import annotations

from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.error import TimeoutError as TwistedTimeoutError

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram, MalformedFrame, P2PError

__all__ = [
    "IdentityUnusable",
    "LinkDown",
    "LocalUsageError",
    "MalformedDatagram",
    "MalformedFrame",
    "NameNotResolved",
    "NoGateway",
    "P2PError",
    "PathLost",
    "PeerUnreachable",
    "PortMapperSilent",
    "PortMappingError",
    "PortMappingRefused",
    "PortUnusable",
    "PunchFailed",
    "RendezvousRefused",
    "RendezvousUnreachable",
    "STUNRefused",
    "STUNTimeout",
    "SessionLost",
    "SessionRefused",
    "StreamRefused",
]


class _Outcome(P2PError):
    """
    A P2PError whose text is exactly what it was made with, whatever Twisted's C{str} would say.
    """

    osError: object = None  # Twisted's own ConnectError sets it; nothing here comes from errno

    def __init__(self, message: str = "") -> None:
        # Not super(): ConnectError takes its first argument for an errno, and forgets the text.
        Exception.__init__(self, message)

    def __str__(self) -> str:
        return str(self.args[0]) or (self.__doc__ or "").strip()


class IdentityUnusable(_Outcome):
    """
    An identity file cannot be used: not a key, not readable, or readable by others.
    """


class PortUnusable(_Outcome):
    """
    A local UDP or TCP port could not be opened.
    """


class NameNotResolved(_Outcome, ConnectError):
    """
    A host name has no address.
    """


class STUNTimeout(_Outcome, TwistedTimeoutError):
    """
    A STUN server did not answer in time.
    """


class STUNRefused(_Outcome, ConnectError):
    """
    A STUN server answered with an error.

    @ivar code: the STUN error code, 300..699.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class LinkDown(_Outcome, ConnectError):
    """
    There is no link to a rendezvous node at this moment.
    """


class RendezvousUnreachable(_Outcome, ConnectError):
    """
    A rendezvous node could not be reached.
    """


class RendezvousRefused(_Outcome, ConnectError):
    """
    A rendezvous node ended the link with a reason.

    @ivar reason: the node's word for it, such as C{"full"} or C{"bad-signature"}.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class PeerUnreachable(_Outcome, ConnectError):
    """
    The rendezvous node knows no link of that peer, or the peer would not be called.
    """


class PunchFailed(_Outcome, ConnectError):
    """
    No direct path was found.

    @ivar elapsed: seconds that were spent.
    @ivar checks: connectivity checks that were sent.
    """

    def __init__(self, message: str, elapsed: float, checks: int) -> None:
        super().__init__(message)
        self.elapsed = elapsed
        self.checks = checks


class PathLost(_Outcome, ConnectionLost):
    """
    A direct path that worked has ended.
    """


class SessionRefused(_Outcome, ConnectError):
    """
    The other peer would not have a session, or was not who it should be.

    @ivar word: why, in one word: C{"not-admitted"}, C{"impostor"}, C{"protocol"}, C{"late"}.
    """

    def __init__(self, message: str, word: str) -> None:
        super().__init__(message)
        self.word = word


class SessionLost(_Outcome, ConnectionLost):
    """
    A session with another peer has ended.

    @ivar word: why, in one word: C{"closed"}, C{"replaced"}, C{"unreachable"} and others.
    """

    def __init__(self, message: str, word: str = "closed") -> None:
        super().__init__(message)
        self.word = word


class StreamRefused(_Outcome, ConnectionLost):
    """
    The other peer would not have a stream, though there is a session.

    @ivar word: why, in one word: C{"not-admitted"} when there is no such service, C{"overflow"}
        when it has too many streams open.
    """

    def __init__(self, message: str, word: str) -> None:
        super().__init__(message)
        self.word = word


class PortMappingError(_Outcome):
    """
    No router made a port mapping.
    """


class NoGateway(PortMappingError):
    """
    This host has no default router that could be asked for a port mapping.
    """


class PortMapperSilent(PortMappingError, TwistedTimeoutError):
    """
    The router does not answer in this port mapping protocol.
    """


class PortMappingRefused(PortMappingError):
    """
    The router answered that it will not make this port mapping.

    @ivar code: the error code of the protocol.
    @ivar why: the standard's name for it, such as C{"NOT_AUTHORIZED"}.
    @ivar lasting: seconds for which it is of no use to ask again.
    """

    def __init__(self, message: str, code: int, why: str, lasting: float = 30.0) -> None:
        super().__init__(message)
        self.code = code
        self.why = why
        self.lasting = lasting
