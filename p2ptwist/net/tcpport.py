"""
One local TCP port that listens, and from which every connection is made: so that a NAT in front
gives them all the address that one of them was seen to have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IConnector, IListeningPort
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.tcp import makeBinding
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, canonicalHost, isIPv6
from p2ptwist.core.ice.candidate import isLoopback, isUnusable
from p2ptwist.errors import PortUnusable

_ANY = {False: "0.0.0.0", True: "::"}


class TCPPort:
    """
    A local port.  Single use.

    @ivar localPort: its number, once it listens.
    @ivar hosts: the addresses of this host that it can be dialed at, the best first.
    """

    def __init__(self, reactor: Any, hosts: Iterable[str], interface: str = "") -> None:
        """
        @param reactor: provides C{IReactorTCP}.
        @param hosts: this host's addresses.
        @param interface: a literal address to use alone; empty, or C{"0.0.0.0"} or C{"::"}, for
            all.
        """
        self.localPort = 0
        # 0.0.0.0 and :: stand for all of a family, or of both.
        single = bool(interface) and not isUnusable(canonicalHost(interface))
        self.hosts = [canonicalHost(interface)] if single else _usable(hosts)
        if interface == _ANY[False]:
            self.hosts = [host for host in self.hosts if not isIPv6(host)]
        self._reactor = reactor
        self._interface = interface if single else ""
        self._listening: list[IListeningPort] = []
        self._connectors: list[IConnector] = []
        self._families: set[bool] = set()

    def listen(self, build: Callable[[], Protocol | None], port: int = 0) -> None:
        """
        Listen, for each family of addresses that this host has.

        @param build: makes a protocol for each connection that comes; C{None} refuses it.
        @param port: the number to use; 0 for any.
        @raise PortUnusable: when that is impossible.
        """
        factory = _Listening(build)
        self.localPort = port
        problem: CannotListenError | None = None
        for family in sorted({isIPv6(host) for host in self.hosts}):
            try:
                self._listen(factory, family)
            except CannotListenError as error:
                problem = error
        if not self._listening:
            raise PortUnusable(
                f"cannot listen for TCP on {self._interface or 'any address'}, port {port}: "
                f"{problem or 'this host has no address'}"
            )

    def speaks(self, host: str) -> bool:
        """
        @return: whether this port has the family of C{host}.
        """
        return isIPv6(host) in self._families

    def dial(
        self,
        address: HostPort,
        build: Callable[[], Protocol],
        failed: Callable[[Failure], object],
        timeout: float,
    ) -> IConnector:
        """
        Make a connection from this port.

        @param build: makes the protocol when there is a connection.
        @param failed: called when there is none, also because the connector was stopped.
        @param timeout: seconds.
        """
        factory = _Dial(build, failed, self._connectors)
        binding = self._binding(isIPv6(address[0]))
        connector: IConnector = self._reactor.connectTCP(
            address[0], address[1], factory, timeout=timeout, bindAddress=binding
        )
        self._connectors.append(connector)
        return connector

    def close(self) -> Deferred[None]:
        """
        Listen no more, and give up all dials that are under way.  Connections stay open.

        @return: a Deferred that fires when the port is free of them.
        """
        for connector in tuple(self._connectors):
            connector.stopConnecting()
        listening, self._listening = self._listening, []
        ended = [maybeDeferred(port.stopListening) for port in listening]
        return DeferredList(ended, consumeErrors=True).addCallback(lambda _: None)

    def _listen(self, factory: _Listening, family: bool) -> None:
        binding = self._binding(family)
        # The interface tells Twisted the family of addresses.
        interface = self._interface or _ANY[family]
        listening = self._reactor.listenTCP(binding, factory, interface=interface)
        self._listening.append(listening)
        self._families.add(family)
        self.localPort = listening.getHost().port

    def _binding(self, family: bool) -> Any:
        interface = self._interface or _ANY[family]
        return makeBinding(interface, self.localPort, reuseAddress=True, reusePort=True)


class _Listening(Factory[Any]):
    """
    Whoever dials this port.
    """

    noisy = False

    def __init__(self, build: Callable[[], Protocol | None]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """
        Somebody has dialed.
        """
        return self._build()


class _Dial(ClientFactory[Any]):
    """
    One dial.
    """

    noisy = False

    def __init__(
        self,
        build: Callable[[], Protocol],
        failed: Callable[[Failure], object],
        connectors: list[IConnector],
    ) -> None:
        self._build = build
        self._failed = failed
        self._connectors = connectors

    def startedConnecting(self, connector: IConnector) -> None:
        """
        Nothing to do: the caller has the connector.
        """

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        There is a connection.
        """
        # The only one of this factory, and so no other can be meant.
        self._connectors[:] = [each for each in self._connectors if _factoryOf(each) is not self]
        return self._build()

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """
        There is none.
        """
        if connector in self._connectors:
            self._connectors.remove(connector)
        self._failed(reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """
        The protocol is told of that.
        """


def _factoryOf(connector: Any) -> object:
    return connector.factory


def _usable(hosts: Iterable[str]) -> Sequence[str]:
    """
    @return: those at which a peer could reach this host; loopback addresses only where there is
        nothing else.
    """
    usable = [host for host in dict.fromkeys(map(canonicalHost, hosts)) if not isUnusable(host)]
    return [host for host in usable if not isLoopback(host)] or usable
