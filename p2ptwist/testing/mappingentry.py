"""
One mapping of a NAT, and what it lets in.
"""

from __future__ import annotations

from p2ptwist.core.address import HostPort
from p2ptwist.testing.allocation import Key
from p2ptwist.testing.packet import Protocol

# What no destination has.
SINGLE_FLOW = ("flow",)


def singleFlow(remote: HostPort) -> Key:
    """
    @return: the mapping key of one flow that has a mapping to itself.
    """
    return (*SINGLE_FLOW, *remote)


class Session:
    """
    What a mapping knows of the remote addresses of one filtering key.

    @ivar isInbound: whether it was begun from outside.
    @ivar expires: when these are no longer let in.
    @ivar replied: whether packets went both ways.
    @ivar closing: whether a connection was closed or reset.
    """

    __slots__ = ("closing", "expires", "isInbound", "replied")

    def __init__(self, isInbound: bool) -> None:
        self.isInbound = isInbound
        self.expires = 0.0
        self.replied = False
        self.closing = False


class MappingEntry:
    """
    One mapping.

    @ivar protocol: UDP or TCP.
    @ivar inside: the inside address.
    @ivar external: the external address that stands for it.
    @ivar key: the mapping key of the remote addresses that it is for.
    @ivar expires: when it is forgotten unless it is used.
    @ivar end: when it is forgotten anyway.
    @ivar remote: the one remote address that it is for, where the inside sees it as another one.
    """

    __slots__ = (
        "end",
        "expires",
        "external",
        "inside",
        "key",
        "protocol",
        "remote",
        "sessions",
    )

    def __init__(
        self, protocol: Protocol, inside: HostPort, external: HostPort, key: Key, end: float
    ) -> None:
        self.protocol = protocol
        self.inside = inside
        self.external = external
        self.key = key
        self.expires = 0.0
        self.end = end
        self.remote: HostPort | None = None
        self.sessions: dict[Key, Session] = {}

    @property
    def alias(self) -> HostPort | None:
        """
        As which the inside sees L{remote}.
        """
        return None if self.remote is None else (str(self.key[1]), int(self.key[2]))

    @property
    def slot(self) -> Key:
        """
        The key that no other mapping of the same external address has.
        """
        return self.key if self.remote is None else singleFlow(self.remote)

    def isSingleFlow(self) -> bool:
        """
        @return: whether this is the mapping of one flow, and not of the kind that the NAT makes.
        """
        return self.key[:1] == SINGLE_FLOW
