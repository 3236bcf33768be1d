"""
What a ladder asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from p2ptwist.core.ladder.message import LadderMessage
from p2ptwist.core.ladder.volley import Shot


@dataclass(frozen=True, slots=True)
class Observe:
    """
    Ask a STUN server, from a fresh socket, which port a new mapping gets, and call
    L{p2ptwist.core.ladder.ladder.Ladder.observed}.
    """


@dataclass(frozen=True, slots=True)
class Open:
    """
    Close the extra sockets, open others, and call L{p2ptwist.core.ladder.ladder.Ladder.opened}.

    @ivar count: how many.
    """

    count: int


@dataclass(frozen=True, slots=True)
class Fire:
    """
    Send a check that nobody has to answer.
    """

    shot: Shot


@dataclass(frozen=True, slots=True)
class Say:
    """
    Send a message over the channel that signals take.
    """

    message: LadderMessage


@dataclass(frozen=True, slots=True)
class Over:
    """
    Nothing more will be sent, and the extra sockets are of no use any more.

    @ivar exhausted: whether all was tried that this pair of NATs allows.
    """

    exhausted: bool


Action: TypeAlias = Observe | Open | Fire | Say | Over
