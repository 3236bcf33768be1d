"""
The ports of a router that were mapped on request, and let everybody in.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2ptwist.core.address import HostPort
from p2ptwist.testing.packet import Protocol


@dataclass(slots=True)
class Forward:
    """
    One explicit mapping.

    @ivar protocol: UDP or TCP.
    @ivar inside: the inside address that packets go to.
    @ivar external: the external address that they come to; C{inside} for a pinhole in a firewall.
    @ivar expires: when it ends.  Flows that it let in live on, as in Linux.
    @ivar mapsOutgoing: whether flows that the inside begins come from C{external} as well.
    @ivar nonce: what its owner is known by, if by anything.
    """

    protocol: Protocol
    inside: HostPort
    external: HostPort
    expires: float
    mapsOutgoing: bool
    nonce: bytes = b""


class Forwards:
    """
    The explicit mappings of one router; one for each inside address and for each external one.
    """

    def __init__(self) -> None:
        self._byInside: dict[tuple[Protocol, HostPort], Forward] = {}
        self._byExternal: dict[tuple[Protocol, HostPort], Forward] = {}

    def __len__(self) -> int:
        return len(self._byInside)

    def add(self, forward: Forward) -> None:
        """
        Let packets in.
        """
        self._byInside[forward.protocol, forward.inside] = forward
        self._byExternal[forward.protocol, forward.external] = forward

    def remove(self, forward: Forward) -> None:
        """
        No longer let new flows in.
        """
        del self._byInside[forward.protocol, forward.inside]
        del self._byExternal[forward.protocol, forward.external]

    def ofInside(self, protocol: Protocol, inside: HostPort, now: float) -> Forward | None:
        """
        @return: the mapping of an inside address, if there is one.
        """
        return self._living(self._byInside.get((protocol, inside)), now)

    def ofExternal(self, protocol: Protocol, external: HostPort, now: float) -> Forward | None:
        """
        @return: the mapping of an external address, if there is one.
        """
        return self._living(self._byExternal.get((protocol, external)), now)

    def living(self, now: float) -> list[Forward]:
        """
        @return: all of them.
        """
        return [each for each in list(self._byInside.values()) if self._living(each, now)]

    def _living(self, forward: Forward | None, now: float) -> Forward | None:
        if forward is not None and forward.expires <= now:
            self.remove(forward)
            return None
        return forward
