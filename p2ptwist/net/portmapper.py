"""
Port mapping by PCP (RFC 6887) and NAT-PMP (RFC 6886): each a client of one router, on a UDP socket
of its own, which sends to nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess
from twisted.logger import Logger
from zope.interface import implementer

from p2ptwist.core.address import HostPort, canonicalHost, isIPv6
from p2ptwist.core.portmapping import natpmpquestions, pcpquestions
from p2ptwist.core.portmapping.answers import (
    Address,
    Dialect,
    Mapped,
    Question,
    Refused,
    Result,
)
from p2ptwist.core.portmapping.client import Answered, Restarted, RouterClient, RouterEvent
from p2ptwist.core.portmapping.exchange import TIME_LIMIT
from p2ptwist.core.portmapping.grant import Grant, MappingRequest
from p2ptwist.errors import PortMapperSilent, PortMappingError, PortMappingRefused, PortUnusable
from p2ptwist.interfaces import IPortMapper
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.pump import Pump
from p2ptwist.net.upnp import UPnPMapper

_log = Logger()

# What a refusal most often means, where the standard's name does not tell it.
_HINTS = {
    "NOT_AUTHORIZED": "switch port mapping on in the router's settings",
    "UNSUPP_VERSION": "it speaks another protocol",
    "UNSUPPORTED_VERSION": "it speaks another protocol",
    "ADDRESS_MISMATCH": "there is another NAT between this host and it",
    "CANNOT_PROVIDE_EXTERNAL": "it has no such address or port, or keeps it too shortly",
    "NETWORK_FAILURE": "it has no address of the Internet at the moment",
    "OUT_OF_RESOURCES": "it has no port left",
    "NO_RESOURCES": "it has no port left",
}


class _Router:
    """
    The socket towards a router, and who waits for its answers.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        dialect: Dialect,
        gateway: str,
        interface: str,
        restarted: Callable[[], None],
    ) -> None:
        self._name = name
        self._gateway = gateway
        self._reactor = reactor
        self._restarted = restarted
        self._client = RouterClient(dialect, unscoped(gateway))
        self._port = DatagramPort(reactor, interface)
        self._port.addConsumer(self._received)
        self._waiting: dict[int, Deferred[Result]] = {}
        self._pump = Pump[RouterEvent](reactor, self._client, self._send, self._deliver)
        self._open = False
        self._stopped = False

    def ask(self, question: Question, timeLimit: float = TIME_LIMIT) -> Deferred[Result]:
        """
        @return: a Deferred that fires with what the router said, if that was no refusal; fails with
            a L{PortMappingError}.  It can be cancelled.
        """
        if not self._open:
            try:
                self._listen()
            except PortMappingError as error:
                failed: Deferred[Result] = Deferred()
                failed.errback(error)
                return failed
        token = self._client.ask(question, self._reactor.seconds(), timeLimit)
        waiting: Deferred[Result] = Deferred(lambda _: self._forget(token))
        self._waiting[token] = waiting
        self._pump.drain()
        return waiting

    def announced(self, data: bytes, address: HostPort) -> None:
        """
        A datagram came to everybody.
        """
        if self._client.receiveAnnouncement(data, address, self._reactor.seconds()):
            self._pump.drain()

    def stop(self) -> Deferred[None]:
        """
        Cancel what waits, and close the socket.
        """
        self._stopped = True
        for waiting in tuple(self._waiting.values()):
            waiting.cancel()
        self._pump.stop()
        return self._port.stopListening()

    def _listen(self) -> None:
        if self._stopped:
            raise PortMappingError(f"{self._name} was stopped; make another")
        try:
            self._port.listen()
        except PortUnusable as error:
            raise PortMappingError(f"the router cannot be asked by {self._name}: {error}") from None
        self._open = True

    def _received(self, data: bytes, address: HostPort) -> bool:
        return self._pump.receiveDatagram(data, address)

    def _send(self, data: bytes, address: HostPort) -> None:
        # With the scope, which the operating system leaves out of what comes from there.
        self._port.write(data, (self._gateway, address[1]))

    def _forget(self, token: int) -> None:
        del self._waiting[token]
        self._client.forget(token)
        self._pump.drain()

    def _deliver(self, event: RouterEvent) -> None:
        if isinstance(event, Restarted):
            self._restarted()
            return
        waiting = self._waiting.pop(event.token)
        if not isinstance(event, Answered):
            waiting.errback(
                PortMapperSilent(
                    f"the router {self._gateway} does not answer to {self._name}: it has none, or "
                    "it is switched off in the router's settings"
                )
            )
            return
        result = event.answer.result
        if isinstance(result, Refused):
            hint = f": {_HINTS[result.why]}" if result.why in _HINTS else ""
            message = f"the router {self._gateway} refused by {self._name}, {result.why}{hint}"
            waiting.errback(
                PortMappingRefused(message, result.code, result.why, lasting=result.lasting)
            )
        else:
            waiting.callback(result)


@implementer(IPortMapper)
class PCPMapper:
    """
    Port mapping by PCP: IPv4 ports, and holes in the firewall for IPv6.
    """

    name = "pcp"

    def __init__(self, reactor: Any, gateway: str, interface: str) -> None:
        """
        @param reactor: one with time and UDP.
        @param gateway: the router's literal address; a link-local one with its scope.
        @param interface: this host's address towards the router: what is asked comes from there.
        """
        self.gateway = gateway
        self.restarted: Callable[[], object] | None = None
        self._interface = interface
        self._router = _Router(
            reactor, "PCP", pcpquestions.PCP(), gateway, interface, lambda: _call(self.restarted)
        )

    def request(self, wanted: MappingRequest) -> Deferred[Grant]:
        """
        @see: L{IPortMapper.request}
        """

        def granted(result: Result) -> Grant:
            assert isinstance(result, Mapped)
            assert result.host is not None
            external = (result.host, result.port)
            return Grant(self.name, wanted, external, float(result.lifetime), self.gateway)

        return self._router.ask(pcpquestions.MapQuestion(wanted)).addCallback(granted)

    def release(self, grant: Grant) -> Deferred[None]:
        """
        @see: L{IPortMapper.release}
        """
        return self._router.ask(pcpquestions.ReleaseQuestion(grant.request)).addCallback(_done)

    def check(self) -> Deferred[None]:
        """
        @see: L{IPortMapper.check}
        """
        return self._router.ask(pcpquestions.AnnounceQuestion(self._interface)).addBoth(_done)

    def announced(self, data: bytes, address: HostPort) -> None:
        """
        A datagram came to everybody in the network.

        @param address: where it came from.
        """
        self._router.announced(data, address)

    def stop(self) -> Deferred[None]:
        """
        @see: L{IPortMapper.stop}
        """
        return self._router.stop()


@implementer(IPortMapper)
class NATPMPMapper:
    """
    Port mapping by NAT-PMP: IPv4 alone.
    """

    name = "nat-pmp"

    def __init__(self, reactor: Any, gateway: str, interface: str) -> None:
        """
        @param reactor: one with time and UDP.
        @param gateway: the router's literal IPv4 address.
        @param interface: this host's address towards the router: what is asked comes from there.
        """
        self.gateway = gateway
        self.restarted: Callable[[], object] | None = None
        self._reactor = reactor
        self._router = _Router(
            reactor,
            "NAT-PMP",
            natpmpquestions.NATPMP(),
            gateway,
            interface,
            lambda: _call(self.restarted),
        )

    def request(self, wanted: MappingRequest) -> Deferred[Grant]:
        """
        @see: L{IPortMapper.request}
        """
        return Deferred.fromCoroutine(self._request(wanted))

    def release(self, grant: Grant) -> Deferred[None]:
        """
        @see: L{IPortMapper.release}
        """
        return self._router.ask(natpmpquestions.ReleaseQuestion(grant.request)).addCallback(_done)

    def check(self) -> Deferred[None]:
        """
        @see: L{IPortMapper.check}
        """
        return self._router.ask(natpmpquestions.AddressQuestion()).addBoth(_done)

    def announced(self, data: bytes, address: HostPort) -> None:
        """
        A datagram came to everybody in the network.

        @param address: where it came from.
        """
        self._router.announced(data, address)

    def stop(self) -> Deferred[None]:
        """
        @see: L{IPortMapper.stop}
        """
        return self._router.stop()

    async def _request(self, wanted: MappingRequest) -> Grant:
        """
        One question at a time, as RFC 6886 section 3.1 wants it, in the time of one.
        """
        end = self._reactor.seconds() + TIME_LIMIT
        address = await self._router.ask(natpmpquestions.AddressQuestion())
        assert isinstance(address, Address)
        left = end - self._reactor.seconds()
        mapped = await self._router.ask(natpmpquestions.MapQuestion(wanted), left)
        assert isinstance(mapped, Mapped)
        external = (address.host, mapped.port)
        return Grant(self.name, wanted, external, float(mapped.lifetime), self.gateway)


def pcpMapper(reactor: Any, gateway: str, interface: str) -> PCPMapper | None:
    """
    @return: a mapper, for a router of either family.
    """
    return PCPMapper(reactor, gateway, interface)


def natpmpMapper(reactor: Any, gateway: str, interface: str) -> NATPMPMapper | None:
    """
    @return: a mapper; C{None} for an IPv6 router.
    """
    return None if isIPv6(gateway) else NATPMPMapper(reactor, gateway, interface)


def upnpMapper(reactor: Any, gateway: str, interface: str) -> UPnPMapper | None:
    """
    @return: a mapper; C{None} for an IPv6 router, or a reactor that has no child processes, as that
        of a simulated host.
    """
    if isIPv6(gateway) or not IReactorProcess.providedBy(reactor):
        return None
    return UPnPMapper(reactor, gateway)


def unscoped(host: str) -> str:
    """
    @return: C{host} without the scope of a link-local IPv6 address.
    """
    return canonicalHost(host.partition("%")[0])


def _call(callback: Callable[[], object] | None) -> None:
    if callback is not None:
        callback()


def _done(_: object) -> None:
    """
    Whatever it was, it is over.
    """
