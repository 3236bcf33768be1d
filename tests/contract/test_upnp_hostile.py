"""
L{p2ptwist.net.upnp} and its child process with routers on loopback that lie.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from p2ptwist.errors import PortMapperSilent, PortMappingRefused
from tests.contract.fakeigd import HOST, Exchange, FakeRouter, Lie
from tests.contract.upnpcases import UDP, Cases
from tests.unit.upnpwire import IP_CONNECTION, description, service


def _shut(exchange: Exchange) -> None:
    exchange.transport.abortConnection()


def _say(*data: bytes) -> Lie:
    def lie(exchange: Exchange) -> None:
        exchange.transport.write(b"".join(data))
        exchange.transport.loseConnection()

    return lie


_OK = b"HTTP/1.1 200 OK\r\n"
_BOMB = (
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY a 'ha'>"
    + b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 9))
    + b"]><root><device><friendlyName>&a8;</friendlyName></device></root>"
)

#: what a router may answer to any request, that is over at once
LIES: dict[str, Lie] = {
    "reset": _shut,
    "nothing": _say(),
    "half a status": _say(b"HTTP/1."),
    "half a header": _say(_OK, b"Content-"),
    "half a body": _say(_OK, b"Content-Length: 500\r\n\r\n<root><device>"),
    "garbage": _say(bytes(range(256)) * 20),
    "other protocol": _say(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "no body": _say(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "empty": _say(_OK, b"Content-Length: 0\r\n\r\n"),
    "negative": _say(_OK, b"Content-Length: -5\r\n\r\n<a/>"),
    "not found": _say(b"HTTP/1.1 404 Not Found\r\n\r\n"),
    "unauthorized": _say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
    "entities": lambda exchange: exchange.say(_BOMB),
    "no XML": lambda exchange: exchange.say(b"hello" * 1000),
    "deep": lambda exchange: exchange.say(b"<a>" * 20000),
    "other XML": lambda exchange: exchange.say(b"<a><b>c</b></a>"),
    "70,000": lambda exchange: exchange.say(b"<a>" + b" " * 70000 + b"</a>"),
    "half a chunk": _say(_OK, b"Transfer-Encoding: chunked\r\n\r\nffff\r\n<a>"),
    "bad chunk": _say(_OK, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n<a>"),
    "huge chunk": _say(_OK, b"Transfer-Encoding: chunked\r\n\r\n", b"f" * 40, b"\r\n<a/>"),
    "many headers": _say(_OK, b"A: b\r\n" * 5000, b"\r\n"),
    "long header": _say(_OK, b"A: ", b"b" * 100_000, b"\r\n\r\n"),
}
#: and what would never be over
ENDLESS: dict[str, Lie] = {
    "silence": lambda exchange: None,
    "a byte at a time": lambda exchange: exchange.pour(
        _OK + b"Content-Length: 60000\r\n\r\n", b"<", 0.2
    ),
    "a header at a time": lambda exchange: exchange.pour(_OK, b"A", 0.2),
    "endless body": lambda exchange: exchange.pour(_OK + b"\r\n<a>", b"b" * 65536),
    "endless chunks": lambda exchange: exchange.pour(
        _OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 1000 + b"\r\nb\r\n"
    ),
    "endless continues": lambda exchange: exchange.pour(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless header": lambda exchange: exchange.pour(_OK, b"a" * 65536),
}
_STEPS = ("description", "GetStatusInfo", "GetExternalIPAddress", "AddPortMapping")


class LyingTests(Cases):
    """
    Routers that lie: each request fails with one error and costs one child process.
    """

    async def lie(self, step: str, lies: dict[str, Lie]) -> None:
        """
        Each of the lies, at that step, is the end of the request.
        """
        routers = [FakeRouter(lies={step: lie}) for lie in lies.values()]
        names = iter(lies)
        for some in (routers[first : first + 8] for first in range(0, len(routers), 8)):
            errors: list[Any] = await gatherResults(
                [Deferred.fromCoroutine(self.fails(router)) for router in some]
            )
            for router, error in zip(some, errors, strict=True):
                self.assertNotEqual(type(error), PortMappingRefused, name := next(names))
                self.assertEqual(router.mappings, {}, name)

    async def test_description(self) -> None:
        """
        Instead of its description.
        """
        await self.lie("description", LIES)

    async def test_status(self) -> None:
        """
        Instead of its status.
        """
        await self.lie("GetStatusInfo", LIES)

    async def test_externalAddress(self) -> None:
        """
        Instead of its address.
        """
        await self.lie("GetExternalIPAddress", LIES)

    async def test_mapping(self) -> None:
        """
        Instead of a mapping.
        """
        await self.lie("AddPortMapping", LIES)

    async def test_endless(self) -> None:
        """
        Answers that never end are ended; so is silence.
        """
        for step in ("description", "AddPortMapping"):
            await self.lie(step, ENDLESS)

    async def test_addresses(self) -> None:
        """
        What is no external address is none.
        """
        for said in ("", "0.0.0.0", "127.0.0.1", "239.1.1.1", "::1", "router", "1.2.3.4.5", "1.2"):
            error = await self.fails(FakeRouter(external=said))
            self.assertIn("external address", str(error), said)

    async def test_otherMapping(self) -> None:
        """
        A router that made another mapping than it was asked for is not believed.
        """

        router = FakeRouter()
        mapper = self.mapper(router)
        done = router._doAddPortMapping

        def other(fields: dict[str, str], connection: int) -> dict[str, str] | int:
            return done({**fields, "NewInternalPort": "22"}, connection)

        self.patch(router, "_doAddPortMapping", other)
        error = await self.failed(mapper.request(UDP))
        self.assertIn("another mapping", str(error))

    async def test_searches(self) -> None:
        """
        Ten thousand answers to a search, and answers that are none, do not matter; the right one
        among them is found, unless three others that look right come before it.
        """
        wrong = [f"http://{HOST}:{port}/" for port in (1, 2, 3)]
        noise = ["http://127.0.0.9/", "", "x" * 3000, "https://127.0.0.1/"] * 20
        router = FakeRouter()
        mapper = self.mapper(router)
        router.locations = noise + wrong + [router.url]
        self.assertEqual((await mapper.request(UDP)).external[1], 5000)
        router = FakeRouter(locations=[f"http://{HOST}:{port}/" for port in range(1, 3334)])
        await self.fails(router)

    async def test_silent(self) -> None:
        """
        Nobody answers.
        """
        router = FakeRouter(locations=[])
        error = await self.fails(router, PortMapperSilent)
        self.assertEqual(str(error), "UPnP: no answer to SSDP")


class ElsewhereTests(Cases):
    """
    Routers that want somebody else to be contacted: a second server, which counts.
    """

    def setUp(self) -> None:
        """
        The server that nobody should connect to, on another address and another port.
        """
        self.victims = []
        for host in ("127.0.0.2", HOST):
            victim = FakeRouter()
            port: Any = reactor.listenTCP(0, victim, interface=host)
            self.addCleanup(port.stopListening)
            victim.port = port.getHost().port
            self.victims.append((host, victim))

    def _urls(self) -> list[str]:
        return [f"http://{host}:{victim.port}/" for host, victim in self.victims]

    async def nobodyElse(self, router: FakeRouter) -> None:
        """
        The request fails, and only the router was contacted.
        """
        await self.fails(router)
        self.assertEqual([victim.connections for _, victim in self.victims], [0, 0])

    async def test_location(self) -> None:
        """
        A description on another host is not fetched.
        """
        await self.nobodyElse(FakeRouter(locations=self._urls()[:1]))

    async def test_redirect(self) -> None:
        """
        A redirect is not followed, from the description or from an action.
        """
        for url in self._urls():
            for step in _STEPS:
                for status in ("302 Found", "307 Temporary Redirect"):
                    more = f"Location: {url}\r\n"
                    lie = partial(Exchange.say, body=b"", status=status, headers=more)
                    await self.nobodyElse(FakeRouter(lies={step: lie}))

    async def test_controlAndBase(self) -> None:
        """
        Actions are not sent to another host or port, whatever the description says.
        """
        for url in self._urls():
            await self.nobodyElse(FakeRouter(control=url))
            await self.nobodyElse(FakeRouter(base=url))
            await self.nobodyElse(FakeRouter(control=url[5:]))

    async def test_otherURLs(self) -> None:
        """
        Nothing else that a description names is contacted: no icon, no service's own description,
        no presentation, no events.
        """
        for url in self._urls():
            data = description(service(IP_CONNECTION, "/control/0")).replace(
                b"/WANIPCn.xml</SCPDURL>", f"{url}</SCPDURL>".encode()
            )
            data = data.replace(b"/evt<", f"{url}<".encode()).replace(
                b"<modelName></modelName>",
                f"<presentationURL>{url}</presentationURL><icon><url>{url}</url></icon>".encode(),
            )
            router = FakeRouter(lies={"description": partial(Exchange.say, body=data)})
            self.assertEqual((await self.mapper(router).request(UDP)).external[1], 5000)
            self.assertEqual([victim.connections for _, victim in self.victims], [0, 0])
