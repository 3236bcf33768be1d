"""
Ports that several TCP sockets share, at one time or one after the other.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError, ConnectBindError, ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.tcp import makeBinding

from tests.contract.settings import LOOPBACK
from tests.contract.socketcases import LINGER, Sockets
from tests.contract.tcpcases import Recorder, StreamCases


class SharingCases(Sockets):
    """
    Cases about plain sockets.
    """

    def sharing(self, port: int, address: bool = True, number: bool = False) -> Any:
        """
        @param address: whether to set C{SO_REUSEADDR}.
        @param number: whether to set C{SO_REUSEPORT}.
        @return: a TCP socket that is bound to a port.
        """
        sock = self.stream()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(address))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(number))
        sock.bind((LOOPBACK, port))
        return sock

    def listener(self, port: int = 0, address: bool = True, number: bool = False) -> Any:
        """
        @return: such a socket that listens.
        """
        sock = self.sharing(port, address, number)
        sock.listen(5)
        return sock

    async def connection(self, client: Any, listener: Any) -> Any:
        """
        Connect C{client}.

        @return: the other end.
        """
        self.assertEqual(client.connect_ex(listener.getsockname()), errno.EINPROGRESS)
        await self.pause(self.client)
        server, source = listener.accept()
        server.setblocking(False)
        self.addCleanup(server.close)
        self.assertEqual(source, client.getsockname())
        self.assertEqual(client.connect_ex(listener.getsockname()), 0)
        return server

    def ports(self, *sockets: Any) -> list[int]:
        """
        @return: the port of each socket.
        """
        return [sock.getsockname()[1] for sock in sockets]

    async def test_whoMayBind(self) -> None:
        """
        Sockets share a port when both reuse the address and neither listens, or both the port.
        """
        for kinds, may in (
            (((True, False), (True, False)), True),
            (((False, True), (False, True)), True),
            (((True, True), (False, True)), True),
            (((True, False), (False, False)), False),
            (((False, False), (True, True)), False),
            (((True, False), (False, True)), False),
        ):
            first = self.sharing(0, *kinds[0])
            [port] = self.ports(first)
            if may:
                self.sharing(port, *kinds[1])
            else:
                self.fails(errno.EADDRINUSE, self.sharing, port, *kinds[1])

    async def test_whoMayListen(self) -> None:
        """
        Only those that reuse the port listen together.
        """
        first = self.sharing(0)
        [port] = self.ports(first)
        second = self.sharing(port)
        first.listen(5)
        self.fails(errno.EADDRINUSE, second.listen, 5)
        self.fails(errno.EADDRINUSE, self.sharing, port)
        one = self.listener(0, number=True)
        [port] = self.ports(one)
        self.listener(port, number=True)

    async def test_listenerAndConnections(self) -> None:
        """
        A port that listens is connected from, and connections from it do not keep it from
        listening.
        """
        servers = [self.listener() for _ in range(3)]
        first = self.sharing(0, number=True)
        [port] = self.ports(first)
        await self.connection(first, servers[0])
        own = self.listener(port, number=True)
        second = self.sharing(port, number=True)
        other = await self.connection(second, servers[1])
        caller = self.stream()
        called = await self.connection(caller, own)
        other.send(b"to the second")
        caller.send(b"to the listener")
        await self.pause(self.client)
        self.assertEqual(second.recv(100), b"to the second")
        self.assertEqual(called.recv(100), b"to the listener")
        own.close()
        await self.connection(self.sharing(port, number=True), servers[2])

    async def test_oneConnectionEach(self) -> None:
        """
        There is one connection from one address to another.
        """
        server = self.listener()
        first = self.sharing(0, number=True)
        [port] = self.ports(first)
        await self.connection(first, server)
        second = self.sharing(port, number=True)
        self.assertEqual(second.connect_ex(server.getsockname()), errno.EADDRNOTAVAIL)
        other = self.listener()
        await self.connection(second, other)

    async def test_withItself(self) -> None:
        """
        A socket that connects to its own port has opened from both sides at once.
        """
        sock = self.sharing(0)
        sock.connect_ex(sock.getsockname())
        await self.pause(self.client)
        self.assertEqual(sock.getpeername(), sock.getsockname())
        self.assertEqual(sock.send(b"echo"), 4)
        await self.pause(self.client)
        self.assertEqual(sock.recv(100), b"echo")

    async def test_refusedAgain(self) -> None:
        """
        A port whose connection was refused is free to try again at once.
        """
        closed = self.stream()
        closed.bind((LOOPBACK, 0))
        address = closed.getsockname()
        closed.close()
        port = 0
        for _ in range(3):
            sock = self.sharing(port, address=False)
            self.assertEqual(sock.connect_ex(address), errno.EINPROGRESS)
            await self.pause(self.client)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.assertEqual(error, errno.ECONNREFUSED)
            [port] = self.ports(sock)
            sock.close()

    async def closedFirst(self) -> tuple[Any, int]:
        """
        @return: a listener, and the port of a client of it that has closed its connection first.
        """
        server, client = self.listener(), self.sharing(0)
        accepted = await self.connection(client, server)
        [port] = self.ports(client)
        client.close()
        await self.pause(self.client)
        self.assertEqual(accepted.recv(100), b"")
        accepted.close()
        await self.pause(self.client)
        return server, port

    async def test_timeWait(self) -> None:
        """
        The port of who closed first is taken for a while for those who do not reuse addresses.
        """
        server, port = await self.closedFirst()
        self.fails(errno.EADDRINUSE, self.sharing, port, False)
        self.fails(errno.EADDRINUSE, self.sharing, port, False, True)
        await self.connection(self.sharing(port), self.listener())
        server.close()

    async def test_listenInTimeWait(self) -> None:
        """
        Listening there is for those who reuse addresses as well.
        """
        server, port = await self.closedFirst()
        server.close()
        await self.connection(self.stream(), self.listener(port))

    async def test_closedLast(self) -> None:
        """
        The port of who closed last is free.
        """
        server, client = self.listener(), self.sharing(0, address=False)
        accepted = await self.connection(client, server)
        [port] = self.ports(client)
        accepted.close()
        await self.pause(self.client)
        client.close()
        await self.pause(self.client)
        self.sharing(port, address=False)

    async def test_reset(self) -> None:
        """
        Who resets has its port back at once, for the same address as well.
        """
        server, client = self.listener(), self.sharing(0, address=False)
        for _ in range(2):
            await self.connection(client, server)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            [port] = self.ports(client)
            client.close()
            await self.pause(self.client)
            client = self.sharing(port, address=False)

    async def test_accepted(self) -> None:
        """
        Connections of a listener that is gone keep its port from those who do not share.
        """
        server = self.listener()
        [port] = self.ports(server)
        client = self.stream()
        accepted = await self.connection(client, server)
        server.close()
        self.fails(errno.EADDRINUSE, self.sharing, port, False)
        self.listener(port)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)


class BindingCases(StreamCases):
    """
    Cases about Twisted's bindings, from the client's own address.
    """

    def listenOn(self, port: int, address: bool = True, number: bool = True) -> Any:
        """
        @return: a port of the client's host, and what its connections come to.
        """
        binding: Any = makeBinding(self.clientAddress, port, address, number)
        factory = Recorder.makeFactory()
        return self.opened(self.client.listenTCP(binding, factory, 50, self.clientAddress)), factory

    def connectFrom(self, port: int, to: int, address: bool = True, number: bool = True) -> Any:
        """
        @return: fires with a connection to the server.
        """
        binding: Any = makeBinding(self.clientAddress, port, address, number)
        endpoint = TCP4ClientEndpoint(self.client, self.serverAddress, to, 30, binding)
        return endpoint.connect(Factory.forProtocol(Recorder))

    async def test_sharedWithListener(self) -> None:
        """
        Connections are opened from a port that listens, and accepted there meanwhile.
        """
        first, second = Recorder.makeFactory(), Recorder.makeFactory()
        numbers = [await self.listen(factory) for factory in (first, second)]
        port, factory = self.listenOn(0)
        own = port.getHost().port
        clients = [await self.connectFrom(own, number) for number in numbers]
        servers = [await factory.connected.get() for factory in (first, second)]
        self.assertEqual([each.transport.getHost().port for each in clients], [own, own])
        neighbor = TCP4ClientEndpoint(self.client, self.clientAddress, own)
        caller: Any = await neighbor.connect(Factory.forProtocol(Recorder))
        accepted = await factory.connected.get()
        caller.transport.write(b"hello")
        await accepted.whenReceived(5)
        await self.closed(caller, accepted)
        for client, server in zip(clients, servers, strict=True):
            server.transport.write(b"hello")
            await client.whenReceived(5)
            await self.closed(client, server)

    async def test_notShared(self) -> None:
        """
        Who does not share is told.
        """
        number = await self.listen(Recorder.makeFactory())
        port, _ = self.listenOn(0)
        own = port.getHost().port
        for address, share in ((False, False), (True, False)):
            with self.assertRaises(ConnectBindError):
                await self.connectFrom(own, number, address, share)
            with self.assertRaises(CannotListenError):
                self.listenOn(own, address, share)
        self.listenOn(own)

    async def test_refusedAgain(self) -> None:
        """
        A refused connection can be tried again from the same port, until somebody listens.
        """
        factory = Recorder.makeFactory()
        port = self.server.listenTCP(0, factory, 50, self.serverAddress)
        number = port.getHost().port
        await port.stopListening()
        own = self.listenOn(0)[0].getHost().port
        for _ in range(3):
            with self.assertRaises(ConnectionRefusedError):
                await self.connectFrom(own, number)
        self.opened(self.server.listenTCP(number, factory, 50, self.serverAddress))
        client = await self.connectFrom(own, number)
        await self.closed(client, await factory.connected.get())
