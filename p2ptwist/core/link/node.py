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
    relay     malformed  relayed to the peer, or unreachable   ignored
    other     malformed  malformed                             ignored
    ========  =========  ====================================  =========
"""

from __future__ import annotations

from collections.abc import Callable

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedFrame
from p2ptwist.core.link.admission import Admission, Verdict
from p2ptwist.core.link.frames import FRAME_LIMIT, MAX_PAYLOAD, FrameType
from p2ptwist.core.link.limits import Limits
from p2ptwist.core.link.links import Action, Links
from p2ptwist.core.link.messages import (
    CHALLENGE_LENGTH,
    PROTOCOL_VERSION,
    UNKNOWN_ADDRESS,
    Hello,
    Prove,
    Welcome,
)
from p2ptwist.core.link.nodelink import LinkState, NodeLink
from p2ptwist.core.link.reasons import Reason
from p2ptwist.core.link.traffic import Traffic
from p2ptwist.core.tokenbucket import KeyedBuckets

_PROVE = int(FrameType.PROVE)
_NEVER = float("inf")


class Node:
    """
    A rendezvous node.

    @ivar counters: what it has done.
    @ivar registry: who is on which link.
    @ivar setBlocked: L{Links.setBlocked}.
    @ivar pollTransmit: L{Links.pollTransmit}.
    @ivar pollAction: L{Links.pollAction}.
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
        self._links = links = Links(limits)
        self._traffic = Traffic(links, limits, now)
        self._registrations = KeyedBuckets(limits.registrationRate, limits.maxLinks)
        self._draining = False
        self.announce(stunServers)
        self.counters = links.counters
        self.registry = links.registry
        self.setBlocked = links.setBlocked
        self.pollTransmit = links.pollTransmit
        self.pollAction = links.pollAction

    def __len__(self) -> int:
        """
        @return: how many connections there are, in any state.
        """
        return len(self._links)

    def links(self) -> list[NodeLink]:
        """
        @return: every connection, in any state.
        """
        return self._links.all()

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
        links = self._links
        links.add(link)
        if verdict is Verdict.REFUSE:
            links.refuse(link, Reason.TOO_FAST, now)
            return link
        self.counters.accepted += 1
        victim = links.unproven.add(link)
        if victim is not None:
            self.counters.evicted += 1
            links.end(victim, Reason.TOO_FAST, now)
        link.hello = Hello(self._randomBytes(CHALLENGE_LENGTH), self._name)
        links.queue(link, link.hello.encode(), now)
        links.deadlines.schedule(link, now + self._limits.proofDelay)
        return link

    def connectionLost(self, link: NodeLink) -> None:
        """
        The connection of C{link} is gone.
        """
        self._links.discard(link)

    def receiveBytes(self, link: NodeLink, data: bytes, now: float) -> None:
        """
        Take what came on C{link}.
        """
        if link.state is LinkState.ENDED:
            return
        link.heardAt = now
        link.decoder.feed(data)
        if link.pausedUntil is None:
            self._takeFrames(link, now)
            if link.pausedUntil is not None:
                self._links.act(link, Action.PAUSE)

    def drain(self, now: float) -> None:
        """
        End every link, tell the peers to come back spread out, and accept nothing more.
        """
        self._draining = True
        for link in self._links.all():
            if link.state is not LinkState.ENDED:
                self._links.end(link, Reason.DRAINING, now, self._limits.drainSpread)

    # Deadlines.

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} must be called next, or C{None} for never.
        """
        return self._links.deadlines.next()

    def handleTimeout(self, now: float) -> None:
        """
        Look at every link whose time has come.
        """
        while (link := self._links.deadlines.pop(now)) is not None:
            self._wake(link, now)

    # Frames.

    def _takeFrames(self, link: NodeLink, now: float) -> None:
        decoder = link.decoder
        taken = False
        try:
            while (frame := decoder.take()) is not None:
                taken = True
                if link.state is LinkState.UP:
                    self._traffic.take(link, frame, now)
                else:
                    self._takeProof(link, frame, now)
                if link.state is LinkState.ENDED or link.pausedUntil is not None:
                    return
        except MalformedFrame:
            self.counters.malformed += 1
            self._links.end(link, Reason.PROTOCOL, now)
            return
        if not len(decoder):
            link.frameSince = None
        elif taken or link.frameSince is None:
            link.frameSince = now
            self._links.deadlines.schedule(link, now + self._limits.frameDelay)

    def _takeProof(self, link: NodeLink, frame: bytes, now: float) -> None:
        if frame[0] != _PROVE:
            raise MalformedFrame(f"a frame of type {frame[0]} before any proof")
        prove = Prove.decode(frame[1:])
        assert link.hello is not None
        if prove.version != PROTOCOL_VERSION:
            self._links.refuse(link, Reason.VERSION, now)
        elif not self._verify(prove.publicKey, prove.signature, prove.signedText(link.hello)):
            self._links.refuse(link, Reason.BAD_SIGNATURE, now)
        elif not self._registrations.take(prove.publicKey, now):
            self._links.refuse(link, Reason.TOO_FAST, now)
        else:
            self._register(link, prove, now)

    def _register(self, link: NodeLink, prove: Prove, now: float) -> None:
        claim = self.registry.claim(link, prove, now)
        if claim.refusal is not None:
            self._links.refuse(link, claim.refusal, now)
            return
        if claim.replaced is not None:
            self.counters.displaced += 1
            self._links.end(claim.replaced, Reason.DISPLACED, now)
        self._links.unproven.discard(link)
        self.counters.proven += 1
        link.state = LinkState.UP
        link.since = now
        link.hello = None
        link.receivePrefix = bytes((FrameType.RECEIVE,)) + link.publicKey
        link.decoder.limit = FRAME_LIMIT
        welcome = Welcome(link.address, self._limits.pingInterval, MAX_PAYLOAD, self._stunServers)
        self._links.queue(link, welcome.encode(), now)
        # The entry for the proof comes due sooner and then finds the right time by itself.

    def _wake(self, link: NodeLink, now: float) -> None:
        if link.state is LinkState.UP:
            self._goOn(link, now)
        deadAt = self._deadAt(link)
        if link.state is LinkState.ENDED:
            self._links.wakeEnded(link, now)
        elif deadAt <= now:
            self.counters.timedOut += 1
            self._links.end(link, Reason.TIMEOUT, now)
        else:
            due = min(deadAt, link.pausedUntil or _NEVER, link.heldUntil or _NEVER)
            self._links.deadlines.schedule(link, due)

    def _goOn(self, link: NodeLink, now: float) -> None:
        """
        Take what waited for an allowance, if that is back.
        """
        if link.heldUntil is not None and link.heldUntil <= now:
            self._traffic.release(link, now)
        if link.pausedUntil is not None and link.pausedUntil <= now:
            self._readAgain(link, now)

    def _readAgain(self, link: NodeLink, now: float) -> None:
        """
        Take what waited while C{link} was not read, and go on if that does not stop it again.
        """
        link.pausedUntil = None
        link.heardAt = now
        self._takeFrames(link, now)
        if link.pausedUntil is None and link.state is LinkState.UP:
            self._links.act(link, Action.RESUME)

    def _deadAt(self, link: NodeLink) -> float:
        """
        @return: when C{link} is dead if nothing more comes from it.
        """
        limits = self._limits
        if link.pausedUntil is not None:
            return _NEVER  # it is not read from, so its silence says nothing
        if link.state is LinkState.PROVING:
            due = link.since + limits.proofDelay  # bytes that prove nothing buy no time
        else:
            due = link.heardAt + limits.idleDelay
        if link.frameSince is not None:
            due = min(due, link.frameSince + limits.frameDelay)
        return due
