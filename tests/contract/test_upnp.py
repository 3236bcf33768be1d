"""
L{p2ptwist.net.upnp} and its child process with a router on loopback that means well.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.utils import getProcessOutput
from zope.interface.verify import verifyObject

from p2ptwist.core.portmapping.grant import Grant, MappingRequest
from p2ptwist.errors import PortMapperSilent, PortMappingError, PortMappingRefused
from p2ptwist.interfaces import IPortMapper
from p2ptwist.net import upnp
from p2ptwist.net.portmapper import upnpMapper
from p2ptwist.net.upnp import RouterStatus, UPnPMapper
from tests.contract.fakeigd import HOST, FakeRouter
from tests.contract.upnpcases import TCP, UDP, Cases

_NO_SIGNALS = """
from twisted.internet import reactor
from tests.contract.upnpcases import HOST, UDP
from p2ptwist.net import upnp

def ended(_):
    print("ended")
    reactor.stop()

def failed(failure):
    print("failed")
    mapper.stop().addCallback(ended)

upnp._CHILD = ("-c", "import time; print(1); time.sleep(0.2)")
mapper = upnp.UPnPMapper(reactor, HOST)
reactor.callWhenRunning(lambda: mapper.request(UDP).addErrback(failed))
reactor.run(installSignalHandlers=False)
"""


class MappingTests(Cases):
    """
    What a router that means well is asked, and what is made of its answers.
    """

    async def test_map(self) -> None:
        """
        A mapping to this host is asked for, with a lease of an hour and the port of the inside; the
        grant tells what the router calls itself.
        """
        router = FakeRouter()
        mapper = self.mapper(router)
        verifyObject(IPortMapper, mapper)
        grant = await mapper.request(UDP)
        address, name = ("198.51.100.7", 5000), "A router (Fake)"
        self.assertEqual(grant, Grant("upnp", UDP, address, 3600.0, HOST, name))
        self.assertEqual(
            router.mappings["UDP", 5000],
            {
                "NewRemoteHost": "",
                "NewExternalPort": "5000",
                "NewProtocol": "UDP",
                "NewInternalPort": "5000",
                "NewInternalClient": HOST,
                "NewEnabled": "1",
                "NewPortMappingDescription": "p2ptwist",
                "NewLeaseDuration": "3600",
            },
        )

    async def test_renewAndRelease(self) -> None:
        """
        The suggested port and a shorter lease are asked for; the same request again renews, and
        what is released is gone, also when it was gone before.
        """
        router = FakeRouter()
        mapper = self.mapper(router)
        for _ in range(2):
            grant = await mapper.request(TCP)
            self.assertEqual(grant.external, ("198.51.100.7", 6001))
            self.assertEqual(grant.lifetime, 120.0)
        self.assertEqual([*router.mappings], [("TCP", 6001)])
        await mapper.release(grant)
        self.assertEqual(router.mappings, {})
        await mapper.release(grant)

    async def test_somebodyElses(self) -> None:
        """
        A mapping that leads to another host by now is not taken back.
        """
        router = FakeRouter()
        mapper = self.mapper(router)
        grant = await mapper.request(TCP)
        router.mappings["TCP", 6001]["NewInternalClient"] = "127.0.0.9"
        await mapper.release(grant)
        self.assertEqual(len(router.mappings), 1)

    async def test_taken(self) -> None:
        """
        When the port is taken another one is tried, from 1024 upwards, five times in all.
        """
        router = FakeRouter(taken={5000})
        grant = await self.mapper(router).request(UDP)
        self.assertNotEqual(grant.external[1], 5000)
        self.assertGreaterEqual(grant.external[1], 1024)
        router = FakeRouter(taken=set(range(65536)))
        error = await self.fails(router, PortMappingRefused)
        self.assertEqual((error.code, error.why), (718, "ConflictInMappingEntry"))
        self.assertEqual([name for name, _ in router.sent].count("AddPortMapping"), 5)

    async def test_samePorts(self) -> None:
        """
        A router that wants both ports to be the same gets that.
        """
        router = FakeRouter(refusals={"AddPortMapping": 724})
        mapper = self.mapper(router)
        error = await self.failed(mapper.request(TCP), PortMappingRefused)
        self.assertEqual(error.code, 724)
        asked = [f["NewExternalPort"] for name, f in router.sent if name == "AddPortMapping"]
        self.assertEqual(asked, ["6001", "5001"])

    async def test_onlyPermanent(self) -> None:
        """
        A lease without an end is not asked for; one that was given all the same is taken back.
        """
        router = FakeRouter(refusals={"AddPortMapping": 725})
        error = await self.fails(router, PortMappingRefused)
        self.assertEqual((error.code, error.why), (725, "OnlyPermanentLeasesSupported"))
        self.assertIn("725: OnlyPermanentLeasesSupported", str(error))
        leases = [f["NewLeaseDuration"] for name, f in router.sent if name == "AddPortMapping"]
        self.assertEqual(leases, ["3600"])
        router = FakeRouter(lease=lambda asked: 0)
        error = await self.fails(router, PortMappingRefused)
        self.assertEqual(error.code, 725)
        self.assertGreater(error.lasting, 3600)
        self.assertEqual(router.mappings, {})

    async def test_lease(self) -> None:
        """
        The lease is what the router's list says, and never longer than what was asked for; a router
        that does not show its list is believed.
        """
        for router, granted in (
            (FakeRouter(lease=lambda asked: 60), 60.0),
            (FakeRouter(lease=lambda asked: 604800), 3600.0),
            (FakeRouter(refusals={"GetSpecificPortMappingEntry": 606}), 3600.0),
        ):
            self.assertEqual((await self.mapper(router).request(UDP)).lifetime, granted)

    async def test_check(self) -> None:
        """
        A mapping that is gone before its time is told, but no mapping that was released, that the
        router does not show, or when none was made; and it is not looked for all the time.
        """
        self.patch(upnp, "_CHECK_INTERVAL", 0.0)
        router = FakeRouter()
        mapper = self.mapper(router)
        told: list[str] = []
        await mapper.check()
        first = await mapper.request(UDP)
        grant = await mapper.request(TCP)
        await mapper.check()  # nobody to tell, and nothing
        mapper.restarted = lambda: told.append("restarted")
        await mapper.check()
        router.refusals["GetSpecificPortMappingEntry"] = 606
        await mapper.check()
        del router.refusals["GetSpecificPortMappingEntry"]
        self.assertEqual(told, [])
        router.mappings["TCP", 6001]["NewInternalPort"] = "7"
        await mapper.check()
        router.mappings.clear()
        await mapper.check()
        self.assertEqual(told, ["restarted"] * 2)
        router.locations = []
        await mapper.check()
        self.patch(upnp, "_CHECK_INTERVAL", 300.0)
        searched = router.searched
        await mapper.check()
        self.assertEqual(router.searched, searched)
        self.patch(upnp, "_CHECK_INTERVAL", 0.0)
        for each in (first, grant):
            await self.failed(mapper.release(each), PortMapperSilent)
        searched = router.searched
        await mapper.check()
        self.assertEqual(router.searched, searched)
        self.assertEqual(told, ["restarted"] * 2)

    async def test_connections(self) -> None:
        """
        Of several WAN connections the one that is up is used, and the first one if none is.
        """
        router = FakeRouter(states=("Disconnected", "Connecting", "Connected"))
        status = await self.mapper(router).status(HOST)
        self.assertEqual(status.status, "Connected")
        router = FakeRouter(states=("Disconnected", "Unconfigured"))
        status = await self.mapper(router).status(HOST)
        expected = RouterStatus("A router (Fake)", "198.51.100.7", "Disconnected", 42)
        self.assertEqual(status, expected)

    async def test_noStatus(self) -> None:
        """
        A router that does not tell its status maps ports all the same.
        """
        router = FakeRouter(refusals={"GetStatusInfo": 401})
        self.assertEqual((await self.mapper(router).request(UDP)).external[1], 5000)

    async def test_privateAddress(self) -> None:
        """
        A private external address is told as it is: there is another NAT in front of the router.
        """
        router = FakeRouter(external="100.64.1.2")
        self.assertEqual((await self.mapper(router).request(UDP)).external, ("100.64.1.2", 5000))

    async def test_atOnce(self) -> None:
        """
        Several requests at once do not wait for each other; too many are refused.
        """
        router = FakeRouter()
        mapper = self.mapper(router)
        wanted = [MappingRequest("udp", HOST, 7000 + n, None, 60.0, bytes(12)) for n in range(8)]
        asked = gatherResults([mapper.request(each) for each in wanted])
        with self.assertRaisesRegex(PortMappingError, "too many"):
            await mapper.request(UDP)
        self.assertEqual([g.external[1] for g in await asked], list(range(7000, 7008)))
        self.assertEqual(len(router.mappings), 8)


class ChildTests(Cases):
    """
    What may become of the child process.
    """

    def child(self, program: str) -> None:
        """
        Have another program in its place.
        """
        self.patch(upnp, "_CHILD", ("-c", program))

    async def test_programs(self) -> None:
        """
        A child that fails, dies, talks nonsense or too much is one error.
        """
        for program, said in (
            ("raise SystemExit(1)", "failed"),
            ("import os; os.kill(os.getpid(), 11)", "failed"),
            ("print('x')", "sense"),
            ("print([])", "sense"),
            ("print('{}')", "sense"),
            (
                'print(\'{"external": "1.2.3.4", "port": 80, "lifetime": 9, "router": null}\')',
                "sense",
            ),
            ('print(\'{"external": "x", "port": 8000, "lifetime": 9, "router": null}\')', "sense"),
            ("print('x' * 9000)", "too much"),
            ("import sys; sys.stderr.write('x' * 90000); print('x')", "sense"),
            ("import time; time.sleep(60)", "in time"),
        ):
            self.child(program)
            error = await self.fails(FakeRouter())
            self.assertIn(said, str(error), program)

    async def test_limits(self) -> None:
        """
        A child cannot have much memory, time or many files.
        """
        limit = "from p2ptwist.net.upnpchild import limitProcess; limitProcess()\n"
        answer = 'print(\'{"failure": "missing", "why": "limited"}\')'
        time = "import resource; seconds, _ = resource.getrlimit(resource.RLIMIT_CPU)"
        for program in (
            f"{time}\nif seconds == 2:\n    {answer}",
            f"try:\n    bytearray(2 ** 28)\nexcept MemoryError:\n    {answer}",
            f"try:\n    [open('/dev/null') for _ in range(40)]\nexcept OSError:\n    {answer}",
        ):
            self.child(limit + program)
            self.assertEqual(str(await self.fails(FakeRouter())), "UPnP: limited")

    async def test_missing(self) -> None:
        """
        Without miniupnpc there is no UPnP, and that is what it says: here, and in the child.
        """
        self.child(
            "import sys; sys.modules['miniupnpc'] = None\n"
            "from p2ptwist.net.upnpchild import main; main()"
        )
        expected = "UPnP: miniupnpc is not installed"
        self.assertEqual(str(await self.fails(FakeRouter())), expected)
        self.patch(importlib.util, "find_spec", lambda name: None)
        self.assertEqual(str(await self.fails(FakeRouter())), expected)

    async def test_noProcess(self) -> None:
        """
        A system that has no process to spare is one error.
        """

        class Full:
            """
            The reactor, but for processes.
            """

            callLater = reactor.callLater

            def spawnProcess(self, *arguments: Any) -> None:
                """
                There is none.
                """
                raise BlockingIOError("Resource temporarily unavailable")

        mapper = UPnPMapper(Full(), HOST)
        await self.failed(mapper.request(UDP))
        await mapper.stop()

    async def test_noSignals(self) -> None:
        """
        A reactor that runs without signal handlers gets its answers, and is rid of its child
        processes in the end.
        """
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        said = await getProcessOutput(sys.executable, ["-c", _NO_SIGNALS], environment)
        self.assertEqual(said, b"failed\nended\n")

    async def test_cancelled(self) -> None:
        """
        A request can be cancelled; a mapper that stops gives up what is under way.
        """
        mapper = self.mapper(FakeRouter(lies={"description": lambda exchange: None}))
        asked = mapper.request(UDP)
        asked.cancel()
        await self.assertFailure(asked, CancelledError)
        asked = mapper.request(UDP)
        stopped = mapper.stop()
        await self.assertFailure(asked, CancelledError)
        await stopped
        self.assertEqual(mapper._children, set())

    async def test_addresses(self) -> None:
        """
        UPnP is for IPv4; a local address that is not there is one error.
        """
        wanted = MappingRequest("udp", "2001:db8::1", 5000, None, 60.0, bytes(12))
        error = await self.assertFailure(
            UPnPMapper(reactor, HOST).request(wanted), PortMappingError
        )
        self.assertIn("IPv4", str(error))
        await self.failed(UPnPMapper(reactor, "fe80::1").request(UDP))
        self.assertIsNone(upnpMapper(reactor, "fe80::1%eth0", "fe80::2"))
        self.assertIsNone(upnpMapper(MemoryReactorClock(), HOST, HOST))
        self.assertIsInstance(upnpMapper(reactor, HOST, HOST), UPnPMapper)
        mapper = self.mapper(FakeRouter())
        wanted = MappingRequest("udp", "198.51.100.1", 5000, None, 60.0, bytes(12))
        error = await self.failed(mapper.request(wanted), PortMapperSilent)
        self.assertIn("assign requested address", str(error))
