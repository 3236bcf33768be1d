"""
A peer: what an application holds to listen for other peers and to connect to them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.peerid import decodePeerID
from p2ptwist.errors import LinkDown, SessionLost
from p2ptwist.interfaces import ILink, ILinkReceiver, IWelcome
from p2ptwist.net.attempts import Observer
from p2ptwist.net.latch import Latch
from p2ptwist.net.quic import MESSAGE_LENGTH
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.callers import Callers
from p2ptwist.peer.identity import Identity
from p2ptwist.peer.listening import Listening, Services
from p2ptwist.peer.policy import Policy, admitted, allowing, everyone
from p2ptwist.peer.reach import Reach, mappingSecret
from p2ptwist.peer.session import Session
from p2ptwist.peer.sessions import Sessions
from p2ptwist.peer.stream import Stream
from p2ptwist.peer.streamtable import encodeHeader

__all__ = ["LINGER", "PathEvent", "PeerService", "Policy", "allowing", "everyone"]

LINGER = 5.0  # seconds; some hundred KB, with one datagram of fifty lost
_LINGER_STEP = 0.02  # seconds between two looks at it

_log = Logger()


@dataclass(frozen=True, slots=True)
class PathEvent:
    """
    What carries a session is another path than before.

    @ivar peerID: the other peer.
    @ivar kind: C{"direct"} or C{"relayed"}.
    @ivar transport: C{"udp"} or C{"tcp"}; the relay's is C{"tcp"}.
    @ivar remote: the address that a direct path goes to.
    @ivar roundTrip: seconds: of the latest check of a direct path; when it is relayed, or was not
        checked yet, of the latest answer in the session.
    @ivar reason: while it is relayed, why no attempt to be direct succeeded, over UDP and TCP;
        C{None} while nobody can know.
    """

    peerID: str
    kind: str
    transport: str
    remote: HostPort | None
    roundTrip: float | None
    reason: str | None = None


@implementer(ILinkReceiver)
class _LinkEars:
    """
    What one of several links tells the peer.
    """

    def __init__(self, peer: PeerService, link: ILink) -> None:
        self._peer = peer
        self._link = link

    def linkUp(self, welcome: IWelcome) -> None:
        self._peer.linkUp(self._link, welcome)

    def linkDown(self, reason: Failure) -> None:
        self._peer.linkDown(self._link, reason)

    def messageReceived(self, sender: bytes, payload: bytes) -> None: ...

    def relayedReceived(self, sender: bytes, payload: bytes) -> None:
        self._peer.relayedReceived(self._link, sender, payload)

    def peerUnreachable(self, peer: bytes) -> None:
        self._peer.peerUnreachable(self._link, peer)


class PeerService(Service):
    """
    A peer that others reach by its peer ID: encrypted, authenticated streams, usable after one
    relayed round trip and on the direct path as soon as there is one.

    @ivar peerID: what others call this peer by.
    @ivar linger: seconds that what was written has to arrive when the service stops.
    @ivar attempts: is told of all that is done to be direct; set it before the service starts.
    """

    linger = LINGER
    attempts: Observer | None = None

    def __init__(
        self,
        reactor: Any,
        identity: Identity,
        links: Sequence[ILink],
        *,
        policy: Policy = everyone,
        stunServers: Sequence[HostPort] | None = None,
        interface: str = "",
        port: int = 0,
        portMapping: bool = True,
        randomBytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param reactor: a Twisted reactor, or a host of a simulated Internet.
        @param links: links to rendezvous nodes with the same identity, the preferred one first;
            they start and stop with this service.
        @param policy: decides at once, by its peer ID, whether a peer that proved itself may
            connect: C{True} or C{False}.
        @param stunServers: names or literal addresses, and ports; C{None} for those that the
            rendezvous node names.
        @param interface: a literal address to bind the UDP port to; empty for all of them.
        @param port: the local UDP port; 0 for any.
        @param portMapping: whether this host's routers are asked to let others in to that port.
        @param randomBytes: a cryptographic source; tests on a simulated Internet pass a seeded one.
        """
        if not links:
            raise LocalUsageError("a peer needs at least one rendezvous node")
        self.peerID = identity.peerID
        self._reactor = reactor
        self._identity = identity
        self._links = list(links)
        self._policy = policy
        self._randomBytes = randomBytes
        secret = mappingSecret(identity) if portMapping else None
        self._makeReach = partial(Reach, reactor, randomBytes, interface, port, stunServers, secret)
        self._reach: Reach | None = None
        self._services = Services()
        self._observers: list[Callable[[PathEvent], object]] = []
        self._messageReceiver: Callable[[str, bytes], object] | None = None
        self._linkObserver: Callable[[Failure], object] = lambda reason: None
        self._streamCount = 0
        self._streamObserver: Callable[[], object] = lambda: None
        self._stopping: Latch[None] | None = None
        self._sessions = Sessions(reactor, identity, self, Random(randomBytes(16)), randomBytes)
        self._callers = Callers(reactor, self._sessions.find, self._begin)

    # IService

    def startService(self) -> None:
        """
        Open the UDP port, and bring the links up.  When what L{stopService} returned has fired it
        can be started again, and offers what it did.

        @raise PortUnusable: when the port cannot be opened.
        @raise LocalUsageError: when it runs already, or is still stopping.
        """
        if self.running:
            raise LocalUsageError("the peer runs already; stop its service first")
        if self._stopping is not None:
            raise LocalUsageError(
                "the peer is still stopping; start it when what stopService() returned has fired"
            )
        self._reach = self._makeReach()
        self._reach.observe(self.attempts)
        self._reach.local.observe(self._sessions.addressesChanged)
        super().startService()
        for link in self._links:
            link.receiver = _LinkEars(self, link)
            IService(link).startService()

    def stopService(self) -> Deferred[None]:
        """
        Send what was written, for at most L{linger}; end every session, tell the other sides, and
        free everything.

        @return: a Deferred that fires when nothing is left.  Cancel it to send no more of what was
            written.
        """
        super().stopService()
        if self._stopping is not None:
            return self._stopping.when()
        self._stopping = Latch()
        return Deferred.fromCoroutine(self._stop(self._stopping))

    # The application's side.

    def whenReady(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when others can reach this peer: the first link is up, and
            its addresses are known.  Fails when the first attempt at the link does, or the STUN
            servers that were named are of no use.
        """
        return Deferred.fromCoroutine(self._becomeReady())

    def whenLinked(self) -> Deferred[ILink]:
        """
        @return: a Deferred that fires as soon as a link is up, with that link: others can reach
            this peer then, if only through the node.  Fails with the reason of the preferred
            node's when the next attempt at each node has.  It can be cancelled.
        """
        return Deferred.fromCoroutine(self._anyLink())

    def listen(self, service: str, factory: IProtocolFactory) -> Listening:
        """
        Offer a service.

        @param service: its name, 1 to 64 bytes of UTF-8.
        @param factory: makes a protocol for each stream that another peer opens to it.
        @return: the offer, which L{Listening.stopListening} ends.
        @raise CannotListenError: when there is a service of that name.
        """
        encodeHeader(service)
        listening = Listening(self._services, self.peerID, service, factory)
        listening.startListening()
        return listening

    def connect(self, peerID: str, service: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream to a service of another peer.  A session is made if there is none.

        @return: a Deferred that fires with the connected protocol; fails with
            L{p2ptwist.errors.PeerUnreachable}, L{p2ptwist.errors.SessionRefused}, or why there is
            no link.  It can be cancelled.
        @raise LocalUsageError: when C{peerID} is none, or this peer's own, or C{service} no name.
        """
        encodeHeader(service)
        return Deferred.fromCoroutine(self._connect(self._other(peerID), service, factory))

    def call(self, peerID: str) -> Deferred[None]:
        """
        Have a session with another peer without opening a stream: for datagrams, or to know that it
        admits this peer before anything is sent to it.

        @return: a Deferred that fires when the other peer has admitted this one, which is half a
            round trip later than L{connect}; fails like that, and with
            L{p2ptwist.errors.SessionRefused} when this peer is not welcome.  It can be cancelled.
        @raise LocalUsageError: when C{peerID} is none, or this peer's own.
        """
        return Deferred.fromCoroutine(self._call(self._other(peerID)))

    def sendMessage(self, peerID: str, data: bytes) -> None:
        """
        Send a datagram within the session with a peer: it may be lost.

        @param data: at most 1,150 bytes.
        @raise SessionLost: when there is no session with that peer; see L{call}.
        @raise LocalUsageError: when C{data} is longer.
        """
        if len(data) > MESSAGE_LENGTH:
            raise LocalUsageError(f"a datagram has at most {MESSAGE_LENGTH} bytes, not {len(data)}")
        session = self._sessions.current(decodePeerID(peerID))
        if session is None:
            raise SessionLost(f"there is no session with {peerID}: call it first")
        session.sendMessage(data)

    def receiveMessages(self, receiver: Callable[[str, bytes], object]) -> None:
        """
        @param receiver: called with the peer ID and the bytes of each datagram that comes.
        """
        self._messageReceiver = receiver

    def observe(self, observer: Callable[[PathEvent], object]) -> None:
        """
        @param observer: called whenever another path carries a session.
        """
        self._observers.append(observer)

    def observeLinks(self, observer: Callable[[Failure], object]) -> None:
        """
        @param observer: called with the reason whenever the link to a node goes down, though this
            peer runs.  The link comes back by itself; see L{whenLinked}.
        """
        self._linkObserver = observer

    def observeStreams(self, observer: Callable[[], object]) -> None:
        """
        @param observer: called whenever a stream has ended; see L{streams}.
        """
        self._streamObserver = observer

    @property
    def streams(self) -> int:
        """
        How many streams are open, whoever opened them.
        """
        return self._streamCount

    def path(self, peerID: str) -> PathEvent | None:
        """
        @return: what carries the session with a peer now; C{None} when there is none.
        """
        session = self._sessions.current(decodePeerID(peerID))
        return None if session is None else _pathOf(session)

    # SessionOwner

    def admits(self, session: Session) -> bool:
        """
        @return: whether the policy admits the peer, and there is something for it.
        """
        wanted = len(self._services) > 0 or self._messageReceiver is not None
        if not wanted or not self.running:
            return False
        return admitted(self._policy, session.peerID)

    def accept(self, session: Session, stream: Stream) -> IProtocol | None:
        """
        @return: the protocol for a stream that the other side opened.
        """
        if not self.running:
            return None
        protocol = self._services.build(stream.service, stream.getPeer())
        if protocol is not None:
            self._streamCount += 1
            stream.whenEnded = self._streamEnded
        return protocol

    def sessionChanged(self, session: Session) -> None:
        """
        Tell the observers.
        """
        for observer in self._observers:
            try:
                observer(_pathOf(session))
            except Exception:
                _log.failure("an observer of paths failed")

    def messageReceived(self, session: Session, data: bytes) -> None:
        """
        Give a datagram to the application.
        """
        if self._messageReceiver is not None:
            try:
                self._messageReceiver(session.peerID, data)
            except Exception:
                _log.failure("the receiver of datagrams failed")

    def sessionAdmitted(self, session: Session) -> None:
        """
        Whoever waited for that may go on.
        """
        self._callers.sessionAdmitted(session)

    # Links

    def linkUp(self, link: ILink, welcome: IWelcome) -> None:
        """
        A link carries messages.
        """
        if self._reach is not None:
            self._reach.linkUp(welcome)
        self._sessions.linkUp(link)

    def linkDown(self, link: ILink, reason: Failure) -> None:
        """
        A link carries nothing for the moment.
        """
        self._sessions.linkDown(link)
        if self.running:
            self._linkObserver(reason)

    def relayedReceived(self, link: ILink, sender: bytes, payload: bytes) -> None:
        """
        An envelope came.
        """
        # Also while it stops: what was written is not gone before it is acknowledged.
        if self._reach is not None:
            self._sessions.envelopeReceived(link, self._reach, sender, payload)

    def peerUnreachable(self, link: ILink, peer: bytes) -> None:
        """
        A peer has no link to the node of C{link}.
        """
        self._sessions.unreachable(link, peer)

    # Sequences.

    async def _becomeReady(self) -> None:
        await self._links[0].whenUp()
        await self._requireReach().gathered.when()

    async def _call(self, peer: bytes) -> None:
        await self._callers.admitted(peer)

    async def _connect(self, peer: bytes, service: str, factory: IProtocolFactory) -> IProtocol:
        session = await self._callers.ready(peer)

        def build(address: PeerAddress) -> IProtocol:
            protocol = factory.buildProtocol(address)
            if protocol is None:
                raise NoProtocol
            return protocol

        def ended() -> None:
            factory.doStop()
            self._streamEnded()

        factory.doStart()
        try:
            self._streamCount += 1
            return session.openStream(service, build, ended)
        except BaseException:
            ended()
            raise

    async def _begin(self, peer: bytes) -> Session:
        link = await self.whenLinked()
        if not self.running:
            raise LinkDown("the peer was stopped")
        # Somebody else who waited for a link may have called meanwhile.
        return self._sessions.find(peer) or self._sessions.call(link, self._requireReach(), peer)

    async def _anyLink(self) -> ILink:
        for link in self._links:
            if self._sessions.isUp(link):
                return link
        attempts = [link.whenUp() for link in self._links]
        first: Any = await DeferredList(attempts, fireOnOneCallback=True, consumeErrors=True)
        if isinstance(first, list):  # of failures
            first[0][1].raiseException()
        for attempt in attempts:
            attempt.cancel()
        chosen: int = first[1]
        return self._links[chosen]

    def _other(self, peerID: str) -> bytes:
        peer = decodePeerID(peerID)
        if peerID == self.peerID:
            raise LocalUsageError("that is this program's own peer ID; name the other program's")
        return peer

    def _streamEnded(self) -> None:
        self._streamCount -= 1
        self._streamObserver()

    async def _stop(self, stopped: Latch[None]) -> None:
        steps = int(self.linger / _LINGER_STEP)
        with suppress(CancelledError):  # whoever cancels does not want to wait
            while self._sessions.busy() and steps:
                steps -= 1
                await deferLater(self._reactor, _LINGER_STEP, lambda: None)
        self._sessions.close("the program stopped")
        ended = [maybeDeferred(IService(link).stopService) for link in self._links]
        if self._reach is not None:
            ended.append(self._reach.stop("the program stopped"))
            self._reach = None
        try:
            await DeferredList(ended, consumeErrors=True)
        finally:
            self._stopping = None
            stopped.settle(None)

    def _requireReach(self) -> Reach:
        if self._reach is None:
            raise LinkDown("the peer is not running: start its service first")
        return self._reach


def _pathOf(session: Session) -> PathEvent:
    kind = session.carrier.kind.value
    direct = session.carrier.direct
    if kind == "relayed" or direct is None:
        reason = session.carrier.reason
        return PathEvent(session.peerID, "relayed", "tcp", None, session.roundTrip(), reason)
    transport = session.carrier.transport
    # A path that the other side checked first is told before a check of this side's is answered.
    roundTrip = session.roundTrip() if direct.roundTrip is None else direct.roundTrip
    return PathEvent(session.peerID, "direct", transport, direct.remote, roundTrip)
