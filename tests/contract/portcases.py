"""
What a UDP port that several components share does.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import DeferredQueue, maybeDeferred

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import PortUnusable
from p2ptwist.net.datagramport import DatagramPort
from tests.contract import settings


class Consumer:
    """
    Takes the datagrams that begin with its letter.

    @ivar taken: gives each with its source.
    """

    def __init__(self, letter: bytes) -> None:
        self.taken: DeferredQueue[tuple[bytes, HostPort]] = DeferredQueue()
        self._letter = letter

    def __call__(self, data: bytes, address: HostPort) -> bool:
        """
        Take it, or not.
        """
        if not data.startswith(self._letter):
            return False
        self.taken.put((data, address))
        return True


class DatagramPortCases(settings.Cases):
    """
    Cases for one port that several share.
    """

    def port(self, reactor: object, interface: str = "", number: int = 0) -> DatagramPort:
        """
        @return: an open port, which is closed when the test is over.
        """
        port = DatagramPort(reactor, interface, number)  # type: ignore[arg-type]
        port.listen()
        self.addCleanup(maybeDeferred, port.stopListening)
        return port

    async def test_exchange(self) -> None:
        """
        Datagrams cross both ways, and addresses are canonical on a socket that serves both
        families.
        """
        server, client = self.port(self.server), self.port(self.client)
        fromClient, fromServer = Consumer(b"c"), Consumer(b"s")
        server.addConsumer(fromClient)
        client.addConsumer(fromServer)
        self.assertTrue(client.write(b"c1", (self.serverAddress, server.localPort)))
        data, source = await fromClient.taken.get()
        self.assertEqual(data, b"c1")
        self.assertNotIn("ffff", source[0])
        if not self.isTranslated:
            self.assertEqual(source, (self.clientAddress, client.localPort))
        self.assertTrue(server.write(b"s1", source))
        answered = await fromServer.taken.get()
        self.assertEqual(answered, (b"s1", (self.serverAddress, server.localPort)))

    async def test_firstComeFirstAsked(self) -> None:
        """
        Consumers are asked in the order in which they came, until one takes the datagram; what
        nobody takes is counted.
        """
        port, sender = self.port(self.server), self.port(self.client)
        first, second, third = Consumer(b"a"), Consumer(b"b"), Consumer(b"")
        there = (self.serverAddress, port.localPort)
        for consumer in (first, second, third):
            port.addConsumer(consumer)
        for data in (b"a", b"b", b"c"):
            sender.write(data, there)
        for consumer, data in ((first, b"a"), (second, b"b"), (third, b"c")):
            self.assertEqual((await consumer.taken.get())[0], data)
        port.removeConsumer(third)
        sender.write(b"d", there)
        sender.write(b"a", there)
        await first.taken.get()
        self.assertEqual(port.unclaimed, 1)
        self.assertEqual(third.taken.pending, [])

    async def test_many(self) -> None:
        """
        Many datagrams that are written together arrive one by one, in their order where the network
        keeps it; what a consumer of many does not take is offered to the others.
        """
        port, sender = self.port(self.server), self.port(self.client)
        together: DeferredQueue[tuple[bytes, HostPort]] = DeferredQueue()
        rest = Consumer(b"r")

        def one(data: bytes, address: HostPort) -> bool:
            return not many((data,), address)

        def many(datagrams: Sequence[bytes], address: HostPort) -> Sequence[bytes]:
            for data in datagrams:
                if data.startswith(b"m"):
                    together.put((data, address))
            return [data for data in datagrams if not data.startswith(b"m")]

        port.addConsumer(one, many)
        port.addConsumer(rest)
        taken = [b"m" + bytes([number]) * (100 + number % 3) for number in range(40)]
        there = (self.serverAddress, port.localPort)
        written = [*taken[:20], b"r", b"nobody's", *taken[20:]]
        self.assertEqual(sender.writeMany(written, there), 42)
        came = [await together.get() for _ in taken]
        self.assertEqual({data for data, _ in came}, set(taken))
        self.assertEqual(len({address for _, address in came}), 1)
        self.assertEqual((await rest.taken.get())[0], b"r")
        await self.pause(self.client, 0.2)
        self.assertEqual(port.unclaimed, 1)

    async def test_manyThatFail(self) -> None:
        """
        A consumer of many with a bug is logged, and the port goes on.
        """
        port, sender = self.port(self.server), self.port(self.client)

        def one(data: bytes, address: HostPort) -> bool:
            raise ZeroDivisionError

        def many(datagrams: Sequence[bytes], address: HostPort) -> Sequence[bytes]:
            raise ZeroDivisionError

        consumer = Consumer(b"")
        port.addConsumer(one, many)
        port.addConsumer(consumer)
        there = (self.serverAddress, port.localPort)
        sender.write(b"1", there)
        await self.pause(self.client, 0.2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        port.removeConsumer(one)
        sender.write(b"2", there)
        self.assertEqual((await consumer.taken.get())[0], b"2")

    async def test_leaveWhileAsked(self) -> None:
        """
        A consumer may leave, and another come, while a datagram is offered; the others are asked
        all the same.
        """
        port, sender = self.port(self.server), self.port(self.client)
        last, late = Consumer(b""), Consumer(b"")

        def leaving(data: bytes, address: HostPort) -> bool:
            port.removeConsumer(leaving)
            port.addConsumer(late)
            return False

        port.addConsumer(leaving)
        port.addConsumer(last)
        for data in (b"1", b"2"):
            sender.write(data, (self.serverAddress, port.localPort))
            self.assertEqual((await last.taken.get())[0], data)
        self.assertEqual(late.taken.pending, [])

    async def test_consumerThatFails(self) -> None:
        """
        A consumer with a bug costs its datagram, is logged, and the port goes on.
        """
        port, sender = self.port(self.server), self.port(self.client)

        def failing(data: bytes, address: HostPort) -> bool:
            raise ZeroDivisionError

        consumer = Consumer(b"")
        port.addConsumer(failing)
        port.addConsumer(consumer)
        there = (self.serverAddress, port.localPort)
        sender.write(b"1", there)
        await self.pause(self.client, 0.2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        port.removeConsumer(failing)
        sender.write(b"2", there)
        self.assertEqual((await consumer.taken.get())[0], b"2")

    async def test_inUse(self) -> None:
        """
        A port that somebody else has is refused, by number, with what to do.
        """
        taken = self.port(self.server, self.serverAddress)
        other = DatagramPort(self.server, self.serverAddress, taken.localPort)
        error = self.assertRaises(PortUnusable, other.listen)
        self.assertIn(f"UDP port {taken.localPort} on {self.serverAddress}", str(error))
        self.assertIn("choose another port", str(error))
        everywhere = self.port(self.server)
        again = DatagramPort(self.server, "", everywhere.localPort)
        self.assertIn("any address", str(self.assertRaises(PortUnusable, again.listen)))

    async def test_notOpen(self) -> None:
        """
        A port that is not open has no number, loses what is written, and may be closed.
        """
        port = DatagramPort(self.client)
        self.assertRaises(LocalUsageError, lambda: port.localPort)
        self.assertFalse(port.write(b"x", (self.serverAddress, 9)))
        self.assertEqual(port.unsent, 1)
        await port.stopListening()

    async def test_again(self) -> None:
        """
        A port is opened once; when it was closed it may be opened again.
        """
        port = self.port(self.server, self.serverAddress)
        number = port.localPort
        self.assertRaises(LocalUsageError, port.listen)
        self.assertEqual(port.localPort, number)
        await port.stopListening()
        await port.stopListening()
        self.assertRaises(LocalUsageError, lambda: port.localPort)
        self.assertFalse(port.write(b"x", (self.serverAddress, number)))
        port.listen()
        consumer = Consumer(b"")
        port.addConsumer(consumer)
        self.port(self.client).write(b"x", (self.serverAddress, port.localPort))
        await consumer.taken.get()

    async def test_writeWhileClosing(self) -> None:
        """
        Writing to a port that is being closed raises nothing.
        """
        port = self.port(self.client)
        closing = port.stopListening()
        port.write(b"x", (self.serverAddress, 9))
        await closing
        self.assertFalse(port.write(b"x", (self.serverAddress, 9)))

    async def test_families(self) -> None:
        """
        A port knows which families it can send to, and what it cannot send is a lost datagram.
        """
        bound = self.port(self.server, self.serverAddress)
        self.assertEqual((bound.hasIPv4, bound.hasIPv6), (True, False))
        self.assertEqual(bound.interface, self.serverAddress)
        self.assertFalse(bound.write(b"x", ("::1", 9)))
        self.assertEqual(bound.unsent, 1)
        open_ = self.port(self.server)
        self.assertTrue(open_.hasIPv4)
        self.assertEqual(open_.interface, "")

    async def test_tooLong(self) -> None:
        """
        A datagram that is longer than UDP's longest is a lost one.
        """
        port = self.port(self.client)
        self.assertFalse(port.write(bytes(70_000), (self.serverAddress, 9)))
        self.assertEqual(port.unsent, 1)

    async def test_longest(self) -> None:
        """
        The longest that UDP has arrives whole.
        """
        port = self.port(self.server)
        consumer = Consumer(b"")
        port.addConsumer(consumer)
        data = bytes(range(256)) * 255
        self.port(self.client).write(data, (self.serverAddress, port.localPort))
        self.assertEqual((await consumer.taken.get())[0], data)

    async def test_another(self) -> None:
        """
        Another port is on the same interface, under another number.
        """
        port = self.port(self.server, self.serverAddress)
        other = port.another()
        self.assertEqual(other.interface, port.interface)
        other.listen()
        self.addCleanup(maybeDeferred, other.stopListening)
        self.assertNotEqual(other.localPort, port.localPort)


class DatagramPortIPv6Cases(settings.Cases):
    """
    Cases for ports that speak IPv6.
    """

    async def test_bothFamilies(self) -> None:
        """
        One port on all addresses talks to IPv4 and IPv6 alike.
        """
        port = DatagramPort(self.server)
        port.listen()
        self.addCleanup(maybeDeferred, port.stopListening)
        self.assertTrue(port.hasIPv6)
        consumer = Consumer(b"")
        port.addConsumer(consumer)
        for host in (settings.LOOPBACK, "::1"):
            sender = DatagramPort(self.client, host)
            sender.listen()
            self.addCleanup(maybeDeferred, sender.stopListening)
            self.assertEqual(sender.hasIPv6, host == "::1")
            self.assertEqual(sender.hasIPv4, host != "::1")
            echoed = Consumer(b"")
            sender.addConsumer(echoed)
            sender.write(b"x", (host, port.localPort))
            source = (await consumer.taken.get())[1]
            self.assertEqual(source, (host, sender.localPort))
            port.write(b"y", source)
            self.assertEqual(await echoed.taken.get(), (b"y", (host, port.localPort)))
