"""
Tests for L{p2ptwist.peer.diagnosis} and L{p2ptwist.cli.findings}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.cli.findings import advice, asJSON, inWords
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation
from p2ptwist.core.nattests.classic import FULL_CONE, SYMMETRIC
from p2ptwist.errors import PortMapperSilent, PortMappingRefused
from p2ptwist.net.mappedport import MapperReport
from p2ptwist.net.natreport import FamilyReport, NATReport
from p2ptwist.peer.diagnosis import Diagnosis, NodeReport

STRICT = NATFiltering.ADDRESS_AND_PORT_DEPENDENT
HOME = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, STRICT, PortAllocation.PRESERVING)
SEEN = ("203.0.113.7", 40000)
SEEN6 = ("2a11:7::9", 40000)
ROUTER = "192.168.1.1"
SERVER = ("192.0.2.1", 3478)


def natReport(
    behavior: NATBehavior = HOME,
    *addresses: tuple[str, int],
    translated: bool | None = True,
    classic: str | None = None,
    expected: str | None = None,
    ipv6: FamilyReport | None = None,
) -> NATReport:
    """
    @return: what STUN servers tell over IPv4, and over IPv6 if that is given.
    """
    seen = addresses or (SEEN,)
    ipv4 = FamilyReport(True, behavior, seen, seen[:1], translated, {SERVER: 0.0512}, SERVER)
    return NATReport(ipv4, ipv6, classic, expected)


BLOCKED = NATReport(FamilyReport(False, NATBehavior()), None, None, None)


def granted(host: str, mapper: str = "pcp", **more: Any) -> MapperReport:
    """
    @return: the report of a router that has mapped a port.
    """
    return MapperReport(mapper, ROUTER, (host, 5000), 120.0, **more)


def refused(why: str, mapper: str = "nat-pmp") -> MapperReport:
    """
    @return: the report of a router that has not.
    """
    error = PortMappingRefused(f"it refused: {why}", 3, why)
    return MapperReport(mapper, ROUTER, problem=str(error), error=error)


class DiagnosisTests(SynchronousTestCase):
    """
    What follows from what was found out.
    """

    def test_doubleNAT(self) -> None:
        """
        It is told where a router's address is not the one that the Internet sees, or where it says
        that it has none; and told not to be where both are the same, or there is no NAT.  Where
        either is silent nothing is known.
        """
        silent = MapperReport("pcp", ROUTER, error=PortMapperSilent("silence"))
        pinhole = MapperReport("pcp", "fe80::1%eth0", ("2a11:7::5", 5000), 120.0)
        for nat, routers, expected in (
            (natReport(), (granted("10.0.0.7"),), True),
            (natReport(), (granted("100.64.3.2"),), True),
            (None, (granted("10.0.0.7"),), True),
            (natReport(), (granted("198.51.100.1"),), True),
            (natReport(), (granted(SEEN[0]), granted("10.0.0.7", "upnp")), True),
            (natReport(), (granted(SEEN[0]),), False),
            (natReport(), (refused("NETWORK_FAILURE"),), True),
            (natReport(), (refused("NOT_AUTHORIZED"), silent), None),
            (natReport(), (pinhole,), None),
            (natReport(), (), None),
            (None, (granted(SEEN[0]),), None),
            (None, (refused("NETWORK_FAILURE"),), None),
            (natReport(translated=False), (), False),
        ):
            self.assertIs(Diagnosis(nat, routers).doubleNAT, expected, routers)

    def test_mapped(self) -> None:
        """
        A port is mapped where everybody reaches it.
        """
        nat = natReport()
        self.assertTrue(Diagnosis(nat, (granted(SEEN[0]),)).mapped)
        self.assertFalse(Diagnosis(nat, (granted("10.0.0.7"),)).mapped)
        self.assertFalse(Diagnosis(nat, (refused("NOT_AUTHORIZED"),)).mapped)

    def test_translated(self) -> None:
        """
        Where no STUN server tells how this host is seen, a node does.
        """
        node = NodeReport("tcp:node:1", "node", 0.05, SEEN)
        for hosts, expected in (((SEEN[0],), False), (("192.168.1.9",), True)):
            self.assertIs(Diagnosis(BLOCKED, (), (node,), hosts).translated, expected)
            self.assertIs(Diagnosis(None, (), (node,), hosts).translated, expected)
        six = NodeReport("tcp:node:1", "node", 0.05, SEEN6)
        for report in (six, NodeReport("tcp:node:1"), NodeReport("unix:n", "n", 0.1, ("", 0))):
            self.assertIsNone(Diagnosis(None, (), (report,)).translated)

    def test_ipv6(self) -> None:
        """
        It works, or does not; or is not known where the host has an address that nobody tells of.
        """
        works = FamilyReport(True, HOME, (SEEN6,))
        fails = FamilyReport(False, NATBehavior())
        overTCP = FamilyReport(False, NATBehavior(), (), (SEEN6,))
        for report, expected in ((works, True), (fails, False), (overTCP, True)):
            self.assertIs(Diagnosis(natReport(ipv6=report)).ipv6, expected)
        self.assertIsNone(Diagnosis(natReport(), hosts=(SEEN6[0],)).ipv6)
        self.assertIs(Diagnosis(natReport(), hosts=("fe80::9", "fd00::9")).ipv6, False)
        self.assertIs(Diagnosis(None).ipv6, False)

    def test_online(self) -> None:
        """
        UDP is blocked where TCP is answered; else nobody knows.
        """
        node = NodeReport("tcp:node:1", "node", 0.05, SEEN)
        answered = FamilyReport(False, NATBehavior(), (), (SEEN,))
        for nat, nodes, expected in (
            (BLOCKED, (), None),
            (BLOCKED, (node,), False),
            (NATReport(answered, None, None, None), (), False),
            (NATReport(None, answered, None, None), (), False),
            (None, (NodeReport("tcp:node:1"),), None),
            (natReport(), (), True),
        ):
            self.assertIs(Diagnosis(nat, (), nodes).situation.udp, expected)

    def test_dependent(self) -> None:
        """
        Several addresses show that mapping depends on the destination, though not on what.
        """
        behavior = NATBehavior(None, STRICT, PortAllocation.RANDOM)
        diagnosis = Diagnosis(natReport(behavior, SEEN, ("203.0.113.7", 40001)))
        self.assertIsNone(diagnosis.behavior.mapping)
        self.assertIn("some seconds", diagnosis.verdict)
        self.assertIn("could not", Diagnosis(natReport(behavior)).verdict)

    def test_router(self) -> None:
        """
        The router's name is one for all protocols, and IPv4 comes first.
        """
        pinhole = MapperReport("pcp", "fe80::1%eth0", ("2a11:7::5", 5000), 120.0)
        reports = (pinhole, granted(SEEN[0]), granted(SEEN[0], "upnp", router="A router"))
        diagnosis = Diagnosis(natReport(), reports)
        self.assertEqual(diagnosis.routerName(ROUTER), "A router")
        self.assertIsNone(diagnosis.routerName("fe80::1%eth0"))
        self.assertIs(diagnosis.grantedBy("pcp"), reports[1])
        self.assertIs(Diagnosis(None, (pinhole,)).grantedBy("pcp"), pinhole)
        self.assertIsNone(diagnosis.grantedBy("nat-pmp"))


class WordsTests(SynchronousTestCase):
    """
    What people and programs read.
    """

    def words(self, *arguments: Any) -> str:
        """
        @return: all the lines.
        """
        return "\n".join(inWords(Diagnosis(*arguments)))

    def test_json(self) -> None:
        """
        Everything is JSON, with the agreed names.
        """
        nat = natReport(classic=FULL_CONE, expected=SYMMETRIC)
        nodes = (
            NodeReport("tcp:node:1", "node", 0.05, SEEN),
            NodeReport("unix:n", "n", 0.1, ("", 0)),
            NodeReport("tcp:other:1", problem="nobody there"),
        )
        routers = (granted(SEEN[0], router="A router"), refused("NOT_AUTHORIZED"))
        found = json.loads(json.dumps(asJSON(Diagnosis(nat, routers, nodes, (), 1.2345678))))
        self.assertEqual((found["udp"], found["public"]), (True, ["203.0.113.7:40000"]))
        self.assertEqual(found["mapping"], "endpoint-independent")
        self.assertEqual((found["allocation"], found["step"]), ("preserving", None))
        mapped = {
            "external": "203.0.113.7:5000",
            "lifetime": 120.0,
            "gateway": ROUTER,
            "router": "A router",
            "double_nat": False,
        }
        self.assertEqual(found["port_mapping"], {"pcp": mapped, "nat_pmp": None, "upnp": None})
        self.assertEqual([each["protocol"] for each in found["routers"]], ["pcp", "nat-pmp"])
        self.assertEqual(found["routers"][1]["problem"], "it refused: NOT_AUTHORIZED")
        self.assertEqual([each["up"] for each in found["nodes"]], [True, True, False])
        observed = [each["observed"] for each in found["nodes"]]
        self.assertEqual(observed, ["203.0.113.7:40000", None, None])
        self.assertEqual(found["servers"], [{"address": "192.0.2.1:3478", "rtt": 0.0512}])
        self.assertEqual((found["classic"], found["classic_expected"]), (FULL_CONE, SYMMETRIC))
        self.assertEqual((found["classic_differs"], found["seconds"]), (True, 1.235))
        self.assertEqual((found["double_nat"], found["advice"]), (False, []))

    def test_known(self) -> None:
        """
        Words for what is known.
        """
        behavior = NATBehavior(
            NATMapping.ADDRESS_DEPENDENT,
            STRICT,
            PortAllocation.SEQUENTIAL,
            2,
            True,
            NATMapping.ENDPOINT_INDEPENDENT,
            30.0,
        )
        routers = (
            granted(SEEN[0], router="A router"),
            MapperReport("nat-pmp", ROUTER, ("10.0.0.1", 5001), doubleNAT=True),
            MapperReport("upnp", ROUTER, problem="UPnP: no answer to SSDP"),
            MapperReport("upnp", ROUTER),
        )
        nodes = (NodeReport("tcp:node:1", "node", 0.05, SEEN), NodeReport("x", problem="away"))
        nat = natReport(behavior, classic=FULL_CONE, expected=SYMMETRIC)
        words = self.words(nat, routers, nodes)
        for line in (
            "UDP          passes",
            "addresses    203.0.113.7:40000",
            "mapping      address-dependent",
            "ports        sequential, by +2",
            "hairpinning  yes",
            "lifetime     at least 30 s of silence",
            "PCP          A router (192.168.1.1) grants 203.0.113.7:5000 for 120 s",
            "NAT-PMP      A router (192.168.1.1) grants 10.0.0.1:5001, behind another NAT",
            "UPnP         no answer to SSDP",
            "UPnP         A router (192.168.1.1) maps nothing",
            "double NAT   yes",
            "node         tcp:node:1: 50 ms",
            "node         away",
            "STUN         192.0.2.1:3478: 51 ms",
            "pystun3      says 'Full Cone'; what was found out here is 'Symmetric NAT'",
        ):
            self.assertIn(f"  {line}\n", words)
        agreeing = self.words(natReport(classic=FULL_CONE, expected=FULL_CONE))
        self.assertIn("says 'Full Cone'\n", agreeing)
        self.assertIn("no NAT", self.words(natReport(translated=False)))

    def test_unknown(self) -> None:
        """
        What was not found out is said to be.
        """
        nothing = self.words(None)
        self.assertTrue(nothing.startswith("Nothing is known"))
        for title in ("mapping", "filtering", "ports", "double NAT", "addresses"):
            self.assertIn(f"  {title:12} not found out\n", nothing)
        self.assertIn("no STUN server is known", nothing)
        self.assertIn("PCP          no router to ask", nothing)
        self.assertIn("with a public or mapped address: not found out", nothing)
        self.assertIn("UDP          no server answered", self.words(BLOCKED))
        node = NodeReport("tcp:node:1", "node", 0.05, SEEN)
        blocked = self.words(BLOCKED, (), (node, NodeReport("y")))
        self.assertIn("UDP          is blocked", blocked)
        self.assertIn("node         y\n", blocked)
        late = NATReport(FamilyReport(True, HOME, (SEEN,), (), True, {SERVER: None}), None, "", "")
        self.assertIn("192.0.2.1:3478: answered, late", self.words(late))

    def test_advice(self) -> None:
        """
        What would help is said where something would.
        """
        for nat, routers, expected in (
            (natReport(), (), "switch UPnP"),
            (natReport(), (granted("10.0.0.7"),), "another NAT"),
            (natReport(), (granted(SEEN[0]),), ""),
            (natReport(translated=False), (), ""),
            (BLOCKED, (), ""),
            (None, (), ""),
        ):
            said = " ".join(advice(Diagnosis(nat, routers)))
            self.assertIn(expected, said)
            self.assertEqual(bool(said), bool(expected))
