"""
A port mapping that there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2ptwist.core.portmapping.answers import isPublic
from p2ptwist.core.portmapping.grant import Grant
from p2ptwist.interfaces import IPortMapper


@dataclass(frozen=True, slots=True)
class Held:
    """
    A mapping that there is.

    @ivar grant: what was granted.
    @ivar mapper: who renews and releases it.
    @ivar rank: of the protocol; the lower, the better.
    @ivar renewal: when it is asked for again.
    @ivar expiry: when the router forgets it.
    """

    grant: Grant
    mapper: IPortMapper
    rank: int
    renewal: float
    expiry: float

    def isBetterThan(self, other: Held) -> bool:
        """
        @return: whether this is the one to keep: of a public address rather than a private one, and
            then by the protocol.
        """
        return self._order() < other._order()

    def _order(self) -> tuple[bool, int]:
        return (not isPublic(self.grant.external[0]), self.rank)
