"""
Where this side can be reached: its host's addresses, and the ones that STUN servers see.

Gathering (RFC 8445 section 5.1.1) happens once, long before a connection is wanted, on the very
port that will carry it.  After that the server-reflexive address is asked for again before a NAT
forgets it, and its changes are told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, formatAddress, isIPv6
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.ice.candidate import (
    Candidate,
    CandidateType,
    isLoopback,
    isUnusable,
    makeCandidate,
)
from p2ptwist.core.ice.consent import KEEPALIVE, keepaliveFor
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.nattests.memory import NATMemory
from p2ptwist.errors import PortUnusable
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.lifetime import measureLifetime
from p2ptwist.net.natdiscovery import NATFindings, discoverNAT
from p2ptwist.net.stunclient import STUNClient

# Seconds between two Binding requests: below the shortest lifetime of mappings seen in the field.
REFRESH_IDLE = 15.0
# Seconds while there are paths, which are worth an older address.
REFRESH_BUSY = 60.0
# Seconds while a path is seen to use the very mapping that a server told: its keepalive refreshes
# the mapping (RFC 4787 REQ-6), and the other side's answers say when it is another one.
REFRESH_SHARED = 300.0
REFRESH_LEAST = 5.0  # seconds between two that somebody asks for
# Seconds from the first measurement to that of the lifetime of mappings: programs that live shorter
# need not know it.
LIFETIME_DELAY = 60.0
LIFETIME_HIGH = 2 * KEEPALIVE  # seconds; mappings that live longer than that are never in danger
_SPREAD = 0.1  # of either, so that many peers do not ask at once
BIND_TIMEOUT = 3.0  # seconds
# Seconds from the first request to the second: four go out in that time.  With one datagram of ten
# lost each way, three would leave one peer of 150 without its address for the next round.
BIND_RTO = 0.25
# Seconds to the next round while nobody has told an address; each is twice as long as the one
# before, up to REFRESH_IDLE.
ASK_AGAIN = 4.0
# Seconds to the next measurement when the mapping could not be found out, and how many there are.
MEASURE_AGAIN, MEASUREMENTS = 10.0, 3
SERVER_LIMIT = 3  # servers asked: one address tells the mapping, two more are for when it is down
HOST_LIMIT = 16  # of the host's addresses, so that reflexive ones have room among 24

_log = Logger()


class LocalCandidates:
    """
    The candidates of one UDP port.

    @ivar behavior: what the NAT in front was measured to do, as far as is known.
    @ivar complete: whether the first round is over, so that no more candidates are near.
    """

    def __init__(
        self,
        clock: IReactorTime,
        port: DatagramPort,
        hostAddresses: Callable[[], Sequence[str]],
        random: Random,
        paths: Callable[[], Collection[HostPort | None]] = tuple,
    ) -> None:
        """
        @param port: an open port; STUN answers that come to it are taken from it.
        @param hostAddresses: the addresses of this host; an application that wants some interfaces
            only leaves the others out.
        @param random: for the spread of refreshes.
        @param paths: for each path from the port, where its other side sees this one; C{None} where
            that is not known.
        """
        self.behavior = NATBehavior()
        self.complete = False
        self._clock = clock
        self._port = port
        self._hostAddresses = hostAddresses
        self._random = random
        self._paths = paths
        self._stun = STUNClient(clock, port.write)
        self._servers: tuple[HostPort, ...] = ()
        self._reflexive: dict[HostPort, HostPort] = {}
        self._mapped: tuple[HostPort, ...] = ()
        self._timer: IDelayedCall | None = None
        self._memory = NATMemory()
        self._network: Hashable = None
        self._measuring: dict[Deferred[Any], Deferred[None]] = {}  # and when each has ended
        self._laterTimer: IDelayedCall | None = None
        self._measured: Deferred[None] = succeed(None)
        self._stopped = False
        self._vain = 0  # measurements that did not find the mapping
        self._unanswered = 0  # rounds in which nobody told an address
        self._observers: list[Callable[[], object]] = []
        self._refreshedAt = float("-inf")
        self._askedAt = float("-inf")
        port.addConsumer(self._stun.datagramReceived)

    def observe(self, changed: Callable[[], object]) -> None:
        """
        @param changed: called whenever there are other candidates, or more is known of the NAT.
        """
        self._observers.append(changed)

    @property
    def answered(self) -> bool:
        """
        Whether any of the STUN servers that are asked has told an address.
        """
        return bool(self._reflexive)

    @property
    def reflexiveHosts(self) -> frozenset[str]:
        """
        The hosts that STUN servers see this port at.
        """
        return frozenset(host for host, _ in self._reflexive.values())

    def mapped(self, addresses: Sequence[HostPort]) -> None:
        """
        The port is reached at other addresses by the grace of this host's routers: let them be
        candidates, before those that only whoever was sent to may use.

        @param addresses: all of them.
        """
        if self._mapped != tuple(addresses):
            self._mapped = tuple(addresses)
            self._changed()

    def candidates(self) -> tuple[Candidate, ...]:
        """
        @return: the candidates known at this moment, the host's own first.
        """
        found = self.hosts()
        own = {candidate.address for candidate in found}
        reflexive = dict.fromkeys((*self._mapped, *self._reflexive.values()))
        found += [
            makeCandidate(CandidateType.SERVER_REFLEXIVE, address, order)
            for order, address in enumerate(reflexive)
            if address not in own
        ]
        return tuple(found)

    def hosts(self) -> list[Candidate]:
        """
        @return: the host candidates.
        """
        port = self._port.localPort
        return [
            makeCandidate(CandidateType.HOST, (host, port), order)
            for order, host in enumerate(self._hosts())
        ]

    def gather(self, servers: Sequence[HostPort]) -> Deferred[list[Failure]]:
        """
        Ask STUN servers for this port's address, and the first one what the NAT does.

        @param servers: literal addresses; the first three of a family that the port speaks.
        @return: a Deferred that fires when all have answered or been given up, with what failed
            (L{p2ptwist.errors.STUNTimeout}, L{p2ptwist.errors.STUNRefused}).  It can be cancelled.
        @raise LocalUsageError: after L{stop}.
        """
        if self._stopped:
            raise LocalUsageError("these candidates were stopped; make new ones")
        usable = [each for each in servers if self._speaks(each[0])]
        self._servers = tuple(usable[:SERVER_LIMIT])
        self._reflexive = {
            server: address
            for server, address in self._reflexive.items()
            if server in self._servers
        }
        self._askedAt = self._clock.seconds()
        asked = [self._ask(server) for server in self._servers]
        self._refreshLater()
        return DeferredList(asked, consumeErrors=True).addCallback(self._gathered)

    def refresh(self) -> None:
        """
        Ask each server again at once: a NAT may have changed.  Not more often than every 5 s.
        """
        now = self._clock.seconds()
        if not self._stopped and now - self._refreshedAt >= REFRESH_LEAST:
            self._refreshedAt = now
            self._refresh()

    def stop(self) -> Deferred[None]:
        """
        Ask no more, and free the timer.  The port is left open.

        @return: a Deferred that fires when nothing is left.
        """
        if self._stopped:
            return self._measured
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._measured = self._giveUp()
        self._stun.stop()
        self._port.removeConsumer(self._stun.datagramReceived)
        return self._measured

    def _speaks(self, host: str) -> bool:
        return self._port.hasIPv6 if isIPv6(host) else self._port.hasIPv4

    def _hosts(self) -> list[str]:
        """
        @return: this host's usable addresses, the best first; loopback addresses only where there
            is nothing else, or the port is bound to one.
        """
        if self._port.interface:
            return [self._port.interface]
        usable = [
            host
            for host in dict.fromkeys(self._hostAddresses())
            if self._speaks(host) and not isUnusable(host)
        ]
        routed = [host for host in usable if not isLoopback(host)]
        return (routed or usable)[:HOST_LIMIT]

    def _ask(self, server: HostPort) -> Deferred[None]:
        asked = self._stun.bind(server, BIND_TIMEOUT, BIND_RTO)
        return asked.addCallback(self._answered, server)

    def _answered(self, address: HostPort, server: HostPort) -> None:
        if server in self._servers and self._reflexive.get(server) != address:
            _log.debug(
                "{server} sees this port at {address}",
                server=formatAddress(server),
                address=formatAddress(address),
            )
            late = self.complete and not self._reflexive
            self._reflexive[server] = address
            self._changed()
            if late:
                self._begin()

    def _gathered(self, results: Any) -> list[Failure] | Failure:
        # Twisted types the results of a DeferredList as if none failed.
        failures: list[Failure] = [failure for answered, failure in results if not answered]
        for failure in failures:
            if failure.check(CancelledError):
                return failure
        self.complete = True
        self._changed()
        if self._reflexive:
            self._begin()
        return failures

    def _begin(self) -> None:
        """
        Where this host is is known: find out what the NAT does.
        """
        answered = [server for server in self._servers if server in self._reflexive]
        if answered:
            self._recall(answered[0])
            self._vain = 0
            self._measure([each for each in answered if isIPv6(each[0]) == isIPv6(answered[0][0])])

    def _recall(self, server: HostPort) -> None:
        """
        Believe what was measured in this network before, until it is measured again.
        """
        self._network = (self._reflexive[server][0], *self._hosts())
        known = self._memory.recall(self._network)
        if known != self.behavior:
            self.behavior = known
            self._changed()

    def _measure(self, servers: Sequence[HostPort]) -> None:
        """
        Find out in the background what the NAT in front does, from other ports: what comes to a
        port uninvited makes some routers translate it differently from then on (a Linux router
        that accepts such packets itself), and paths are to use this one.
        """
        if self._stopped:
            return
        network = self._network
        self._giveUp()
        self._run(
            discoverNAT(self._clock, self._port.another, servers),
            lambda found: self._discovered(network, servers, found),
        )

    def _discovered(
        self, network: Hashable, servers: Sequence[HostPort], found: NATFindings
    ) -> None:
        _log.debug("the NAT in front has {behavior}", behavior=str(found.behavior))
        self._learn(network, found.behavior)
        self._vain += 1
        if self.behavior.mapping is None and self._vain < MEASUREMENTS and not self._stopped:
            self._laterTimer = self._clock.callLater(MEASURE_AGAIN, self._measure, servers)
        elif found.server is not None and self.behavior.lifetime is None and not self._stopped:
            self._laterTimer = self._clock.callLater(
                LIFETIME_DELAY, self._measureLifetime, network, found.server.primary
            )

    def _measureLifetime(self, network: Hashable, server: HostPort) -> None:
        self._laterTimer = None
        self._run(
            measureLifetime(self._clock, self._port.another, server, high=LIFETIME_HIGH),
            lambda lifetime: self._learn(network, NATBehavior(lifetime=lifetime)),
        )

    def _learn(self, network: Hashable, found: NATBehavior) -> None:
        behavior = self._memory.remember(network, found)
        if network == self._network and behavior != self.behavior:
            self.behavior = behavior
            self._changed()

    def _run(self, measuring: Deferred[Any], done: Callable[[Any], object]) -> None:
        def ended(result: Any) -> None:
            self._measuring.pop(measuring, None)
            if not isinstance(result, Failure):
                done(result)
            elif result.check(PortUnusable):
                _log.debug("the NAT in front is not measured: {why}", why=result.getErrorMessage())
            elif not result.check(CancelledError):
                _log.failure("the NAT in front is not measured", result)

        over: Deferred[None] = Deferred()
        self._measuring[measuring] = over
        measuring.addBoth(ended).addBoth(over.callback)

    def _giveUp(self) -> Deferred[None]:
        """
        End whatever is measured.

        @return: a Deferred that fires when nothing is left of it.
        """
        timer, self._laterTimer = self._laterTimer, None
        if timer is not None and timer.active():
            timer.cancel()
        waiting = list(self._measuring.values())
        for measuring in tuple(self._measuring):
            measuring.cancel()
        return DeferredList(waiting).addCallback(lambda _: None)

    def _changed(self) -> None:
        for observer in self._observers:
            observer()

    def _refreshLater(self) -> None:
        """
        See again in a moment: paths come and go.
        """
        if self._stopped or not self._servers:
            return
        delay = self._idleInterval() * self._random.uniform(1 - _SPREAD, 1)
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._look)
        else:
            self._timer.reset(delay)

    def _idleInterval(self) -> float:
        if not self._reflexive:
            return min(REFRESH_IDLE, ASK_AGAIN * 2.0**self._unanswered)
        return min(REFRESH_IDLE, keepaliveFor(self.behavior))

    def _interval(self) -> float:
        """
        @return: after how many seconds an answer is too old now.
        """
        paths = self._paths()
        if not paths:
            return self._idleInterval()
        told = set(self._reflexive.values())
        return REFRESH_SHARED if any(each in told for each in paths) else REFRESH_BUSY

    def _look(self) -> None:
        self._timer = None
        # As old as it would be if it was asked for at the earliest moment.
        if self._clock.seconds() - self._askedAt >= self._interval() * (1 - _SPREAD):
            self._refresh()
        else:
            self._refreshLater()

    def _refresh(self) -> None:
        """
        Ask each server again.  What a server that is silent now said before may still be true.
        """
        self._askedAt = self._clock.seconds()
        self._unanswered = 0 if self._reflexive else min(self._unanswered + 1, 4)
        for server in self._servers:
            self._ask(server).addErrback(self._silent)
        self._refreshLater()

    def _silent(self, failure: Failure) -> None:
        _log.debug("{reason}", reason=failure.getErrorMessage())
