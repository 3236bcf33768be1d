"""
Who is on which link: one link for each key.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2ptwist.core.link.limits import Limits
from p2ptwist.core.link.messages import Prove
from p2ptwist.core.link.nodelink import NodeLink
from p2ptwist.core.link.reasons import Reason


@dataclass(frozen=True, slots=True)
class Claim:
    """
    What became of a proven key.

    @ivar refusal: why the newcomer does not get it, or C{None} when it does.
    @ivar replaced: the link that lost it to the newcomer.
    """

    refusal: Reason | None = None
    replaced: NodeLink | None = None


class Registry:
    """
    The table of links that are up.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._links: dict[bytes, NodeLink] = {}
        self.get = self._links.get  # the hot path asks this for each message

    def __len__(self) -> int:
        """
        @return: how many links are up.
        """
        return len(self._links)

    def links(self) -> list[NodeLink]:
        """
        @return: every link that is up.
        """
        return list(self._links.values())

    def claim(self, link: NodeLink, prove: Prove, now: float) -> Claim:
        """
        Give the key that C{prove} names to C{link}, if it may have it.
        """
        current = self._links.get(prove.publicKey)
        if current is None:
            if len(self._links) >= self._limits.maxLinks:
                return Claim(Reason.FULL)
        elif current.instance == prove.instance:
            link.displacedAt = current.displacedAt
        elif not prove.takeOver or now < current.displacedAt + self._limits.displaceInterval:
            return Claim(Reason.DISPLACED)
        else:
            link.displacedAt = now
        link.publicKey = prove.publicKey
        link.instance = prove.instance
        self._links[prove.publicKey] = link
        return Claim(None, current)

    def release(self, link: NodeLink) -> None:
        """
        Forget C{link}, if its key is still its own.
        """
        if self._links.get(link.publicKey) is link:
            del self._links[link.publicKey]
