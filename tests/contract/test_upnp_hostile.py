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
from tests.contract.igdlies import ENDLESS, LIES
from tests.contract.upnpcases import UDP, Cases
from tests.unit.upnpwire import IP_CONNECTION, description, service

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
