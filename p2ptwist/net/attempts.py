"""
What an observer is told of attempts to be direct, over UDP and TCP.

Set C{observer} of a L{p2ptwist.net.puncher.Puncher} or a L{p2ptwist.net.tcpopen.TCPOpener}, or
C{attempts} of a L{p2ptwist.peer.service.PeerService}, before the attempts begin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from twisted.internet.error import ConnectError
from twisted.logger import Logger

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.signal import Signal
from p2ptwist.core.stun.message import Message, MessageClass, isSTUN
from p2ptwist.core.tcppath.signal import TCPSignal

_log = Logger()

_TRANSACTION = slice(8, 20)  # RFC 8489 section 5: the transaction ID
_REQUEST = 0x0001


@dataclass(frozen=True, slots=True)
class AttemptBegun:
    """
    An attempt has begun.

    @ivar session: exactly 8 bytes that name the attempt, on both sides.
    @ivar transport: C{"udp"} or C{"tcp"}.
    @ivar calling: whether this side offered it.
    """

    session: bytes
    transport: str
    calling: bool


@dataclass(frozen=True, slots=True)
class SignalSent:
    """
    This side has told the other one something: its addresses, a round of the ladder, a goodbye.
    """

    session: bytes
    signal: Signal | TCPSignal


@dataclass(frozen=True, slots=True)
class SignalTaken:
    """
    The other side has.
    """

    session: bytes
    signal: Signal | TCPSignal


@dataclass(frozen=True, slots=True)
class CheckSent:
    """
    A check has left.

    @ivar transaction: exactly 12 bytes that its answer has as well.
    """

    session: bytes
    address: HostPort
    transaction: bytes


@dataclass(frozen=True, slots=True)
class CheckAnswered:
    """
    The other side has answered a check.
    """

    session: bytes
    address: HostPort
    transaction: bytes


@dataclass(frozen=True, slots=True)
class CheckTaken:
    """
    An authentic check of the other side has come.
    """

    session: bytes
    address: HostPort


@dataclass(frozen=True, slots=True)
class Dialed:
    """
    A TCP connection is being made.
    """

    session: bytes
    address: HostPort


@dataclass(frozen=True, slots=True)
class DialFailed:
    """
    It came to nothing.

    @ivar refused: whether it was refused, and not only without an answer.
    """

    session: bytes
    address: HostPort
    refused: bool


@dataclass(frozen=True, slots=True)
class Connected:
    """
    There is a TCP connection, which is yet to be proved.

    @ivar dialed: whether this side made it.
    """

    session: bytes
    address: HostPort
    dialed: bool


@dataclass(frozen=True, slots=True)
class AttemptOpened:
    """
    There is a path.

    @ivar remote: where it goes.
    """

    session: bytes
    remote: HostPort | None


@dataclass(frozen=True, slots=True)
class AttemptOver:
    """
    The attempt, or its path, is over.

    @ivar reason: why, in words for people.
    @ivar failed: whether no path was found; not when this side gave it up for another.
    """

    session: bytes
    reason: str
    failed: bool


AttemptEvent: TypeAlias = (
    AttemptBegun
    | SignalSent
    | SignalTaken
    | CheckSent
    | CheckAnswered
    | CheckTaken
    | Dialed
    | DialFailed
    | Connected
    | AttemptOpened
    | AttemptOver
)
Observer: TypeAlias = Callable[[AttemptEvent], object]


def tell(observer: Observer | None, event: AttemptEvent) -> None:
    """
    Tell the observer, if there is one.  What it raises is its own bug, and ends nothing.
    """
    if observer is not None:
        try:
            observer(event)
        except Exception:
            _log.failure("an observer of attempts failed")


def tellOver(observer: Observer | None, session: bytes, reason: BaseException | None) -> None:
    """
    Tell the observer, if there is one, that an attempt or its path is over.
    """
    tell(observer, AttemptOver(session, str(reason), isinstance(reason, ConnectError)))


def noteSent(observer: Observer, session: bytes, data: bytes, address: HostPort) -> None:
    """
    Tell of a datagram that leaves, if it is a check.
    """
    if isSTUN(data) and int.from_bytes(data[:2], "big") == _REQUEST:
        tell(observer, CheckSent(session, address, bytes(data[_TRANSACTION])))


def noteTaken(observer: Observer, session: bytes, message: Message, address: HostPort) -> None:
    """
    Tell of an authentic message that came.
    """
    if message.messageClass is MessageClass.SUCCESS:
        tell(observer, CheckAnswered(session, address, message.transactionID))
    elif message.messageClass is MessageClass.REQUEST:
        tell(observer, CheckTaken(session, address))
