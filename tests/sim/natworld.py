"""
Worlds to discover NATs in: servers, honest or not, and one host behind whatever a test wants.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation
from p2ptwist.core.stun.message import MessageClass, encode
from p2ptwist.core.stun.server import Reply, Responder, ServerAddresses
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.natdiscovery import NATFindings, discoverNAT
from p2ptwist.net.natreport import NATReport, measureNAT
from p2ptwist.net.stunserver import STUNService
from p2ptwist.net.stunstreams import STUNStreamService
from p2ptwist.testing import NAT, Host, Internet, Link
from p2ptwist.testing import PortAllocation as Allocation
from p2ptwist.testing.nat import Hairpinning

PRIMARY = ("192.0.2.1", 3478)
ALTERNATE = ("192.0.2.2", 3479)
OTHER_PORT = ("192.0.2.1", 3479)
OTHER_HOST = ("192.0.2.2", 3478)
SECOND = ("198.51.100.1", 3478)
SILENT = ("198.51.100.77", 3478)
PRIMARY6, ALTERNATE6 = ("2001:db8::1", 3478), ("2001:db8::2", 3479)

LIMIT = 3.0  # virtual seconds that discovery may take


# Is called with a responder and what it is to answer, and answers.
Lie = Callable[..., Reply | None]


class World:
    """
    STUN servers and one host behind whatever a test puts there.
    """

    def __init__(
        self,
        test: SynchronousTestCase,
        nat: NAT | None = None,
        alternate: HostPort | None = ALTERNATE,
        loss: float = 0.0,
        seed: int = 1,
        inner: NAT | None = None,
    ) -> None:
        self.test = test
        self.internet = Internet(seed=seed)
        self.internet.showOnFailure(test)
        self.node = self.internet.host(
            "node",
            PRIMARY[0],
            ALTERNATE[0],
            PRIMARY6[0],
            ALTERNATE6[0],
            link=Link(latency=0.005),
        )
        self.serve(self.node, PRIMARY, alternate)
        link = Link(latency=0.02, loss=loss)
        if nat is None:
            self.host = self.internet.host("alice", "198.51.100.9", link=link)
            return
        router = self.internet.router("home", "203.0.113.7", nat=nat, link=link)
        if inner is not None:
            router = router.router("inner", nat=inner)
        self.host = router.host("alice")

    def serve(self, host: Host, primary: HostPort, alternate: HostPort | None = None) -> None:
        """
        Serve STUN.
        """
        service = STUNService(host, primary, alternate)
        service.startService()
        self.test.addCleanup(service.stopService)

    def serveStreams(self) -> None:
        """
        Serve STUN over TCP as well.
        """
        service = STUNStreamService(self.node, PRIMARY, ALTERNATE)
        service.startService()
        self.test.addCleanup(service.stopService)

    def second(self) -> None:
        """
        Serve STUN on another host, with one address.
        """
        self.serve(self.internet.host("second", SECOND[0]), SECOND)

    def openPort(self) -> DatagramPort:
        """
        @return: a port of the host, not yet open.
        """
        return DatagramPort(self.host)

    def start(self, *servers: HostPort) -> Deferred[NATFindings]:
        """
        Begin discovery.
        """
        self.words: list[str] = []
        return discoverNAT(
            self.host,
            self.openPort,
            servers or (PRIMARY,),
            progress=self.words.append,
        )

    def discover(self, *servers: HostPort) -> NATFindings:
        """
        Run discovery.

        @return: the findings, which took less than 3 s and left nothing open.
        """
        started = self.host.seconds()
        findings = self.internet.runUntil(self.start(*servers), timeout=10.0)
        self.test.assertLess(self.host.seconds() - started, LIMIT)
        return findings

    def report(self, *servers: HostPort, lifetime: float | None = None) -> NATReport:
        """
        Find out everything.
        """
        measuring = measureNAT(self.host, servers or (PRIMARY,), lifetime=lifetime)
        return self.internet.runUntil(measuring, timeout=1000.0)


def right(nat: NAT) -> NATBehavior:
    """
    @return: what discovery is to find out of such a NAT, but for hairpinning; the words are the
        same on purpose.
    """
    allocation = PortAllocation.RANDOM
    if nat.allocation is not Allocation.HASHED:  # which looks random to whoever has one host
        allocation = PortAllocation(nat.allocation.value)
    sequential = allocation is PortAllocation.SEQUENTIAL
    return NATBehavior(
        NATMapping[nat.mapping.name],
        NATFiltering[nat.filtering.name],
        allocation,
        nat.portStep if sequential else None,
        nat.hairpinning is not Hairpinning.NONE,
    )


def facts(behavior: NATBehavior) -> list[object]:
    """
    @return: each fact.
    """
    return [
        behavior.mapping,
        behavior.filtering,
        behavior.allocation,
        behavior.step,
        behavior.hairpinning,
    ]


def wrongFacts(behavior: NATBehavior, nat: NAT) -> list[object]:
    """
    @return: what was told, and is not so.
    """
    pairs = zip(facts(behavior), facts(right(nat)), strict=True)
    return [told for told, true in pairs if told not in (None, true)]


class Liar(DatagramProtocol):
    """
    A server at 192.0.2.1:4478 and as much as is wanted of 192.0.2.2:4479, that says what a test
    wants.
    """

    noisy = False

    def __init__(
        self, host: Host, lie: Lie, silentHost: str | None = None, silentPort: int | None = None
    ) -> None:
        """
        @param lie: is called with a responder and with what it is to answer; returns the answer.
        """
        self.lie = lie
        self.addresses = ServerAddresses(("192.0.2.1", 4478), ("192.0.2.2", 4479))
        self.ports: dict[HostPort, _LyingPort] = {}
        for address in self.addresses.all():
            if address[0] != silentHost and address[1] != silentPort:
                self.ports[address] = _LyingPort(self, address)
                host.listenUDP(address[1], self.ports[address], address[0])

    def answer(self, data: bytes, source: HostPort, local: HostPort) -> None:
        """
        Send an answer.
        """
        reply = self.lie(Responder(self.addresses), data, source, local)
        if reply is not None and reply.origin in self.ports:
            transport = self.ports[reply.origin].transport
            assert transport is not None
            transport.write(reply.data, source)


class _LyingPort(DatagramProtocol):
    """
    One address of a liar.
    """

    noisy = False

    def __init__(self, liar: Liar, local: HostPort) -> None:
        self._liar = liar
        self._local = local

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        Answer.
        """
        self._liar.answer(datagram, addr, self._local)


def success(data: bytes, *attributes: tuple[int, bytes]) -> bytes:
    """
    @return: an answer to a request.
    """
    return encode(MessageClass.SUCCESS, 1, data[8:20], attributes)
