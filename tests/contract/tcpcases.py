"""
What TCP ports and connections of Twisted do.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.error import (
    CannotListenError,
    ConnectBindError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    UserError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IListeningPort,
    IPullProducer,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.contract.settings import Cases

LARGE = 500_000  # octets: some hundred segments


class Recorder(Protocol):
    """
    Remembers what comes.

    @ivar data: all octets so far.
    @ivar lost: fires with the reason, as a L{Failure} in a list, when the connection is lost.
    """

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[Failure] = Deferred()
        self._waiting: tuple[int, Deferred[None]] | None = None

    @classmethod
    def makeFactory(cls) -> Any:
        """
        @return: a factory whose C{connected} queue gives each protocol that it has made.
        """
        factory: Any = Factory.forProtocol(cls)
        factory.connected = DeferredQueue()
        return factory

    def connectionMade(self) -> None:
        """
        Tell the factory, if it wants to know.
        """
        queue = getattr(self.factory, "connected", None)
        if queue is not None:
            queue.put(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Data has come.
        """
        self.data += data
        if self._waiting is not None and len(self.data) >= self._waiting[0]:
            waiting, self._waiting = self._waiting[1], None
            waiting.callback(None)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        The connection is lost.
        """
        assert reason is not None
        self.lost.callback([reason])  # type: ignore[arg-type]

    def whenReceived(self, count: int) -> Deferred[None]:
        """
        @return: fires once C{count} octets have come.
        """
        done: Deferred[None] = Deferred()
        if len(self.data) >= count:
            done.callback(None)
        else:
            self._waiting = (count, done)
        return done


@implementer(IHalfCloseableProtocol)
class HalfCloser(Recorder):
    """
    Remembers which half was closed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readLost: Deferred[None] = Deferred()
        self.writeLost: Deferred[None] = Deferred()

    def readConnectionLost(self) -> None:
        """
        The other side sends no more.
        """
        self.readLost.callback(None)

    def writeConnectionLost(self) -> None:
        """
        This side sends no more.
        """
        self.writeLost.callback(None)


@implementer(IPushProducer)
class Pusher:
    """
    Writes for as long as it may.

    @ivar pauses: how often it was paused.
    @ivar left: octets that it has still to write.
    """

    def __init__(self, consumer: Any, size: int) -> None:
        self._consumer = consumer
        self._paused = False
        self.pauses = 0
        self.left = size

    def start(self) -> None:
        """
        Register, and begin.
        """
        self._consumer.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """
        Write until paused, or all is written.
        """
        self._paused = False
        while self.left and not self._paused:
            size = min(self.left, 10_000)
            self.left -= size
            self._consumer.write(b"p" * size)
            if not self.left:
                self._consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        """
        Write no more for now.
        """
        self._paused = True
        self.pauses += 1

    def stopProducing(self) -> None:
        """
        Never write again.
        """
        self.left = 0


@implementer(IPullProducer)
class Puller:
    """
    Writes ten pieces, each when asked.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._pieces = 10

    def resumeProducing(self) -> None:
        """
        Write one piece.
        """
        self._consumer.write(b"q" * 1000)
        self._pieces -= 1
        if not self._pieces:
            self._consumer.unregisterProducer()

    def stopProducing(self) -> None:
        """
        Never write again.
        """


class StreamCases(Cases):
    """
    What cases about connections share.
    """

    async def listen(self, factory: Any) -> int:
        """
        @return: the number of a server's port.
        """
        endpoint = TCP4ServerEndpoint(self.server, 0, interface=self.serverAddress)
        port = self.opened(await endpoint.listen(factory))
        number: int = port.getHost().port
        return number

    async def pair(self, kind: type[Recorder] = Recorder) -> tuple[Any, Any]:
        """
        @return: the two ends of a connection: the client's and the server's.
        """
        factory = kind.makeFactory()
        number = await self.listen(factory)
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, number)
        client = await endpoint.connect(Factory.forProtocol(kind))
        return client, await factory.connected.get()

    async def ended(self, protocol: Any, reason: type[Exception]) -> None:
        """
        Wait until C{protocol} has lost its connection because of C{reason}.
        """
        [failure] = await protocol.lost
        self.assertIs(failure.type, reason)

    async def closed(self, client: Any, server: Any) -> None:
        """
        Close a connection from the client's side, and wait for both ends.
        """
        client.transport.loseConnection()
        await self.ended(client, ConnectionDone)
        await self.ended(server, ConnectionDone)


class TCPCases(StreamCases):
    """
    Cases about connecting, transferring and closing.
    """

    async def test_interfaces(self) -> None:
        """
        Connections provide C{ITCPTransport} and C{IConsumer}, ports C{IListeningPort}.
        """
        client, server = await self.pair()
        for end in (client, server):
            self.assertTrue(verifyObject(ITCPTransport, end.transport))
            self.assertTrue(verifyObject(IConsumer, end.transport))
        port = self.opened(self.server.listenTCP(0, Factory(), 50, self.serverAddress))
        self.assertTrue(verifyObject(IListeningPort, port))
        await self.closed(client, server)

    async def test_bothDirections(self) -> None:
        """
        Data goes both ways, and both ends agree on their addresses.
        """
        client, server = await self.pair()
        client.transport.write(b"to the server")
        server.transport.writeSequence([b"to ", b"the client"])
        await server.whenReceived(13)
        await client.whenReceived(13)
        self.assertEqual((server.data, client.data), (b"to the server", b"to the client"))
        here, there = client.transport.getHost(), client.transport.getPeer()
        self.assertEqual(here, IPv4Address("TCP", self.clientAddress, here.port))
        self.assertEqual(there, server.transport.getHost())
        if not self.isTranslated:
            self.assertEqual(here, server.transport.getPeer())
        await self.closed(client, server)

    async def test_loseConnectionSendsAll(self) -> None:
        """
        What was written before C{loseConnection} arrives; both ends see a clean close.
        """
        client, server = await self.pair()
        client.transport.write(b"w" * LARGE)
        client.transport.loseConnection()
        await self.ended(client, ConnectionDone)
        await self.ended(server, ConnectionDone)
        self.assertEqual(server.data, b"w" * LARGE)

    async def test_halfClose(self) -> None:
        """
        After C{loseWriteConnection} the other direction goes on.
        """
        client, server = await self.pair(HalfCloser)
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        await client.writeLost
        await server.readLost
        self.assertEqual(server.data, b"question")
        server.transport.write(b"answer")
        await client.whenReceived(6)
        server.transport.loseConnection()
        await client.readLost
        await self.ended(server, ConnectionDone)
        client.transport.loseConnection()
        await self.ended(client, ConnectionDone)

    async def test_halfCloseOfOthers(self) -> None:
        """
        A protocol that knows nothing of half-close loses its connection when the peer closes half.
        """
        client, server = await self.pair()
        client.transport.loseWriteConnection()
        await self.ended(server, ConnectionDone)
        await self.ended(client, ConnectionDone)

    async def test_backPressure(self) -> None:
        """
        A push producer is paused while the other side does not read, and all arrives in the end.
        """
        client, server = await self.pair()
        server.transport.pauseProducing()
        pusher = Pusher(client.transport, self.plenty)
        pusher.start()
        while not pusher.pauses:
            await self.pause(self.client)
        await self.pause(self.client, 0.2)
        self.assertTrue(pusher.left)
        self.assertEqual(server.data, b"")
        server.transport.resumeProducing()
        await server.whenReceived(self.plenty)
        self.assertEqual(pusher.left, 0)
        await self.closed(client, server)

    async def test_producerStopped(self) -> None:
        """
        A producer is told when the connection is lost.
        """
        client, server = await self.pair()
        server.transport.pauseProducing()
        pusher = Pusher(client.transport, self.plenty)
        pusher.start()
        client.transport.abortConnection()
        await self.ended(client, ConnectionAborted)
        self.assertEqual(pusher.left, 0)
        server.transport.resumeProducing()
        await self.ended(server, ConnectionLost)

    async def test_pullProducer(self) -> None:
        """
        A pull producer is asked for each piece.
        """
        client, server = await self.pair()
        client.transport.registerProducer(Puller(client.transport), False)
        await server.whenReceived(10_000)
        self.assertEqual(server.data, b"q" * 10_000)
        await self.closed(client, server)

    async def test_abort(self) -> None:
        """
        C{abortConnection} resets: this side is told that it aborted, the other that it lost.
        """
        client, server = await self.pair()
        client.transport.write(b"maybe")
        client.transport.abortConnection()
        await self.ended(client, ConnectionAborted)
        await self.ended(server, ConnectionLost)

    async def test_serverAborts(self) -> None:
        """
        The accepting side may reset as well.
        """
        client, server = await self.pair()
        server.transport.abortConnection()
        await self.ended(server, ConnectionAborted)
        await self.ended(client, ConnectionLost)

    async def test_closeWithUnreadData(self) -> None:
        """
        Closing while data waits to be read is a clean close for the peer as well: its system has
        the FIN before the RST.
        """
        client, server = await self.pair()
        server.transport.pauseProducing()
        client.transport.write(b"unread")
        await self.pause(self.client)
        server.transport.loseConnection()
        await self.ended(server, ConnectionDone)
        await self.ended(client, ConnectionDone)

    async def test_errorInProtocol(self) -> None:
        """
        A protocol that raises is logged and loses its connection with what it raised.
        """

        class Clumsy(Recorder):
            def dataReceived(self, data: bytes) -> None:
                raise ValueError(data)

        factory = Clumsy.makeFactory()
        number = await self.listen(factory)
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, number)
        client: Any = await endpoint.connect(Factory.forProtocol(Recorder))
        server = await factory.connected.get()
        client.transport.write(b"x")
        await self.ended(server, ValueError)
        await self.ended(client, ConnectionDone)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_options(self) -> None:
        """
        TCP options are remembered.
        """
        client, server = await self.pair()
        client.transport.setTcpNoDelay(True)
        client.transport.setTcpKeepAlive(1)
        self.assertTrue(client.transport.getTcpNoDelay())
        self.assertTrue(client.transport.getTcpKeepAlive())
        self.assertFalse(server.transport.getTcpKeepAlive())
        await self.closed(client, server)

    async def test_refused(self) -> None:
        """
        Connecting to a port where nobody listens is refused.
        """
        port = self.server.listenTCP(0, Factory(), 50, self.serverAddress)
        number = port.getHost().port
        await port.stopListening()
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, number)
        with self.assertRaises(ConnectionRefusedError):
            await endpoint.connect(Factory.forProtocol(Recorder))

    async def test_connector(self) -> None:
        """
        C{connectTCP} tells its factory of each step, and its connector can disconnect.
        """
        steps: DeferredQueue[str] = DeferredQueue()

        class Observer(ClientFactory[Recorder]):
            protocol = Recorder
            noisy = False

            def startedConnecting(self, connector: object) -> None:
                steps.put("started")

            def clientConnectionLost(self, connector: object, reason: Failure) -> None:
                steps.put(f"lost {type(reason.value).__name__}")

            def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
                steps.put(f"failed {type(reason.value).__name__}")

        factory = Recorder.makeFactory()
        number = await self.listen(factory)
        connector = self.client.connectTCP(self.serverAddress, number, Observer(), 30, None)
        self.assertEqual(await steps.get(), "started")
        server = await factory.connected.get()
        await self.pause(self.client)
        self.assertEqual(connector.state, "connected")
        self.assertEqual(connector.getDestination().port, number)
        connector.disconnect()
        self.assertEqual(await steps.get(), "lost ConnectionDone")
        await self.ended(server, ConnectionDone)
        given = self.client.connectTCP(self.serverAddress, number, Observer(), 30, None)
        given.stopConnecting()
        self.assertEqual([await steps.get() for _ in "12"], ["started", "failed UserError"])

    async def test_cancelled(self) -> None:
        """
        A connection attempt can be cancelled, and leaves nothing behind.
        """
        number = await self.listen(Recorder.makeFactory())
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, number)
        attempt = endpoint.connect(Factory.forProtocol(Recorder))
        failures: list[Failure] = []
        attempt.addErrback(failures.append)
        attempt.cancel()
        await self.pause(self.client)
        self.assertEqual(len(failures), 1)
        self.assertIsNone(failures[0].check(UserError))

    async def test_names(self) -> None:
        """
        Endpoint strings and host name endpoints resolve names.
        """
        factory = Recorder.makeFactory()
        text = f"tcp:0:interface={self.serverAddress}"
        port = self.opened(await serverFromString(self.server, text).listen(factory))
        number = port.getHost().port
        for endpoint in (
            clientFromString(self.client, f"tcp:{self.serverName}:{number}"),
            HostnameEndpoint(self.client, self.serverName, number),
        ):
            client = await endpoint.connect(Factory.forProtocol(Recorder))
            await self.closed(client, await factory.connected.get())


class PortCases(StreamCases):
    """
    Cases about listening and local addresses.
    """

    async def test_portInUse(self) -> None:
        """
        A port that is listened on cannot be listened on again.
        """
        number = await self.listen(Recorder.makeFactory())
        with self.assertRaises(CannotListenError):
            self.server.listenTCP(number, Factory(), 50, self.serverAddress)

    async def test_stopListening(self) -> None:
        """
        A port that was stopped refuses, keeps the connections it has, and can be opened again.
        """
        factory = Recorder.makeFactory()
        port = self.server.listenTCP(0, factory, 50, self.serverAddress)
        number = port.getHost().port
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, number)
        client: Any = await endpoint.connect(Factory.forProtocol(Recorder))
        server = await factory.connected.get()
        await port.stopListening()
        with self.assertRaises(ConnectionRefusedError):
            await endpoint.connect(Factory.forProtocol(Recorder))
        client.transport.write(b"still here")
        await server.whenReceived(10)
        again = self.opened(self.server.listenTCP(number, factory, 50, self.serverAddress))
        self.assertEqual(again.getHost().port, number)
        await self.closed(client, server)

    async def test_bindAddress(self) -> None:
        """
        A client may choose its local port; the same one twice, to the same server, is refused.
        """
        number = await self.listen(factory := Recorder.makeFactory())
        reserved = self.client.listenTCP(0, Factory(), 50, self.clientAddress)
        own = reserved.getHost().port
        await reserved.stopListening()
        binding = (self.clientAddress, own)
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, number, 30, binding)
        client: Any = await endpoint.connect(Factory.forProtocol(Recorder))
        self.assertEqual(client.transport.getHost().port, own)
        with self.assertRaises(ConnectBindError):
            await endpoint.connect(Factory.forProtocol(Recorder))
        await self.closed(client, await factory.connected.get())

    async def test_foreignBindAddress(self) -> None:
        """
        A client cannot use an address that its host does not have.
        """
        binding = ("198.51.100.1", 0)
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, 9, 30, binding)
        with self.assertRaises(ConnectBindError):
            await endpoint.connect(Factory.forProtocol(Recorder))

    async def test_noProtocol(self) -> None:
        """
        A server's factory that gives no protocol closes the connection.
        """

        class Refusing(Factory[Recorder]):
            noisy = False

            def buildProtocol(self, addr: object) -> None:
                return None

        number = await self.listen(Refusing())
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, number)
        client: Any = await endpoint.connect(Factory.forProtocol(Recorder))
        await self.ended(client, ConnectionDone)

    async def test_manyClients(self) -> None:
        """
        Many clients at once each get a connection of their own.
        """
        factory = Recorder.makeFactory()
        number = await self.listen(factory)
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, number)
        attempts = [endpoint.connect(Factory.forProtocol(Recorder)) for _ in range(40)]
        clients: list[Any] = [await attempt for attempt in attempts]
        servers = [await factory.connected.get() for _ in clients]
        ports = {client.transport.getHost().port for client in clients}
        self.assertEqual(len(ports), len(clients))
        for client in clients:
            client.transport.loseConnection()
        for end in clients + servers:
            await self.ended(end, ConnectionDone)
