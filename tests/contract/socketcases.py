"""
What the sockets below Twisted's transports do, where an application may use them itself.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

from tests.contract.settings import LOOPBACK, Cases

LINGER = struct.pack("ii", 1, 0)


class Sockets(Cases):
    """
    What cases share on the loopback addresses of one host, with sockets that do not block.
    """

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> Any:
        """
        @return: a new socket, closed at the end of the test.
        """
        sock = self.makeSocket(family, kind)
        sock.setblocking(False)
        self.addCleanup(sock.close)
        return sock

    def datagram(self) -> Any:
        """
        @return: an IPv4 UDP socket.
        """
        return self.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def stream(self) -> Any:
        """
        @return: an IPv4 TCP socket.
        """
        return self.socket(socket.AF_INET, socket.SOCK_STREAM)

    def fails(self, number: int, function: Callable[..., object], *arguments: Any) -> None:
        """
        Check that C{function} fails with the errno C{number}.
        """
        with self.assertRaises(OSError) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.errno, number)


class SocketCases(Sockets):
    """
    Cases about what sockets do.
    """

    async def connected(self) -> tuple[Any, Any]:
        """
        @return: both ends of a TCP connection.
        """
        listener, client = self.stream(), self.stream()
        listener.listen(5)
        address = (LOOPBACK, listener.getsockname()[1])
        self.assertEqual(client.connect_ex(address), errno.EINPROGRESS)
        await self.pause(self.client)
        server, source = listener.accept()
        server.setblocking(False)
        self.addCleanup(server.close)
        self.assertEqual(source, client.getsockname())
        self.assertEqual(server.getpeername(), client.getsockname())
        self.assertEqual(client.connect_ex(address), 0)
        self.assertEqual(client.connect_ex(address), errno.EISCONN)
        return client, server

    async def test_binding(self) -> None:
        """
        A socket is bound once, to an address of its family, and says where.
        """
        sock = self.datagram()
        self.assertEqual(sock.getsockname(), ("0.0.0.0", 0))
        sock.bind((LOOPBACK, 0))
        self.assertEqual(sock.getsockname()[0], LOOPBACK)
        self.fails(errno.EINVAL, sock.bind, (LOOPBACK, 0))
        with self.assertRaises(OverflowError):
            self.datagram().bind((LOOPBACK, 65_536))
        with self.assertRaises(socket.gaierror):
            self.datagram().bind(("::1", 0))
        six = self.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        six.bind(("::", 0))
        self.assertEqual(six.getsockname()[0], "::")
        self.assertGreater(six.fileno(), 2)
        six.close()
        self.assertEqual(six.fileno(), -1)

    async def test_unconnectedDatagrams(self) -> None:
        """
        Without a peer there is nobody to send to, and nothing to read yet.
        """
        sock = self.datagram()
        self.fails(errno.EAGAIN, sock.recvfrom, 100)
        self.fails(errno.EDESTADDRREQ, sock.send, b"x")
        self.fails(errno.ENOTCONN, sock.getpeername)
        with self.assertRaises(socket.gaierror):
            sock.sendto(b"x", ("::1", 9))
        with self.assertRaises(OverflowError):
            sock.sendto(b"x", (LOOPBACK, 65_536))

    async def test_connectedDatagrams(self) -> None:
        """
        A socket that is connected is bound, sends to its peer, and reads only from there.
        """
        server, client = self.datagram(), self.datagram()
        server.bind((LOOPBACK, 0))
        client.connect(server.getsockname())
        self.assertEqual(client.getpeername(), server.getsockname())
        self.assertEqual(client.send(b"hello"), 5)
        await self.pause(self.client)
        data, source = server.recvfrom(3)
        self.assertEqual((data, source), (b"hel", client.getsockname()))

    async def test_refusedDatagrams(self) -> None:
        """
        A refusal is told once, by the next call of the socket.
        """
        closed = self.datagram()
        closed.bind((LOOPBACK, 0))
        address = closed.getsockname()
        closed.close()
        sock = self.datagram()
        sock.connect(address)
        for call in (lambda: sock.send(b"x"), lambda: sock.recvfrom(100)):
            sock.send(b"anybody?")
            await self.pause(self.client)
            self.fails(errno.ECONNREFUSED, call)
        self.fails(errno.EAGAIN, sock.recvfrom, 100)

    async def test_mapped(self) -> None:
        """
        An IPv6 socket reaches IPv4 by mapped addresses, unless it was told to stay with IPv6.
        """
        server = self.datagram()
        server.bind((LOOPBACK, 0))
        number = server.getsockname()[1]
        six = self.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        six.sendto(b"mapped", (f"::ffff:{LOOPBACK}", number))
        await self.pause(self.client)
        self.assertEqual(server.recvfrom(100)[0], b"mapped")
        only = self.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.assertTrue(only.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        only.bind(("::", number))
        self.fails(errno.ENETUNREACH, only.sendto, b"x", (f"::ffff:{LOOPBACK}", number))

    async def test_unconnectedStreams(self) -> None:
        """
        Without a connection nothing can be read, written or shut down.
        """
        sock = self.stream()
        self.fails(errno.ENOTCONN, sock.recv, 100)
        self.fails(errno.EPIPE, sock.send, b"x")
        self.fails(errno.ENOTCONN, sock.shutdown, socket.SHUT_RDWR)
        sock.listen(1)
        self.fails(errno.EAGAIN, sock.accept)
        self.assertNotEqual(sock.getsockname()[1], 0)

    async def test_streams(self) -> None:
        """
        Octets go both ways; each half is closed by itself.
        """
        client, server = await self.connected()
        self.fails(errno.EAGAIN, server.recv, 100)
        self.assertEqual(client.send(b"hello"), 5)
        await self.pause(self.client)
        self.assertEqual(server.recv(2) + server.recv(100), b"hello")
        client.shutdown(socket.SHUT_WR)
        await self.pause(self.client)
        self.assertEqual(server.recv(100), b"")
        self.fails(errno.EPIPE, client.send, b"more")
        server.send(b"answer")
        await self.pause(self.client)
        self.assertEqual(client.recv(100), b"answer")

    async def test_shutDownReading(self) -> None:
        """
        Once reading was shut down there is nothing more to read.
        """
        client, server = await self.connected()
        server.shutdown(socket.SHUT_RD)
        self.assertEqual(server.recv(100), b"")
        self.assertEqual(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)

    async def test_full(self) -> None:
        """
        When all buffers are full, writing would block.
        """
        client, _ = await self.connected()
        sent = 0
        with self.assertRaises(BlockingIOError):
            while sent < self.plenty:
                sent += client.send(b"x" * 65_536)
                await self.pause(self.client, 0)
        self.assertGreater(sent, 0)

    async def test_reset(self) -> None:
        """
        A reset is told once; after that there is nothing to read, and writing fails.
        """
        for first in (lambda sock: sock.recv(100), lambda sock: sock.send(b"x")):
            client, server = await self.connected()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            server.close()
            await self.pause(self.client)
            self.fails(errno.ECONNRESET, first, client)
            self.assertEqual(client.recv(100), b"")
            self.fails(errno.EPIPE, client.send, b"x")

    async def test_refusedStreams(self) -> None:
        """
        A refused connection is told by C{SO_ERROR}, once.
        """
        closed = self.stream()
        closed.bind((LOOPBACK, 0))
        address = closed.getsockname()
        closed.close()
        sock = self.stream()
        self.assertEqual(sock.connect_ex(address), errno.EINPROGRESS)
        await self.pause(self.client)
        level, option = socket.SOL_SOCKET, socket.SO_ERROR
        self.assertEqual(sock.getsockopt(level, option), errno.ECONNREFUSED)
        self.assertEqual(sock.getsockopt(level, option), 0)

    async def test_sharedPort(self) -> None:
        """
        Sockets that share a port cannot have two connections to one peer.
        """
        listener = self.stream()
        listener.listen(5)
        address = (LOOPBACK, listener.getsockname()[1])
        first, second = self.stream(), self.stream()
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind((LOOPBACK, 0))
        second.bind(first.getsockname())
        self.assertEqual(first.connect_ex(address), errno.EINPROGRESS)
        self.assertEqual(second.connect_ex(address), errno.EADDRNOTAVAIL)

    async def test_foreignAddress(self) -> None:
        """
        A socket cannot be bound to an address that the host does not have.
        """
        self.fails(errno.EADDRNOTAVAIL, self.datagram().bind, ("198.51.100.1", 0))

    async def test_unreachable(self) -> None:
        """
        A socket that is bound to the loopback address cannot connect elsewhere: a host with a way
        there objects to the address, and one without to the way.
        """
        sock = self.stream()
        sock.bind((LOOPBACK, 0))
        error = sock.connect_ex(("198.51.100.1", 9))
        self.assertIn(error, (errno.EINVAL, errno.ENETUNREACH))
