"""
Hosts: Twisted reactors in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    Binding,
    IConnector,
    IDelayedCall,
    IHostnameResolver,
    IListeningPort,
    IOpenSSLContextFactory,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorSSL,
    IReactorTCP2,
    IReactorTime,
    IReactorUDP,
    IReadDescriptor,
    IWriteDescriptor,
    _Binding,
)
from twisted.internet.protocol import ClientFactory, DatagramProtocol, P, ServerFactory
from zope.interface import implementer

from p2ptwist.interfaces import IDefaultGateways, IHostAddresses
from p2ptwist.testing.clock import DelayedCall
from p2ptwist.testing.counters import Counters
from p2ptwist.testing.dns import FirstAddress, Resolver
from p2ptwist.testing.link import Link, Wire
from p2ptwist.testing.network import Network
from p2ptwist.testing.stack import Interface, Stack
from p2ptwist.testing.transports import TCPConnector, TCPPort, UDPPort
from p2ptwist.testing.world import World

if TYPE_CHECKING:
    from twisted.internet.ssl import ClientContextFactory


@implementer(
    IReactorTime,
    IReactorUDP,
    IReactorTCP2,
    IReactorSSL,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IHostAddresses,
    IDefaultGateways,
)
class Host:
    """
    A host: a Twisted reactor whose sockets are on the simulated Internet.

    Make one with L{Internet.host<p2ptwist.testing.Internet.host>} or
    L{Router.host<p2ptwist.testing.Router.host>}.

    @ivar name: how it is called in a trace.
    @ivar nameResolver: looks names up in the Internet's DNS.
    @ivar running: whether the reactor runs, which it does.
    """

    running = True

    def __init__(self, world: World, name: str) -> None:
        """
        @param world: what it is part of.
        @param name: how it is called in a trace.
        """
        self.name = world.claim(name)
        world.hosts[name] = self
        self.nameResolver: IHostnameResolver = Resolver(world.clock, world.names)
        self._clock = world.clock
        self._stack = Stack(world, name)
        self._calls: dict[DelayedCall, None] = {}

    # The machine

    @property
    def interfaces(self) -> Sequence[Interface]:
        """
        Where this host is attached, oldest first.
        """
        return self._stack.interfaces

    def attach(self, network: Network, addresses: Sequence[str], link: Link) -> Interface:
        """
        Add an interface.  Use C{attach} of the router or the Internet.
        """
        return self._stack.attach(network, addresses, link)

    def addAddress(self, address: str, interface: int = 0) -> None:
        """
        Give this host one more address.

        @param address: the address.
        @param interface: the index of the interface that gets it.
        """
        self._stack.addAddress(self._stack.interfaces[interface], address)

    def removeAddress(self, address: str) -> None:
        """
        Take an address away.  Sockets that are bound to it stay open and reach nobody; others use
        the next address from now on.

        @raise LocalUsageError: when it is not this host's.
        """
        self._stack.removeAddress(address)

    def kill(self) -> None:
        """
        End the program on this host as C{SIGKILL} does: nothing is called any more, the kernel
        closes the sockets.  The host can then be used as the reactor of another program.
        """
        self._forgetCalls()
        self._stack.poller.closeAll()

    def cutPower(self) -> None:
        """
        End the program on this host without a word to anybody.  The host can then be used as the
        reactor of another program, as after a reboot.
        """
        self._stack.tcp.vanish()
        self.kill()

    def _forgetCalls(self) -> None:
        for call in self._calls:
            call.forget()
        self._calls.clear()

    @property
    def link(self) -> Wire:
        """
        The link of the first interface; L{Wire.cut} it and L{Wire.restore} it.
        """
        return self._stack.interfaces[0].wire

    @property
    def address(self) -> str:
        """
        The first address of the first interface.
        """
        return self._stack.interfaces[0].addresses[0]

    @property
    def counters(self) -> Counters:
        """
        Packets that left and came over links (not those to itself), and what was dropped here.
        """
        return self._stack.counters

    def hostAddresses(self) -> Sequence[str]:
        """
        See L{IHostAddresses.hostAddresses}.
        """
        return self._stack.addresses()

    def defaultGateways(self) -> Sequence[str]:
        """
        See L{IDefaultGateways.defaultGateways}.

        @return: the routers of this host's LANs, those of its first interface first.  The public
            network's routers have no address.
        """
        return self._stack.gateways()

    # IReactorTime

    def seconds(self) -> float:
        """
        @return: virtual seconds since the Internet was made.
        """
        return self._clock.now

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """
        Call C{callable} in C{delay} seconds.
        """
        assert callable is not None and delay >= 0, f"{delay} is not a delay from now"
        call = DelayedCall(
            self._clock, self._clock.now + delay, self._calls.pop, callable, args, kwargs
        )
        self._calls[call] = None
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        @return: the calls that this host has still to make.
        """
        return list(self._calls)

    # IReactorFromThreads, and the part of IReactorCore that services use

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """
        Call C{callable} in an event of its own, now.

        It is for code that is used to it, not for other threads: a simulation has one.
        """
        self.callLater(0, callable, *args, **kwargs)

    def callWhenRunning(
        self, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> None:
        """
        Call C{callable} at once, for the reactor is running.
        """
        callable(*args, **kwargs)

    # Names

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """
        Use another resolver.

        @return: the one that was used before.
        """
        previous, self.nameResolver = self.nameResolver, resolver
        return previous

    def resolve(self, name: str, timeout: Sequence[int] = (1, 3, 11, 45)) -> Deferred[str]:
        """
        Look up the IPv4 address of C{name}.

        @return: fires with an address; fails with C{DNSLookupError} when there is none.
        """
        if isIPAddress(name) or isIPv6Address(name):
            return succeed(name)
        first = FirstAddress(name)
        self.nameResolver.resolveHostName(first, name, addressTypes=[IPv4Address])
        return first.result

    # IReactorUDP

    def listenUDP(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
    ) -> IListeningPort:
        """
        Open a UDP port.  See C{IReactorUDP}.
        """
        listening = UDPPort(self, self._stack, port, protocol, interface, maxPacketSize)
        listening.startListening()
        return listening

    # IReactorTCP

    def listenTCP(
        self,
        port: int | _Binding,
        factory: ServerFactory,
        backlog: int = 50,
        interface: str | None = "",
    ) -> IListeningPort:
        """
        Wait for TCP connections.  See C{IReactorTCP2}.
        """
        listening = TCPPort(self, self._stack, port, factory, backlog, interface or "")
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30.0,
        bindAddress: _Binding | tuple[str, int] | None = None,
    ) -> IConnector:
        """
        Open a TCP connection.  See C{IReactorTCP2}.
        """
        binding = cast(Binding, bindAddress)  # what the interface calls by two names
        connector = TCPConnector(host, port, factory, timeout, binding, self)
        connector.stack = self._stack
        connector.connect()
        return connector

    # IReactorSSL

    def listenSSL(
        self,
        port: int,
        factory: ServerFactory[P],
        contextFactory: IOpenSSLContextFactory,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """
        Wait for TLS connections.  See C{IReactorSSL}.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory  # slow, and seldom needed

        secured: Any = TLSMemoryBIOFactory(contextFactory, False, factory, self)
        return self.listenTCP(port, secured, backlog, interface)

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: ClientFactory[P],
        contextFactory: ClientContextFactory,
        timeout: float = 30.0,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """
        Open a TLS connection.  See C{IReactorSSL}.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory  # slow, and seldom needed

        secured: Any = TLSMemoryBIOFactory(contextFactory, True, factory, self)
        return self.connectTCP(host, port, secured, timeout, bindAddress)

    # IReactorFDSet, for Twisted's transports

    def addReader(self, reader: IReadDescriptor) -> None:
        """
        Watch the socket of C{reader}.
        """
        self._stack.poller.addReader(reader)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """
        Watch the socket of C{writer}.
        """
        self._stack.poller.addWriter(writer)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """
        No longer watch the socket of C{reader}.
        """
        self._stack.poller.removeReader(reader)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """
        No longer watch the socket of C{writer}.
        """
        self._stack.poller.removeWriter(writer)

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        """
        Watch nothing.
        """
        readers, writers = self.getReaders(), self.getWriters()
        for reader in readers:
            self.removeReader(reader)
        for writer in writers:
            self.removeWriter(writer)
        removed: list[IReadDescriptor | IWriteDescriptor] = [*writers]
        return [*(reader for reader in readers if reader not in removed), *removed]

    def getReaders(self) -> list[IReadDescriptor]:
        """
        @return: all that wait to read.
        """
        return self._stack.poller.readers()

    def getWriters(self) -> list[IWriteDescriptor]:
        """
        @return: all that wait to write.
        """
        return self._stack.poller.writers()

    def __repr__(self) -> str:
        return f"<Host {self.name}>"
