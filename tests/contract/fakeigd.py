"""
A UPnP router, on loopback as a rule, that does what it is told: an honest one, and every other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Protocol, ServerFactory
from twisted.internet.task import LoopingCall

from tests.unit.upnpwire import IP_CONNECTION, description, error, response, service, ssdpAnswer

HOST = "127.0.0.1"
# What a router may do instead of answering a request.
Lie = Callable[["Exchange"], None]


class Exchange(Protocol):
    """
    One connection, with one request.

    @ivar router: whose connection it is.
    """

    transport: Any

    def __init__(self, router: FakeRouter) -> None:
        self.router = router
        self._data = b""
        self._beats: list[LoopingCall] = []

    def connectionMade(self) -> None:
        """
        Count it.
        """
        self.router.connections += 1

    def dataReceived(self, data: bytes) -> None:
        """
        A piece of the request.
        """
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            self._data = b""
            self.router.requested(self, head.decode(), body.decode())

    def connectionLost(self, reason: object = None) -> None:
        """
        The other side is gone: say no more.
        """
        for beat in self._beats:
            beat.stop()

    def say(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        """
        Answer, and end.
        """
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.transport.write(head.encode() + body)
        self.transport.loseConnection()

    def pour(self, start: bytes, more: bytes, every: float = 0.0) -> None:
        """
        Say C{start}, and then C{more} again and again, as fast as it is read or every so many
        seconds.
        """
        self.transport.write(start)
        if every:
            beat = LoopingCall(self.transport.write, more)
            self._beats.append(beat)
            beat.start(every)
        else:
            self.transport.registerProducer(_Pourer(self.transport, more), False)


@dataclass
class _Pourer:
    """
    A pull producer without an end.
    """

    transport: Any
    more: bytes

    def resumeProducing(self) -> None:
        """
        More is wanted.
        """
        self.transport.write(self.more)

    def stopProducing(self) -> None:
        """
        No more is.
        """


class SSDP(DatagramProtocol):
    """
    Answers searches, or whatever comes.
    """

    def __init__(self, router: FakeRouter) -> None:
        self._router = router

    def datagramReceived(self, data: bytes, address: Any) -> None:
        """
        A search.
        """
        self._router.searched += 1
        for answer in self._router.ssdpAnswers():
            assert self.transport is not None
            self.transport.write(answer, address)


@dataclass
class FakeRouter(ServerFactory):
    """
    One router.

    @ivar host: its address.
    @ivar external: the address that it says it has.
    @ivar states: the states of its WAN connections; each has a service of its own.
    @ivar taken: the external ports that it says others have.
    @ivar refusals: the error codes that actions end with, by name.
    @ivar lies: what it does instead of answering: by the name of an action, or C{"description"}.
    @ivar lease: what becomes of a lease that is asked for.
    @ivar locations: what it says in answers to searches, instead of the truth.
    @ivar base: the URL that it says is the base of the others.
    @ivar control: where actions are sent, before the number of the connection.
    @ivar sent: all actions that came, with their fields.
    @ivar mappings: what is mapped: fields by transport and external port.
    """

    host: str = HOST
    external: str = "198.51.100.7"
    states: tuple[str, ...] = ("Connected",)
    taken: set[int] = field(default_factory=set)
    refusals: dict[str, int] = field(default_factory=dict)
    lies: dict[str, Lie] = field(default_factory=dict)
    lease: Callable[[int], int] = int
    locations: list[str] | None = None
    base: str = ""
    control: str = "/control/"
    sent: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    mappings: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)
    connections: int = 0
    searched: int = 0
    port: int = 0
    ssdpPort: int = 0

    def start(self, case: Any, reactor: Any) -> FakeRouter:
        """
        Serve until the test is over.
        """
        tcp = reactor.listenTCP(0, self, interface=self.host)
        udp = reactor.listenUDP(0, SSDP(self), self.host, 8192)
        self.port, self.ssdpPort = tcp.getHost().port, udp.getHost().port
        case.addCleanup(tcp.stopListening)
        case.addCleanup(udp.stopListening)
        return self

    def buildProtocol(self, addr: IAddress | None) -> Exchange:
        """
        Somebody connects.
        """
        exchange = Exchange(self)
        exchange.factory = self
        return exchange

    @property
    def url(self) -> str:
        """
        Where its description is.
        """
        return f"http://{self.host}:{self.port}/root.xml"

    def ssdpAnswers(self) -> list[bytes]:
        """
        @return: what it answers to a search.
        """
        locations = [self.url] if self.locations is None else self.locations
        return [ssdpAnswer(location) for location in locations]

    def requested(self, exchange: Exchange, head: str, body: str) -> None:
        """
        Answer a request.
        """
        path = head.split(" ")[1]
        found = re.search(r'(?im)^soapaction:.*#(\w+)"?\s*$', head)
        action = found[1] if found else "description"
        if action in self.lies:
            self.lies[action](exchange)
        elif found is None:
            services = [
                service(IP_CONNECTION, f"{self.control}{n}") for n in range(len(self.states))
            ]
            exchange.say(description(*services, base=self.base, model="Fake"))
        else:
            fields = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
            self.sent.append((action, fields))
            self._act(exchange, action, fields, int(path[-1]))

    def _act(
        self, exchange: Exchange, action: str, fields: dict[str, str], connection: int
    ) -> None:
        done = getattr(self, f"_do{action}")
        result = self.refusals.get(action) or done(fields, connection)
        if isinstance(result, int):
            exchange.say(error(result), "500 Internal Server Error")
        else:
            exchange.say(response(action, **result))

    def _doGetStatusInfo(self, fields: dict[str, str], connection: int) -> dict[str, str]:
        return {
            "NewConnectionStatus": self.states[connection],
            "NewLastConnectionError": "ERROR_NONE",
            "NewUptime": "42",
        }

    def _doGetExternalIPAddress(self, fields: dict[str, str], connection: int) -> dict[str, str]:
        return {"NewExternalIPAddress": self.external}

    def _doAddPortMapping(self, fields: dict[str, str], connection: int) -> dict[str, str] | int:
        key = fields["NewProtocol"], int(fields["NewExternalPort"])
        if key[1] in self.taken:
            return 718
        lease = str(self.lease(int(fields["NewLeaseDuration"])))
        self.mappings[key] = {**fields, "NewLeaseDuration": lease}
        return {}

    def _doGetSpecificPortMappingEntry(
        self, fields: dict[str, str], connection: int
    ) -> dict[str, str] | int:
        key = fields["NewProtocol"], int(fields["NewExternalPort"])
        return self.mappings.get(key, 714)

    def _doDeletePortMapping(self, fields: dict[str, str], connection: int) -> dict[str, str] | int:
        key = fields["NewProtocol"], int(fields["NewExternalPort"])
        return 714 if self.mappings.pop(key, None) is None else {}
