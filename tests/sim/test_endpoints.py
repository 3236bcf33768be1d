"""
Endpoints on the simulated Internet: descriptions, the shared peer, and Twisted's own protocols
over them, unchanged.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.application.internet import ClientService, StreamServerEndpointService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import CannotListenError, ConnectError, ConnectionDone, NoProtocol
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Cooperator
from twisted.protocols import amp
from twisted.protocols.portforward import ProxyFactory
from twisted.spread import pb
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import (
    IdentityUnusable,
    PeerUnreachable,
    PortUnusable,
    RendezvousUnreachable,
    StreamRefused,
)
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.endpoints import PeerServerEndpoint
from p2ptwist.peer.identity import generateIdentity, loadOrCreateIdentity
from p2ptwist.peer.ping import PING_SERVICE
from p2ptwist.peer.shared import SharedPort
from p2ptwist.testing import NAT, Host, Link
from tests.sim.neighborhood import LINK_PORT, NODE, Neighborhood

RENDEZVOUS = rf"tcp\:{NODE}\:{LINK_PORT}"
LARGE = bytes(range(256)) * 4096  # 1 MiB: more than any buffer holds


class Recorder(Protocol):
    """
    Keeps what comes, and answers what it is told to.

    @ivar ended: fires with the reason.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[tuple[Any]] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        """
        Keep the reason, which is no error here.
        """
        self.ended.callback((reason.value,))


class Echo(Protocol):
    """
    The echo server of Twisted's tutorial.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """
        Send it back.
        """
        self.transport.write(data)


class Balanced(Factory):
    """
    A factory that knows how often it was started and stopped.

    @ivar uses: starts without stops.
    @ivar starts: how often it was started.
    @ivar made: the protocols.
    """

    noisy = False

    def __init__(self, protocol: Any = Recorder) -> None:
        self.made: list[Any] = []
        self.uses = 0
        self.starts = 0
        self._protocol = protocol

    def doStart(self) -> None:
        """
        Count it.
        """
        self.uses += 1
        self.starts += 1
        super().doStart()

    def doStop(self) -> None:
        """
        Count it.
        """
        self.uses -= 1
        super().doStop()

    def buildProtocol(self, addr: Any) -> Any:
        """
        Make one, unless there is nothing to make.
        """
        self.address = addr
        if self._protocol is None:
            return None
        self.made.append(self._protocol())
        return self.made[-1]


class EndpointCase(SynchronousTestCase):
    """
    Bob listens and Alice connects, each at home.
    """

    def setUp(self) -> None:
        """
        Make a node and two homes.
        """
        self.world = Neighborhood(seed=23)
        self.internet = self.world.internet
        self.internet.showOnFailure(self)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.hosts: list[Host] = []
        self.alice, self.bob = self.home("alice"), self.home("bob")
        self.bobsID = loadOrCreateIdentity(self.key("bob")).peerID
        self.addCleanup(self.nothingLeft)

    def home(self, name: str) -> Host:
        """
        @return: a host behind a router.
        """
        number = len(self.hosts) + 1
        router = self.internet.router(
            f"{name}'s home", f"203.0.113.{number}", nat=NAT(), link=Link(latency=0.02)
        )
        self.hosts.append(router.host(name))
        return self.hosts[-1]

    def key(self, name: str) -> str:
        """
        @return: the identity file of somebody.
        """
        return str(self.folder / f"{name}.key")

    def client(self, service: str = "echo", peerID: str | None = None, name: str = "alice") -> Any:
        """
        @return: Alice's endpoint of a service of Bob's.
        """
        return clientFromString(
            self.alice,
            f"p2p:{peerID or self.bobsID}:service={service}"
            f":rendezvous={RENDEZVOUS}:identity={self.key(name)}",
        )

    def server(self, service: str = "echo", rendezvous: str = RENDEZVOUS) -> Any:
        """
        @return: Bob's endpoint.
        """
        return serverFromString(
            self.bob, f"p2p:service={service}:rendezvous={rendezvous}:identity={self.key('bob')}"
        )

    def listen(self, factory: Any, service: str = "echo") -> Any:
        """
        @return: Bob's port, once others can reach it.  It is closed at the end.
        """
        port = self.successResultOf(self.server(service).listen(factory))
        self.addCleanup(port.stopListening)
        self.internet.advance(1.0)
        return port

    def wait(self, deferred: Any, timeout: float = 30.0) -> Any:
        """
        Let time pass until C{deferred} fires.
        """
        return self.internet.runUntil(deferred, timeout=timeout)

    def nothingLeft(self) -> None:
        """
        Once all connections and ports are closed, nothing is left of any peer.
        """
        self.internet.advance(20.0)
        for host in self.hosts:
            self.assertEqual(list(host.getDelayedCalls()), [], host.name)


class DescriptionTests(EndpointCase):
    """
    What descriptions mean, over a link and a direct path.
    """

    def test_echo(self) -> None:
        """
        An unchanged protocol echoes to another; each sees the other's peer ID as its address.
        """
        serverFactory, clientFactory = Balanced(Echo), Balanced()
        port = self.listen(serverFactory)
        self.assertEqual(port.getHost(), PeerAddress(self.bobsID, "echo"))
        protocol = self.wait(self.client().connect(clientFactory))
        protocol.transport.write(b"hello")
        self.internet.advance(3.0)
        self.assertEqual(protocol.received, b"hello")
        self.assertEqual(protocol.transport.getPeer().peerID, self.bobsID)
        self.assertEqual(protocol.transport.getPeer().kind, "direct")
        aliceID = loadOrCreateIdentity(self.key("alice")).peerID
        self.assertEqual(serverFactory.address.peerID, aliceID)
        self.assertEqual((clientFactory.uses, serverFactory.uses), (1, 1))
        protocol.transport.loseConnection()
        (reason,) = self.wait(protocol.ended)
        self.assertIsInstance(reason, ConnectionDone)
        self.assertEqual((clientFactory.uses, clientFactory.starts), (0, 1))
        self.internet.advance(1.0)
        self.wait(port.stopListening())
        self.assertEqual((serverFactory.uses, serverFactory.starts), (0, 1))
        self.assertIsNone(port.stopListening())

    def test_environment(self) -> None:
        """
        Node and identity may stand in the environment.
        """
        environment = {
            "P2PTWIST_RENDEZVOUS": f"tcp:192.0.2.99:1,tcp:{NODE}:{LINK_PORT}",
            "P2PTWIST_IDENTITY": self.key("bob"),
        }
        self.patch(os, "environ", environment)
        endpoint = serverFromString(self.bob, "p2p:service=echo")
        port = self.successResultOf(endpoint.listen(Balanced(Echo)))
        self.addCleanup(port.stopListening)
        self.internet.advance(1.0)
        environment["P2PTWIST_IDENTITY"] = self.key("alice")
        endpoint = clientFromString(self.alice, f"p2p:{self.bobsID}:service=echo")
        protocol = self.wait(endpoint.connect(Balanced()))
        protocol.transport.loseConnection()

    def test_ping(self) -> None:
        """
        Whoever listens can be pinged.
        """
        self.listen(Balanced(Echo))
        protocol = self.wait(self.client(PING_SERVICE).connect(Balanced()))
        protocol.transport.write(LARGE)
        self.internet.advance(5.0)
        self.assertEqual(protocol.received, LARGE)
        protocol.transport.loseWriteConnection()
        self.wait(protocol.ended)

    def test_ownPing(self) -> None:
        """
        A program that offers that service itself is asked, and the peer stops with its last port.
        """
        port, _ = self.listen(Balanced(Echo), PING_SERVICE), self.listen(Balanced(Echo), "other")
        protocol = self.wait(self.client(PING_SERVICE).connect(Balanced()))
        protocol.transport.loseConnection()
        self.wait(protocol.ended)
        self.assertIsNone(port.stopListening())

    def test_everythingArrives(self) -> None:
        """
        Who writes, closes and is gone has lost nothing, on a line that loses.
        """
        server = Balanced()
        self.listen(server)
        self.internet.routers["alice's home"].link.config = Link(latency=0.02, loss=0.05)
        for _ in range(10):
            protocol = self.wait(self.client().connect(Balanced()))
            protocol.transport.write(LARGE[:100_000])
            protocol.transport.loseConnection()
            self.internet.advance(10.0)
            self.assertEqual(server.made[-1].received, LARGE[:100_000])
            (reason,) = self.successResultOf(server.made[-1].ended)
            self.assertIsInstance(reason, ConnectionDone)
            self.assertEqual(list(self.alice.getDelayedCalls()), [])

    def test_interfaces(self) -> None:
        """
        Endpoints and ports are what Twisted takes them for, and say what they are.
        """
        self.assertTrue(verifyObject(IStreamClientEndpoint, self.client()))
        self.assertTrue(verifyObject(IStreamServerEndpoint, self.server()))
        self.assertEqual(repr(self.client()), f"<p2p:{self.bobsID}:service=echo>")
        self.assertEqual(repr(self.server()), "<p2p:service=echo>")
        port = self.listen(Balanced(Echo))
        port.startListening()
        self.assertTrue(verifyObject(IListeningPort, port))
        self.assertIsInstance(port, SharedPort)

    def test_cancelled(self) -> None:
        """
        A connect that is cancelled ends at once, at whatever stage, and leaves nothing behind.
        """
        self.listen(Balanced(Echo))
        for delay in (0.0, 0.06, 0.12, 0.16):
            factory = Balanced()
            connecting = self.client().connect(factory)
            self.internet.advance(delay)
            connecting.cancel()
            self.failureResultOf(connecting).trap(CancelledError, ConnectError)
            self.assertEqual((factory.uses, factory.made), (0, []))
            self.internet.advance(5.0)
            self.assertEqual(list(self.alice.getDelayedCalls()), [])

    def test_noSuchPeer(self) -> None:
        """
        A peer that is not at the node is an error of connecting.
        """
        unknown = generateIdentity().peerID
        factory = Balanced()
        error = self.assertRaises(
            ConnectError, self.wait, self.client(peerID=unknown).connect(factory)
        )
        self.assertIsInstance(error, PeerUnreachable)
        self.assertEqual(factory.uses, 0)

    def test_noSuchService(self) -> None:
        """
        A service that a peer does not offer ends the stream, with a reason that says so.
        """
        self.listen(Balanced(Echo))
        protocol = self.wait(self.client("chess").connect(Balanced()))
        (reason,) = self.wait(protocol.ended)
        self.assertIsInstance(reason, StreamRefused)
        self.assertIn("'chess'", str(reason))

    def test_ownPeer(self) -> None:
        """
        A program cannot connect to itself.
        """
        connecting = self.client(name="bob").connect(Balanced())
        self.assertIn("own peer ID", str(self.failureResultOf(connecting, LocalUsageError).value))

    def test_noProtocol(self) -> None:
        """
        A factory that makes none fails the connect, and opens no stream; one that makes none for
        a caller refuses it.
        """
        server = Balanced(Echo)
        self.listen(server)
        factory = Balanced(None)
        self.assertRaises(NoProtocol, self.wait, self.client().connect(factory))
        self.assertEqual(factory.uses, 0)
        self.internet.advance(1.0)
        self.assertEqual(server.made, [])
        self.listen(Balanced(None), "none")
        protocol = self.wait(self.client("none").connect(Balanced()))
        (reason,) = self.wait(protocol.ended)
        self.assertIsInstance(reason, StreamRefused)

    def test_nodeNotThere(self) -> None:
        """
        Without a node connecting fails, and listening goes on trying.
        """
        nowhere = r"tcp\:192.0.2.99\:8470"
        endpoint = clientFromString(
            self.alice,
            f"p2p:{self.bobsID}:service=echo:rendezvous={nowhere}:identity={self.key('alice')}",
        )
        self.assertRaises(RendezvousUnreachable, self.wait, endpoint.connect(Balanced()))
        port = self.successResultOf(self.server(rendezvous=nowhere).listen(Balanced(Echo)))
        self.internet.advance(30.0)
        self.wait(port.stopListening())

    def test_severalNodes(self) -> None:
        """
        Connecting fails when no node can be reached, and works when one can.
        """
        nowhere = r"tcp\:192.0.2.99\:8470"
        self.listen(Balanced(Echo))
        for nodes, reached in (
            (rf"{nowhere},tcp\:192.0.2.98\:1", False),
            (f"{nowhere},{RENDEZVOUS}", True),
        ):
            endpoint = clientFromString(
                self.alice,
                f"p2p:{self.bobsID}:service=echo:rendezvous={nodes}:identity={self.key('alice')}",
            )
            connecting = endpoint.connect(Balanced())
            if reached:
                self.wait(connecting).transport.loseConnection()
            else:
                self.assertRaises(RendezvousUnreachable, self.wait, connecting)
            self.internet.advance(5.0)


class SharingTests(EndpointCase):
    """
    One peer for each identity of a program.
    """

    def test_oneLink(self) -> None:
        """
        Two connections and a port of one identity share a link and a session.
        """
        self.listen(Balanced(Echo))
        first = self.wait(self.client().connect(Balanced()))
        proven = self.world.service.counters.proven
        second = self.wait(self.client().connect(Balanced()), timeout=0.001)
        self.assertEqual(self.world.service.counters.proven, proven)
        first.transport.loseConnection()
        self.internet.advance(5.0)
        second.transport.write(b"still here")
        self.internet.advance(1.0)
        self.assertEqual(second.received, b"still here")
        second.transport.loseConnection()

    def test_again(self) -> None:
        """
        Whoever connects from within the end of the last connection keeps the peer; whoever
        connects while it stops waits for that, and gets a new one.
        """
        self.listen(Balanced(Echo))
        protocol = self.wait(self.client().connect(Balanced()))
        proven = self.world.service.counters.proven
        again: list[Any] = []
        protocol.ended.addCallback(lambda _: again.append(self.client().connect(Balanced())))
        protocol.transport.loseConnection()
        self.internet.advance(1.0)
        kept = self.successResultOf(again[0])
        self.assertEqual(self.world.service.counters.proven, proven)
        kept.transport.loseConnection()
        self.wait(kept.ended)
        self.internet.advance(0.01)
        new = self.wait(self.client().connect(Balanced()))
        self.assertEqual(self.world.service.counters.proven, proven + 1)
        new.transport.loseConnection()

    def test_portKeepsThePeer(self) -> None:
        """
        A peer with a port goes on when its last connection ends, and a connection outlives the
        port that it came to.
        """
        port = self.listen(Balanced(Echo))
        protocol = self.wait(self.client().connect(Balanced()))
        self.internet.advance(1.0)
        self.assertIsNone(port.stopListening())
        protocol.transport.write(b"hello")
        self.internet.advance(1.0)
        self.assertEqual(protocol.received, b"hello")
        refused = self.wait(self.client().connect(Balanced()))
        (reason,) = self.wait(refused.ended)
        self.assertIsInstance(reason, StreamRefused)
        protocol.transport.loseConnection()
        self.internet.advance(5.0)
        self.assertEqual(list(self.bob.getDelayedCalls()), [])

    def test_twoServices(self) -> None:
        """
        One peer offers several services, each once.
        """
        self.listen(Balanced(Echo))
        port = self.listen(Balanced(Recorder), "recorder")
        again = self.server().listen(Balanced(Echo))
        failure = self.failureResultOf(again, CannotListenError)
        self.assertIn("a service 'echo' already", str(failure.value))
        self.assertIsNone(port.stopListening())
        self.wait(self.client().connect(Balanced())).transport.loseConnection()

    def test_otherNodes(self) -> None:
        """
        One identity cannot be at different nodes in one program.
        """
        self.listen(Balanced(Echo))
        listening = self.server("chess", r"tcp\:192.0.2.99\:8470").listen(Balanced(Echo))
        failure = self.failureResultOf(listening, LocalUsageError)
        self.assertIn("other rendezvous nodes already", str(failure.value))

    def test_portUnusable(self) -> None:
        """
        When no UDP port can be opened listening fails at once, and can be tried again.
        """
        listenUDP = self.patch(self.bob, "listenUDP", self.refuse)
        self.failureResultOf(self.server().listen(Balanced(Echo)), PortUnusable)
        listenUDP.restore()
        self.listen(Balanced(Echo))

    def refuse(self, port: int, *ignored: object) -> None:
        """
        Have no port.
        """
        raise CannotListenError("", port, OSError("all are in use"))


class Sum(amp.Command):
    """
    Add two numbers.
    """

    arguments = [(b"a", amp.Integer()), (b"b", amp.Integer())]  # noqa: RUF012
    response = [(b"total", amp.Integer())]  # noqa: RUF012


class Calculator(amp.AMP):
    """
    Adds.
    """

    @Sum.responder
    def sum(self, a: int, b: int) -> dict[str, int]:
        """
        Do it.
        """
        return {"total": a + b}


class Books(pb.Root):
    """
    A Perspective Broker server.
    """

    def remote_count(self, titles: list[str]) -> int:
        """
        @return: how many there are.
        """
        return len(titles)


class Page(Resource):
    """
    A page that gives back what it is sent.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """
        @return: where it was asked for.
        """
        return b"you asked for " + bytes(request.path)

    def render_POST(self, request: Any) -> bytes:
        """
        @return: the body.
        """
        return bytes(request.content.read())


@implementer(IAgentEndpointFactory)
class PeerEndpoints:
    """
    Where an C{Agent} finds the peer of a URL.
    """

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: Any) -> Any:
        """
        @return: the same for every URL.
        """
        return self._endpoint


class UnchangedTests(EndpointCase):
    """
    What Twisted brings works over an endpoint as it is.
    """

    def test_amp(self) -> None:
        """
        AMP: calls in both directions.
        """
        server = Balanced(Calculator)
        self.listen(server)
        client = self.wait(self.client().connect(Balanced(Calculator)))
        self.assertEqual(self.wait(client.callRemote(Sum, a=2, b=3)), {"total": 5})
        back = server.made[0].callRemote(Sum, a=20, b=30)
        self.assertEqual(self.wait(back), {"total": 50})
        client.transport.loseConnection()

    def test_web(self) -> None:
        """
        C{twisted.web}: a site, and an agent that asks twice over one connection and sends more
        than fits into buffers.
        """
        self.listen(Site(Page(), reactor=self.bob), "www")
        pool = HTTPConnectionPool(self.alice)
        agent = Agent.usingEndpointFactory(self.alice, PeerEndpoints(self.client("www")), pool)
        asked = self.wait(agent.request(b"GET", b"http://bob/hello"))
        self.assertEqual(self.wait(readBody(asked)), b"you asked for /hello")
        body = FileBodyProducer(BytesIO(LARGE), cooperator=cooperator(self.alice))
        sent = self.wait(agent.request(b"POST", b"http://bob/", Headers(), body))
        self.assertEqual(self.wait(readBody(sent)), LARGE)
        self.wait(pool.closeCachedConnections())

    def test_perspectiveBroker(self) -> None:
        """
        Perspective Broker: a remote method of the root object.
        """
        self.listen(pb.PBServerFactory(Books()), "books")
        factory = pb.PBClientFactory()
        getting = factory.getRootObject()
        self.wait(self.client("books").connect(factory))
        root = self.wait(getting)
        self.assertEqual(self.wait(root.callRemote("count", ["Ulysses", "Emma"])), 2)
        factory.disconnect()

    def test_services(self) -> None:
        """
        C{StreamServerEndpointService} serves, and C{ClientService} comes back when its
        connection was ended.
        """
        server = Balanced(Recorder)
        serving = StreamServerEndpointService(self.server(), server)
        serving.startService()
        self.internet.advance(1.0)
        client = ClientService(
            self.client(), Balanced(Recorder), retryPolicy=lambda _: 1.0, clock=self.alice
        )
        client.startService()
        self.wait(client.whenConnected())
        self.internet.advance(1.0)
        server.made[0].transport.loseConnection()
        self.internet.advance(5.0)
        self.assertEqual(len(server.made), 2)
        self.wait(client.stopService())
        self.wait(serving.stopService())

    def test_proxy(self) -> None:
        """
        C{twisted.protocols.portforward} to a TCP server: each connection paces the other, and ends
        with it.
        """
        self.listenProxy()
        protocol = self.wait(self.client("proxy").connect(Balanced()))
        protocol.transport.write(LARGE)
        self.internet.advance(10.0)
        self.assertEqual(protocol.received, LARGE)
        protocol.transport.loseWriteConnection()
        self.wait(protocol.ended)

    def listenProxy(self) -> None:
        """
        Have Bob forward connections to an echo server on his own host.
        """
        host: Any = self.bob
        echo = host.listenTCP(7000, Balanced(Echo))
        self.addCleanup(echo.stopListening)
        factory = ProxyFactory("127.0.0.1", 7000)
        self.patch(factory.protocol, "reactor", host)
        self.listen(factory, "proxy")


def cooperator(clock: Any) -> Cooperator:
    """
    @return: a cooperator that works in the time of a simulated host.
    """
    return Cooperator(scheduler=lambda call: clock.callLater(0.001, call))


class WordsTests(SynchronousTestCase):
    """
    Descriptions that mean nothing.
    """

    def setUp(self) -> None:
        """
        Have an identity, and an empty environment.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        self.identity = str(folder / "key")
        self.peerID = loadOrCreateIdentity(self.identity).peerID
        self.patch(os, "environ", {})

    def refusal(self, make: Any, description: str) -> str:
        """
        @return: why the description is refused.
        """
        return str(self.assertRaises(ValueError, make, object(), description))

    def test_client(self) -> None:
        """
        Each mistake in a client's description is named.
        """
        rest = f":identity={self.identity}:rendezvous=tcp\\:node.example\\:8470"
        for words, complaint in (
            ("p2p:service=x" + rest, "write p2p:PEER-ID:service=NAME"),
            (f"p2p:{self.peerID}" + rest, "a service has to be named"),
            (f"p2p:{self.peerID}:service=" + rest, "a service's name has 1 to 64 bytes"),
            ("p2p:bob:service=x" + rest, "'bob' is not a peer ID"),
            (f"p2p:{self.peerID}:service=x:colour=red" + rest, "colour: not known here"),
            (f"p2p:{self.peerID}:service=x", "no rendezvous node is named"),
            (f"p2p:{self.peerID}:service=x:rendezvous=node", "is not the endpoint of a rendez"),
        ):
            self.assertIn(complaint, self.refusal(clientFromString, words))

    def test_server(self) -> None:
        """
        Each mistake in a server's description is named.
        """
        rest = f":identity={self.identity}:rendezvous=tcp\\:node.example\\:8470"
        for words, complaint in (
            (f"p2p:{self.peerID}:service=x" + rest, "write p2p:service=NAME"),
            ("p2p:" + "service=" + "x" * 65 + rest, "a service's name has 1 to 64 bytes"),
            ("p2p:interface=eth0:service=x" + rest, "interface: not known here"),
        ):
            self.assertIn(complaint, self.refusal(serverFromString, words))

    def test_identity(self) -> None:
        """
        A file that is no identity is refused, and one that is not there is made.
        """
        Path(self.identity).write_bytes(b"")
        words = f"p2p:service=x:identity={self.identity}:rendezvous=tcp\\:node.example\\:8470"
        self.assertRaises(IdentityUnusable, serverFromString, object(), words)
        Path(self.identity).unlink()
        self.assertIsInstance(serverFromString(object(), words), PeerServerEndpoint)
        self.assertTrue(Path(self.identity).exists())
