"""
C{p2ptwist doctor} on the simulated Internet: what it says of every kind of network.
"""

from __future__ import annotations

import json
import os
from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.net.stunserver import STUNService
from p2ptwist.net.stunstreams import STUNStreamService
from p2ptwist.testing import NAT, Filtering, Host, Link, Mapping, PortAllocation
from p2ptwist.testing.nat import Hairpinning
from p2ptwist.testing.packet import Protocol
from p2ptwist.testing.portmapper import PortMapper, Trouble
from tests.sim.neighborhood import NODE, NODE_ALTERNATE, STUN_PORT, Neighborhood
from tests.sim.sessions import block
from tests.sim.test_cli import RENDEZVOUS, CommandCase, Program

EXTERNAL = "203.0.113.7"
STRICT = "address-and-port-dependent"
Facts = dict[str, Any]


class DoctorCase(SynchronousTestCase):
    """
    A node, and one host to examine.
    """

    def setUp(self) -> None:
        """
        Make the node.
        """
        self.world = Neighborhood(seed=3)
        self.internet = self.world.internet
        self.internet.showOnFailure(self)
        self.streams = STUNStreamService(
            self.world.node, (NODE, STUN_PORT), (NODE_ALTERNATE, STUN_PORT + 1)
        )
        self.streams.startService()
        self.patch(os, "environ", {"P2PTWIST_RENDEZVOUS": RENDEZVOUS})

    def home(self, nat: NAT | None, inner: NAT | None = None) -> Host:
        """
        @return: a host behind a router, or two; on the Internet itself without any.
        """
        link = Link(latency=0.02)
        if nat is None:
            return self.internet.host("host", EXTERNAL, link=link)
        router = self.internet.router("home", EXTERNAL, nat=nat, link=link)
        if inner is not None:
            router = router.router("inner", nat=inner)
        return router.host("host")

    def serve(self, address: str) -> None:
        """
        Have one more STUN server, with one address.
        """
        host = self.internet.host(f"server {address}", address, link=Link(latency=0.005))
        service = STUNService(host, (address, STUN_PORT))
        service.startService()
        self.addCleanup(service.stopService)

    def check(self, host: Host, *arguments: str, seconds: float = 5.0) -> Program:
        """
        @return: the command, which has ended in time and left nothing.
        """
        program = Program(host, "doctor", *arguments)
        self.internet.advance(seconds)
        self.assertIsNotNone(program.status, "it is not over")
        self.internet.advance(5.0)
        self.assertEqual(list(host.getDelayedCalls()), [])
        return program

    def facts(self, host: Host, *arguments: str, status: int = 0, seconds: float = 5.0) -> Facts:
        """
        @return: what C{doctor --json} prints.
        """
        program = self.check(host, "--json", *arguments, seconds=seconds)
        self.assertEqual((program.status, program.said), (status, []))
        report: Facts = json.loads(program.printed[-1])
        self.assertLess(report["seconds"], seconds)
        return report


class EveryNATTests(DoctorCase):
    """
    Behind one NAT.
    """

    def test_behaviour(self) -> None:
        """
        Each kind is told as it is, within five seconds.
        """
        for number, (mapping, filtering, allocation) in enumerate(
            product(Mapping, Filtering, (PortAllocation.RANDOM, PortAllocation.SEQUENTIAL))
        ):
            hairpinning = Hairpinning.EXTERNAL if number % 2 else Hairpinning.NONE
            nat = NAT(
                mapping=mapping,
                filtering=filtering,
                allocation=allocation,
                hairpinning=hairpinning,
            )
            self.setUp()
            report = self.facts(self.home(nat))
            self.assertIs(report["udp"], True)
            self.assertEqual(report["mapping"], mapping.value)
            self.assertEqual(report["filtering"], filtering.value)
            self.assertEqual(report["allocation"], allocation.value)
            self.assertTrue(report["translated"])
            self.assertIn(report["hairpin"], (None, bool(number % 2)))
            self.assertTrue(all(each.startswith(EXTERNAL) for each in report["public"]))

    def test_keys(self) -> None:
        """
        A report has all of its keys, whatever is known.
        """
        report = self.facts(self.home(NAT()))
        empty = self.facts(
            self.internet.host("lost", "192.0.2.77"), "--rendezvous", "tcp:192.0.2.9:1", status=1
        )
        self.assertEqual(set(report), set(empty))
        self.assertEqual(set(report["port_mapping"]), {"pcp", "nat_pmp", "upnp"})
        self.assertEqual(report["nodes"][0]["node"], RENDEZVOUS)
        self.assertLess(abs(report["nodes"][0]["rtt"] - 0.05), 0.01)
        self.assertEqual(report["servers"][0]["address"], f"{NODE}:{STUN_PORT}")

    def test_outlook(self) -> None:
        """
        Which peers will be direct follows from it.
        """
        report = self.facts(self.home(NAT()))
        self.assertEqual(
            report["peers"],
            {
                "reachable": "direct",
                "steady": "direct",
                "aimed": "predicted",
                "scattered": "sprayed",
                "no_udp": "tcp",
            },
        )
        self.assertIn("most peers", report["verdict"])

    def test_dependent(self) -> None:
        """
        Where servers with one address each show that the mapping depends on the destination, but
        not on what, that much is used.
        """
        nat = NAT(mapping=Mapping.ADDRESS_DEPENDENT, allocation=PortAllocation.RANDOM)
        self.serve("198.51.100.1")
        self.serve("198.51.100.2")
        servers = ("--stun", "198.51.100.1", "--stun", "198.51.100.2:3478")
        self.patch(os, "environ", {})
        report = self.facts(self.home(nat), *servers)
        self.assertEqual((report["mapping"], len(report["public"])), (None, 2))
        self.assertEqual(report["peers"]["scattered"], "relayed")
        self.assertIn("some seconds", report["verdict"])
        self.assertEqual(report["nodes"], [])

    def test_lifetime(self) -> None:
        """
        With C{--lifetime} that is found out as well.
        """
        report = self.facts(self.home(NAT(udpTimeout=30.0)), "--lifetime", seconds=400.0)
        self.assertTrue(27.0 <= report["lifetime"] <= 30.0)

    def test_words(self) -> None:
        """
        People are told on the way, and read the verdict first.
        """
        program = self.check(self.home(NAT(portMapping=PortMapper())))
        self.assertEqual(program.status, 0)
        said = "\n".join(program.said)
        for words in ("link to", "seen at", "mapping", f"pcp: {EXTERNAL}:"):
            self.assertIn(words, said)
        self.assertEqual(program.printed[0], "Direct connections will work with nearly all peers.")
        self.assertIn(f"  mapping      {'endpoint-independent'}", program.printed)

    def test_interrupted(self) -> None:
        """
        It can be interrupted at any moment, and leaves nothing.
        """
        for moment in (0.0, 0.05, 0.3, 1.0, 2.9):
            self.setUp()
            host = self.home(NAT(portMapping=PortMapper()))
            program = Program(host, "doctor")
            self.internet.advance(moment)
            program.running.cancel()
            self.internet.advance(5.0)
            self.assertEqual(program.status, 130 if moment < 2.0 else 0)
            self.assertEqual(list(host.getDelayedCalls()), [])


class NetworkTests(DoctorCase):
    """
    Other networks.
    """

    def test_open(self) -> None:
        """
        Without a NAT.
        """
        report = self.facts(self.home(None))
        self.assertEqual(report["filtering"], "endpoint-independent")
        self.assertIs(report["translated"], False)
        self.assertIs(report["double_nat"], False)
        self.assertIn("nearly all", report["verdict"])

    def test_blocked(self) -> None:
        """
        Without UDP nothing of it is guessed, and TCP is.
        """
        host = self.home(NAT())
        block(host, Protocol.UDP)
        report = self.facts(host)
        self.assertIs(report["udp"], False)
        for key in ("mapping", "filtering", "allocation", "hairpin", "double_nat"):
            self.assertIsNone(report[key], key)
        self.assertEqual((report["public"], report["translated"]), ([], True))
        self.assertEqual(report["tcp_mapping"], "endpoint-independent")
        self.assertIn("UDP is blocked", report["verdict"])
        self.assertIn("TCP", report["verdict"])

    def test_offline(self) -> None:
        """
        Where nobody answers that is all that is said, and the status tells.
        """
        host = self.home(NAT())
        block(host, Protocol.UDP)
        block(host, Protocol.TCP)
        report = self.facts(host, status=1)
        self.assertIn("Nothing is known", report["verdict"])
        self.assertEqual(set(report["peers"].values()), {None})
        (node,) = report["nodes"]
        self.assertFalse(node["up"])
        self.assertIsNotNone(node["problem"])

    def test_nested(self) -> None:
        """
        Two NATs are as strict as the stricter one; that there are two nobody has told.
        """
        report = self.facts(self.home(NAT(filtering=Filtering.ENDPOINT_INDEPENDENT), NAT()))
        self.assertEqual(report["filtering"], STRICT)
        self.assertIsNone(report["double_nat"])

    def test_silentNode(self) -> None:
        """
        A node that is silent, and STUN servers that are, cost one deadline in all.
        """
        silent = [word for n in range(3) for word in ("--rendezvous", f"tcp:198.51.100.7{n}:1")]
        silent += [word for n in range(3) for word in ("--stun", f"198.51.100.8{n}")]
        report = self.facts(self.home(NAT()), "--rendezvous", RENDEZVOUS, *silent)
        self.assertEqual([node["up"] for node in report["nodes"]], [True, False, False, False])
        self.assertEqual(report["filtering"], STRICT)

    def test_otherServer(self) -> None:
        """
        A STUN server with two addresses is enough, without any node.
        """
        self.patch(os, "environ", {})
        report = self.facts(self.home(NAT()), "--stun", f"{NODE}:{STUN_PORT}")
        self.assertEqual((report["filtering"], report["nodes"]), (STRICT, []))

    def test_nobody(self) -> None:
        """
        Somebody has to be named.
        """
        self.patch(os, "environ", {})
        program = self.check(self.home(NAT()), "--json")
        self.assertEqual(program.status, 1)
        self.assertIn("--stun", program.events[-1]["reason"])


class RouterTests(DoctorCase):
    """
    Routers that map ports.
    """

    def test_protocols(self) -> None:
        """
        Each protocol is told with what it granted, and nothing is left of that.
        """
        for mapper, granted in (
            (PortMapper(natPMP=False), {"pcp"}),
            (PortMapper(pcp=False), {"nat_pmp"}),
            (PortMapper(), {"pcp", "nat_pmp"}),
        ):
            self.setUp()
            host = self.home(NAT(portMapping=mapper))
            report = self.facts(host)
            mapped = report["port_mapping"]
            self.assertEqual({name for name, grant in mapped.items() if grant}, granted)
            for name in granted:
                self.assertTrue(mapped[name]["external"].startswith(f"{EXTERNAL}:"))
                self.assertFalse(mapped[name]["double_nat"])
            self.assertIs(report["double_nat"], False)
            self.assertEqual(self.internet.routers["home"].forwards(), [])

    def test_mappedSymmetric(self) -> None:
        """
        With a mapped port nearly everybody is direct, whatever the NAT does otherwise.
        """
        nat = NAT(
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
            allocation=PortAllocation.RANDOM,
            portMapping=PortMapper(),
        )
        self.assertIn("nearly all", self.facts(self.home(nat))["verdict"])

    def test_doubleNAT(self) -> None:
        """
        A router that grants an address which the Internet does not see is behind another NAT.
        """
        host = self.home(NAT(), NAT(portMapping=PortMapper()))
        report = self.facts(host)
        self.assertIs(report["double_nat"], True)
        self.assertTrue(report["port_mapping"]["pcp"]["double_nat"])
        self.assertIn("most peers", report["verdict"])
        program = self.check(host)
        self.assertIn("another NAT in front of your router", program.printed[1])
        self.assertIn("  double NAT   yes", program.printed)

    def test_withoutAddress(self) -> None:
        """
        So is one that says it has no address of the Internet, which nevertheless answers.
        """
        report = self.facts(self.home(NAT(portMapping=PortMapper(refuses=3))))
        self.assertEqual(set(report["port_mapping"].values()), {None})
        self.assertIn("refused", report["routers"][1]["problem"])
        self.assertIs(report["double_nat"], True)

    def test_troubled(self) -> None:
        """
        What a router says wrongly changes nothing of the rest.
        """
        for trouble in Trouble:
            self.setUp()
            report = self.facts(self.home(NAT(portMapping=PortMapper(trouble=trouble))))
            self.assertEqual(report["filtering"], STRICT)


class TraceTests(CommandCase):
    """
    C{doctor PEER-ID}.
    """

    def trace(self, *arguments: str) -> Program:
        """
        Trace a connection from Alice's home to Bob's, who listens.
        """
        self.listening("--echo")
        tracer = self.start("alice", "doctor", self.peerID("bob"), *arguments)
        self.assertEqual(self.ended(tracer), 0)
        return tracer

    def traced(self) -> Facts:
        """
        @return: what the trace prints as JSON.
        """
        program = self.trace("--json")
        self.assertEqual(program.said, [])
        report: Facts = json.loads(program.printed[-1])
        return report

    def test_direct(self) -> None:
        """
        Behind ordinary routers: the check that was answered, the path, and both sides' addresses.
        """
        report = self.traced()
        self.assertEqual((report["peer"], report["kind"]), (self.peerID("bob"), "direct"))
        self.assertTrue(report["verdict"].startswith("Direct over UDP, "))
        (path,) = report["paths"]
        self.assertEqual((path["kind"], path["transport"]), ("direct", "udp"))
        (attempt,) = report["attempts"]
        self.assertEqual((attempt["transport"], attempt["calling"]), ("udp", True))
        for side in ("local", "remote"):
            kinds = [each["type"] for each in attempt[side]]
            self.assertEqual(kinds, ["host", "server-reflexive"])
        answered = [each for each in attempt["checks"] if each["answered"]]
        self.assertEqual({each["address"] for each in answered}, {path["remote"]})
        self.assertTrue(all(abs(each["seconds"] - 0.08) < 0.01 for each in answered))
        self.assertEqual((attempt["path"], attempt["over"]), (path["remote"], None))
        self.assertLess(attempt["opened"], path["at"] + 0.001)
        self.assertIn(path["remote"], [each["address"] for each in attempt["heard"]])

    def test_relayed(self) -> None:
        """
        Behind symmetric NATs with random ports: everything that was tried, and a reason that names
        what both NATs do.
        """
        self.nat = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
        report = self.traced()
        self.assertEqual((report["kind"], report["paths"]), ("relayed", []))
        words = f"{STRICT} mapping with {STRICT} filtering and random ports"
        self.assertIn(
            f"this side's NAT has {words}, the other side's has {words}", report["verdict"]
        )
        self.assertIn("no direct path over TCP", report["verdict"])
        for side in ("local_nat", "remote_nat"):
            self.assertEqual(
                (report[side]["mapping"], report[side]["allocation"]), (STRICT, "random")
            )
        udp, tcp = report["attempts"][:2]
        self.assertEqual((udp["transport"], tcp["transport"]), ("udp", "tcp"))
        self.assertEqual([each["answered"] for each in udp["checks"]], [False] * 14)
        self.assertTrue(tcp["dials"])
        self.assertTrue(all(each["refused"] for each in tcp["dials"]))
        self.assertEqual((udp["opened"], udp["path"]), (None, None))
        self.assertLess(report["seconds"], 15.0)

    def test_ladder(self) -> None:
        """
        The rounds of the ladder are told.
        """
        self.listening("--echo")
        self.nat = NAT(
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.SEQUENTIAL
        )
        program = self.start("alice", "doctor", "--json", self.peerID("bob"))
        self.assertEqual(self.ended(program), 0)
        report = json.loads(program.printed[-1])
        rounds = [each for attempt in report["attempts"] for each in attempt["rounds"]]
        self.assertEqual({each["side"] for each in rounds}, {"local", "remote"})
        self.assertEqual({each["posture"] for each in rounds}, {"aimed", "steady"})
        self.assertEqual(report["kind"], "direct")

    def test_blocked(self) -> None:
        """
        Without UDP: a path over TCP, and why not over UDP.
        """
        service = STUNStreamService(self.world.node, (NODE, STUN_PORT))
        service.startService()
        self.listening("--echo")
        program = self.start("alice", "doctor", self.peerID("bob"))
        block(self.hosts[-1], Protocol.UDP)
        self.assertEqual(self.ended(program), 0)
        self.assertTrue(program.printed[0].startswith("Direct over TCP, "), program.printed)
        self.assertIn("Over UDP: no direct path", program.printed[0])
        text = "\n".join(program.printed)
        self.assertIn("dialed 203.0.113.1:", text)

    def test_words(self) -> None:
        """
        People are told on the way, and the verdict first.
        """
        program = self.trace()
        self.assertTrue(program.printed[0].startswith("Direct over UDP, "))
        said = "\n".join(program.said)
        for words in (
            "an attempt over UDP begins",
            "the peer answered",
            "direct, udp 203.0.113.1:",
        ):
            self.assertIn(words, said)
        text = "\n".join(program.printed)
        for words in ("answered after 8", "no answer", "heard 203.0.113.1:", "a path is open to"):
            self.assertIn(words, text)

    def test_absent(self) -> None:
        """
        A peer that is not there is told in one line.
        """
        program = self.start("alice", "doctor", "--json", self.peerID("bob"))
        self.assertEqual(self.ended(program), 1)
        self.assertIn("knows no peer", program.events[-1]["reason"])
        self.assertEqual(program.printed, [])

    def test_interrupted(self) -> None:
        """
        A trace can be interrupted.
        """
        self.nat = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
        self.listening("--echo")
        program = self.start("alice", "doctor", self.peerID("bob"))
        self.internet.advance(3.0)
        self.stop(program)
        self.assertEqual(program.status, 130)
