"""
One running peer for all of a program that uses the same identity.

A node takes one link of an identity, so endpoints with the same identity share a L{PeerService}.
It starts with its first user and stops with its last; a listening port, an open stream and an
attempt to connect are users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorCore,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.interfaces import IIdentity
from p2ptwist.net.latch import Latch
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.listening import Listening
from p2ptwist.peer.ping import PING_SERVICE, EchoFactory
from p2ptwist.peer.service import PeerService

_log = Logger()


class _Running:
    """
    A peer that runs, and who needs it.

    @ivar terms: what it was made with; another user must want the same.
    @ivar stopped: settles when nothing of it is left.
    @ivar stopping: whether it takes no more users.
    """

    def __init__(self, reactor: Any, terms: object, service: PeerService) -> None:
        self.terms = terms
        self.stopped: Latch[None] = Latch()
        self.stopping = False
        self.service = service
        self._clock = reactor
        self._users = 0
        self._ports = 0
        self._ping: Listening | None = None
        self._looking: IDelayedCall | None = None
        service.observeStreams(self._lookLater)
        service.startService()
        self._core: Any = IReactorCore(reactor, None)
        if self._core is not None:
            self._trigger = self._core.addSystemEventTrigger("before", "shutdown", self.stop)

    @contextmanager
    def used(self) -> Iterator[PeerService]:
        """
        Keep it running.
        """
        self._users += 1
        try:
            yield self.service
        finally:
            self._users -= 1
            self._lookLater()

    def portOpened(self) -> None:
        """
        There is one more port.  A peer that others may call can be pinged, too.
        """
        self._ports += 1
        if self._ports == 1:
            with suppress(CannotListenError):  # when that is what the program itself offers
                self._ping = self.service.listen(PING_SERVICE, EchoFactory())
            self.service.whenLinked().addErrback(self._notLinked)

    def portClosed(self) -> Deferred[None] | None:
        """
        There is one port less.

        @return: when that was the last user, a Deferred that fires when nothing is left.
        """
        self._ports -= 1
        if not self._ports and self._ping is not None:
            self._ping.stopListening()
            self._ping = None
        return self.stop() if self._isUnused() else None

    def stop(self) -> Deferred[None]:
        """
        Stop, whoever uses it.

        @return: a Deferred that fires when nothing is left.
        """
        if not self.stopping:
            self.stopping = True
            if self._looking is not None:
                self._looking.cancel()
            self.service.stopService().addBoth(self._gone)
        return self.stopped.when()

    def _isUnused(self) -> bool:
        return not (self._users or self._ports or self.service.streams)

    def _lookLater(self) -> None:
        """
        Stop when this turn of the reactor is over, if nobody needs the peer then: whoever has just
        finished may want to begin something else, and the session is amid its work.
        """
        if self._isUnused() and not self.stopping and self._looking is None:
            self._looking = self._clock.callLater(0.0, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._isUnused():
            self.stop()

    def _notLinked(self, failure: Failure) -> None:
        if not self.stopping:
            _log.warn("{reason}; trying on", reason=failure.getErrorMessage())

    def _gone(self, result: object) -> None:
        if isinstance(result, Failure):
            _log.failure("a peer did not stop in good order", result)
        if self._core is not None:
            # While the reactor shuts down it has taken the trigger away already.
            with suppress(KeyError, ValueError):
                self._core.removeSystemEventTrigger(self._trigger)
        self.stopped.settle(None)


# By reactor and public key, until the peer has stopped.
_running: dict[tuple[Any, bytes], _Running] = {}


@implementer(IListeningPort)
class SharedPort:
    """
    A service that the shared peer offers.
    """

    def __init__(self, running: _Running, listening: Listening) -> None:
        self._running: _Running | None = running
        self._listening = listening

    def startListening(self) -> None:
        """
        It does already.
        """

    def stopListening(self) -> Deferred[None] | None:
        """
        Offer the service no more.

        @return: a Deferred that fires when the peer has stopped, if this was its last use;
            C{None} if it was not.
        """
        running, self._running = self._running, None
        if running is None:
            return None
        self._listening.stopListening()
        return running.portClosed()

    def getHost(self) -> PeerAddress:
        """
        @return: this peer, and the service.
        """
        return self._listening.getHost()


class SharedPeer:
    """
    The peer of an identity, as an endpoint uses it.
    """

    def __init__(
        self,
        reactor: Any,
        identity: IIdentity,
        terms: object,
        make: Callable[[], PeerService],
    ) -> None:
        """
        @param terms: what C{make} depends on; compared with what a running peer was made with.
        @param make: makes the peer, when it is needed and does not run.
        """
        self._reactor = reactor
        self._key = (reactor, identity.publicKey)
        self._terms = terms
        self._make = make

    def connect(self, peerID: str, service: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{PeerService.connect}.
        """
        return Deferred.fromCoroutine(self._connect(peerID, service, factory))

    def listen(self, service: str, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Offer a service, as L{PeerService.listen}.

        @return: a Deferred that fires with the port, at once unless an earlier peer of the same
            identity is about to stop.
        """
        return Deferred.fromCoroutine(self._listen(service, factory))

    async def _connect(self, peerID: str, service: str, factory: IProtocolFactory) -> IProtocol:
        running = await self._run()
        with running.used() as peer:
            return await peer.connect(peerID, service, factory)

    async def _listen(self, service: str, factory: IProtocolFactory) -> IListeningPort:
        running = await self._run()
        with running.used() as peer:
            listening = peer.listen(service, factory)
            running.portOpened()
        _log.info("p2p:{peerID}:service={service} is served", peerID=peer.peerID, service=service)
        return SharedPort(running, listening)

    async def _run(self) -> _Running:
        """
        @return: the running peer; it is started if there is none.
        """
        while (running := _running.get(self._key)) is not None and running.stopping:
            await running.stopped.when()
        if running is None:
            running = _Running(self._reactor, self._terms, self._make())
            _running[self._key] = running
            running.stopped.when().addCallback(lambda _: _running.pop(self._key))
        elif running.terms != self._terms:
            raise LocalUsageError(
                f"this program is {running.service.peerID} at other rendezvous nodes already: use "
                "the same ones everywhere, or another identity"
            )
        return running
