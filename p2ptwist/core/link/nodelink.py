"""
What a node knows of one connection.
"""

from __future__ import annotations

import enum
from collections import deque

from p2ptwist.core.address import HostPort, prefixOf
from p2ptwist.core.link.frames import FrameDecoder
from p2ptwist.core.link.messages import UNKNOWN_ADDRESS, Hello
from p2ptwist.core.link.outbox import Outbox
from p2ptwist.core.link.relay import RelayAllowance
from p2ptwist.core.tokenbucket import TokenBucket

NEVER = float("-inf")


class LinkState(enum.Enum):
    """
    The life of a connection at the node.
    """

    PROVING = "proving"
    UP = "up"
    ENDED = "ended"


class NodeLink:
    """
    One connection at the node: plain data, as small as it can be, for there are many.

    @ivar address: where it comes from.
    @ivar connection: whatever carries its bytes; the node never looks at it.
    @ivar state: where in its life it is.
    @ivar decoder: what has arrived and is not yet understood.
    @ivar hello: what it was told first; C{None} once it is up.
    @ivar publicKey: its peer, 32 bytes; empty until it is up.
    @ivar instance: which program of that peer.
    @ivar receivePrefix: type and key of the frames that carry this peer's messages to others.
    @ivar heardAt: when bytes last came.
    @ivar frameSince: when the first byte of an unfinished frame came, or C{None}.
    @ivar heldUntil: while it is over its allowance of messages or look-ups, when that ends; else
        C{None}.
    @ivar held: messages that wait for that, once there are any.
    @ivar pausedUntil: while the node does not read from it, when that ends; else C{None}.
    @ivar since: when it came into its state.
    @ivar displacedAt: when it took its key from another program.
    @ivar outbox: what is to be sent on it.
    @ivar messages: its key's allowance of messages, once it sent one.
    @ivar lookups: its key's allowance of messages to absent peers, once it sent one.
    @ivar relay: its allowance of relayed datagrams, once it sent one.
    @ivar wakeAt: when the node looks at it next; L{p2ptwist.core.link.deadlines} keeps it.
    """

    __slots__ = (
        "address",
        "connection",
        "decoder",
        "displacedAt",
        "frameSince",
        "heardAt",
        "held",
        "heldUntil",
        "hello",
        "instance",
        "lookups",
        "messages",
        "outbox",
        "pausedUntil",
        "publicKey",
        "receivePrefix",
        "relay",
        "since",
        "state",
        "wakeAt",
    )

    def __init__(self, address: HostPort, now: float) -> None:
        self.address = address
        self.connection: object = None
        self.state = LinkState.PROVING
        self.decoder = FrameDecoder()
        self.hello: Hello | None = None
        self.publicKey = b""
        self.instance = b""
        self.receivePrefix = b""
        self.heardAt = now
        self.frameSince: float | None = None
        self.heldUntil: float | None = None
        self.held: deque[bytes] | None = None
        self.pausedUntil: float | None = None
        self.since = now
        self.displacedAt = NEVER
        self.outbox = Outbox()
        self.messages: TokenBucket | None = None
        self.lookups: TokenBucket | None = None
        self.relay: RelayAllowance | None = None
        self.wakeAt: float | None = None


def siteOf(address: HostPort) -> str:
    """
    @return: the /32 or /64 that C{address} is in: as a rule, one subscriber or one carrier NAT.
    """
    return "" if address == UNKNOWN_ADDRESS else prefixOf(address[0], 32, 64)


def regionOf(address: HostPort) -> str:
    """
    @return: the /24 or /48 that C{address} is in: what one attacker may well own.
    """
    return "" if address == UNKNOWN_ADDRESS else prefixOf(address[0], 24, 48)
