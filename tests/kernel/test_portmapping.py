"""
Port mapping with the real miniupnpd: by each protocol alone, and by all together.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT
from tests.kernel.lab.laboratory import Host, Laboratory, PublicHost, Router
from tests.kernel.lab.miniupnpd import Miniupnpd
from tests.kernel.lab.process import Program

# How long anything may take on busy cores, in seconds.
_PATIENCE = 60.0
_EACH = ("pcp", "nat-pmp", "upnp")
_ALL = ",".join(_EACH)
_UDP, _TCP = "udp:5000", "tcp:5001"
# Kilobytes by which a process may grow in hostile company.
_GROWTH = 8192
_LEASE = 12  # seconds; miniupnpd grants what it is asked for by these options
_SHORT = "min_lifetime=5"


@dataclass
class _Home:
    """
    A site with a daemon on its router, and a host.
    """

    router: Router
    host: Host
    daemon: Miniupnpd
    programs: int = 0

    def start(self, mappers: str, lifetime: int, *wanted: str, secret: int = 1) -> Program:
        """
        Start C{probe_portmap.py}.
        """
        self.programs += 1
        return self.host.run(
            *(sys.executable, "-m", "tests.kernel.probe_portmap"),
            *(mappers, str(lifetime), str(secret), *wanted),
            name=f"{self.host.name}-portmap{self.programs}",
        )

    def listed(self) -> set[tuple[str, int, int]]:
        """
        @return: transport, external and internal port of each mapping in the daemon's list.
        """
        return {
            (each.transport, each.externalPort, each.internalPort) for each in self.daemon.leases()
        }

    def isFree(self) -> bool:
        """
        @return: whether nothing is mapped, by the daemon's list and by the kernel's.
        """
        return not self.daemon.leases() and not self.daemon.rules()


def _home(laboratory: Laboratory, name: str, mappers: str = _ALL, options: str = "") -> _Home:
    router = laboratory.site(name, NAT())
    daemon = Miniupnpd(
        router,
        upnp="upnp" in mappers,
        pmp=mappers != "upnp",
        options=options,
    )
    return _Home(router, router.host(f"{name}-host"), daemon)


def _knock(public: PublicHost, home: _Home, port: int = 5000) -> None:
    public.run(
        *(sys.executable, "-m", "tests.kernel.probe_knock", f"{home.router.external}:{port}"),
        name=f"{public.name}-knock-{home.router.name}-{port}",
    )


def _until(look: Callable[[], object]) -> bool:
    """
    @return: whether C{look} becomes true in time.
    """
    end = time.monotonic() + _PATIENCE
    while not look():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


class MiniupnpdTests(unittest.SynchronousTestCase):
    """
    A router that runs miniupnpd.
    """

    def setUp(self) -> None:
        """
        A laboratory with a host outside.
        """
        self.laboratory = Laboratory()
        self.addCleanup(self.laboratory.close)
        self.public = self.laboratory.publicHost("public")

    def check(self, mappers: str, expected: str) -> None:
        """
        A UDP and a TCP port are mapped by C{expected}, let strangers in, and are free again at
        once when the program is asked to end.
        """
        home = _home(self.laboratory, "home", mappers)
        program = home.start(mappers, 3600, _UDP, _TCP)
        address = home.router.external
        line = program.line(f"mapped {_UDP} {expected}", timeout=_PATIENCE)
        self.assertEqual(line, f"mapped {_UDP} {expected} {address}:5000")
        line = program.line(f"mapped {_TCP} {expected}", timeout=_PATIENCE)
        self.assertEqual(line, f"mapped {_TCP} {expected} {address}:5001")
        _knock(self.public, home)
        program.line(f"heard {_UDP}", timeout=_PATIENCE)
        self.public.run(
            "python3", "-c", f"import socket; socket.create_connection(('{address}', 5001))"
        )
        program.line(f"heard {_TCP}", timeout=_PATIENCE)
        self.assertEqual(home.listed(), {("udp", 5000, 5000), ("tcp", 5001, 5001)})
        self.assertEqual(program.end(), 0)
        self.assertTrue(home.isFree())

    def test_pcp(self) -> None:
        """
        By PCP alone.
        """
        self.check("pcp", "pcp")

    def test_natpmp(self) -> None:
        """
        By NAT-PMP alone.
        """
        self.check("nat-pmp", "nat-pmp")

    def test_upnp(self) -> None:
        """
        By UPnP alone.
        """
        self.check("upnp", "upnp")

    def test_all(self) -> None:
        """
        By all together: PCP is kept, and there is one mapping.
        """
        self.check(_ALL, "pcp")

    def test_report(self) -> None:
        """
        A report says of each protocol what it would do, and leaves nothing behind.
        """
        home = _home(self.laboratory, "home")
        said = home.host.probe("portmap", "report").result(_PATIENCE)
        seconds, _ = said.pop("seconds"), said.pop("kilobytes")
        self.assertEqual(set(said), set(_EACH))
        for name, (external, router, problem, doubleNAT) in said.items():
            self.assertEqual((external[0], problem), (home.router.external, None), name)
            self.assertFalse(doubleNAT)
            self.assertEqual(router is not None, name == "upnp")
        self.assertLess(seconds, 4.0)
        self.assertTrue(_until(home.isFree))

    def test_reportNothing(self) -> None:
        """
        A router without any of them is reported to be silent.
        """
        host = self.laboratory.site("bare", NAT()).host("bare-host")
        said = host.probe("portmap", "report").result(_PATIENCE)
        self.assertLess(said.pop("seconds"), 4.0)
        said.pop("kilobytes")
        for external, _, problem, _ in said.values():
            self.assertIsNone(external)
            self.assertIn("answer", problem)

    def test_liar(self) -> None:
        """
        A router that answers each request with thousands of lies is believed in nothing, and costs
        three seconds, no exception, and little memory.
        """
        site = self.laboratory.site("liar", NAT())
        host = site.host("liar-host")
        gateway = f"{host.addresses[0].rpartition('.')[0]}.1"
        site.probe("liar", gateway, "2000").line("ready", timeout=_PATIENCE)
        program = host.probe("portmap", "report")
        said = program.result(_PATIENCE)
        self.assertLess(said.pop("seconds"), 4.0)
        self.assertLess(said.pop("kilobytes"), _GROWTH)
        for name in ("pcp", "nat-pmp"):
            external, _, problem, _ = said[name]
            self.assertIsNone(external)
            self.assertIn("answer", problem)
        self.assertEqual(program.transcript().count("Traceback"), 0)

    def test_killed(self) -> None:
        """
        The mappings of a program that is killed are gone at the end of their lease, by whatever
        protocol; until then they were renewed, and there is no other moment without.
        """
        homes = {
            name: _home(self.laboratory, name, options=_SHORT)
            for name in ("pcp", "nat-pmp", "upnp")
        }
        programs = {name: home.start(name, _LEASE, _UDP) for name, home in homes.items()}
        for name, program in programs.items():
            program.line(f"mapped {_UDP} {name}", timeout=_PATIENCE)
        end = time.monotonic() + 2 * _LEASE
        while time.monotonic() < end:
            for name, home in homes.items():
                self.assertEqual(len(home.daemon.rules()), 1, name)
            time.sleep(0.25)
        for program in programs.values():
            program.kill()
        for name, home in homes.items():
            self.assertTrue(_until(home.isFree), name)
            self.assertEqual(programs[name].lines()[1:], [], name)

    def test_takenBack(self) -> None:
        """
        A program that was killed and started again has its mapping back, at an external port that
        is not its own.
        """
        homes = {name: _home(self.laboratory, name) for name in ("pcp", "nat-pmp")}
        for name, home in homes.items():
            neighbor = home.router.host(f"{name}-neighbor")
            own, home.host = home.host, neighbor
            home.start(name, 3600, _UDP).line("mapped", timeout=_PATIENCE)
            home.host = own
            first, second = self.startTwice(home, name)
            self.assertEqual(first, second)
            self.assertNotIn(":5000", first.removeprefix(f"mapped {_UDP}"))
            self.assertEqual(len(home.listed()), 2)

    def test_takenBackByUPnP(self) -> None:
        """
        So has one by UPnP, which knows a mapping by its external port.
        """
        home = _home(self.laboratory, "home")
        first, second = self.startTwice(home, "upnp")
        self.assertEqual(first, second)
        self.assertEqual(len(home.listed()), 1)

    def startTwice(self, home: _Home, mappers: str) -> list[str]:
        """
        Start the program, kill it, and start it again.

        @return: what it said each time.
        """
        lines = []
        for _ in range(2):
            program = home.start(mappers, 3600, _UDP)
            lines.append(program.line("mapped", timeout=_PATIENCE))
            program.kill()
            program.wait(_PATIENCE)
        return lines

    def test_restarted(self) -> None:
        """
        A daemon that was killed and has forgotten everything is noticed by its announcement, and
        the mapping is there again before long.
        """
        homes = {name: _home(self.laboratory, name) for name in ("pcp", "nat-pmp")}
        time.sleep(6.0)  # so that the epoch of the next one is lower than this one's
        programs = {name: home.start(name, 3600, _UDP) for name, home in homes.items()}
        for program in programs.values():
            program.line("mapped", timeout=_PATIENCE)
        for home in homes.values():
            home.daemon.kill()
            home.daemon = Miniupnpd(home.router, forget=True)
        for name, home in homes.items():
            self.assertTrue(_until(home.listed), name)
            self.assertEqual(home.listed(), {("udp", 5000, 5000)})
        for name, home in homes.items():
            _knock(self.public, home)
            programs[name].line(f"heard {_UDP}", timeout=_PATIENCE)
