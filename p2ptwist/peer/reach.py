"""
Where one peer can be reached: its UDP port, its addresses, and the direct paths from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, isIPv6
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.portmapping.grant import LOWEST_PORT
from p2ptwist.errors import LinkDown, NameNotResolved, PortUnusable
from p2ptwist.interfaces import IIdentity, IPortMapping, IWelcome
from p2ptwist.net.attempts import Observer
from p2ptwist.net.climb import Gear, budgetOf, memoryOf
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.hostaddresses import hostAddresses
from p2ptwist.net.latch import Latch
from p2ptwist.net.localcandidates import LocalCandidates
from p2ptwist.net.names import resolveAddress
from p2ptwist.net.portmapping import PortMappings
from p2ptwist.net.puncher import Puncher
from p2ptwist.net.tcpopen import TCPOpener
from p2ptwist.net.ttl import nearTTL

_log = Logger()


class Reach:
    """
    One run of a peer's UDP port.  Single use: a peer that starts again makes another one.

    @ivar port: the open port.
    @ivar puncher: makes direct paths from it.
    @ivar opener: makes direct paths over TCP.
    @ivar local: its addresses.
    @ivar gathered: settles when the first round of gathering is over.
    """

    def __init__(
        self,
        reactor: Any,
        randomBytes: Callable[[int], bytes],
        interface: str,
        port: int,
        stunServers: Sequence[HostPort] | None,
        secret: bytes | None = None,
    ) -> None:
        """
        Open the port.

        @param secret: 32 bytes that this host's routers know this program by, who are asked to let
            others in to the port; C{None} to ask nobody.
        @raise PortUnusable: when that is impossible.
        """
        self.port = DatagramPort(reactor, interface, port)
        self.port.listen()
        self.puncher = Puncher(reactor, self.port.write, randomBytes, self.port.writeMany)
        self.port.addConsumer(self.puncher.datagramReceived, self.puncher.datagramsReceived)
        self.opener = TCPOpener(reactor, (), interface, randomBytes)
        self.local = LocalCandidates(
            reactor,
            self.port,
            partial(hostAddresses, reactor),
            Random(randomBytes(16)),
            paths=self.puncher.mapped,
        )
        self.local.observe(lambda: self.puncher.behaviorKnown(self.local.behavior))
        self.puncher.gear = Gear(
            reactor,
            self.port,
            lambda: self._server,
            lambda: self._nearTTL,
            budgetOf(reactor),
            Random(randomBytes(16)),
            memoryOf(reactor),
        )
        self.gathered: Latch[None] = Latch()
        self._reactor = reactor
        self._stunServers = stunServers
        self._gathering: Deferred[None] | None = None
        self._server: HostPort | None = None
        self._nearTTL: int | None = None
        self._measuring: Deferred[None] | None = None
        self._stopped = False
        self._mappings: PortMappings | None = None
        if secret is not None:
            self._mappings = PortMappings(
                reactor, secret=secret, interface=interface, random=Random(randomBytes(16))
            )
            self._map(self._mappings)

    def linkUp(self, welcome: IWelcome) -> None:
        """
        Find out the addresses, with the STUN servers that were named, or else the node's.
        """
        self._stopGathering()
        # Half of the round trips of both links; the other side's is as long as this one's, perhaps.
        self.puncher.signalDelay = welcome.roundTrip
        if not self._stopped:
            self._gathering = Deferred.fromCoroutine(self._gather(welcome))
            self._gathering.addErrback(self._gatheringFailed)

    def observe(self, observer: Observer | None) -> None:
        """
        Have somebody told of all that attempts do from now on.
        """
        self.puncher.observer = self.opener.observer = observer

    def stop(self, reason: str) -> Deferred[None]:
        """
        End every path, and close the port.

        @return: a Deferred that fires when nothing is left.
        """
        self._stopped = True
        self._stopGathering()
        if self._measuring is not None:
            self._measuring.cancel()
        self.puncher.close(reason)
        self.gathered.settle(Failure(LinkDown("the peer was stopped")))
        ended = [self.port.stopListening(), self.local.stop(), self.opener.close(reason)]
        if self._mappings is not None:
            ended.append(self._mappings.stopService())
        return DeferredList(ended, consumeErrors=True).addCallback(lambda _: None)

    def _map(self, mappings: PortMappings) -> None:
        """
        Have the port mapped in the background; whenever it is, there is one more candidate.
        """

        def changed(mapping: IPortMapping) -> None:
            if not self._stopped:
                self.local.mapped(mapping.externals)

        def unmapped(failure: Failure) -> None:
            if not failure.check(CancelledError):
                _log.debug("the UDP port is not mapped: {why}", why=failure.getErrorMessage())

        mappings.observe(changed)
        self.local.observe(lambda: mappings.seen(self.local.reflexiveHosts))
        mappings.startService()
        if self.port.localPort >= LOWEST_PORT:
            mappings.map("udp", self.port.localPort).addErrback(unmapped)

    async def _gather(self, welcome: IWelcome) -> None:
        named = self._stunServers
        problems: list[Failure] = []
        servers: list[HostPort] = []
        for host, port in welcome.stunServers if named is None else named:
            try:
                servers.append(await self._resolve(host, port))
            except NameNotResolved:
                problems.append(Failure())
        self.opener.servers = tuple(servers)
        self._server = next((each for each in servers if not isIPv6(each[0])), None)
        self._measureNear()
        problems += await self.local.gather(servers)
        for problem in problems:
            _log.warn("{reason}", reason=problem.getErrorMessage())
        if not named or self.local.answered:
            self.gathered.settle(None)
        else:
            self.gathered.settle(problems[0] if problems else Failure(_unusable(named)))

    async def _resolve(self, host: str, port: int) -> HostPort:
        """
        @return: the IPv4 address of a server, as IPv4 is what NATs translate; its IPv6 address
            where it or this port has no other.
        @raise NameNotResolved: when it has none that the port can send to.
        """
        if self.port.hasIPv4:
            try:
                return await resolveAddress(self._reactor, host, port)
            except NameNotResolved:
                if not self.port.hasIPv6:
                    raise
        return await resolveAddress(self._reactor, host, port, ipv6=True)

    def _measureNear(self) -> None:
        """
        Find out in the background how far datagrams go that are to open this side's NATs only.
        """
        if self._server is None or self._measuring is not None:
            return

        def measured(ttl: int) -> None:
            self._nearTTL = ttl

        port = self.port.another()
        try:
            port.listen()
        except PortUnusable:
            return  # the next welcome is another chance, and until then a guess will do
        measuring = nearTTL(self._reactor, port, self._server).addCallback(measured)
        self._measuring = measuring.addErrback(lambda _: None)
        measuring.addBoth(lambda _: self._measuredNear(port))

    def _measuredNear(self, port: DatagramPort) -> None:
        self._measuring = None
        port.stopListening()

    def _stopGathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()

    def _gatheringFailed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("this peer's addresses are not known", failure)
            self.gathered.settle(failure)


def mappingSecret(identity: IIdentity) -> bytes:
    """
    @return: 32 bytes that follow from an identity, and that nobody else knows: signatures of
        Ed25519 are always the same (RFC 8032), and nobody has this text signed.
    """
    return sha256(identity.sign(b"p2ptwist port mapping v1\x00")).digest()


def _unusable(servers: Sequence[HostPort]) -> LocalUsageError:
    names = ", ".join(host for host, _ in servers)
    return LocalUsageError(
        f"the UDP port cannot send to the STUN servers {names}: name one whose addresses are of "
        "the family that the port is bound to"
    )
