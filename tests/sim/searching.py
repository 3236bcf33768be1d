"""
Two sides on a simulated Internet that search for paths, with a channel of their own.
"""

from __future__ import annotations

from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import Candidate, CandidateType, makeCandidate
from p2ptwist.core.ice.signal import decodeSignal
from p2ptwist.core.ladder.budget import Budget
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping
from p2ptwist.net.climb import Gear
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.puncher import Punch, Puncher
from p2ptwist.net.stunclient import STUNClient
from p2ptwist.peer.udpsearch import UDPSearch
from p2ptwist.testing import NAT, Host, Link
from tests.sim.neighborhood import NODE, SITE_LATENCY, STUN_PORT, Neighborhood

SERVER = (NODE, STUN_PORT)
RELAYED = 0.05  # seconds, one way, of the channel
HOSTS = ("203.0.113.1", "203.0.113.2")
HOME = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, NATFiltering.ADDRESS_AND_PORT_DEPENDENT)


class CrampedPort(DatagramPort):
    """
    A port beside which there is room for so many more.

    @ivar room: how many.
    """

    room = 10**6

    def another(self) -> DatagramPort:
        """
        @return: a port that can be opened while there is room.
        """
        self.room -= 1
        if self.room >= 0:
            return super().another()
        return DatagramPort(self._reactor, "", self.localPort)


class Addresses:
    """
    This side's addresses (L{p2ptwist.peer.udpsearch.LocalAddresses}).
    """

    complete = True
    answered = True
    behavior = HOME

    def __init__(self) -> None:
        self.known: tuple[Candidate, ...] = ()

    def candidates(self) -> tuple[Candidate, ...]:
        """
        @return: all of them.
        """
        return self.known


class Searcher:
    """
    One side.

    @ivar host: where it is.
    @ivar search: what is tested.
    @ivar server: the STUN server of fresh ports; C{None} for none.
    @ivar wants: whether it looks for a path.
    @ivar deaf: whether signals to it are lost.
    @ivar paths: those that were opened, with the times.
    @ivar said: the signals that it sent.
    """

    def __init__(self, host: Host, calls: bool, seed: int) -> None:
        self.host = host
        self.port = CrampedPort(host)
        self.port.listen()
        self.server: HostPort | None = SERVER
        self.wants = calls
        self.deaf = False
        self.paths: list[tuple[float, Punch]] = []
        self.said: list[bytes] = []
        self.other: Searcher
        self._calls = calls
        self.addresses = Addresses()
        random = Random(seed)
        self.puncher = Puncher(host, self.port.write, random.randbytes)
        self.puncher.gear = Gear(
            host, self.port, lambda: self.server, lambda: None, Budget(), random
        )
        self.client = STUNClient(host, self.port.write)
        self.port.addConsumer(self.client.datagramReceived)
        self.port.addConsumer(self.puncher.datagramReceived)
        self.search = UDPSearch(
            host,
            self.puncher,
            self.addresses,
            random,
            self._signal,
            lambda punch: self.paths.append((host.seconds(), punch)),
            lambda: self.wants and not self.paths,
        )

    def learn(self, reflexive: HostPort) -> None:
        """
        A STUN server has told the address.
        """
        own = ((self.host.address, self.port.localPort), reflexive)
        kinds = (CandidateType.HOST, CandidateType.SERVER_REFLEXIVE)
        self.addresses.known = tuple(map(makeCandidate, kinds, own))

    def hear(self, data: bytes) -> None:
        """
        A signal has come.
        """
        if not self.deaf:
            try:
                self.search.signalReceived(decodeSignal(data), not self._calls)
            except MalformedDatagram as error:
                raise AssertionError(f"the other side sent {data!r}") from error

    def close(self) -> None:
        """
        End everything.
        """
        self.search.close("closed")
        for _, path in self.paths:
            path.close()
        self.port.stopListening()

    def _signal(self, data: bytes) -> None:
        self.said.append(data)
        self.other.host.callLater(RELAYED, self.other.hear, data)


class Search:
    """
    Both sides, behind routers.

    @ivar caller: who calls.
    @ivar callee: who answers.
    """

    def __init__(self, nat: NAT | None = None, seed: int = 1) -> None:
        """
        @param nat: what both routers do.
        """
        self.internet = Neighborhood(seed).internet
        sides = []
        for name, address, calls in zip(("a", "b"), HOSTS, (True, False), strict=True):
            link = Link(latency=SITE_LATENCY)
            router = self.internet.router(f"{name}'s", address, nat=nat or NAT(), link=link)
            sides.append(Searcher(router.host(name), calls, seed))
        self.caller, self.callee = sides
        self.sides = tuple(sides)
        self.caller.other, self.callee.other = self.callee, self.caller
        for side in sides:
            side.learn(self.internet.runUntil(side.client.bind(SERVER), timeout=5.0))

    def close(self) -> None:
        """
        End everything and see that nothing was left behind.
        """
        for side in self.sides:
            side.close()
        self.internet.advance(1.0)
        for side in self.sides:
            left = [*side.host.getDelayedCalls(), *side.host.getReaders()]
            assert not left, f"left behind on {side.host.name}: {left}"
