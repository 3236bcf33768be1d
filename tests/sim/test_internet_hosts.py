"""
Hosts of the simulated Internet: addresses, interfaces, names, and how they end.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from p2ptwist.errors import LocalUsageError
from p2ptwist.interfaces import IHostAddresses
from p2ptwist.testing import NAT, Internet, Link, ports
from p2ptwist.testing.dns import FirstAddress
from p2ptwist.testing.streamsocket import StreamSocket
from p2ptwist.testing.udp import DatagramSocket
from tests.sim.datagrams import Mirror, Recorder, listen


class AddressTests(SynchronousTestCase):
    """
    Which addresses a host has, and from which it sends.
    """

    def setUp(self) -> None:
        """
        Make an Internet with a public mirror.
        """
        self.internet = Internet(seed=2)
        self.internet.showOnFailure(self)
        self.public = self.internet.host("public", "192.0.2.1")
        self.mirror = listen(self.public, Mirror(), 3478)

    def test_hostAddresses(self) -> None:
        """
        A host tells its addresses, loopback first, those of IPv6 only when it has IPv6.
        """
        self.assertTrue(verifyObject(IHostAddresses, self.public))
        self.assertEqual(self.public.hostAddresses(), ["127.0.0.1", "192.0.2.1"])
        both = self.internet.host("both", "192.0.2.2", "2001:DB8:0:0::2")
        self.assertEqual(both.hostAddresses(), ["127.0.0.1", "::1", "192.0.2.2", "2001:db8::2"])
        self.assertEqual((repr(both), both.address), ("<Host both>", "192.0.2.2"))

    def test_refusals(self) -> None:
        """
        Addresses that are private, taken or none, and names that are taken, are refused.
        """
        for name, addresses in (
            ("a", ["10.0.0.1"]),
            ("b", ["192.0.2.1"]),
            ("c", ["192.0.2.7", "192.0.2.7"]),
            ("d", []),
            ("public", ["192.0.2.8"]),
        ):
            with self.assertRaises(LocalUsageError):
                self.internet.host(name, *addresses)
        with self.assertRaises(LocalUsageError):
            self.public.removeAddress("192.0.2.99")

    def test_noRoute(self) -> None:
        """
        Sending to a family that a host does not have raises; to an address that nobody has, it is
        silent.
        """
        six = listen(self.public, Recorder(), 1, "::")
        with self.assertRaises(OSError) as caught:
            six.send(b"x", ("2001:db8::1", 1))
        self.assertEqual(caught.exception.errno, errno.ENETUNREACH)
        self.mirror.send(b"x", ("198.51.100.77", 1))
        self.mirror.send(b"x", ("10.0.0.1", 1))
        self.internet.advance(1.0)
        self.assertEqual(self.mirror.received, [])

    def test_ownAddress(self) -> None:
        """
        A host reaches itself by all its addresses without a link.
        """
        recorder = listen(self.public, Recorder())
        for host in ("192.0.2.1", "127.0.0.1", "127.9.9.9"):
            recorder.send(b"me", (host, 5000))
        self.internet.advance(0.001)
        self.assertEqual(
            recorder.sources, [("192.0.2.1", 5000), ("127.0.0.1", 5000), ("127.9.9.9", 5000)]
        )
        self.assertEqual(self.public.counters.packets, 0)

    def test_severalAddresses(self) -> None:
        """
        A port on one of several addresses sends from it and hears that address alone.
        """
        host = self.internet.host("two", "192.0.2.2", "192.0.2.3")
        first, second = listen(host, Recorder()), listen(host, Recorder(), 5001, "192.0.2.3")
        for recorder in (first, second):
            recorder.send(b"?", ("192.0.2.1", 3478))
        self.mirror.send(b"wrong door", ("192.0.2.2", 5001))
        self.internet.advance(1.0)
        self.assertEqual(self.mirror.sources, [("192.0.2.2", 5000), ("192.0.2.3", 5001)])
        self.assertEqual(len(second.received), 1)

    def test_interfaces(self) -> None:
        """
        A host on two networks uses the first one by default, and the second one where it is bound
        to its address, or where the destination is there.
        """
        home = self.internet.router("home", "203.0.113.1", nat=NAT())
        phone = self.internet.router("phone", "203.0.113.2", lan="10.0.0.0/24")
        alice = home.host("alice")
        phone.attach(alice)
        near = listen(phone.host("near"), Recorder(), 9)
        self.internet.attach(alice, "192.0.2.50")
        self.assertEqual(
            [each.addresses for each in alice.interfaces],
            [["192.168.1.2"], ["10.0.0.2"], ["192.0.2.50"]],
        )
        default, bound = listen(alice, Recorder()), listen(alice, Recorder(), 5001, "10.0.0.2")
        for recorder in (default, bound):
            recorder.send(b"?", ("192.0.2.1", 3478))
        default.send(b"hello", ("10.0.0.3", 9))
        self.internet.advance(1.0)
        self.assertEqual(near.sources, [("10.0.0.2", 5000)])
        self.assertIn(("203.0.113.2", 5001), self.mirror.sources)
        self.assertIn(("192.0.2.50", 5000), self.mirror.sources)
        self.assertEqual(len(bound.received), 1)

    def test_replug(self) -> None:
        """
        With an address gone, ports on all addresses use another one, and those on it reach nobody.
        """
        home = self.internet.router("home", "203.0.113.1")
        phone = self.internet.router("phone", "203.0.113.2", lan="10.0.0.0/24")
        alice = home.host("alice")
        phone.attach(alice)
        roaming = listen(alice, Recorder())
        fixed = listen(alice, Recorder(), 5001, "192.168.1.2")
        alice.removeAddress("192.168.1.2")
        roaming.send(b"?", ("192.0.2.1", 3478))
        with self.assertRaises(OSError):
            fixed.send(b"?", ("192.0.2.1", 3478))
        self.internet.advance(1.0)
        self.assertEqual(self.mirror.sources, [("203.0.113.2", 5000)])
        alice.addAddress("192.168.1.77")
        listen(alice, Recorder(), 5002, "192.168.1.77").send(b"?", ("192.0.2.1", 3478))
        self.internet.advance(1.0)
        self.assertEqual(self.mirror.sources[-1], ("203.0.113.1", 5002))

    def test_lateForOldAddress(self) -> None:
        """
        A packet that was under way to an address that is gone is dropped.
        """
        host = self.internet.host("moving", "192.0.2.2", link=Link(latency=1.0))
        recorder = listen(host, Recorder())
        self.mirror.send(b"late", ("192.0.2.2", 5000))
        self.internet.advance(0.5)
        host.removeAddress("192.0.2.2")
        self.internet.advance(5.0)
        self.assertEqual(recorder.received, [])
        self.assertEqual(host.counters.dropped["not this host's address"], 1)

    def test_receiveBuffer(self) -> None:
        """
        A port that is not read loses what its buffer does not hold.
        """
        recorder = listen(self.public, Recorder())
        recorder.transport.stopReading()
        for _ in range(300):
            self.mirror.send(b"x" * 1000, ("192.0.2.1", 5000))
        self.internet.advance(1.0)
        recorder.transport.startReading()
        self.internet.advance(1.0)
        self.assertEqual(len(recorder.received), 212)
        self.assertEqual(self.public.counters.dropped["the receive buffer is full"], 88)

    def test_sharedPort(self) -> None:
        """
        Sockets share a port where all have said so, as the peers of a hole punch do.
        """
        from twisted.internet import tcp

        binding = tcp.makeBinding("192.0.2.1", 7000, reuseAddress=True, reusePort=True)
        host = self.public
        for _ in range(2):
            host.listenTCP(binding, ServerFactory(), 50, "192.0.2.1")
        with self.assertRaises(ConnectError):
            self.internet.runUntil(
                HostnameEndpoint(host, "192.0.2.1", 9, bindAddress=("192.0.2.1", 7000)).connect(
                    Factory.forProtocol(Protocol)
                )
            )


class SocketTests(SynchronousTestCase):
    """
    Simulated sockets where real ones would take a whole system to show it.
    """

    def setUp(self) -> None:
        """
        Make a host.
        """
        self.internet = Internet()
        self.stack = self.internet.host("host", "192.0.2.1")._stack

    def test_noNames(self) -> None:
        """
        Sockets do not resolve names, not even those of the simulated DNS.
        """
        self.internet.name("node.example", "192.0.2.1")
        sock = DatagramSocket(self.stack, socket.AF_INET)
        with self.assertRaises(socket.gaierror):
            sock.sendto(b"x", ("node.example", 9))
        with self.assertRaises(socket.gaierror):
            sock.bind(("node.example", 9))

    def test_portsRunOut(self) -> None:
        """
        A host gives out all its ephemeral ports, and then no more.
        """
        self.patch(ports, "LAST_EPHEMERAL", ports.FIRST_EPHEMERAL + 9)
        numbers = set()
        for _ in range(10):
            sock = DatagramSocket(self.stack, socket.AF_INET)
            sock.bind(("", 0))
            numbers.add(sock.getsockname()[1])
        self.assertEqual(len(numbers), 10)
        with self.assertRaises(OSError) as caught:
            DatagramSocket(self.stack, socket.AF_INET).bind(("", 0))
        self.assertEqual(caught.exception.errno, errno.EADDRINUSE)

    def test_connecting(self) -> None:
        """
        While a connection is being opened, connecting again and writing would block.
        """
        sock = StreamSocket(self.stack, socket.AF_INET)
        self.assertFalse(sock.isWritable() or sock.isReadable() or sock.isHungUp())
        self.assertEqual(sock.connect_ex(("192.0.2.99", 9)), errno.EINPROGRESS)
        self.assertEqual(sock.connect_ex(("192.0.2.99", 9)), errno.EALREADY)
        with self.assertRaises(BlockingIOError):
            sock.send(b"x")
        self.assertFalse(sock.isWritable())
        sock.close()
        self.internet.advance(200.0)
        self.assertEqual(self.stack.counters.packetsSent, 1)


class NameTests(SynchronousTestCase):
    """
    The simulated DNS.
    """

    def setUp(self) -> None:
        """
        Make a host, and names.
        """
        self.internet = Internet()
        self.host = self.internet.host("host", "192.0.2.1", "2001:db8::1")
        self.internet.name("Node.example", "192.0.2.1", "2001:DB8::0001")
        self.internet.name("six.example", "2001:db8::6")

    def test_resolve(self) -> None:
        """
        Names are resolved some time later, whatever their case and with a dot at the end.
        """
        for name in ("node.example", "NODE.example."):
            before = self.internet.seconds()
            self.assertEqual(self.internet.runUntil(self.host.resolve(name)), "192.0.2.1")
            self.assertGreater(self.internet.seconds(), before)

    def test_unknown(self) -> None:
        """
        Names without an IPv4 address are not resolved; nor are those that were removed.
        """
        self.internet.name("node.example")
        for name in ("nobody.example", "six.example", "node.example"):
            with self.assertRaises(DNSLookupError):
                self.internet.runUntil(self.host.resolve(name))

    def test_bothFamilies(self) -> None:
        """
        The name resolver gives the addresses of all families in order, unless asked for some.
        """
        first = FirstAddress("six.example")
        resolution = self.host.nameResolver.resolveHostName(first, "six.example")
        self.assertEqual(self.internet.runUntil(first.result), "2001:db8::6")
        self.assertEqual(resolution.name, "six.example")
        resolution.cancel()
        only = FirstAddress("node.example")
        self.host.nameResolver.resolveHostName(only, "node.example", 0, [IPv6Address], "UDP")
        self.assertEqual(self.internet.runUntil(only.result), "2001:db8::1")
        none = FirstAddress("node.example")
        self.host.nameResolver.resolveHostName(none, "six.example", 0, [IPv4Address])
        with self.assertRaises(DNSLookupError):
            self.internet.runUntil(none.result)

    def test_cancelled(self) -> None:
        """
        A lookup that was cancelled comes to nothing.
        """
        lookup = self.host.resolve("node.example")
        failures: list[object] = []
        lookup.addErrback(failures.append)
        lookup.cancel()
        self.internet.advance(1.0)
        self.assertEqual(len(failures), 1)

    def test_happyEyeballs(self) -> None:
        """
        A host name endpoint tries both families, and takes the one that works.
        """
        client = self.internet.host("client", "192.0.2.2")
        listening = TCP4ServerEndpoint(self.host, 80).listen(Factory.forProtocol(Protocol))
        self.internet.runUntil(listening)
        connected = HostnameEndpoint(client, "node.example", 80).connect(
            Factory.forProtocol(Protocol)
        )
        protocol: Any = self.internet.runUntil(connected)
        self.assertEqual(protocol.transport.getPeer(), IPv4Address("TCP", "192.0.2.1", 80))


class EndTests(SynchronousTestCase):
    """
    How programs on hosts end.
    """

    def setUp(self) -> None:
        """
        Make a server and a client that are connected.
        """
        self.internet = Internet(seed=4)
        self.internet.showOnFailure(self)
        self.server = self.internet.host("server", "192.0.2.1")
        self.client = self.internet.host("client", "192.0.2.2")
        self.lost: Deferred[float] = Deferred()
        case = self

        class Waiting(Protocol):
            def connectionLost(self, reason: object = None) -> None:
                case.lost.callback(case.internet.seconds())

        self.listen()
        self.protocol: Any = self.internet.runUntil(
            HostnameEndpoint(self.client, "192.0.2.1", 80).connect(Factory.forProtocol(Waiting))
        )
        self.internet.advance(0.1)
        self.ticks = 0
        self.server.callLater(1.0, self.tick)

    def listen(self) -> None:
        """
        Wait for connections on the server.
        """
        factory: Any = Factory.forProtocol(Protocol)
        self.server.listenTCP(80, factory, 50, "")

    def tick(self) -> None:
        """
        The server's program lives.
        """
        self.ticks += 1
        self.server.callLater(1.0, self.tick)

    def write(self) -> None:
        """
        Send something from the client.
        """
        self.protocol.transport.write(b"x")

    def test_kill(self) -> None:
        """
        The kernel closes the connections of a program that was killed, and nothing of it runs on.
        """
        self.internet.advance(2.5)
        before = self.internet.seconds()
        call = self.server.callLater(1.0, self.fail, "the program is dead")
        self.server.kill()
        call.cancel()  # by what Python has kept of it
        self.assertAlmostEqual(self.internet.runUntil(self.lost) - before, 0.020)
        self.internet.advance(5.0)
        self.assertEqual(self.ticks, 2)
        self.assertEqual(self.server.getDelayedCalls(), [])
        self.assertEqual(self.server.getReaders(), [])

    def test_restart(self) -> None:
        """
        After that the host is the reactor of another program, on the same port.
        """
        self.server.kill()
        self.internet.runUntil(self.lost)
        self.listen()
        again = HostnameEndpoint(self.client, "192.0.2.1", 80).connect(
            Factory.forProtocol(Protocol)
        )
        self.internet.runUntil(again)

    def test_cutPower(self) -> None:
        """
        When the power fails nobody is told; whoever writes later learns it from a RST.
        """
        self.server.cutPower()
        self.internet.advance(3600.0)
        self.assertFalse(self.lost.called)
        before = self.internet.seconds()
        self.write()
        self.assertAlmostEqual(self.internet.runUntil(self.lost) - before, 0.040)

    def test_zombies(self) -> None:
        """
        What others still hold of a program that was killed does no harm.
        """
        accepted = [r for r in self.server.getReaders() if getattr(r, "protocol", None)]
        self.server.kill()
        for connection in accepted:
            connection.write(b"from the grave")  # type: ignore[attr-defined]
            connection.startReading()  # type: ignore[attr-defined]
        self.internet.runUntil(self.lost)

    def test_removeAll(self) -> None:
        """
        C{removeAll} stops watching every socket.
        """
        self.write()
        removed = self.client.removeAll()
        self.assertEqual(len(removed), 1)
        self.assertEqual((self.client.getReaders(), self.client.getWriters()), ([], []))

    def test_delayedCalls(self) -> None:
        """
        The Internet tells what all its hosts have still to do.
        """
        self.assertEqual(len(self.internet.delayedCalls()), 1)
        self.client.callLater(5.0, lambda: None)
        self.assertEqual(len(self.internet.delayedCalls()), 2)

    def test_callWhenRunning(self) -> None:
        """
        A simulated reactor runs, so what waits for that is called at once.
        """
        called: list[int] = []
        self.client.callWhenRunning(called.append, 1)
        self.assertEqual((called, self.client.running), ([1], True))


class ManyHostsTests(SynchronousTestCase):
    """
    Many programs at once.
    """

    def test_crowd(self) -> None:
        """
        A hundred homes reach one server.
        """
        internet = Internet(seed=1)
        server = listen(internet.host("server", "192.0.2.1"), Mirror(), 3478)
        crowd = [
            listen(internet.router(f"r{n}", f"203.0.113.{n}").host(f"h{n}"), Recorder())
            for n in range(1, 101)
        ]
        for recorder in crowd:
            recorder.send(b"?", ("192.0.2.1", 3478))
        internet.advance(1.0)
        self.assertEqual(len(set(server.sources)), 100)
        self.assertTrue(all(len(recorder.received) == 1 for recorder in crowd))
        self.assertEqual(internet.runUntil(gatherResults([])), [])
