"""
TCP on the simulated Internet: over bad links, through NATs, and when things break.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.testing import NAT, Host, Internet, Link, Uninvited

SERVER = "192.0.2.1"


class Stream(Protocol):
    """
    Keeps what comes and how it ends.
    """

    transport: Any

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost: Failure | None = None
        self.peers: list[Stream] | None = None

    def connectionMade(self) -> None:
        """
        Tell the factory's list.
        """
        getattr(self.factory, "streams", []).append(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Data has come.
        """
        self.data += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        The connection is lost.
        """
        self.lost = reason

    @property
    def reason(self) -> type[BaseException] | None:
        """
        Why the connection was lost, if it was.
        """
        return None if self.lost is None else self.lost.type


class StreamCase(SynchronousTestCase):
    """
    A public server at which streams are accepted.
    """

    def setUp(self) -> None:
        """
        Begin with a plain link.
        """
        self.build(Link(latency=0.02))

    def build(self, link: Link, seed: int = 5, nat: NAT | None = None) -> None:
        """
        Make the Internet.

        @param link: the client's link.
        @param nat: how the client's router translates, if it is behind one.
        """
        self.internet = Internet(seed=seed)
        self.internet.showOnFailure(self)
        self.server = self.internet.host("server", SERVER)
        if nat is None:
            self.client = self.internet.host("client", "192.0.2.2", link=link)
            self.uplink = self.client.link
        else:
            self.home = self.internet.router("home", "203.0.113.1", nat=nat, link=link)
            self.client = self.home.host("client")
            self.uplink = self.home.link
        self.accepted: list[Stream] = []
        self.listening: Any = self.listen(80)

    def listen(self, port: int, backlog: int = 50) -> Any:
        """
        @return: a port of the server.
        """
        factory: Any = Factory.forProtocol(Stream)
        factory.streams = self.accepted
        endpoint = TCP4ServerEndpoint(self.server, port, backlog)
        return self.internet.runUntil(endpoint.listen(factory))

    def connecting(self, port: int = 80, timeout: float = 30.0) -> Deferred[Any]:
        """
        @return: fires with a client's stream.
        """
        endpoint = TCP4ClientEndpoint(self.client, SERVER, port, timeout)
        return endpoint.connect(Factory.forProtocol(Stream))

    def connect(self, timeout: float = 30.0) -> tuple[Stream, Stream]:
        """
        @return: both ends of a connection.
        """
        client = self.internet.runUntil(self.connecting(timeout=timeout), 60.0)
        while not self.accepted:
            self.internet.advance(1.0)
        return client, self.accepted.pop()


class BadLinkTests(StreamCase):
    """
    Nothing is lost over links that lose, duplicate and reorder.
    """

    def transfer(self, size: int) -> float:
        """
        Send random octets both ways, close, and check what has come.

        @return: the virtual seconds that it took.
        """
        client, server = self.connect()
        source = random.Random(1)
        out, back = source.randbytes(size), source.randbytes(size // 2)
        start = self.internet.seconds()
        client.transport.write(out)
        server.transport.write(back)
        while (len(server.data), len(client.data)) != (len(out), len(back)):
            self.internet.advance(0.1)
            self.assertIsNone(client.lost)
        self.assertEqual((bytes(server.data), bytes(client.data)), (out, back))
        took = self.internet.seconds() - start
        client.transport.loseConnection()
        self.internet.advance(600.0)
        self.assertEqual((client.reason, server.reason), (ConnectionDone, ConnectionDone))
        return took

    def test_clean(self) -> None:
        """
        A clean link is as fast as its window allows.
        """
        self.assertLess(self.transfer(1_000_000), 1.0)

    def test_loss(self) -> None:
        """
        With a tenth of the packets lost all arrives, in seconds.
        """
        self.build(Link(latency=0.02, loss=0.1))
        self.assertLess(self.transfer(300_000), 60.0)
        self.assertGreater(self.uplink.counters.dropped["lost"], 20)

    def test_chaos(self) -> None:
        """
        So it does on a link that does everything to packets, with several seeds.
        """
        for seed in range(5):
            link = Link(
                latency=0.02, jitter=0.01, loss=0.03, duplication=0.1, reordering=0.1, mtu=1500
            )
            self.build(link, seed)
            self.transfer(100_000)

    def test_bandwidth(self) -> None:
        """
        A narrow link takes the time that it takes.
        """
        self.build(Link(latency=0.02, bandwidth=100_000.0))
        took = self.transfer(300_000)
        self.assertTrue(3.0 < took < 30.0, took)

    def test_handshakeLoss(self) -> None:
        """
        A lost SYN is sent again a second later.
        """
        self.uplink.cut()
        connecting = self.connecting()
        self.internet.advance(0.5)
        self.uplink.restore()
        self.internet.runUntil(connecting)
        self.assertAlmostEqual(self.internet.seconds(), 1.06, 2)

    def test_synAckLoss(self) -> None:
        """
        A lost SYN+ACK is sent again as well, and a lost ACK of it does not matter.
        """
        for cutAt in (0.025, 0.05):
            self.build(Link(latency=0.02))
            connecting = self.connecting()
            self.internet.advance(cutAt)
            self.uplink.cut()
            self.internet.advance(0.3)
            self.uplink.restore()
            client = self.internet.runUntil(connecting)
            client.transport.write(b"hello")
            self.internet.advance(5.0)
            self.assertEqual(self.accepted[-1].data, b"hello")


class BreakTests(StreamCase):
    """
    What happens to connections when links, hosts and NATs fail.
    """

    def test_shortCut(self) -> None:
        """
        A connection survives a cut of its link for half a minute.
        """
        client, server = self.connect()
        self.uplink.cut()
        client.transport.write(b"patience")
        self.internet.advance(30.0)
        self.uplink.restore()
        self.internet.advance(60.0)
        self.assertEqual((server.data, client.lost), (b"patience", None))

    def test_longCut(self) -> None:
        """
        It ends when nothing has come back for long; whoever is silent does not notice.
        """
        client, server = self.connect()
        self.uplink.cut()
        client.transport.write(b"hello?")
        self.internet.advance(300.0)
        self.assertIsNone(client.lost)
        self.internet.advance(1500.0)
        self.assertIs(client.reason, ConnectionLost)
        self.assertIsNone(server.lost)

    def test_unreachable(self) -> None:
        """
        Connecting to where nobody is ends with the endpoint's timeout, or with TCP's own.
        """
        self.uplink.cut()
        with self.assertRaises(TimeoutError):
            self.internet.runUntil(self.connecting(), 31.0)
        with self.assertRaises(TCPTimedOutError):
            self.internet.runUntil(self.connecting(timeout=1000.0), 1000.0)

    def test_orphan(self) -> None:
        """
        A socket that was closed goes on sending for a while, and then gives up.
        """
        client, server = self.connect()
        self.uplink.cut()
        client.transport.write(b"last words")
        client.transport.loseConnection()
        self.internet.advance(1.0)
        self.assertIs(client.reason, ConnectionDone)
        self.uplink.restore()
        self.internet.advance(10.0)
        self.assertEqual((server.data, server.reason), (b"last words", ConnectionDone))

    def test_orphanForgotten(self) -> None:
        """
        What a closed socket could not send is given up in the end.
        """
        client, _ = self.connect()
        self.uplink.cut()
        client.transport.write(b"never")
        client.transport.loseConnection()
        self.internet.advance(1000.0)
        sent = self.client.counters.packetsSent
        self.internet.advance(1000.0)
        self.assertEqual(self.client.counters.packetsSent, sent)

    def test_halfClosedOrphan(self) -> None:
        """
        A peer that never closes its half is not waited for for ever; what it sends then is reset.
        """
        client, server = self.connect()
        server.transport.stopReading()
        client.transport.loseConnection()
        self.internet.advance(100.0)
        self.assertIsNone(server.lost)
        server.transport.write(b"are you there?")
        server.transport.startReading()
        self.internet.advance(5.0)
        self.assertIs(server.reason, ConnectionDone)

    def test_dataForOrphan(self) -> None:
        """
        Data for a socket that was closed is answered with a RST.
        """
        client, server = self.connect()
        client.transport.loseConnection()
        server.transport.write(b"crossing")
        self.internet.advance(5.0)
        self.assertIs(client.reason, ConnectionDone)
        self.assertIsNotNone(server.lost)
        self.assertIn("[RST+ACK]", self.internet.trace.text())

    def test_zeroWindow(self) -> None:
        """
        A reader that pauses for an hour stops its writer, and a lost window update does not stop
        it for ever.
        """
        client, server = self.connect()
        server.transport.pauseProducing()
        client.transport.write(b"x" * 2_000_000)
        self.internet.advance(3600.0)
        self.assertEqual((len(server.data), client.lost), (0, None))
        self.uplink.cut()
        server.transport.resumeProducing()
        self.internet.advance(1.0)
        self.uplink.restore()
        self.internet.advance(300.0)
        self.assertEqual(len(server.data), 2_000_000)


class NATTests(StreamCase):
    """
    TCP through routers.
    """

    def test_translated(self) -> None:
        """
        The server sees the router.
        """
        self.build(Link(), nat=NAT())
        _, server = self.connect()
        self.assertEqual(server.transport.getPeer().host, "203.0.113.1")

    def test_rebootSilent(self) -> None:
        """
        After a reboot the connection is dead: a router that drops lets it hang until it times out.
        """
        self.build(Link(), nat=NAT())
        client, server = self.connect()
        self.home.reboot()
        client.transport.write(b"x")
        server.transport.write(b"y")
        self.internet.advance(60.0)
        self.assertEqual((client.lost, server.lost), (None, None))
        self.internet.advance(2000.0)
        self.assertEqual((client.reason, server.reason), (ConnectionLost, ConnectionLost))

    def test_rebootReset(self) -> None:
        """
        A router that resets tells both sides.
        """
        self.build(Link(), nat=NAT(uninvited=Uninvited.RESET))
        client, server = self.connect()
        self.home.reboot()
        client.transport.write(b"x")
        server.transport.write(b"y")
        self.internet.advance(5.0)
        self.assertEqual((client.reason, server.reason), (ConnectionLost, ConnectionLost))

    def test_refusedFromOutside(self) -> None:
        """
        A connection from outside is silent, unreachable or reset, as the router likes.
        """
        expected = {
            Uninvited.DROP: TimeoutError,
            Uninvited.ICMP: ConnectionRefusedError,
            Uninvited.RESET: ConnectionRefusedError,
            Uninvited.ACCEPT: ConnectionRefusedError,
        }
        for uninvited, error in expected.items():
            self.build(Link(), nat=NAT(uninvited=uninvited))
            endpoint = TCP4ClientEndpoint(self.server, "203.0.113.1", 80)
            with self.assertRaises(error):
                self.internet.runUntil(endpoint.connect(Factory.forProtocol(Stream)))

    def test_lanRouter(self) -> None:
        """
        The router's own address on its LAN refuses.
        """
        self.build(Link(), nat=NAT())
        endpoint = TCP4ClientEndpoint(self.client, "192.168.1.1", 80)
        with self.assertRaises(ConnectionRefusedError):
            self.internet.runUntil(endpoint.connect(Factory.forProtocol(Stream)))


class SimultaneousOpenTests(SynchronousTestCase):
    """
    Both sides connect to each other at once (RFC 9293 section 3.5), through their NATs.
    """

    def meet(self, skew: float, uninvited: Uninvited = Uninvited.DROP) -> list[Any]:
        """
        @param skew: seconds by which one side starts later.
        @return: both streams, or what they failed with.
        """
        internet = Internet(seed=9)
        internet.showOnFailure(self)
        nat = NAT(uninvited=uninvited)
        hosts = [
            internet.router(f"home {n}", f"203.0.113.{n}", nat=nat).host(f"host {n}")
            for n in (1, 2)
        ]
        attempts = []
        for number, host in enumerate(hosts):
            attempts.append(self.dial(host, f"203.0.113.{2 - number}"))
            internet.advance(skew)
        results = internet.runUntil(DeferredList(attempts, consumeErrors=True))
        ends = [result for _, result in results]
        if all(isinstance(end, Stream) for end in ends):
            ends[0].transport.write(b"to two")
            ends[1].transport.write(b"to one")
            internet.advance(1.0)
        return ends

    def dial(self, host: Host, to: str) -> Deferred[Any]:
        """
        @return: fires with a stream from port 7000 to port 7000.
        """
        binding: Any = tcp.makeBinding(host.address, 7000, reuseAddress=True, reusePort=True)
        endpoint = TCP4ClientEndpoint(host, to, 7000, 20, binding)
        return endpoint.connect(Factory.forProtocol(Stream))

    def test_crossing(self) -> None:
        """
        SYNs that cross make one connection.
        """
        one, two = self.meet(0.0)
        self.assertEqual((one.data, two.data), (b"to one", b"to two"))

    def test_skew(self) -> None:
        """
        So do SYNs of which the first was dropped, when it is sent again.
        """
        for skew in (0.3, 2.5):
            one, two = self.meet(skew)
            self.assertEqual((one.data, two.data), (b"to one", b"to two"))

    def test_resets(self) -> None:
        """
        Routers that reset end the first attempt at once.
        """
        one, _ = self.meet(0.3, Uninvited.RESET)
        self.assertTrue(one.check(ConnectionRefusedError))

    def test_sharedWithListener(self) -> None:
        """
        A listener may share the port with connections that are opened from it.
        """
        internet = Internet(seed=9)
        hosts = [internet.host(f"host {n}", f"192.0.2.{n}") for n in (1, 2)]
        accepted: list[Stream] = []
        for host in hosts:
            factory: Any = Factory.forProtocol(Stream)
            factory.streams = accepted
            binding: Any = tcp.makeBinding(host.address, 7000, True, True)
            host.listenTCP(binding, factory, 50, host.address)
        attempts = [self.dial(host, f"192.0.2.{2 - n}") for n, host in enumerate(hosts)]
        results = internet.runUntil(DeferredList(attempts, consumeErrors=True))
        streams = [result for _, result in results]
        self.assertTrue(all(isinstance(stream, Stream) for stream in streams), streams)
        self.assertEqual(accepted, [])


class ListenerTests(StreamCase):
    """
    Listening, and ports that are used again.
    """

    def test_backlog(self) -> None:
        """
        SYNs that find the backlog full are dropped, and come again.
        """
        port = self.listen(81, backlog=1)
        port.stopReading()
        attempts = [self.connecting(81) for _ in range(4)]
        self.internet.advance(0.5)
        self.assertEqual(sum(attempt.called for attempt in attempts), 2)
        self.assertEqual(self.server.counters.dropped["the backlog is full"], 2)
        port.startReading()
        for attempt in attempts:
            self.internet.runUntil(attempt)

    def test_stopWhileWaiting(self) -> None:
        """
        Connections that nobody accepts any more are reset.
        """
        port = self.listen(81)
        port.stopReading()
        client = self.internet.runUntil(self.connecting(81))
        self.internet.advance(0.1)
        late = self.connecting(81)
        self.internet.advance(0.03)
        self.internet.runUntil(port.stopListening())
        crossed = self.internet.runUntil(late)
        self.internet.advance(1.0)
        self.assertEqual((client.reason, crossed.reason), (ConnectionLost, ConnectionLost))

    def test_portAgain(self) -> None:
        """
        A client may use a port again right after it has closed a connection from it.
        """
        binding: Any = tcp.makeBinding("192.0.2.2", 7000, reuseAddress=True)
        endpoint = TCP4ClientEndpoint(self.client, SERVER, 80, 30, binding)
        for _ in range(3):
            server: Any
            client: Any = self.internet.runUntil(endpoint.connect(Factory.forProtocol(Stream)))
            self.internet.advance(0.1)
            server = self.accepted.pop()
            server.transport.loseConnection()
            self.internet.advance(1.0)
            self.assertIs(client.reason, ConnectionDone)

    def test_strangers(self) -> None:
        """
        Segments of no connection are reset, and a RST is not answered.
        """
        client, server = self.connect()
        self.client.cutPower()
        server.transport.write(b"anybody?")
        self.internet.advance(5.0)
        self.assertIs(server.reason, ConnectionLost)
        resets = [e for e in self.internet.trace if "[RST]" in str(e) and e.what == "sent"]
        self.assertEqual(len(resets), 1)
        self.assertIsNone(client.lost)


class TLSTests(SynchronousTestCase):
    """
    TLS runs over simulated connections as it is.
    """

    def test_echo(self) -> None:
        """
        C{listenSSL} and C{connectSSL} carry data under a certificate.
        """
        from tests.sim.certificates import selfSigned

        internet = Internet()
        server, client = internet.host("s", SERVER), internet.host("c", "192.0.2.2")
        accepted: list[Stream] = []
        factory: Any = Factory.forProtocol(Stream)
        factory.streams = accepted
        server.listenSSL(443, factory, selfSigned(), 50, "")
        connected: Deferred[Any] = Deferred()

        class Opening(Stream):
            def connectionMade(self) -> None:
                connected.callback(self)

        clientFactory: Any = Factory.forProtocol(Opening)
        clientFactory.noisy = False
        for name in ("startedConnecting", "clientConnectionLost", "clientConnectionFailed"):
            setattr(clientFactory, name, lambda *arguments: None)
        options: Any = CertificateOptions()
        client.connectSSL(SERVER, 443, clientFactory, options, 30, None)
        stream = internet.runUntil(connected)
        stream.transport.write(b"secret")
        internet.advance(1.0)
        self.assertEqual(accepted[0].data, b"secret")
        self.assertNotIn(b"secret", internet.capture())
