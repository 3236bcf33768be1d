"""
The rendezvous node as a machine: connections and bytes in; bytes, actions and one deadline out.

The life of a connection::

    PROVING --prove accepted--> UP --goodbye--> ENDED --connection lost--> gone
       |                                          ^
       +--refused, evicted, malformed, timeout----+

Each remote input by state; everything else is malformed and ends the link::

    ========  =========  ====================================  =========
    frame     PROVING    UP                                    ENDED
    ========  =========  ====================================  =========
    prove     register   malformed                             ignored
    ping      malformed  pong                                  ignored
    send      malformed  receive to the peer, or unreachable   ignored
    other     malformed  malformed                             ignored
    ========  =========  ====================================  =========
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedFrame
from p2ptwist.core.link.admission import Admission, Unproven, Verdict
from p2ptwist.core.link.deadlines import Deadlines
from p2ptwist.core.link.frames import (
    FRAME_LIMIT,
    HOT_OVERHEAD,
    LENGTH_SIZE,
    MAX_PAYLOAD,
    FrameType,
    checkEmpty,
    encodeFrame,
    encodeHot,
)
from p2ptwist.core.link.limits import Counters, Limits
from p2ptwist.core.link.messages import (
    CHALLENGE_LENGTH,
    PROTOCOL_VERSION,
    UNKNOWN_ADDRESS,
    Goodbye,
    Hello,
    Prove,
    Welcome,
)
from p2ptwist.core.link.nodelink import LinkState, NodeLink
from p2ptwist.core.link.reasons import Reason
from p2ptwist.core.link.registry import Registry
from p2ptwist.core.tokenbucket import KeyedBuckets

_PONG = encodeFrame(FrameType.PONG)
_SEND = int(FrameType.SEND)
_PING = int(FrameType.PING)
_PROVE = int(FrameType.PROVE)


class Action(enum.Enum):
    """
    What the owner of a link's connection has to do, after it has sent what there is to send.
    """

    PAUSE = "stop reading"
    RESUME = "read again"
    CLOSE = "close when everything is sent"
    ABORT = "close at once"


class Node:
    """
    A rendezvous node.

    @ivar counters: what it has done.
    @ivar registry: who is on which link.
    """

    def __init__(
        self,
        name: str,
        verify: Callable[[bytes, bytes, bytes], bool],
        randomBytes: Callable[[int], bytes],
        now: float,
        *,
        limits: Limits | None = None,
        stunServers: tuple[HostPort, ...] = (),
    ) -> None:
        """
        @param name: what peers sign for; not empty, at most 64 bytes of UTF-8.
        @param verify: called with public key, signature and text; says whether they fit.
        @param randomBytes: cryptographically strong; makes the challenges.
        @param now: seconds on the clock of all later calls.
        @param limits: the bounds; the defaults when left out.
        @param stunServers: as for L{announce}.
        @raise LocalUsageError: when the name or a STUN server does not fit into a frame.
        """
        Hello(b"", name).encode()
        self._name = name
        self._verify = verify
        self._randomBytes = randomBytes
        self._limits = limits = limits or Limits()
        self._admission = Admission(limits, now)
        self._unproven = Unproven(limits)
        self._deadlines = Deadlines()
        self._registrations = KeyedBuckets(limits.registrationRate, limits.maxLinks)
        self._messages = KeyedBuckets(limits.messageRate, limits.maxLinks)
        self._lookups = KeyedBuckets(limits.lookupRate, limits.maxLinks)
        self._links: set[NodeLink] = set()  # every connection, in any state
        self._dirty: deque[NodeLink] = deque()  # links with something to send
        self._actions: deque[tuple[NodeLink, Action]] = deque()
        self._draining = False
        self.announce(stunServers)
        self.registry = Registry(limits)
        self.counters = Counters()

    def __len__(self) -> int:
        """
        @return: how many connections there are, in any state.
        """
        return len(self._links)

    def links(self) -> list[NodeLink]:
        """
        @return: every connection, in any state.
        """
        return list(self._links)

    def announce(self, stunServers: tuple[HostPort, ...]) -> None:
        """
        Tell peers that come up from now on to use these STUN servers.

        @param stunServers: UDP addresses, at most 4; an empty host stands for the host that a
            peer's link goes to.
        @raise LocalUsageError: when one does not fit into a welcome.
        """
        Welcome(UNKNOWN_ADDRESS, 1, 0, stunServers).encode()
        self._stunServers = stunServers

    # What happens to connections.

    def accept(self, address: HostPort, now: float) -> NodeLink | None:
        """
        Take on a new connection.

        @param address: where it comes from, or L{UNKNOWN_ADDRESS
            <p2ptwist.core.link.messages.UNKNOWN_ADDRESS>}.
        @return: its link, perhaps already ended with a reason; C{None} to close it at once.
        """
        verdict = Verdict.IGNORE if self._draining else self._admission.judge(address, now)
        if verdict is Verdict.IGNORE:
            self.counters.ignored += 1
            return None
        link = NodeLink(address, now)
        self._links.add(link)
        if verdict is Verdict.REFUSE:
            self._refuse(link, Reason.TOO_FAST, now)
            return link
        self.counters.accepted += 1
        victim = self._unproven.add(link)
        if victim is not None:
            self.counters.evicted += 1
            self._end(victim, Reason.TOO_FAST, now)
        link.hello = Hello(self._randomBytes(CHALLENGE_LENGTH), self._name)
        self._queue(link, link.hello.encode(), now)
        self._deadlines.schedule(link, now + self._limits.proofDelay)
        return link

    def connectionLost(self, link: NodeLink) -> None:
        """
        The connection of C{link} is gone.
        """
        self._leave(link)
        self._deadlines.discard(link)
        self._links.discard(link)
        link.outgoing.clear()

    def receiveBytes(self, link: NodeLink, data: bytes, now: float) -> None:
        """
        Take what came on C{link}.
        """
        if link.state is LinkState.ENDED:
            return
        link.heardAt = now
        link.decoder.feed(data)
        if link.resumeAt is None:
            self._takeFrames(link, now)

    def setBlocked(self, link: NodeLink, blocked: bool) -> None:
        """
        The transport of C{link} takes no more for now, or takes more again.
        """
        link.blocked = blocked
        link.queuedBytes = 0
        if not blocked and link.outgoing:
            self._dirty.append(link)

    def drain(self, now: float) -> None:
        """
        End every link, tell the peers to come back spread out, and accept nothing more.
        """
        self._draining = True
        for link in self._links:
            if link.state is not LinkState.ENDED:
                self._end(link, Reason.DRAINING, now, self._limits.drainSpread)

    # What comes out.

    def pollTransmit(self) -> tuple[NodeLink, bytes] | None:
        """
        @return: a link and everything there is to send on it, or C{None}.
        """
        while self._dirty:
            link = self._dirty.popleft()
            if link.outgoing and not link.blocked:
                data = b"".join(link.outgoing)
                link.outgoing.clear()
                return link, data
        return None

    def pollAction(self) -> tuple[NodeLink, Action] | None:
        """
        @return: a link and what to do with its connection, or C{None}.  Poll what there is to
            send first.
        """
        return self._actions.popleft() if self._actions else None

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} must be called next, or C{None} for never.
        """
        return self._deadlines.next()

    def handleTimeout(self, now: float) -> None:
        """
        Look at every link whose time has come.
        """
        while (link := self._deadlines.pop(now)) is not None:
            self._wake(link, now)

    # Frames.

    def _takeFrames(self, link: NodeLink, now: float) -> None:
        decoder = link.decoder
        taken = False
        try:
            while (frame := decoder.take()) is not None:
                taken = True
                if link.state is LinkState.UP:
                    if not self._takeUpFrame(link, frame, now):
                        return
                else:
                    self._takeProof(link, frame, now)
                    if link.state is LinkState.ENDED:
                        return
        except MalformedFrame:
            self.counters.malformed += 1
            self._end(link, Reason.PROTOCOL, now)
            return
        if not len(decoder):
            link.frameSince = None
        elif taken or link.frameSince is None:
            link.frameSince = now
            self._deadlines.schedule(link, now + self._limits.frameDelay)

    def _takeUpFrame(self, link: NodeLink, frame: bytes, now: float) -> bool:
        """
        @return: whether C{link} may go on at once.
        """
        bucket = link.messages
        if bucket is None:
            bucket = link.messages = self._messages.bucket(link.publicKey, now)
        if frame[0] == _SEND:
            self._forward(link, frame, now)
        elif frame[0] == _PING:
            checkEmpty(frame)
            self._queue(link, _PONG, now)
        else:
            raise MalformedFrame(f"a frame of type {frame[0]} while the link is up")
        bucket.take(now)
        if bucket.level < 1.0:
            self._throttle(link, bucket.readyAt(now), now)
        return link.resumeAt is None and link.state is LinkState.UP

    def _forward(self, link: NodeLink, frame: bytes, now: float) -> None:
        if len(frame) < HOT_OVERHEAD:
            raise MalformedFrame("too short for a public key")
        target = self.registry.get(frame[1:HOT_OVERHEAD])
        if target is None:
            self._answerUnreachable(link, frame[1:HOT_OVERHEAD], now)
            return
        self.counters.forwarded += 1
        # A receive frame has the length of the send frame that it comes from.
        length = len(frame).to_bytes(LENGTH_SIZE, "big")
        self._queue(target, length + link.receivePrefix + frame[HOT_OVERHEAD:], now)

    def _answerUnreachable(self, link: NodeLink, key: bytes, now: float) -> None:
        self.counters.unreachable += 1
        self._queue(link, encodeHot(FrameType.UNREACHABLE, key), now)
        bucket = link.lookups
        if bucket is None:
            bucket = link.lookups = self._lookups.bucket(link.publicKey, now)
        bucket.take(now)
        if bucket.level < 1.0:
            self._throttle(link, bucket.readyAt(now), now)

    def _throttle(self, link: NodeLink, until: float, now: float) -> None:
        """
        Read no more from C{link} before its allowance is back.
        """
        if link.state is not LinkState.UP:
            return
        self.counters.throttled += 1
        if link.resumeAt is None:
            self._actions.append((link, Action.PAUSE))
        link.resumeAt = max(until, link.resumeAt or until)
        link.frameSince = None
        self._deadlines.schedule(link, link.resumeAt)

    def _takeProof(self, link: NodeLink, frame: bytes, now: float) -> None:
        if frame[0] != _PROVE:
            raise MalformedFrame(f"a frame of type {frame[0]} before any proof")
        prove = Prove.decode(frame[1:])
        assert link.hello is not None
        if prove.version != PROTOCOL_VERSION:
            self._refuse(link, Reason.VERSION, now)
        elif not self._verify(prove.publicKey, prove.signature, prove.signedText(link.hello)):
            self._refuse(link, Reason.BAD_SIGNATURE, now)
        elif not self._registrations.take(prove.publicKey, now):
            self._refuse(link, Reason.TOO_FAST, now)
        else:
            self._register(link, prove, now)

    def _register(self, link: NodeLink, prove: Prove, now: float) -> None:
        claim = self.registry.claim(link, prove, now)
        if claim.refusal is not None:
            self._refuse(link, claim.refusal, now)
            return
        if claim.replaced is not None:
            self.counters.displaced += 1
            self._end(claim.replaced, Reason.DISPLACED, now)
        self._unproven.discard(link)
        self.counters.proven += 1
        link.state = LinkState.UP
        link.since = now
        link.hello = None
        link.receivePrefix = bytes((FrameType.RECEIVE,)) + link.publicKey
        link.decoder.limit = FRAME_LIMIT
        welcome = Welcome(link.address, self._limits.pingInterval, MAX_PAYLOAD, self._stunServers)
        self._queue(link, welcome.encode(), now)
        # The entry for the proof comes due sooner and then finds the right time by itself.

    def _queue(self, link: NodeLink, data: bytes, now: float) -> None:
        outgoing = link.outgoing
        if link.blocked:
            link.queuedBytes += len(data)
            limits = self._limits
            full = len(outgoing) >= limits.maxQueuedMessages
            if full or link.queuedBytes > limits.maxQueuedBytes:
                self.counters.tooSlow += 1
                self._end(link, Reason.TOO_SLOW, now)
                return
        elif not outgoing:
            self._dirty.append(link)
        outgoing.append(data)

    # Endings and deadlines.

    def _refuse(self, link: NodeLink, reason: Reason, now: float) -> None:
        self.counters.refused += 1
        self._end(link, reason, now)

    def _end(self, link: NodeLink, reason: Reason, now: float, retryAfter: int = 0) -> None:
        """
        Say goodbye and close; a reader that takes nothing is cut off at once.
        """
        self._leave(link)
        link.state = LinkState.ENDED
        link.since = now
        if link.blocked:
            link.outgoing.clear()
            self._actions.append((link, Action.ABORT))
            return
        self._queue(link, Goodbye(reason, reason.text, retryAfter).encode(), now)
        self._actions.append((link, Action.CLOSE))
        self._deadlines.schedule(link, now + self._limits.closeDelay)

    def _leave(self, link: NodeLink) -> None:
        """
        Take C{link} out of every table that others find it by.
        """
        self._unproven.discard(link)
        self.registry.release(link)
        link.decoder.clear()
        link.hello = None

    def _wake(self, link: NodeLink, now: float) -> None:
        limits = self._limits
        if link.state is LinkState.ENDED:
            self._wakeEnded(link, link.since + limits.closeDelay, now)
        elif link.resumeAt is not None and link.resumeAt <= now:
            self._resume(link, now)
        else:
            self._wakeSilent(link, now)

    def _wakeEnded(self, link: NodeLink, until: float, now: float) -> None:
        if until <= now:
            self._actions.append((link, Action.ABORT))
        else:
            self._deadlines.schedule(link, until)

    def _resume(self, link: NodeLink, now: float) -> None:
        link.resumeAt = None
        link.heardAt = now
        self._takeFrames(link, now)
        if link.resumeAt is None and link.state is LinkState.UP:
            self._actions.append((link, Action.RESUME))
            self._deadlines.schedule(link, self._due(link))

    def _wakeSilent(self, link: NodeLink, now: float) -> None:
        due = self._due(link)
        if due <= now:
            self.counters.timedOut += 1
            self._end(link, Reason.TIMEOUT, now)
        else:
            self._deadlines.schedule(link, due)

    def _due(self, link: NodeLink) -> float:
        """
        @return: when C{link} is dead if nothing more comes from it.
        """
        limits = self._limits
        if link.resumeAt is not None:
            return link.resumeAt  # it is not read from, so its silence says nothing
        if link.state is LinkState.PROVING:
            due = link.since + limits.proofDelay  # bytes that prove nothing buy no time
        else:
            due = link.heardAt + limits.idleDelay
        if link.frameSince is not None:
            due = min(due, link.frameSince + limits.frameDelay)
        return due
