"""
Tests for L{p2ptwist.net.stunstreams}, on a host of the simulated Internet.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.stun.binding import (
    CHANGE_PORT,
    bindingRequest,
    otherAddress,
    reflexiveAddress,
)
from p2ptwist.core.stun.framing import MessageSplitter
from p2ptwist.core.stun.limits import UNLIMITED, STUNLimits
from p2ptwist.core.stun.message import decode
from p2ptwist.core.tokenbucket import Rate
from p2ptwist.net import stunstreams
from p2ptwist.net.stunstreams import (
    LIFETIME,
    REQUEST_LIMIT,
    STUNStreamService,
)
from p2ptwist.testing import Internet

PRIMARY, ALTERNATE = ("192.0.2.1", 3478), ("192.0.2.2", 3479)
ID = bytes(range(12))


class Client(Protocol):
    """
    A connection to the server.

    @ivar answers: what came, as messages.
    @ivar lost: whether it is closed.
    """

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.lost = False
        self._splitter = MessageSplitter()

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.answers += self._splitter.feed(data)

    def connectionLost(self, reason: object = None) -> None:
        """
        Note it.
        """
        self.lost = True


class StreamsTests(SynchronousTestCase):
    """
    STUN over TCP.
    """

    def setUp(self) -> None:
        """
        Make a server and a host to ask from.
        """
        self.internet = Internet(seed=1)
        self.internet.showOnFailure(self)
        self.node = self.internet.host("node", PRIMARY[0], ALTERNATE[0])
        self.host = self.internet.host("alice", "198.51.100.9")

    def serve(
        self, alternate: HostPort | None = ALTERNATE, limits: STUNLimits | None = None
    ) -> STUNStreamService:
        """
        @return: a running server.
        """
        service = STUNStreamService(self.node, PRIMARY, alternate, limits)
        service.privilegedStartService()
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def connect(self, server: HostPort = PRIMARY) -> Client:
        """
        @return: a connection.
        """
        endpoint = TCP4ClientEndpoint(self.host, *server)
        client: Any = self.internet.runUntil(endpoint.connect(Factory.forProtocol(Client)), 5.0)
        assert isinstance(client, Client)
        return client

    def ask(self, client: Client, data: bytes) -> None:
        """
        Send something, and wait for an answer.
        """
        transport: Any = client.transport
        transport.write(data)
        self.internet.advance(0.5)

    def test_everyAddress(self) -> None:
        """
        Each address answers, with the client's address and its own other one.
        """
        service = self.serve()
        self.assertEqual(len(service.addresses), 4)
        for address in service.addresses:
            client = self.connect(address)
            self.ask(client, bindingRequest(ID))
            message = decode(client.answers[0])
            transport: Any = client.transport
            self.assertEqual(reflexiveAddress(message), ("198.51.100.9", transport.getHost().port))
            other = otherAddress(message)
            assert other is not None
            self.assertTrue(other[0] != address[0] and other[1] != address[1])
        self.assertEqual(service.counters.answered, 4)

    def test_several(self) -> None:
        """
        Several requests, cut anywhere, are each answered.
        """
        self.serve(None)
        client = self.connect()
        stream = bindingRequest(ID) * 3
        for start in range(0, len(stream), 7):
            self.ask(client, stream[start : start + 7])
        self.assertEqual(len(client.answers), 3)

    def test_tooMany(self) -> None:
        """
        One connection asks a few times at most.
        """
        service = self.serve(limits=UNLIMITED)
        client = self.connect()
        self.ask(client, bindingRequest(ID) * REQUEST_LIMIT)
        self.assertEqual((len(client.answers), client.lost), (REQUEST_LIMIT, False))
        self.ask(client, bindingRequest(ID))
        self.assertTrue(client.lost)
        self.assertEqual(service.counters.limited, 1)

    def test_notAsked(self) -> None:
        """
        What is no STUN, no request, or asks for an answer from elsewhere or to elsewhere ends the
        connection.
        """
        service = self.serve()
        for data in (
            b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
            b"\1\1" + bindingRequest(ID)[2:],
            bindingRequest(ID, CHANGE_PORT),
            bindingRequest(ID, responsePort=5000),
        ):
            client = self.connect()
            self.ask(client, data)
            self.assertEqual((client.answers, client.lost), ([], True), data)
        self.assertEqual(service.counters.malformed, 1)

    def test_idle(self) -> None:
        """
        Nobody holds a connection for long, whatever comes on it.
        """
        self.serve()
        client = self.connect()
        for _ in range(8):
            self.ask(client, bindingRequest(ID)[:3])
        self.assertTrue(client.lost or LIFETIME > 4)
        self.internet.advance(LIFETIME)
        self.assertTrue(client.lost)

    def test_limited(self) -> None:
        """
        Who connects or asks too often is cut off.
        """
        service = self.serve(limits=STUNLimits(Rate(0.001, 3), None))
        first, second = self.connect(), self.connect()
        self.ask(first, bindingRequest(ID))
        self.assertEqual(len(first.answers), 1)
        self.ask(second, bindingRequest(ID))
        self.assertEqual((second.answers, second.lost), ([], True))
        third = self.connect()
        self.internet.advance(0.5)
        self.assertTrue(third.lost)
        self.assertEqual(service.counters.limited, 2)

    def test_full(self) -> None:
        """
        There are only so many connections; one that ends makes room.
        """
        self.patch(stunstreams, "CONNECTION_LIMIT", 5)
        self.serve(limits=UNLIMITED)
        clients = [self.connect() for _ in range(5)]
        late = self.connect()
        self.internet.advance(0.5)
        self.assertTrue(late.lost)
        transport: Any = clients[0].transport
        transport.abortConnection()
        self.internet.advance(0.5)
        again = self.connect()
        self.ask(again, bindingRequest(ID))
        self.assertEqual(len(again.answers), 1)

    def test_taken(self) -> None:
        """
        A port that somebody else has is left out.
        """
        taken: Any = Factory.forProtocol(Client)
        other = self.node.listenTCP(3478, taken, interface="192.0.2.2")
        service = self.serve()
        self.assertEqual(len(service.addresses), 3)
        other.stopListening()

    def test_stopped(self) -> None:
        """
        A server that stops closes its connections and leaves nothing; it can start again.
        """
        service = self.serve()
        client = self.connect()
        self.internet.runUntil(service.stopService(), 5.0)
        self.internet.advance(0.5)
        self.assertTrue(client.lost)
        self.assertEqual((service.addresses, self.node.getDelayedCalls()), ([], []))
        service.startService()
        self.ask(self.connect(), bindingRequest(ID))
