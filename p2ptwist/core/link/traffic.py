"""
What a node does with the frames of links that are up: it forwards messages, relays datagrams,
answers pings, and holds every sender to its allowances.

A message over its sender's allowance waits, and loses nothing; reading from the sender ends only
when too many wait.  A relayed datagram over its allowance is dropped, so that it never stands in
the way of the messages behind it.
"""

from __future__ import annotations

from collections import deque

from p2ptwist.core.errors import MalformedFrame
from p2ptwist.core.link.frames import (
    HOT_OVERHEAD,
    LENGTH_SIZE,
    FrameType,
    checkEmpty,
    encodeFrame,
    encodeHot,
)
from p2ptwist.core.link.limits import Limits
from p2ptwist.core.link.links import Links
from p2ptwist.core.link.nodelink import LinkState, NodeLink
from p2ptwist.core.link.relay import RelayAllowance, RelayAllowances, RelayVerdict
from p2ptwist.core.tokenbucket import KeyedBuckets, TokenBucket

_PONG = encodeFrame(FrameType.PONG)
_SEND = int(FrameType.SEND)
_PING = int(FrameType.PING)
_RELAY = int(FrameType.RELAY)
_RELAYED = bytes((FrameType.RELAYED,))


class Traffic:
    """
    The frames of all links of one node that are up.
    """

    def __init__(self, links: Links, limits: Limits, now: float) -> None:
        """
        @param links: where frames go.
        @param now: seconds on the clock of all later calls.
        """
        self._links = links
        self._limits = limits
        self._counters = links.counters
        self._find = links.registry.get
        self._messages = KeyedBuckets(limits.messageRate, limits.maxLinks)
        self._lookups = KeyedBuckets(limits.lookupRate, limits.maxLinks)
        self._relaying = RelayAllowances(limits, now)

    def take(self, link: NodeLink, frame: bytes, now: float) -> None:
        """
        Take a frame of C{link}, which is up and is read from.

        @raise MalformedFrame: when it is none that a peer may send.
        """
        kind = frame[0]
        if kind in (_SEND, _RELAY):
            if len(frame) < HOT_OVERHEAD:
                raise MalformedFrame("too short for a public key")
        elif kind == _PING:
            checkEmpty(frame)
        else:
            raise MalformedFrame(f"a frame of type {kind} while the link is up")
        if kind == _RELAY:
            self._relay(link, frame, now)
        elif link.heldUntil is None:
            self._takeMessage(link, frame, now)
        else:
            self._hold(link, frame, link.heldUntil)

    def release(self, link: NodeLink, now: float) -> None:
        """
        Take the messages of C{link} that have waited, as far as its allowance is back.
        """
        held = link.held
        link.heldUntil = None
        while held and link.heldUntil is None and link.state is LinkState.UP:
            self._takeMessage(link, held.popleft(), now)
        if not held:
            link.held = None

    # Messages.

    def _takeMessage(self, link: NodeLink, frame: bytes, now: float) -> None:
        bucket = link.messages
        if bucket is None:
            bucket = link.messages = self._messages.bucket(link.publicKey, now)
        if frame[0] == _SEND:
            self._forward(link, frame, now)
        else:
            self._links.queue(link, _PONG, now)
        bucket.take(now)
        if bucket.level < 1.0:
            self._throttle(link, bucket.readyAt(now))

    def _forward(self, link: NodeLink, frame: bytes, now: float) -> None:
        key = frame[1:HOT_OVERHEAD]
        target = self._find(key)
        if target is not None:
            self._counters.forwarded += 1
            # A receive frame has the length of the send frame that it comes from.
            length = len(frame).to_bytes(LENGTH_SIZE, "big")
            self._links.queue(target, length + link.receivePrefix + frame[HOT_OVERHEAD:], now)
            return
        self._counters.unreachable += 1
        self._links.queue(link, encodeHot(FrameType.UNREACHABLE, key), now)
        bucket = self._lookupsOf(link, now)
        bucket.take(now)
        if bucket.level < 1.0:
            self._throttle(link, bucket.readyAt(now))

    def _lookupsOf(self, link: NodeLink, now: float) -> TokenBucket:
        if link.lookups is None:
            link.lookups = self._lookups.bucket(link.publicKey, now)
        return link.lookups

    def _throttle(self, link: NodeLink, until: float) -> None:
        """
        Let further messages of C{link} wait.
        """
        if link.state is not LinkState.UP:
            return
        self._counters.throttled += 1
        link.heldUntil = until = max(until, link.heldUntil or until)
        self._links.deadlines.schedule(link, until)

    def _hold(self, link: NodeLink, frame: bytes, until: float) -> None:
        held = link.held
        if held is None:
            held = link.held = deque()
        held.append(frame)
        limits = self._limits
        if len(held) >= limits.maxHeldMessages or sum(map(len, held)) >= limits.maxHeldBytes:
            self._pause(link, until)

    def _pause(self, link: NodeLink, until: float) -> None:
        """
        Read no more from C{link}.
        """
        link.pausedUntil = until
        link.frameSince = None
        self._links.deadlines.schedule(link, until)

    # Relayed datagrams.

    def _relay(self, link: NodeLink, frame: bytes, now: float) -> None:
        sender = link.relay
        if sender is None:
            sender = link.relay = self._relaying.allowance(link.publicKey, now)
        length = len(frame)
        verdict = self._relaying.judge(sender, LENGTH_SIZE + length, now)
        if verdict is not RelayVerdict.PASS:
            self._dropOver(link, sender, verdict, LENGTH_SIZE + length, now)
            return
        key = frame[1:HOT_OVERHEAD]
        target = self._find(key)
        if target is None:
            self._answerRelay(link, key, now)
            return
        counters = self._counters
        counters.relayed += 1
        counters.relayedBytes += length - HOT_OVERHEAD
        head = length.to_bytes(LENGTH_SIZE, "big") + _RELAYED + link.publicKey
        self._links.queueRelayed(target, head + frame[HOT_OVERHEAD:])

    def _dropOver(
        self, link: NodeLink, sender: RelayAllowance, verdict: RelayVerdict, cost: int, now: float
    ) -> None:
        if verdict is RelayVerdict.OVER_RATE:
            self._counters.relayLimited += 1
        else:
            self._counters.relayCapped += 1
        until = sender.pauseFor(cost, now)
        if until is not None:
            self._pause(link, until)

    def _answerRelay(self, link: NodeLink, key: bytes, now: float) -> None:
        """
        Say that a peer is absent, unless the answer would cost anybody's messages anything.
        """
        self._counters.unreachable += 1
        if not link.outbox.blocked and self._lookupsOf(link, now).take(now):
            self._links.queue(link, encodeHot(FrameType.UNREACHABLE, key), now)
