"""
A peer's link to a rendezvous node, as a service that keeps it up.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort
from p2ptwist.core.link.backoff import BACKOFF_CAP, Backoff
from p2ptwist.core.link.client import (
    PONG_DELAY,
    Claimant,
    Ended,
    LinkEvent,
    MessageReceived,
    PeerUnreachable,
    RelayedReceived,
    Up,
)
from p2ptwist.core.link.frames import MAX_PAYLOAD
from p2ptwist.core.link.hurry import Hurry
from p2ptwist.core.link.messages import INSTANCE_LENGTH
from p2ptwist.core.link.reasons import Reason
from p2ptwist.errors import LinkDown, P2PError
from p2ptwist.interfaces import IIdentity, ILink, ILinkReceiver, IWelcome
from p2ptwist.rendezvous.connections import addressOf
from p2ptwist.rendezvous.linkattempt import Deliver, LinkAttempt, Lost
from p2ptwist.rendezvous.linkconnection import LinkConnection
from p2ptwist.rendezvous.linkendpoint import namedHost, rendezvousEndpoint
from p2ptwist.rendezvous.linklifecycle import LifecycleCore, makeLifecycle
from p2ptwist.rendezvous.linkrace import raced
from p2ptwist.rendezvous.linkreasons import reasonOfAttempt, reasonOfEnd

__all__ = ["RendezvousLink", "Welcome", "rendezvousEndpoint"]

_log = Logger()


@implementer(IWelcome)
@dataclass(frozen=True, slots=True)
class Welcome:
    """
    What the node said when the link came up.

    @ivar nodeName: the name that the node gives itself.
    @ivar observedAddress: where the node saw the connection come from; C{("", 0)} when it is not
        on IP.
    @ivar stunServers: UDP addresses; what the node said of itself without a host has the host
        that the link goes to.
    @ivar roundTrip: seconds, measured once.
    """

    nodeName: str
    observedAddress: HostPort
    stunServers: tuple[HostPort, ...]
    roundTrip: float = 0.0


@implementer(ILink)
class RendezvousLink(Service):
    """
    A link that comes back, with jittered back-off, for as long as this service runs.

    @ivar receiver: who is told what happens; set it before the service starts.
    @ivar maxPayload: the bytes that one message or relayed datagram carries at most, as the last
        node said; 16,351 as a rule.
    @ivar description: the node's endpoint, as errors name it.
    """

    receiver: ILinkReceiver | None = None

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: IStreamClientEndpoint,
        identity: IIdentity,
        *,
        description: str | None = None,
        nodeName: str | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        """
        @param reactor: where time comes from.
        @param endpoint: the way to the node.
        @param identity: signs; its public key is what others reach this peer by.
        @param description: what errors call the endpoint; its C{repr} when left out.
        @param nodeName: the only node to accept, by its name; any when left out.
        @param jitter: spreads attempts and pings; the system's randomness when left out.
        """
        self.description = repr(endpoint) if description is None else description
        self.maxPayload = MAX_PAYLOAD
        self._clock = reactor
        self._endpoint = endpoint
        self._identity = identity
        self._nodeName = nodeName
        self._jitter = jitter or random.SystemRandom()
        self._instance = os.urandom(INSTANCE_LENGTH)
        self._takeOver = True
        self._retryAfter = 0
        self._hurry = Hurry()
        self._backoff = Backoff(self._jitter)
        self._welcome: Welcome | None = None
        self._known: Up | None = None  # what the node said last, and is trusted to say again
        self._stopped = False
        self._waiters: list[Deferred[IWelcome]] = []
        self._stopWaiters: list[Deferred[None]] = []
        self._goneWaiters: list[Deferred[None]] = []
        self._notices: deque[Callable[[], object]] = deque()
        self._notifying = False
        self._open: set[LinkConnection] = set()  # those that were given up included
        self._core = LifecycleCore(
            reactor, self._connect, self._settled, self._nextDelay, self._cleared
        )
        self._life = makeLifecycle(self._core)

    @classmethod
    def fromString(
        cls,
        reactor: IReactorTime,
        description: str,
        identity: IIdentity,
        *,
        nodeName: str | None = None,
        jitter: random.Random | None = None,
    ) -> RendezvousLink:
        """
        A link to the node at C{description}, such as C{"tcp:rendezvous.example:8470"}.

        @param nodeName: as for L{RendezvousLink}.
        @param jitter: as for L{RendezvousLink}.
        @raise LocalUsageError: when C{description} is not an endpoint.
        """
        endpoint = rendezvousEndpoint(reactor, description)
        return cls(
            reactor,
            endpoint,
            identity,
            description=description,
            nodeName=nodeName,
            jitter=jitter,
        )

    # IService

    def startService(self) -> None:
        """
        Bring the link up, and keep it up.
        """
        super().startService()
        self._stopped = False
        self._life.start()
        self._notify()

    def stopService(self) -> Deferred[None]:
        """
        Send what was written, and close.

        @return: a Deferred that fires when nothing is left: no connection, no delayed call.
            Whoever waits in L{whenUp} gets L{p2ptwist.errors.LinkDown}.
        """
        super().stopService()
        done: Deferred[None] = Deferred()
        self._stopped = True
        self._stopWaiters.append(done)
        reason = Failure(LinkDown(f"the link to {self.description} was stopped"))
        self._goDown(reason)
        self._failWaiters(reason)
        self._life.stop()
        self._notify()
        return done

    # ILink

    def send(self, to: bytes, payload: bytes) -> None:
        """
        Send C{payload} to the peer whose public key is C{to}.

        @raise LinkDown: while there is no link, or when the node takes nothing for so long that
            64 KiB of messages wait behind a transport that is full.
        @raise LocalUsageError: when C{to} is not a key, or C{payload} is longer than
            L{maxPayload}.
        """
        connection = self._core.connection
        if self._welcome is None or connection is None:
            raise LinkDown(
                f"there is no link to {self.description} at this moment: wait for whenUp()"
            )
        if connection.hasNoRoom:
            raise LinkDown(f"{self.description} does not keep up with what is sent: send less")
        connection.send(to, payload)

    def sendRelayed(self, to: bytes, payload: bytes) -> bool:
        """
        Have C{payload} relayed to the peer whose public key is C{to}, as a datagram.

        @return: C{False} when it was dropped here: there is no link, or 64 KiB wait for its
            transport.
        @raise LocalUsageError: when C{to} is not a key, or C{payload} is longer than
            L{maxPayload}; never while there is no link.
        """
        connection = self._core.connection
        if self._welcome is None or connection is None:
            return False
        return connection.sendRelayed(to, payload)

    def whenUp(self) -> Deferred[IWelcome]:
        """
        @return: a Deferred that fires with the node's welcome as soon as the link is up, at once
            when it is; fails with the reason of the next failed attempt, or with
            L{p2ptwist.errors.LinkDown} when the service is stopped.  It can be cancelled.
        """
        if self._welcome is not None:
            return succeed(self._welcome)
        if self._stopped:
            return fail(LinkDown(f"the link to {self.description} was stopped: start it"))
        waiter: Deferred[IWelcome] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def probe(self, patience: float = PONG_DELAY) -> None:
        """
        Find out whether the link is alive: call it when there is a reason to doubt.  A link on
        which nothing comes for C{patience} seconds, at most 10, goes down; it is made anew, at
        once when C{patience} was short.
        """
        connection = self._core.connection
        if connection is not None and connection.upSince is not None:
            if patience < PONG_DELAY:
                self._hurry.doubted(self._clock.seconds())
            connection.probe(patience)

    # What the lifecycle wants.

    def _connect(self) -> Deferred[LinkConnection]:
        claimant = Claimant(
            self._identity.publicKey,
            self._identity.sign,
            self._instance,
            self._takeOver,
            self._nodeName,
        )

        def build(deliver: Deliver, lost: Lost) -> LinkConnection:
            connection = LinkConnection(self._clock, claimant, self._jitter, deliver, lost)
            self._open.add(connection)
            return connection

        def connect() -> Deferred[LinkConnection]:
            return LinkAttempt(
                self._clock,
                self._endpoint,
                build,
                self._eventReceived,
                self._connectionLost,
                self._connectionFailed,
            ).result

        if not self._hurry.active:
            return connect().addErrback(self._attemptFailed)
        race = raced(self._clock, connect, self._hurry.gap(self._roundTrip))
        return race.addErrback(self._attemptFailed)

    @property
    def _roundTrip(self) -> float:
        """
        Seconds to the node and back, as was last measured.
        """
        return 0.0 if self._known is None else self._known.roundTrip

    def _settled(self) -> None:
        """
        An attempt is over.  If it has brought a connection, that is the one to prove the key on.
        """
        connection, known = self._core.connection, self._known
        if connection is not None:
            patience = self._hurry.patience(self._roundTrip)
            if self._hurry.active and known and known.nodeName == connection.nodeName:
                # The same node as a moment ago will say the same, a round trip later.
                connection.prove(patience, known.welcome)
                self._beUsed(connection, known)
            else:
                connection.prove(patience, None)
        self._notify()

    def _nextDelay(self) -> float:
        """
        Seconds before the next attempt.  A peer that was displaced is in no hurry.
        """
        retryAfter, self._retryAfter = self._retryAfter, 0
        if not retryAfter and self._hurry.take(self._clock.seconds()):
            return 0.0
        delay = self._backoff.next(retryAfter)
        _log.info(
            "link to {node}: next attempt in {delay:.1f} s", node=self.description, delay=delay
        )
        return delay

    def _cleared(self) -> None:
        """
        Nothing is left of what was stopped; but attempts that were given up may still close.
        """
        waiters, self._stopWaiters = self._stopWaiters, []
        self._goneWaiters += waiters
        self._tellGone()

    def _tellGone(self) -> None:
        if not self._open:
            waiters, self._goneWaiters = self._goneWaiters, []
            for waiter in waiters:
                self._notices.append(partial(waiter.callback, None))

    # What happens to attempts and connections.

    def _attemptFailed(self, failure: Failure) -> Failure:
        result = failure
        if not failure.check(P2PError):
            self._hurry.refused()
            result = Failure(reasonOfAttempt(self.description, failure))
        # Who stopped it knows.
        if not failure.check(CancelledError, ConnectingCancelledError):
            self._failWaiters(result)
        return result

    def _eventReceived(self, connection: LinkConnection, event: LinkEvent) -> None:
        if connection is not self._core.connection:
            return
        receiver = self.receiver
        if isinstance(event, Up):
            self._goUp(connection, event)
        elif receiver is not None and isinstance(event, RelayedReceived):
            self._notices.append(partial(receiver.relayedReceived, event.sender, event.payload))
        elif receiver is not None and isinstance(event, MessageReceived):
            self._notices.append(partial(receiver.messageReceived, event.sender, event.payload))
        elif receiver is not None and isinstance(event, PeerUnreachable):
            self._notices.append(partial(receiver.peerUnreachable, event.peer))
        self._notify()

    def _connectionFailed(self, connection: LinkConnection, failure: Failure) -> Exception:
        """
        @return: why a connection was lost before the node had greeted it.
        """
        self._open.discard(connection)
        if connection.ended is None:
            self._hurry.refused()  # a node that refuses too many closes without a word
        return self._reasonOf(connection, failure)

    def _connectionLost(self, connection: LinkConnection, failure: Failure) -> None:
        self._open.discard(connection)
        if connection is self._core.connection:
            self._linkLost(connection, failure)
        self._tellGone()
        self._notify()

    def _linkLost(self, connection: LinkConnection, failure: Failure) -> None:
        if connection.upSince is not None:
            self._backoff.linkLasted(self._clock.seconds() - connection.upSince)
        reason = Failure(self._reasonOf(connection, failure))
        if not connection.closed:
            self._goDown(reason)
            self._failWaiters(reason)
        self._life.lost(reason)

    def _reasonOf(self, connection: LinkConnection, failure: Failure) -> Exception:
        """
        Why the connection ended, as the program is told; and how the next attempt is made.
        """
        ended = connection.ended
        if ended is not None:
            self._refused(ended)
        wasUp = connection.upSince is not None or self._welcome is not None
        return reasonOfEnd(self.description, ended, wasUp, failure)

    def _refused(self, ended: Ended) -> None:
        displaced = ended.word == Reason.DISPLACED.word
        if displaced and self._hurry.forgive(self._clock.seconds()):
            return
        self._retryAfter = ended.retryAfter
        if ended.byNode:
            self._hurry.refused()
        if displaced:
            self._takeOver = False
            self._retryAfter = int(BACKOFF_CAP)

    def _goUp(self, connection: LinkConnection, event: Up) -> None:
        connection.upSince = self._clock.seconds()
        self._takeOver = True
        self._known = event
        self._beUsed(connection, event)

    def _beUsed(self, connection: LinkConnection, event: Up) -> None:
        """
        The link carries messages, from now on or for a moment already.
        """
        wasUsed = self._welcome is not None
        said = event.welcome
        self.maxPayload = said.maxPayload
        # By its name, where it has one: a link over IPv6 must not hide the node's IPv4 address,
        # without which STUN cannot tell this side's own.
        host = namedHost(self.description) or addressOf(connection.transport.getPeer())[0]
        servers = _withHost(said.stunServers, host)
        self._welcome = Welcome(event.nodeName, said.observedAddress, servers, event.roundTrip)
        if wasUsed:
            return
        _log.info("link to {node} is up", node=self.description)
        self._life.welcomed()
        if self.receiver is not None:
            self._notices.append(partial(self.receiver.linkUp, self._welcome))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._notices.append(partial(_fire, waiter, self._welcome))

    def _goDown(self, reason: Failure) -> None:
        if self._welcome is None:
            return
        self._welcome = None
        _log.info(
            "link to {node} is down: {reason}", node=self.description, reason=str(reason.value)
        )
        if self.receiver is not None:
            self._notices.append(partial(self.receiver.linkDown, reason))

    # What the program is told.

    def _failWaiters(self, reason: Failure) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._notices.append(partial(_fire, waiter, reason))

    def _notify(self) -> None:
        """
        Tell the program what there is to tell, in order, never from inside an earlier telling.
        """
        if self._notifying:
            return
        self._notifying = True
        while self._notices:
            notice = self._notices.popleft()
            try:
                notice()
            except Exception:
                _log.failure("a receiver of {node} failed", node=self.description)
        self._notifying = False


def _withHost(servers: tuple[HostPort, ...], node: str) -> tuple[HostPort, ...]:
    """
    @param node: the host that the link goes to; empty when the link is not on IP.
    @return: C{servers}, with the node's own host where one has none; without those when it has
        none either.
    """
    return tuple((host or node, port) for host, port in servers if host or node)


def _fire(waiter: Deferred[IWelcome], result: IWelcome | Failure) -> None:
    if not waiter.called:  # cancelled in the meantime
        waiter.callback(result)
