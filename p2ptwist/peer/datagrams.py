"""
Datagrams to other peers by their peer ID: the link, the UDP port and the puncher put together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, isIPv6
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.ice.candidate import looksReachable
from p2ptwist.core.ice.signal import Description, decodeSignal
from p2ptwist.core.peerid import decodePeerID, encodePeerID
from p2ptwist.core.tokenbucket import KeyedBuckets, Rate, TokenBucket
from p2ptwist.errors import LinkDown, P2PError, PeerUnreachable
from p2ptwist.interfaces import IIdentity, IIncomingPaths, ILink, ILinkReceiver, IWelcome
from p2ptwist.net.puncher import Punch, isOffer
from p2ptwist.peer.calls import Calls
from p2ptwist.peer.policy import admitted
from p2ptwist.peer.reach import Reach, mappingSecret

# Calls of one other peer that may come to nothing: each may have aimed 200 checks at addresses that
# it named, which is 20 a second in the long run.
FAILURE_RATE = Rate(perSecond=0.1, burst=8)
FAILURE_KEYS = 4096  # peers whose failures are counted; a node has 20,000, and few of them call
# Refusals that are sent; more calls are refused without a word.  A node lets a peer send ten
# messages a second, which strangers must not use up.
REFUSAL_RATE = Rate(perSecond=2.0, burst=10.0)

_log = Logger()


# A reactor with IReactorTime, IReactorUDP and IReactorPluggableNameResolver.
PeerReactor: TypeAlias = Any


@implementer(IIncomingPaths)
class RefuseAll:
    """
    The policy of a peer that only calls others.
    """

    def accepts(self, peerID: str) -> bool:
        """
        @return: C{False}.
        """
        return False

    def pathOpened(self, peerID: str, path: Punch) -> None:
        """
        Never called.
        """


@implementer(ILinkReceiver)
class DatagramPeer(Service):
    """
    A peer that others reach by its peer ID, and that reaches them, over direct UDP paths.

    Datagrams are not encrypted: whoever carries them can read and change them.

    It can be started again when what L{stopService} returned has fired.

    @ivar peerID: what others call this peer by.
    @ivar ignored: messages over the link that were malformed, or for no session.
    """

    def __init__(
        self,
        reactor: PeerReactor,
        identity: IIdentity,
        link: ILink,
        incoming: IIncomingPaths | None = None,
        *,
        stunServers: Sequence[HostPort] | None = None,
        interface: str = "",
        port: int = 0,
        portMapping: bool = True,
        randomBytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param reactor: a Twisted reactor, or a host of a simulated Internet.
        @param link: a link with the same identity; it starts and stops with this service.
        @param incoming: who decides about peers that call; C{None} refuses them all.
        @param stunServers: names or literal addresses, and ports; C{None} for those that the
            rendezvous node names.
        @param interface: a literal address to bind the UDP port to; empty for all of them.
        @param port: the local UDP port; 0 for any.
        @param portMapping: whether this host's routers are asked to let others in to that port.
        @param randomBytes: a cryptographic source; tests on a simulated Internet pass a seeded one.
        """
        self.peerID = encodePeerID(identity.publicKey)
        self.ignored = 0
        self._reactor = reactor
        self._key = identity.publicKey
        self._link = link
        self._incoming = RefuseAll() if incoming is None else incoming
        secret = mappingSecret(identity) if portMapping else None
        self._makeReach = partial(Reach, reactor, randomBytes, interface, port, stunServers, secret)
        self._reach: Reach | None = None
        self._calls = Calls()
        self._failures = KeyedBuckets(FAILURE_RATE, FAILURE_KEYS)
        self._refusals = TokenBucket(REFUSAL_RATE, reactor.seconds())

    # IService

    def startService(self) -> None:
        """
        Open the UDP port, and bring the link up.

        @raise PortUnusable: when the port cannot be opened.
        @raise LocalUsageError: when it runs already.
        """
        if self.running:
            raise LocalUsageError("the peer is running already; stop its service first")
        self._reach = self._makeReach()
        self._reach.local.observe(self._trickle)
        super().startService()
        self._link.receiver = self
        IService(self._link).startService()

    def stopService(self) -> Deferred[None]:
        """
        End every session, tell the other sides, and free everything.

        @return: a Deferred that fires when nothing is left.
        """
        super().stopService()
        ended: list[Deferred[None]] = []
        if self._reach is not None:
            ended.append(self._reach.stop("the program stopped"))
        # After the goodbyes, which the link carries.
        ended.append(maybeDeferred(IService(self._link).stopService))
        return DeferredList(ended, consumeErrors=True).addCallback(lambda _: None)

    # The application's side.

    def whenReady(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when others can reach this peer: the link is up, and its
            addresses are known.  Fails when the first attempt at the link does
            (L{p2ptwist.errors.RendezvousUnreachable}, L{p2ptwist.errors.RendezvousRefused},
            L{p2ptwist.errors.NameNotResolved}), or when the STUN servers that were named are of no
            use (L{p2ptwist.errors.STUNTimeout}, L{p2ptwist.errors.STUNRefused},
            L{p2ptwist.errors.NameNotResolved}, L{LocalUsageError}).
        """
        return Deferred.fromCoroutine(self._becomeReady())

    def connect(self, peerID: str) -> Deferred[Punch]:
        """
        Find a direct path to a peer.

        @return: a Deferred that fires with the path as soon as datagrams may be sent; fails with
            L{p2ptwist.errors.PunchFailed}, L{p2ptwist.errors.PeerUnreachable}, or why there is no
            link.  Cancelling it stops everything at once.
        @raise LocalUsageError: when C{peerID} is none, or this peer's own.
        """
        peer = decodePeerID(peerID)
        if peer == self._key:
            raise LocalUsageError("that is this program's own peer ID; name the other program's")
        return Deferred.fromCoroutine(self._connect(peer))

    def localAddress(self, path: Punch) -> HostPort | None:
        """
        @return: the address of this host that C{path} starts from, as far as can be told: the
            socket is bound to all of them.
        """
        remote = path.remote
        if remote is None:
            return None
        own = [each.address for each in self._requireReach().local.hosts()]
        family = [address for address in own if isIPv6(address[0]) == isIPv6(remote[0])]
        near = [address for address in family if looksReachable(remote, [address])]
        if path.mapped in family:
            return path.mapped
        return next(iter(near or family), None)

    # ILinkReceiver

    def linkUp(self, welcome: IWelcome) -> None:
        """
        Find out this peer's addresses.
        """
        if self.running:
            self._requireReach().linkUp(welcome)

    def linkDown(self, reason: Failure) -> None:
        """
        Paths that are open go on without a link.
        """
        _log.info("{reason}", reason=reason.getErrorMessage())

    def messageReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Take a signal of another peer.
        """
        try:
            signal = decodeSignal(payload)
        except MalformedDatagram:
            self.ignored += 1
            return
        punch = self._calls.find(sender, signal.session)
        if punch is not None:
            punch.takeSignal(signal)
        elif isinstance(signal, Description) and isOffer(signal):
            self._offered(sender, signal)
        else:
            self.ignored += 1

    def relayedReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Ignore a relayed datagram: these paths are direct or none.
        """

    def peerUnreachable(self, peer: bytes) -> None:
        """
        End the calls that wait for a peer which is not there.
        """
        reason = PeerUnreachable(
            f"the rendezvous node knows no peer {encodePeerID(peer)}: is that program running, and "
            "does it use the same node?"
        )
        for punch in self._calls.outgoing(peer):
            punch.fail(Failure(reason), "unreachable")

    # Sequences.

    async def _becomeReady(self) -> None:
        await self._link.whenUp()
        await self._requireReach().gathered.when()

    async def _connect(self, peer: bytes) -> Punch:
        await self._link.whenUp()
        if not self.running:
            raise LinkDown("the peer was stopped")
        local = self._requireReach().local
        punch = self._requireReach().puncher.call(
            partial(self._sendSignal, peer),
            local.candidates(),
            complete=local.complete,
            behavior=local.behavior,
        )
        self._calls.add(peer, punch, outgoing=True)
        try:
            return await punch.whenOpen()
        except _GaveWay as crossed:
            return await crossed.successor.whenOpen()

    # Sessions.

    def _requireReach(self) -> Reach:
        if self._reach is None:
            raise LocalUsageError("the peer is not running; start its service first")
        return self._reach

    def _sendSignal(self, peer: bytes, signal: bytes) -> None:
        try:
            self._link.send(peer, signal)
        except LinkDown as error:
            # What the link does not carry is lost; a session that needs it will say so in time.
            _log.debug("signal not sent: {error}", error=error)

    def _trickle(self) -> None:
        local = self._requireReach().local
        for punch in self._calls.pending():
            punch.addCandidates(local.candidates(), local.complete, local.behavior)

    def _offered(self, sender: bytes, offer: Description) -> None:
        """
        A peer calls.  When both call each other at once, the call of the larger key stands and the
        other one becomes its answer.

        Messages keep their order, so an offer that comes after the answer to this side's call was
        made in the knowledge of that call: it is another one, and does not cross it.
        """
        crossing = [call for call in self._calls.outgoing(sender) if not call.answered]
        if crossing and self._key > sender:
            return
        if not self._mayCall(sender) or not (crossing or self._accepts(sender)):
            self._refuse(sender, offer)
            return
        if not self.running:
            return  # the application stopped it when it was asked
        local = self._requireReach().local
        punch = self._requireReach().puncher.answer(
            offer,
            partial(self._sendSignal, sender),
            local.candidates(),
            complete=local.complete,
            behavior=local.behavior,
        )
        self._calls.add(sender, punch, outgoing=False)
        if crossing:
            for call in crossing:
                call.fail(Failure(_GaveWay(punch)), "the calls crossed")
        else:
            punch.whenOpen().addCallbacks(
                partial(self._incomingOpened, encodePeerID(sender)),
                self._incomingFailed,
                errbackArgs=(sender,),
            )

    def _mayCall(self, sender: bytes) -> bool:
        """
        @return: whether one more call of that peer stays within the bounds.
        """
        now = self._reactor.seconds()
        failures = self._failures.bucket(sender, now)
        return failures.refill(now) >= 1.0 and self._calls.mayAdmit(sender)

    def _refuse(self, sender: bytes, offer: Description) -> None:
        if self._refusals.take(self._reactor.seconds()):
            answer = partial(self._sendSignal, sender)
            self._requireReach().puncher.refuse(
                offer, answer, "it takes no call from this peer now"
            )

    def _accepts(self, sender: bytes) -> bool:
        return admitted(self._incoming.accepts, encodePeerID(sender))

    def _incomingFailed(self, failure: Failure, sender: bytes) -> None:
        self._failures.take(sender, self._reactor.seconds())
        _log.info(
            "a call of {peer} came to nothing: {reason}",
            peer=encodePeerID(sender),
            reason=failure.getErrorMessage(),
        )

    def _incomingOpened(self, peerID: str, punch: Punch) -> None:
        try:
            self._incoming.pathOpened(peerID, punch)
        except Exception:
            _log.failure("the application failed to take a path, which is closed")
            punch.close("the program failed")


class _GaveWay(P2PError):
    """
    A call that became the answer to the other side's call.

    @ivar successor: the session that takes its place.
    """

    def __init__(self, successor: Punch) -> None:
        super().__init__("the calls crossed")
        self.successor = successor
