"""
The simulated Internet itself.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar
from unittest import TestCase

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.clock import Clock
from p2ptwist.testing.host import Host
from p2ptwist.testing.link import Link
from p2ptwist.testing.nat import NAT, Firewall
from p2ptwist.testing.network import Network, isPrivate
from p2ptwist.testing.pcap import capture
from p2ptwist.testing.placement import placement
from p2ptwist.testing.report import StillPending, TraceOnFailure, describePending
from p2ptwist.testing.router import Router
from p2ptwist.testing.stack import Interface
from p2ptwist.testing.trace import TRACE_LENGTH, Trace
from p2ptwist.testing.world import World

_log = Logger()

ResultT = TypeVar("ResultT")

# Routers between any two sites, all together.  Real paths have about 10 to 15; packets that must
# die on their way, for priming, are sent with far less.
TRANSIT_HOPS = 8
# Enough for any transfer of a test, little enough to end within a second or two when one hangs.
DEFAULT_TIMEOUT = 120.0  # seconds of virtual time


class Internet:
    """
    A simulated Internet: hosts, routers and links that share one virtual clock and one seed.

    @ivar seed: where all randomness comes from; the same seed repeats everything exactly.
    @ivar hosts: the public hosts, by name.
    @ivar routers: the routers on the public network, by name.
    """

    def __init__(
        self, seed: int = 0, *, traceLength: int = TRACE_LENGTH, transitHops: int = TRANSIT_HOPS
    ) -> None:
        """
        @param seed: where all randomness comes from.
        @param traceLength: entries of the packet trace to keep.
        @param transitHops: routers between any two sites.
        """
        self.seed = seed
        self.hosts: dict[str, Host] = {}
        self.routers: dict[str, Router] = {}
        self._clock = Clock(self._eventFailed)
        self._world = World(seed, self._clock, Trace(self._clock, traceLength))
        self._public = Network("public network", self.trace, hops=transitHops)

    @property
    def trace(self) -> Trace:
        """
        What became of the last packets.
        """
        return self._world.trace

    # Building

    def host(self, name: str, *addresses: str, link: Link | None = None) -> Host:
        """
        Put a host on the public network.

        @param name: how it is called in a trace.
        @param addresses: its addresses, IPv4 or IPv6, at least one.
        @param link: its link.
        @raise LocalUsageError: when an address is private, or in use.
        """
        if not addresses:
            raise LocalUsageError(f"{name} needs a public address")
        host = self.hosts[name] = Host(self._world, name)
        self.attach(host, *addresses, link=link)
        return host

    def attach(self, host: Host, *addresses: str, link: Link | None = None) -> Interface:
        """
        Attach a host that is elsewhere already to the public network as well.

        @param host: the host; its other interfaces stay its first choice.
        @param addresses: its public addresses.
        @param link: its link.
        """
        for address in addresses:
            self._requirePublic(address)
        return host.attach(self._public, addresses, link or Link())

    def router(
        self,
        name: str,
        external: str | None = None,
        *,
        pool: Sequence[str] = (),
        nat: NAT | None = None,
        lan: str | None = None,
        prefix6: str | None = None,
        firewall: Firewall | None = None,
        link: Link | None = None,
    ) -> Router:
        """
        Put a router on the public network.

        With an C{external} address it translates IPv4.  Without one, its C{lan} has public
        addresses behind the C{firewall}, as C{prefix6} always has.

        @param name: how it is called in a trace.
        @param external: its public IPv4 address.
        @param pool: more public IPv4 addresses that it translates to.
        @param nat: how it translates.
        @param lan: the IPv4 prefix of its LAN; by default C{192.168.1.0/24} behind NAT: the
            same for all homes, as in reality.
        @param prefix6: the IPv6 prefix of its LAN, such as C{"2001:db8:1::/64"}.
        @param firewall: how it filters where it does not translate.
        @param link: its link.
        """
        for address in pool if external is None else (external, *pool):
            self._requirePublic(address)
        place = placement(name, self._public, 1, external, pool, lan, prefix6)
        router = self.routers[name] = Router(
            self._world, place, nat or NAT(), firewall or Firewall(), link or Link()
        )
        return router

    def name(self, name: str, *addresses: str) -> None:
        """
        Give a name its addresses in the DNS; no address at all removes it.
        """
        self._world.names.set(name, addresses)

    # Looking

    def delayedCalls(self) -> list[IDelayedCall]:
        """
        @return: what the programs on all hosts have still to do: nothing, once all have cleaned
            up after themselves.
        """
        return [call for host in self._world.hosts.values() for call in host.getDelayedCalls()]

    def capture(self, where: str | None = None) -> bytes:
        """
        The trace as a capture file, for Wireshark and C{tcpdump -r}.

        @param where: the name of a host or a router whose packets to show; by default every packet
            at every place.
        @return: the content of a file in pcap format.
        """
        return capture(entry for entry in self.trace if where in (None, entry.where))

    def showOnFailure(self, testCase: TestCase) -> None:
        """
        Add the seed and the packet trace to the failures of a trial test.  Call it in C{setUp} or
        in the test itself.

        @param testCase: the test that runs.
        """
        TraceOnFailure(self._world, testCase).watch()

    # Running

    def seconds(self) -> float:
        """
        @return: virtual seconds since this Internet was made.
        """
        return self._clock.seconds()

    def advance(self, seconds: float) -> None:
        """
        Let C{seconds} pass, event by event.

        @raise LocalUsageError: when they are less than 0, or when called from inside an event.
        """
        if seconds < 0:
            raise LocalUsageError("time does not go back")
        self._clock.runUntil(self._clock.seconds() + seconds)

    def runUntil(
        self,
        awaitable: Deferred[ResultT] | Coroutine[Deferred[Any], Any, ResultT],
        timeout: float = DEFAULT_TIMEOUT,
    ) -> ResultT:
        """
        Let time pass until C{awaitable} has a result, and no longer.

        @param awaitable: a Deferred, or a coroutine that awaits some.
        @param timeout: virtual seconds to wait at most.
        @return: the result.
        @raise StillPending: after C{timeout}, or when nothing more can happen.
        @raise Exception: whatever C{awaitable} fails with.
        """
        deferred = (
            awaitable if isinstance(awaitable, Deferred) else Deferred.fromCoroutine(awaitable)
        )
        results: list[ResultT | Failure] = []
        deferred.addBoth(results.append)
        limit = self._clock.seconds() + timeout
        self._clock.run(limit, results.__len__)
        if not results:
            raise StillPending(describePending(self._world))
        result = results[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def _requirePublic(self, address: str) -> None:
        if isPrivate(address):
            raise LocalUsageError(f"{address} is private: it belongs behind a router")

    def _eventFailed(self) -> None:
        _log.failure("an event of the simulated Internet failed (seed {seed})", seed=self.seed)
