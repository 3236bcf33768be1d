"""
What a UDP port of Twisted does.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError
from twisted.internet.interfaces import IListeningPort, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from zope.interface.verify import verifyObject

from tests.contract.settings import LOOPBACK, Cases

DEFAULT_SIZE = 8192  # octets, the default of listenUDP in a real reactor


class Recorder(DatagramProtocol):
    """
    Remembers what comes.

    @ivar received: gives each datagram with its source.
    @ivar refused: gives a value for each C{connectionRefused}.
    @ivar stopped: whether C{stopProtocol} was called.
    """

    def __init__(self) -> None:
        self.received: DeferredQueue[tuple[bytes, tuple[str, int]]] = DeferredQueue()
        self.refused: DeferredQueue[None] = DeferredQueue()
        self.stopped = False

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        A datagram has come.
        """
        self.received.put((datagram, addr))

    def connectionRefused(self) -> None:
        """
        The other side said that nobody listens.
        """
        self.refused.put(None)

    def stopProtocol(self) -> None:
        """
        The port was closed.
        """
        self.stopped = True


class Echo(Recorder):
    """
    Sends everything back.
    """

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        A datagram has come: send it back.
        """
        super().datagramReceived(datagram, addr)
        assert self.transport is not None
        self.transport.write(datagram, addr)


class UDPCases(Cases):
    """
    Cases for C{listenUDP} and its ports.
    """

    def listenAsServer(self, protocol: DatagramProtocol, size: int = DEFAULT_SIZE) -> int:
        """
        @return: the number of a server's port.
        """
        port = self.opened(self.server.listenUDP(0, protocol, self.serverAddress, size))
        number: int = port.getHost().port
        return number

    def listenAsClient(self, protocol: DatagramProtocol) -> Any:
        """
        @return: a client's port, on all addresses.
        """
        return self.opened(self.client.listenUDP(0, protocol, "", DEFAULT_SIZE))

    async def test_interfaces(self) -> None:
        """
        A port provides C{IListeningPort} and C{IUDPTransport}.
        """
        port = self.listenAsClient(Recorder())
        self.assertTrue(verifyObject(IListeningPort, port))
        self.assertTrue(verifyObject(IUDPTransport, port))

    async def test_echo(self) -> None:
        """
        A datagram arrives once, with its source, and so does the answer.
        """
        echo, client = Echo(), Recorder()
        number = self.listenAsServer(echo)
        port = self.listenAsClient(client)
        port.write(b"knock", (self.serverAddress, number))
        data, source = await client.received.get()
        self.assertEqual((data, source), (b"knock", (self.serverAddress, number)))
        seen = (await echo.received.get())[1]
        if not self.isTranslated:
            self.assertEqual(seen, (self.clientAddress, port.getHost().port))
        await self.pause(self.client)
        self.assertEqual((client.received.pending, echo.received.pending), ([], []))

    async def test_manyInOrder(self) -> None:
        """
        Datagrams that are sent one after the other arrive so, when nothing reorders them.
        """
        server = Recorder()
        number = self.listenAsServer(server)
        port = self.listenAsClient(Recorder())
        for index in range(50):
            port.write(b"%d" % index, (self.serverAddress, number))
        got = [(await server.received.get())[0] for _ in range(50)]
        self.assertEqual(got, [b"%d" % index for index in range(50)])

    async def test_emptyDatagram(self) -> None:
        """
        A datagram without payload arrives.
        """
        server = Recorder()
        number = self.listenAsServer(server)
        self.listenAsClient(Recorder()).write(b"", (self.serverAddress, number))
        self.assertEqual((await server.received.get())[0], b"")

    async def test_longestDatagram(self) -> None:
        """
        65,507 octets arrive; one more cannot be sent.
        """
        server = Recorder()
        number = self.listenAsServer(server, 65_535)
        port = self.listenAsClient(Recorder())
        port.write(b"x" * 65_507, (self.serverAddress, number))
        self.assertEqual(len((await server.received.get())[0]), 65_507)
        with self.assertRaises(MessageLengthError):
            port.write(b"x" * 65_508, (self.serverAddress, number))

    async def test_truncation(self) -> None:
        """
        What is longer than C{maxPacketSize} is cut without a word.
        """
        server = Recorder()
        number = self.listenAsServer(server, 10)
        self.listenAsClient(Recorder()).write(b"0123456789abc", (self.serverAddress, number))
        self.assertEqual((await server.received.get())[0], b"0123456789")

    async def test_writeSequence(self) -> None:
        """
        C{writeSequence} sends one datagram.
        """
        server = Recorder()
        number = self.listenAsServer(server)
        port = self.listenAsClient(Recorder())
        port.writeSequence([b"a", b"b"], (self.serverAddress, number))
        self.assertEqual((await server.received.get())[0], b"ab")

    async def test_badWrites(self) -> None:
        """
        A name, an address of the other family and port 0 raise.
        """
        port = self.listenAsClient(Recorder())
        with self.assertRaises(InvalidAddressError):
            port.write(b"x", ("localhost", 9))
        with self.assertRaises(InvalidAddressError):
            port.write(b"x", ("::1", 9))
        with self.assertRaises(OSError):
            port.write(b"x", (self.serverAddress, 0))
        with self.assertRaises(OverflowError):
            port.write(b"x", (self.serverAddress, 65_536))

    async def test_broadcastNeedsLeave(self) -> None:
        """
        Broadcasting raises unless it was allowed.
        """
        port = self.opened(self.client.listenUDP(0, Recorder(), LOOPBACK, DEFAULT_SIZE))
        self.assertFalse(port.getBroadcastAllowed())
        with self.assertRaises(PermissionError):
            port.write(b"x", ("<broadcast>", 9))
        port.setBroadcastAllowed(True)
        self.assertTrue(port.getBroadcastAllowed())

    async def test_loopbackStaysInside(self) -> None:
        """
        A port that is bound to the loopback address reaches no other host.
        """
        port = self.opened(self.client.listenUDP(0, Recorder(), LOOPBACK, DEFAULT_SIZE))
        with self.assertRaises(OSError):
            port.write(b"x", ("198.51.100.1", 9))

    async def test_portInUse(self) -> None:
        """
        A port that is taken cannot be taken again, nor on all addresses; on another address it can.
        """
        port = self.opened(self.client.listenUDP(0, Recorder(), LOOPBACK, DEFAULT_SIZE))
        number = port.getHost().port
        for interface in (LOOPBACK, ""):
            with self.assertRaises(CannotListenError):
                self.client.listenUDP(number, Recorder(), interface, DEFAULT_SIZE)
        self.opened(self.client.listenUDP(number, Recorder(), "127.0.0.2", DEFAULT_SIZE))

    async def test_foreignInterface(self) -> None:
        """
        A port cannot be bound to an address that is not the host's, or is none.
        """
        with self.assertRaises(CannotListenError):
            self.client.listenUDP(0, Recorder(), "198.51.100.1", DEFAULT_SIZE)
        with self.assertRaises(InvalidAddressError):
            self.client.listenUDP(0, Recorder(), "localhost", DEFAULT_SIZE)

    async def test_getHost(self) -> None:
        """
        C{getHost} tells the interface and the number that was given.
        """
        bound = self.opened(self.client.listenUDP(0, Recorder(), LOOPBACK, DEFAULT_SIZE))
        number = bound.getHost().port
        self.assertEqual(bound.getHost(), IPv4Address("UDP", LOOPBACK, number))
        self.assertTrue(0 < number < 65_536)
        self.assertEqual(self.listenAsClient(Recorder()).getHost().host, "0.0.0.0")

    async def test_stopListening(self) -> None:
        """
        A port that was stopped tells its protocol, receives nothing and frees its number.
        """
        server = Recorder()
        port = self.server.listenUDP(0, server, self.serverAddress, DEFAULT_SIZE)
        number = port.getHost().port
        stopping = port.stopListening()
        self.assertIsInstance(stopping, Deferred)
        await stopping
        self.assertTrue(server.stopped)
        self.assertIsNone(server.transport)
        self.listenAsClient(Recorder()).write(b"late", (self.serverAddress, number))
        await self.pause(self.client)
        self.assertEqual(server.received.pending, [])
        self.opened(self.server.listenUDP(number, Recorder(), self.serverAddress, DEFAULT_SIZE))

    async def test_errorInProtocol(self) -> None:
        """
        A protocol that raises is logged, and its port lives on.
        """
        heard: DeferredQueue[bytes] = DeferredQueue()

        class Clumsy(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                heard.put(datagram)
                raise ValueError(datagram)

        number = self.listenAsServer(Clumsy())
        port = self.listenAsClient(Recorder())
        for data in (b"1", b"2"):
            port.write(data, (self.serverAddress, number))
            self.assertEqual(await heard.get(), data)
        await self.pause(self.client)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    async def test_connected(self) -> None:
        """
        A connected port sends without an address, and hears its peer alone.
        """
        echo, client = Echo(), Recorder()
        number = self.listenAsServer(echo)
        port = self.listenAsClient(client)
        port.connect(self.serverAddress, number)
        self.assertEqual(port.getHost().host, self.clientAddress)
        port.write(b"only", None)
        self.assertEqual(await client.received.get(), (b"only", (self.serverAddress, number)))
        stranger = self.listenAsClient(Recorder())
        stranger.write(b"not you", (self.clientAddress, port.getHost().port))
        await self.pause(self.client)
        self.assertEqual(client.received.pending, [])
        with self.assertRaises(RuntimeError):
            port.connect(self.serverAddress, number)

    async def test_connectionRefused(self) -> None:
        """
        A port that is not connected never learns that nobody listens.  A connected one does: the
        reactors that poll, the default one of Linux among them, close it.
        """
        port = self.server.listenUDP(0, Recorder(), self.serverAddress, DEFAULT_SIZE)
        number = port.getHost().port
        await port.stopListening()
        loose, connected = Recorder(), Recorder()
        self.listenAsClient(loose).write(b"anybody?", (self.serverAddress, number))
        transport = self.listenAsClient(connected)
        transport.connect(self.serverAddress, number)
        transport.write(b"anybody?", None)
        await self.pause(self.client, 0.2)
        self.assertEqual((loose.stopped, connected.stopped), (False, True))
        self.assertEqual(loose.refused.pending, [])
