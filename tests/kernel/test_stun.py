"""
NAT behaviour discovery in the laboratory: the real node and coturn, real NATs, and real programs.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from itertools import cycle
from typing import Any

from twisted.trial import unittest

from p2ptwist.core.nat import PortAllocation
from p2ptwist.testing.nat import NAT, Filtering, Hairpinning, Mapping, Uninvited
from p2ptwist.testing.nat import PortAllocation as Allocation
from tests.kernel.lab.laboratory import Laboratory, Place, PublicHost
from tests.kernel.lab.namespace import LaboratoryError
from tests.kernel.lab.nat import BEHAVIOURS
from tests.kernel.lab.once import once
from tests.kernel.lab.peers import ALTERNATE, START, STUN, startNode, startPlainNode
from tests.kernel.lab.process import Program

# How many programs measure at the same time: two cores start no more in the time that they have.
_AT_ONCE = 5
# How often coturn is asked whether it serves, and the seconds in between.
_TRIES, _PAUSE = 60, 0.5
_LIFETIME = 12.0  # seconds that some routers keep a mapping
# Uninvited packets meet each of the four, and every other router hairpins.
_NATS = [
    NAT(
        mapping=mapping,
        allocation=allocation,
        filtering=filtering,
        uninvited=uninvited,
        hairpinning=hairpinning,
    )
    for ((mapping, allocation), filtering), uninvited, hairpinning in zip(
        [(behaviour, filtering) for behaviour in BEHAVIOURS for filtering in Filtering],
        cycle(Uninvited),
        cycle((Hairpinning.NONE, Hairpinning.EXTERNAL, Hairpinning.EXTERNAL)),
        strict=False,
    )
]
_EI, _APD = Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT
_OPEN, _STRICT = Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT

Facts = dict[str, Any]

_KEEP_OUT = "table ip own { chain input { type filter hook input priority filter; %s; }; }"
_FIREWALL = _KEEP_OUT % "iifname wan0 ct state new drop"
_BLOCKED = _KEEP_OUT % "iifname wan0 meta l4proto udp drop"


def startCoturn(host: PublicHost) -> None:
    """
    Start coturn on two addresses and two ports, and wait until it serves.
    """
    first, second = host.addresses[:2]
    program = shutil.which("turnserver")
    if program is None:
        raise unittest.SkipTest("coturn is not installed")
    directory = host.laboratory.directory
    options = f"-n -L {first} -L {second} -p {STUN} --alt-listening-port {ALTERNATE} -S --no-tls "
    options += f"--no-dtls --no-cli --log-file stdout --pidfile {directory}/turn.pid "
    options += f"--userdb {directory}/turn.db"
    host.run(program, *options.split(), name="coturn")
    for _ in range(_TRIES):
        with contextlib.suppress(LaboratoryError):
            host.namespace.run("timeout", "1", "turnutils_stunclient", "-p", str(STUN), second)
            return
        time.sleep(_PAUSE)
    raise LaboratoryError("coturn does not answer")


def factsOf(probe: Program, number: int = 0, patience: float = START) -> Facts:
    """
    Wait for what a probe finds.

    @param number: which of the servers it was found with.
    """
    facts: Facts = json.loads(probe.line(f"{number} ", timeout=patience).partition(" ")[2])
    return facts


def measureAll(places: dict[str, Place], *servers: str) -> dict[str, list[Facts]]:
    """
    Measure in several places, some at a time.

    @param servers: as C{probe_nattests.py} has them.
    @return: by the name of the place: the facts, for each server.
    """
    found: dict[str, list[Facts]] = {}
    names = list(places)
    for start in range(0, len(names), _AT_ONCE):
        probes = {
            name: places[name].probe("nattests", *servers)
            for name in names[start : start + _AT_ONCE]
        }
        for name, probe in probes.items():
            found[name] = [factsOf(probe, number) for number in range(len(servers))]
    return found


@once
def _everyNAT() -> dict[NAT, list[Facts]]:
    """
    @return: what was found behind every NAT, with the node and with coturn.
    """
    with Laboratory() as laboratory:
        node, coturn = laboratory.publicHost("node"), laboratory.publicHost("coturn")
        startNode(node)
        startCoturn(coturn)
        places: dict[str, Place] = {
            str(number): laboratory.site(f"site{number}", nat).host(f"host{number}")
            for number, nat in enumerate(_NATS)
        }
        found = measureAll(places, node.addresses[0], coturn.addresses[0])
        return {_NATS[int(number)]: facts for number, facts in found.items()}


@once
def _special() -> dict[str, Facts]:
    """
    @return: what was found in places other than behind one NAT.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        outer = laboratory.site("outer", NAT(filtering=_OPEN))
        cone = laboratory.site("cone", NAT(mapping=_APD, allocation=Allocation.RANDOM))
        places: dict[str, Place] = {
            "open": laboratory.publicHost("open"),
            "firewall": laboratory.publicHost("firewall"),
            "blocked": laboratory.publicHost("blocked"),
            "nested open": outer.router("inner", NAT(filtering=_OPEN)).host("nested1"),
            "nested strict": outer.router("strict", NAT(filtering=_STRICT)).host("nested2"),
            "nested symmetric": cone.router("deep", NAT(filtering=_OPEN)).host("nested3"),
        }
        places["firewall"].namespace.run("nft", "-f", "-", text=_FIREWALL)
        places["blocked"].namespace.run("nft", "-f", "-", text=_BLOCKED)
        found = measureAll(places, node.addresses[0])
        return {name: facts[0] for name, facts in found.items()}


@once
def _lifetimes() -> dict[str, float | None]:
    """
    @return: the lifetime of mappings that is found with the node and with coturn, behind routers
        that keep them for 12 s.
    """
    with Laboratory() as laboratory:
        node, coturn = laboratory.publicHost("node"), laboratory.publicHost("coturn")
        startNode(node)
        startCoturn(coturn)
        nat = NAT(udpTimeout=_LIFETIME)
        probes = {
            server.name: laboratory.site(f"site-{server.name}", nat)
            .host(f"host-{server.name}")
            .probe("nattests", f"{2 * _LIFETIME:.0f}", server.addresses[0])
            for server in (node, coturn)
        }
        return {
            name: factsOf(probe, patience=START + 90.0)["lifetime"]
            for name, probe in probes.items()
        }


@once
def _twoNodes() -> dict[Mapping, list[Facts]]:
    """
    @return: what is found with two nodes that have one address of each family: for IPv4, and IPv6.
    """
    with Laboratory() as laboratory:
        nodes = [laboratory.publicHost(name, ipv6=True) for name in ("node1", "node2")]
        for node in nodes:
            startPlainNode(node)
        groups = [",".join(node.addresses[index] for node in nodes) for index in (0, 2)]
        nats = [NAT(), NAT(mapping=_APD, allocation=Allocation.SEQUENTIAL)]
        probes = {
            nat.mapping: laboratory.site(f"site{number}", nat, ipv6=True)
            .host(f"host{number}")
            .probe("nattests", *groups)
            for number, nat in enumerate(nats)
        }
        return {
            mapping: [factsOf(probe, number) for number in range(len(groups))]
            for mapping, probe in probes.items()
        }


def expected(nat: NAT) -> Facts:
    """
    @return: what is to be found out; the words are the same on purpose.
    """
    sequential = nat.allocation is Allocation.SEQUENTIAL
    # Whoever has one host cannot tell what is hashed from what is random.
    hashed = nat.allocation is Allocation.HASHED
    allocation = PortAllocation.RANDOM if hashed else PortAllocation(nat.allocation.value)
    return {
        "udp": True,
        "mapping": nat.mapping.value,
        "filtering": nat.filtering.value,
        "allocation": allocation.value,
        "step": 1 if sequential else None,
    }


def classic(nat: NAT) -> str:
    """
    @return: what pystun3 is to call it.
    """
    if nat.filtering is _OPEN:
        return "Full Cone"
    if nat.mapping is not _EI:
        return "Symmetric NAT"
    return "Restric Port NAT" if nat.filtering is _STRICT else "Restric NAT"


class EveryNATTests(unittest.SynchronousTestCase):
    """
    What is found behind every NAT that the laboratory can make, with our node and with coturn.
    """

    def test_behaviour(self) -> None:
        """
        Mapping, filtering, the allocation of ports and its step are what they are.
        """
        for nat, found in _everyNAT().items():
            for facts in found:
                right = expected(nat)
                self.assertEqual({key: facts[key] for key in right}, right, (nat, facts))

    def test_hairpinning(self) -> None:
        """
        Hairpinning is seen where it is, and said not to be only where it is not.
        """
        for nat, found in _everyNAT().items():
            hairpins = nat.hairpinning is not Hairpinning.NONE
            certain = hairpins or nat.mapping is _EI or nat.filtering is _OPEN
            for facts in found:
                self.assertIs(facts["hairpinning"], hairpins if certain else None, (nat, facts))

    def test_tcp(self) -> None:
        """
        The laboratory's routers keep the ports of TCP.
        """
        for nat, found in _everyNAT().items():
            for facts in found:
                self.assertEqual(facts["tcpMapping"], "endpoint-independent", (nat, facts))

    def test_classic(self) -> None:
        """
        pystun3 says of our node what RFC 3489 calls such a NAT, and so do we.
        """
        for nat, (facts, _) in _everyNAT().items():
            self.assertEqual(facts["classic"], classic(nat), (nat, facts))
            self.assertEqual(facts["ourClassic"], classic(nat), (nat, facts))

    def test_soon(self) -> None:
        """
        Everything together takes less than five seconds, on a machine with room for it.
        """
        seconds = [facts["seconds"] for found in _everyNAT().values() for facts in found]
        self.assertLess(sorted(seconds)[len(seconds) // 2], 5.0)


class TwoNodesTests(unittest.SynchronousTestCase):
    """
    What two nodes of one address each can tell.
    """

    def test_ipv4(self) -> None:
        """
        That a mapping is independent, or that it is not; ports and their step; no filter.
        """
        independent, dependent = _twoNodes()[_EI][0], _twoNodes()[_APD][0]
        self.assertEqual(independent["mapping"], "endpoint-independent")
        self.assertEqual(len(independent["addresses"]), 1)
        self.assertEqual(independent["allocation"], "preserving")
        self.assertIsNone(dependent["mapping"])
        self.assertEqual(len(dependent["addresses"]), 2)
        self.assertEqual((dependent["allocation"], dependent["step"]), ("sequential", 1))
        for facts in (independent, dependent):
            self.assertEqual(facts["tcpMapping"], "endpoint-independent")
            self.assertIsNone(facts["filtering"])

    def test_ipv6(self) -> None:
        """
        IPv6 is not translated.
        """
        for _, facts in _twoNodes().values():
            self.assertEqual(facts["mapping"], "endpoint-independent")
            self.assertEqual(facts["tcpMapping"], "endpoint-independent")
            self.assertEqual(facts["allocation"], "preserving")


class LifetimeTests(unittest.SynchronousTestCase):
    """
    How long mappings live.
    """

    def test_lifetime(self) -> None:
        """
        What is told is at most the time that connection tracking gives a flow, by its whole
        seconds, and at least nine tenths of it, less a second of a busy machine.
        """
        for name, lifetime in _lifetimes().items():
            assert lifetime is not None, name
            self.assertLessEqual(lifetime, _LIFETIME + 1.0, name)
            self.assertGreaterEqual(lifetime, 0.9 * _LIFETIME - 1.0, name)


class SpecialTests(unittest.SynchronousTestCase):
    """
    What is found where there is no NAT, or more than one, or no way out.
    """

    def test_open(self) -> None:
        """
        On the open Internet everything is independent.
        """
        facts = _special()["open"]
        self.assertEqual(facts["mapping"], "endpoint-independent")
        self.assertEqual(facts["filtering"], "endpoint-independent")
        self.assertEqual(facts["allocation"], "preserving")
        self.assertEqual((facts["classic"], facts["ourClassic"]), ("Open Internet",) * 2)

    def test_firewall(self) -> None:
        """
        A stateful firewall filters and does not translate.
        """
        facts = _special()["firewall"]
        self.assertEqual(facts["mapping"], "endpoint-independent")
        self.assertEqual(facts["filtering"], "address-and-port-dependent")
        self.assertEqual((facts["classic"], facts["ourClassic"]), ("Symmetric UDP Firewall",) * 2)

    def test_blocked(self) -> None:
        """
        Without UDP, TCP still tells its mapping.
        """
        facts = _special()["blocked"]
        self.assertIs(facts["udp"], False)
        for key in ("mapping", "filtering", "allocation", "step", "hairpinning"):
            self.assertIsNone(facts[key])
        self.assertEqual((facts["classic"], facts["ourClassic"]), ("Blocked",) * 2)

    def test_nested(self) -> None:
        """
        Two NATs behave like the stricter one.
        """
        found = {
            name: (facts["mapping"], facts["filtering"], facts["classic"])
            for name, facts in _special().items()
            if name.startswith("nested")
        }
        independent, dependent = "endpoint-independent", "address-and-port-dependent"
        self.assertEqual(
            found,
            {
                "nested open": (independent, independent, "Full Cone"),
                "nested strict": (independent, dependent, "Restric Port NAT"),
                "nested symmetric": (dependent, dependent, "Symmetric NAT"),
            },
        )
