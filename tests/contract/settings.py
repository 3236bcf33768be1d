"""
Where contract cases run: each setting gives them reactors and addresses, and runs their coroutines.

The cases know two reactors, a client's and a server's.  On the real reactor and on one simulated
host both are the same; elsewhere a simulated Internet is between them.
"""

from __future__ import annotations

import functools
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2ptwist.testing import NAT, Hairpinning, Internet, Link
from p2ptwist.testing.streamsocket import StreamSocket
from p2ptwist.testing.udp import DatagramSocket

LOOPBACK = "127.0.0.1"
#: virtual seconds that no case needs; the real reactor's cases have trial's own time limit
TIME_LIMIT = 600.0


class Cases(SynchronousTestCase):
    """
    What every case may use.

    @ivar client: the reactor of the client's program.
    @ivar server: the reactor of the server's program.
    @ivar clientAddress: an address of the client's host.
    @ivar serverAddress: an address of the server's host that the client reaches.
    @ivar serverName: a name of the server.
    @ivar isTranslated: whether the server sees the client under another address.
    @ivar plenty: octets that are more than all buffers between the two programs hold.
    """

    client: Any
    server: Any
    clientAddress: str = LOOPBACK
    serverAddress: str = LOOPBACK
    serverName: str = "localhost"
    isTranslated = False
    plenty = 24_000_000  # Linux lets a connection have some 10 MB

    def makeSocket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> Any:
        """
        @return: a socket of the client's host.
        """
        raise NotImplementedError

    def opened(self, port: IListeningPort) -> Any:
        """
        Close C{port} when the test is over, unless the test has closed it.
        """
        self.addCleanup(port.stopListening)
        return port

    async def pause(self, clock: IReactorTime, delay: float = 0.05) -> None:
        """
        Let C{delay} seconds pass: time for what must not happen to happen, if it would.
        """
        await deferLater(clock, delay)


class RealReactor(TestCase):
    """
    The reactor that trial runs, over the loopback interface.
    """

    timeout = 30

    def setUp(self) -> None:
        """
        Both programs use the one real reactor.
        """
        self.client = self.server = reactor

    def makeSocket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> Any:
        """
        @return: a real socket.
        """
        return socket.socket(family, kind)


class _Simulated(SynchronousTestCase):
    """
    A simulated Internet, whose time passes while a case waits.

    @ivar internet: the Internet.
    """

    internet: Internet
    plenty = 2_000_000  # a simulated connection has 512 KiB

    def begin(self) -> None:
        """
        Make the Internet, and run this test's coroutine in its time.
        """
        self.internet = Internet(seed=2026)
        method = getattr(self, self._testMethodName)

        @functools.wraps(method)
        def inVirtualTime() -> None:
            self.internet.runUntil(ensureDeferred(method()), TIME_LIMIT)

        setattr(self, self._testMethodName, inVirtualTime)
        self.internet.showOnFailure(self)


class SimulatedHost(_Simulated):
    """
    Both programs are on one simulated host and use its loopback addresses.
    """

    def setUp(self) -> None:
        """
        Make one host.
        """
        self.begin()
        self.client = self.server = self.internet.host("host", "192.0.2.1", "2001:db8::1")

    def makeSocket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> Any:
        """
        @return: a simulated socket, as Twisted's transports get it.
        """
        makeSocket = DatagramSocket if kind == socket.SOCK_DGRAM else StreamSocket
        return makeSocket(self.client._stack, family)


class SimulatedHosts(_Simulated):
    """
    Two public hosts with a link between them that loses and delays, but no datagram of so few.
    """

    def setUp(self) -> None:
        """
        Make two hosts.
        """
        self.begin()
        link = Link(latency=0.01, jitter=0.002)
        self.client = self.internet.host("client", "192.0.2.1", "2001:db8::1", link=link)
        self.server = self.internet.host("server", "192.0.2.2", "2001:db8::2", link=link)
        self.clientAddress, self.serverAddress = "192.0.2.1", "192.0.2.2"
        self.serverName = "server.example"
        self.internet.name(self.serverName, self.serverAddress)


class SimulatedNAT(_Simulated):
    """
    The client is behind two NATs.
    """

    isTranslated = True

    def setUp(self) -> None:
        """
        Make a public server, and a client behind two routers.
        """
        self.begin()
        outer = self.internet.router("outer", "203.0.113.1", nat=NAT())
        inner = outer.router("inner", nat=NAT(hairpinning=Hairpinning.EXTERNAL))
        self.client = inner.host("client")
        self.server = self.internet.host("server", "192.0.2.2")
        self.clientAddress, self.serverAddress = self.client.address, "192.0.2.2"
        self.serverName = "server.example"
        self.internet.name(self.serverName, self.serverAddress)
