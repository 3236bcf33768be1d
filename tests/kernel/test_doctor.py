"""
C{p2ptwist doctor --json} as a process in the laboratory: right behind every NAT, with the real node
and with coturn.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping as MappingType
from typing import Any

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT, Filtering, Hairpinning, Mapping, PortAllocation
from tests.kernel.lab.laboratory import Laboratory, Place, PublicHost
from tests.kernel.lab.miniupnpd import Miniupnpd
from tests.kernel.lab.once import once
from tests.kernel.lab.peers import CALL, LINKS, START, STUN, startNode
from tests.kernel.lab.process import Program
from tests.kernel.test_mappedpeers import _NO_DIRECT_TCP as NO_DIRECT_TCP
from tests.kernel.test_mappedpeers import _NO_PCP
from tests.kernel.test_stun import _BLOCKED, _FIREWALL, _NATS, classic, expected, startCoturn

# How many run at the same time: two cores start no more in the time that they have.
_AT_ONCE = 4
_EI, _APD = Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT
_OPEN, _STRICT = Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT
_SYMMETRIC = NAT(mapping=_APD, allocation=PortAllocation.RANDOM)
# An address that no router of the laboratory has.
_ELSEWHERE = "11.9.9.9"

Facts = dict[str, Any]


def doctor(place: Place, *arguments: str) -> Program:
    """
    Start the command.
    """
    argv = [sys.executable, "-m", "p2ptwist.cli", "doctor", "--json", *arguments]
    return place.run(*argv, name=f"{place.name}-doctor")


def viaNode(node: PublicHost) -> tuple[str, str]:
    """
    @return: the arguments with which the node is asked.
    """
    return "--rendezvous", f"tcp:{node.addresses[0]}:{LINKS}"


def examineAll(places: MappingType[str, Place], *arguments: str) -> dict[str, Facts]:
    """
    Run the command in several places, some at a time.
    """
    found: dict[str, Facts] = {}
    names = list(places)
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        programs = {name: doctor(places[name], *arguments) for name in some}
        found.update({name: programs[name].result(START) for name in some})
    return found


@once
def _everyNAT() -> dict[NAT, list[Facts]]:
    """
    @return: what is said behind every NAT, of our node and of coturn.
    """
    with Laboratory() as laboratory:
        node, coturn = laboratory.publicHost("node"), laboratory.publicHost("coturn")
        startNode(node)
        startCoturn(coturn)
        places = {
            str(number): laboratory.site(f"site{number}", nat).host(f"host{number}")
            for number, nat in enumerate(_NATS)
        }
        ours = examineAll(places, *viaNode(node))
        theirs = examineAll(places, "--stun", f"{coturn.addresses[0]}:{STUN}")
        return {_NATS[int(number)]: [ours[number], theirs[number]] for number in places}


@once
def _networks() -> dict[str, Facts]:
    """
    @return: what is said in other networks.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node", ipv6=True)
        startNode(node)
        outer = laboratory.site("outer", NAT(filtering=_OPEN))
        steep = laboratory.site("steep", _SYMMETRIC)
        places: dict[str, Place] = {
            "open": laboratory.publicHost("open"),
            "firewall": laboratory.publicHost("firewall"),
            "blocked": laboratory.publicHost("blocked"),
            "both families": laboratory.site("six", NAT(), ipv6=True).host("both"),
            "blocked behind a NAT": laboratory.site("shut", NAT()).host("quiet"),
            "nested open": outer.router("inner", NAT(filtering=_OPEN)).host("nested1"),
            "nested strict": outer.router("strict", NAT(filtering=_STRICT)).host("nested2"),
            "nested symmetric": steep.router("deep", NAT(filtering=_OPEN)).host("nested3"),
        }
        rules = {"firewall": _FIREWALL, "blocked": _BLOCKED}
        rules["blocked behind a NAT"] = _BLOCKED.replace("wan0", "eth0")
        for name, text in rules.items():
            places[name].namespace.run("nft", "-f", "-", text=text)
        return examineAll(places, *viaNode(node))


@once
def _mapping() -> dict[str, Facts]:
    """
    @return: what is said behind routers that map ports, and what these then still have mapped.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        sites = {name: laboratory.site(name, _SYMMETRIC) for name in ("all", "pmp", "upnp", "old")}
        hosts = {name: site.host(f"{name}-host") for name, site in sites.items()}
        provider = laboratory.site("provider", NAT())
        for name in ("double", "double pmp", "double upnp", "double other"):
            sites[name] = provider.router(name.replace(" ", "-"), NAT())
            hosts[name] = sites[name].host(f"{name.replace(' ', '-')}-host")
        daemons = {
            name: Miniupnpd(
                site,
                upnp=not name.endswith(("pmp", "old")),
                pmp=not name.endswith("upnp"),
                options=f"ext_ip={_ELSEWHERE}" if name == "double other" else "",
            )
            for name, site in sites.items()
        }
        sites["old"].namespace.run("nft", "-f", "-", text=_NO_PCP)
        found = examineAll(hosts, *viaNode(node))
        for name, daemon in daemons.items():
            found[name]["left"] = daemon.leases() or daemon.rules()
            found[name]["home"] = sites[name].external
        return found


@once
def _traces() -> dict[str, Facts]:
    """
    @return: the traces of calls between sites, by the kinds of their NATs.
    """
    counting = NAT(mapping=_APD, allocation=PortAllocation.SEQUENTIAL)
    pairs = {
        "home": (NAT(), NAT()),
        "counting": (counting, NAT()),
        "symmetric": (_SYMMETRIC, _SYMMETRIC),
    }
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        callers, listeners = {}, {}
        for name, (near, far) in pairs.items():
            callers[name] = laboratory.site(f"{name}-near", near).host(f"{name}-caller")
            callee = laboratory.site(f"{name}-far", far).host(f"{name}-callee")
            for host in (callers[name], callee):
                host.namespace.run("nft", "-f", "-", text=NO_DIRECT_TCP)
            argv = [sys.executable, "-m", "p2ptwist.cli", "listen", "--echo", "--json"]
            key = str(laboratory.directory / f"{name}-callee.key")
            listeners[name] = callee.run(*argv, *viaNode(node), "--identity", key)
        programs = {}
        for name, listener in listeners.items():
            peer = listener.event("ready", timeout=START)["peer"]
            key = str(laboratory.directory / f"{name}-caller.key")
            programs[name] = doctor(callers[name], peer, *viaNode(node), "--identity", key)
        return {name: program.result(START + CALL) for name, program in programs.items()}


class EveryNATTests(unittest.SynchronousTestCase):
    """
    Every NAT that the laboratory can make.
    """

    def test_behaviour(self) -> None:
        """
        What is said of it is so, with our node and with coturn.
        """
        for nat, reports in _everyNAT().items():
            for report in reports:
                right = {**expected(nat), "translated": True, "double_nat": None}
                self.assertEqual({key: report[key] for key in right}, right, (nat, report))
                self.assertEqual(len({each.rpartition(":")[0] for each in report["public"]}), 1)

    def test_hairpin(self) -> None:
        """
        Hairpinning is seen where it is, and said not to be only where it is not.
        """
        for nat, reports in _everyNAT().items():
            hairpins = nat.hairpinning is not Hairpinning.NONE
            certain = hairpins or nat.mapping is _EI or nat.filtering is _OPEN
            for report in reports:
                self.assertIs(report["hairpin"], hairpins if certain else None, (nat, report))

    def test_classic(self) -> None:
        """
        pystun3's word for it is told; of our node's second address it makes the right one.
        """
        for nat, (report, _) in _everyNAT().items():
            self.assertEqual(report["classic"], classic(nat), (nat, report))
            self.assertIs(report["classic_differs"], False)

    def test_peers(self) -> None:
        """
        Which peers will be direct follows from it.
        """
        for nat, reports in _everyNAT().items():
            for report in reports:
                self.assertEqual(report["peers"]["reachable"], "direct")
                self.assertEqual(report["peers"]["steady"] == "direct", nat.mapping is _EI)
                self.assertNotIn("could not", report["verdict"])

    def test_nodes(self) -> None:
        """
        The link to the node is told with its round trip; without a node there is none.  Of the
        round trips the median is looked at: to a process that was held up while the connection was
        made, the rest seems shorter.
        """
        roundTrips = []
        for ours, theirs in _everyNAT().values():
            (node,) = ours["nodes"]
            self.assertTrue(node["up"])
            roundTrips.append(node["rtt"])
            self.assertEqual(theirs["nodes"], [])
        self.assertGreater(statistics.median(roundTrips), 0.05)

    def test_soon(self) -> None:
        """
        It takes less than five seconds, on a machine with room for it.
        """
        seconds = [report["seconds"] for reports in _everyNAT().values() for report in reports]
        self.assertLess(statistics.median(seconds), 5.0)


class NetworkTests(unittest.SynchronousTestCase):
    """
    No NAT, several, or no UDP.
    """

    def facts(self, name: str, *keys: str) -> list[Any]:
        """
        @return: some facts of one network.
        """
        return [_networks()[name][key] for key in keys]

    def test_open(self) -> None:
        """
        Without a NAT.
        """
        found = self.facts("open", "mapping", "filtering", "translated", "double_nat", "classic")
        self.assertEqual(found, [_EI.value, _OPEN.value, False, False, "Open Internet"])
        self.assertIn("nearly all", _networks()["open"]["verdict"])

    def test_firewall(self) -> None:
        """
        A firewall is no NAT.
        """
        found = self.facts("firewall", "filtering", "translated", "double_nat", "classic")
        self.assertEqual(found, [_STRICT.value, False, False, "Symmetric UDP Firewall"])

    def test_blocked(self) -> None:
        """
        Without UDP only that is said of it, and how TCP goes.
        """
        for name in ("blocked", "blocked behind a NAT"):
            report = _networks()[name]
            self.assertIs(report["udp"], False)
            for key in ("mapping", "filtering", "allocation", "hairpin"):
                self.assertIsNone(report[key])
            self.assertEqual((report["public"], report["classic"]), ([], "Blocked"))
            self.assertEqual(report["tcp_mapping"], _EI.value)
            self.assertIn("UDP is blocked", report["verdict"])
            self.assertEqual(set(report["peers"].values()), {"tcp"})
            self.assertIs(report["translated"], name != "blocked")

    def test_nested(self) -> None:
        """
        Two NATs are as strict as the stricter one.
        """
        keys = "mapping", "filtering", "classic", "double_nat"
        self.assertEqual(
            self.facts("nested open", *keys), [_EI.value, _OPEN.value, "Full Cone", None]
        )
        self.assertEqual(
            self.facts("nested strict", *keys), [_EI.value, _STRICT.value, "Restric Port NAT", None]
        )
        self.assertEqual(
            self.facts("nested symmetric", *keys),
            [_APD.value, _STRICT.value, "Symmetric NAT", None],
        )

    def test_ipv6(self) -> None:
        """
        IPv6 is seen where it is, and both addresses are told.
        """
        report = _networks()["both families"]
        self.assertIs(report["ipv6"], True)
        self.assertEqual(
            [":" in each.rpartition(":")[0] for each in report["public"]], [False, True]
        )
        self.assertIs(_networks()["open"]["ipv6"], False)


class RouterTests(unittest.SynchronousTestCase):
    """
    miniupnpd on the router.
    """

    def granted(self, name: str) -> set[str]:
        """
        @return: the protocols by which a port was granted, at the router's address each.
        """
        report = _mapping()[name]
        granted = {key: each for key, each in report["port_mapping"].items() if each is not None}
        for each in granted.values():
            self.assertEqual(each["external"].partition(":")[0], report["home"])
            # What is left of 120 s when the router is asked, which on a busy machine is later.
            self.assertTrue(90.0 < each["lifetime"] <= 120.0, each)
            self.assertIs(each["double_nat"], False)
        return set(granted)

    def test_protocols(self) -> None:
        """
        Each protocol is told where the router speaks it.
        """
        self.assertEqual(self.granted("all"), {"pcp", "nat_pmp", "upnp"})
        self.assertEqual(self.granted("pmp"), {"pcp", "nat_pmp"})
        self.assertEqual(self.granted("old"), {"nat_pmp"})
        self.assertEqual(self.granted("upnp"), {"upnp"})

    def test_names(self) -> None:
        """
        The router's name is told where UPnP has it.
        """
        for name in ("all", "upnp"):
            self.assertIn("laboratory router", _mapping()[name]["port_mapping"]["upnp"]["router"])

    def test_verdict(self) -> None:
        """
        A mapped port makes up for a symmetric NAT.
        """
        for name in ("all", "pmp", "old", "upnp"):
            self.assertIn("nearly all", _mapping()[name]["verdict"])
            self.assertIs(_mapping()[name]["double_nat"], False)

    def test_doubleNAT(self) -> None:
        """
        A router that has no address of the Internet, behind another, is said to be, by whichever
        protocol it says so; and so is one that grants an address which nobody is seen at.
        """
        for name in ("double", "double pmp", "double upnp"):
            self.assertIs(_mapping()[name]["double_nat"], True, name)
            self.assertEqual(self.granted(name), set())
            self.assertIn("most peers", _mapping()[name]["verdict"])
        report = _mapping()["double other"]
        self.assertIs(report["double_nat"], True)
        self.assertIn("most peers", report["verdict"])
        for grant in report["port_mapping"].values():
            self.assertEqual(grant["external"].partition(":")[0], _ELSEWHERE)
            self.assertIs(grant["double_nat"], True)

    def test_takenBack(self) -> None:
        """
        Nothing that was tried is left.
        """
        for name, report in _mapping().items():
            self.assertEqual(report["left"], [], name)


class TraceTests(unittest.SynchronousTestCase):
    """
    C{doctor PEER-ID}.
    """

    def test_direct(self) -> None:
        """
        Between ordinary routers: direct over UDP, by the check that is told to be answered.
        """
        report = _traces()["home"]
        self.assertEqual(report["kind"], "direct")
        self.assertTrue(report["verdict"].startswith("Direct over UDP"), report["verdict"])
        path = report["paths"][-1]
        checks = [each for attempt in report["attempts"] for each in attempt.get("checks", ())]
        answered = {each["address"] for each in checks if each["answered"]}
        self.assertIn(path["remote"], answered)

    def test_ladder(self) -> None:
        """
        From behind a router that counts its ports: by a round of the ladder, which is told.
        """
        report = _traces()["counting"]
        self.assertEqual(report["kind"], "direct", report)
        rounds = [each for attempt in report["attempts"] for each in attempt["rounds"]]
        self.assertEqual({each["posture"] for each in rounds}, {"aimed", "steady"})
        self.assertEqual(report["local_nat"]["allocation"], "sequential")

    def test_relayed(self) -> None:
        """
        Between random ports: relayed, after what is told to have been tried, for what both NATs do.
        """
        report = _traces()["symmetric"]
        self.assertEqual(report["kind"], "relayed")
        words = f"{_STRICT.value} filtering and random ports"
        self.assertEqual(report["verdict"].count(words), 2, report["verdict"])
        self.assertEqual({each["transport"] for each in report["attempts"]}, {"udp", "tcp"})
        self.assertFalse(any(each["answered"] for each in report["attempts"][0]["checks"]))
