"""
What an agent tells whoever drives it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.signal import Signal


@dataclass(frozen=True, slots=True)
class SignalQueued:
    """
    A signal to send to the other side.
    """

    signal: Signal


@dataclass(frozen=True, slots=True)
class PathOpened:
    """
    Data may be sent.

    @ivar remote: the address that it goes to.
    """

    remote: HostPort


@dataclass(frozen=True, slots=True)
class PathMoved:
    """
    Data goes to another address from now on.

    @ivar remote: that address.
    """

    remote: HostPort


@dataclass(frozen=True, slots=True)
class PathConfirmed:
    """
    The other side is at the other end of the open path, and proved it by an authentic message.

    @ivar answered: whether it was the answer to a check of ours, so that the path carries both
        ways; a check of the other side only shows that it carries this way.
    """

    answered: bool


@dataclass(frozen=True, slots=True)
class DataReceived:
    """
    A datagram of the application came from the other side.
    """

    data: bytes


class EndKind(enum.Enum):
    """
    How a session ended.
    """

    FAILED = "no path was found"
    LOST = "the path died"
    LEFT = "the other side ended it"


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """
    The session is over; nothing comes after this event.

    @ivar kind: how it ended.
    @ivar reason: why, for a person.
    @ivar elapsed: seconds since it began.
    @ivar checks: how many checks were sent.
    """

    kind: EndKind
    reason: str
    elapsed: float
    checks: int


Event = SignalQueued | PathOpened | PathMoved | PathConfirmed | DataReceived | SessionEnded


@dataclass(slots=True)
class Counters:
    """
    What was dropped, and why.

    @ivar malformed: not what its protocol says.
    @ivar forged: with a wrong key, or from the wrong source.
    @ivar repeated: checks that came before.
    @ivar refused: checks from an address that nobody should be made to send to, or from one more
        than 24.
    @ivar stray: application data from an address that proved nothing, or too much of it before.
    @ivar late: application data to send when there was no path any more.
    @ivar overflowed: application data beyond what waits for consent.
    """

    malformed: int = 0
    forged: int = 0
    repeated: int = 0
    refused: int = 0
    stray: int = 0
    late: int = 0
    overflowed: int = 0
