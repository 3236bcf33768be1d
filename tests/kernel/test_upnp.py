"""
UPnP with the real miniupnpd, and with routers and neighbours that mean no good.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from twisted.trial import unittest

from p2ptwist.core.portmapping.ssdp import MULTICAST_GROUP, SSDP_PORT
from p2ptwist.testing.nat import NAT
from tests.kernel.lab.laboratory import Host, Laboratory, Router
from tests.kernel.lab.miniupnpd import Listed, Miniupnpd
from tests.kernel.lab.once import once
from tests.kernel.lab.process import Program

# How long a probe may take on busy cores, in seconds.
_PATIENCE = 60.0
# Seconds that a request may take in all: three, and what a busy machine takes to notice.
_LIMIT = 4.0
# Kilobytes by which this process may grow in hostile company.
_GROWTH = 8192

# What leaves a host, but for what it says to itself, its gateway and the group of searches.
_WATCH = f"""
table inet watch {{{{
  counter others {{{{ }}}}
  chain out {{{{ type filter hook output priority 0;
    oif lo accept
    ip daddr {{gateway}} accept
    ip daddr {MULTICAST_GROUP} udp dport {SSDP_PORT} accept
    counter name others
  }}}}
}}}}
"""


@dataclass
class _Home:
    """
    A site with a host that asks.
    """

    router: Router
    host: Host

    @classmethod
    def build(cls, laboratory: Laboratory, name: str) -> _Home:
        """
        @return: a new one, that is watched.
        """
        router = laboratory.site(name, NAT())
        home = cls(router, router.host(f"{name}-host"))
        home.host.namespace.run("nft", "-f", "-", text=_WATCH.format(gateway=home.gateway))
        return home

    @property
    def gateway(self) -> str:
        """
        The address of the router towards its LAN.
        """
        return f"{self.host.addresses[0].rpartition('.')[0]}.1"

    def start(self, *arguments: str) -> Program:
        """
        Start C{probe_upnp.py}.
        """
        return self.host.probe("upnp", self.gateway, self.host.addresses[0], *arguments)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """
        @return: what C{probe_upnp.py} said.
        """
        said: dict[str, Any] = self.start(*arguments).result(_PATIENCE)
        return said

    def others(self) -> int:
        """
        @return: the packets that the host has sent to anybody but its gateway.
        """
        shown = self.host.namespace.run("nft", "list", "counter", "inet", "watch", "others")
        found = re.search(r"packets (\d+)", shown)
        assert found is not None
        return int(found[1])


class DaemonTests(unittest.SynchronousTestCase):
    """
    A router that runs miniupnpd.
    """

    def setUp(self) -> None:
        """
        A site with such a router, and a mirror outside.
        """
        self.laboratory = Laboratory()
        self.addCleanup(self.laboratory.close)
        self.home = _Home.build(self.laboratory, "home")
        self.client = self.home.host.addresses[0]
        self.external = self.home.router.external

    def test_mapping(self) -> None:
        """
        A mapping is made, is in the daemon's list and the kernel's, and is renewed: under the same
        port, and with its lease begun anew.  Released, it is in neither.
        """
        daemon = Miniupnpd(self.home.router)
        wanted = ("udp", "5000", "5000", "120")
        for _ in range(2):
            said = self.home.ask("map", *wanted)["result"]
            self.assertEqual(said["external"], [self.external, 5000])
            self.assertTrue(0 < said["lifetime"] <= 120)
            self.assertEqual(said["router"], "laboratory router (Debian router)")
        said = self.home.ask("map", "tcp", "5001", "6001", "7200")["result"]
        self.assertEqual(said["external"], [self.external, 6001])
        self.assertTrue(120 < said["lifetime"] <= 3600)
        udp = Listed("udp", 5000, self.client, 5000)
        tcp = Listed("tcp", 6001, self.client, 5001)
        self.assertEqual(set(daemon.leases()), {udp, tcp})
        self.assertEqual(len(daemon.rules()), 2)
        self.assertIsNone(self.home.ask("release", *wanted)["result"])
        self.assertEqual(daemon.leases(), [tcp])
        self.assertEqual(len(daemon.rules()), 1)
        self.assertEqual(self.home.others(), 0)

    def test_conflict(self) -> None:
        """
        A port that another host has leads to another port for this one; and this one cannot take
        back what is the other's.
        """
        daemon = Miniupnpd(self.home.router)
        second = self.home.router.host("second")
        other = second.probe(
            *("upnp", self.home.gateway, second.addresses[0], "map", "udp", "5000", "0", "120")
        )
        self.assertEqual(other.result(_PATIENCE)["result"]["external"], [self.external, 5000])
        said = self.home.ask("map", "udp", "5000", "0", "120")["result"]
        self.assertNotEqual(said["external"][1], 5000)
        self.assertGreaterEqual(said["external"][1], 1024)
        self.home.ask("release", "udp", "5000", "5000", "120")
        self.assertIn(Listed("udp", 5000, second.addresses[0], 5000), daemon.leases())

    def test_expiry(self) -> None:
        """
        A lease that is not renewed ends by itself.
        """
        daemon = Miniupnpd(self.home.router)
        self.home.ask("map", "udp", "5000", "0", "2")
        daemon.program.errorLine("remove port mapping 5000 UDP", timeout=_PATIENCE)
        # It says so before it does it.
        end = time.monotonic() + _PATIENCE
        while (daemon.leases() or daemon.rules()) and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(daemon.leases(), [])
        self.assertEqual(daemon.rules(), [])

    def test_status(self) -> None:
        """
        The router says what it is; an address that is not public as well.
        """
        Miniupnpd(self.home.router)
        said = self.home.ask("status")["result"]
        self.assertEqual(said["status"], "Connected")
        self.assertEqual(said["external"], self.external)

    def test_killed(self) -> None:
        """
        A daemon that was killed is silence; one that has no UPnP too.
        """
        daemon = Miniupnpd(self.home.router)
        self.home.ask("map", "udp", "5000", "0", "120")
        daemon.kill()
        said = self.home.ask("map", "udp", "5000", "5000", "120")
        self.assertEqual(said["error"], "PortMapperSilent")
        self.assertLess(said["seconds"], _LIMIT)
        Miniupnpd(self.home.router, upnp=False)
        self.assertEqual(self.home.ask("status")["error"], "PortMapperSilent")
        self.assertEqual(self.home.others(), 0)


#: how a router lies in the laboratory, and whether its ports are mapped all the same
_MODES = {
    "honest": True,
    "group": True,  # it hears searches of the group alone
    "flood": True,
    "location": False,
    "control": False,
    "base": False,
    "redirect": False,
    "entities": False,
    "endless body": False,
    "endless chunks": False,
    "endless continues": False,
    "endless header": False,
    "a byte at a time": False,
    "silence": False,
    "reset": False,
}


#: routers that lie at the same time
_AT_ONCE = 5


@once
def _hostile() -> dict[str, tuple[dict[str, Any], int]]:
    """
    Ask each kind of router.

    @return: what came of it, and how many packets went to others, by the kind.
    """
    found: dict[str, tuple[dict[str, Any], int]] = {}
    modes = list(_MODES)
    with Laboratory() as laboratory:
        for some in (modes[at : at + _AT_ONCE] for at in range(0, len(modes), _AT_ONCE)):
            homes = [_Home.build(laboratory, f"lies{modes.index(mode)}") for mode in some]
            routers = [_lie(home, mode) for home, mode in zip(homes, some, strict=True)]
            for router in routers:
                router.line("ready", timeout=_PATIENCE)
            asking = [home.start("map", "udp", "5000", "0", "120") for home in homes]
            for mode, home, program in zip(some, homes, asking, strict=True):
                found[mode] = program.result(_PATIENCE), home.others()
            for router in routers:
                router.end()
    return found


def _lie(home: _Home, mode: str) -> Program:
    victim = home.router.host(f"victim{home.router.name}")
    return home.router.probe("igd", home.gateway, mode, victim.addresses[0])


class HostileTests(unittest.SynchronousTestCase):
    """
    Routers that lie, and neighbours that pretend to be the router.
    """

    def test_outcome(self) -> None:
        """
        What can be mapped is, and everything else is one error.
        """
        for mode, mapped in _MODES.items():
            said, _ = _hostile()[mode]
            self.assertEqual("result" in said, mapped, f"{mode}: {said}")
            self.assertNotEqual(said.get("error"), "PortMappingRefused", mode)

    def test_contacts(self) -> None:
        """
        Nobody but the gateway and the group of searches is sent anything.
        """
        self.assertEqual({mode: others for mode, (_, others) in _hostile().items() if others}, {})

    def test_watch(self) -> None:
        """
        Who does contact another is seen.
        """
        with Laboratory() as laboratory:
            home = _Home.build(laboratory, "watched")
            home.host.probe("knock", f"{home.router.external}:9").result(_PATIENCE)
            self.assertEqual(home.others(), 1)

    def test_time(self) -> None:
        """
        Everything is over in three seconds.
        """
        for mode, (said, _) in _hostile().items():
            self.assertLess(said["seconds"], _LIMIT, mode)

    def test_memory(self) -> None:
        """
        The asking process grows by 8 MB at most, whatever the router sends.
        """
        for mode, (said, _) in _hostile().items():
            self.assertLess(said["grown"], _GROWTH, mode)

    def test_neighbours(self) -> None:
        """
        A neighbour that answers searches of the group is not contacted, in its own name or in the
        gateway's.
        """
        with Laboratory() as laboratory:
            for mode in ("neighbour", "forger"):
                home = _Home.build(laboratory, mode)
                neighbour = home.router.host(f"{mode}-bad")
                probe = neighbour.probe("igd", neighbour.addresses[0], mode, home.gateway)
                probe.line("ready", timeout=_PATIENCE)
                said = home.ask("map", "udp", "5000", "0", "120")
                probe.line("searched", timeout=_PATIENCE)
                self.assertEqual(said["error"], "PortMapperSilent", mode)
                self.assertEqual(home.others(), 0, mode)
