"""
The NATs of the laboratory do what they are called.

Plain sockets only: nothing of what the laboratory is there to test.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial import unittest

from p2ptwist.testing.nat import (
    NAT,
    Filtering,
    Hairpinning,
    Mapping,
    PortAllocation,
    Uninvited,
)
from tests.kernel.lab import namespace
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.nat import BEHAVIOURS
from tests.kernel.lab.once import once

_SYMMETRIC = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
_LOOSE = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)
# Mappings of this many seconds, in tests of what happens after them.
_SHORT = 2
# How much later than the first the second puncher starts, in seconds: by more than a packet needs.
_SKEW = (0.0, 0.3)
# Sockets of one host that ask one server: of two hundred that draw from two thousand ports without
# looking, ten would meet.
_FLOWS = 200
# How long a probe may take: the longest talks for five seconds, and others share the cores.
_PATIENCE = 60.0
NATS = [
    NAT(mapping=mapping, allocation=allocation, filtering=filtering)
    for mapping, allocation in BEHAVIOURS
    for filtering in Filtering
]


def _name(nat: NAT) -> str:
    return f"{nat.mapping.value} mapping, {nat.allocation.value} ports, {nat.filtering.value}"


@once
def _behaviour() -> dict[NAT, Any]:
    """
    @return: what a probe found behind every NAT.
    """
    with Laboratory() as laboratory:
        public = laboratory.mirror()
        probes = {
            nat: laboratory.site(f"site{i}", nat).host(f"host{i}").probe("nat", *public.addresses)
            for i, nat in enumerate(NATS)
        }
        return {nat: probe.result(_PATIENCE) for nat, probe in probes.items()}


@once
def _flows() -> dict[NAT, list[int | None]]:
    """
    @return: the outer port of each of many sockets with flows to the same remote address.
    """
    with Laboratory() as laboratory:
        public = laboratory.mirror()
        nats = [nat for nat in NATS if nat.filtering is Filtering.ENDPOINT_INDEPENDENT]
        probes = {
            nat: laboratory.site(f"site{i}", nat)
            .host(f"host{i}")
            .probe("flows", public.addresses[0], str(_FLOWS))
            for i, nat in enumerate(nats)
        }
        return {nat: probe.result(_PATIENCE) for nat, probe in probes.items()}


class BehaviourTests(unittest.SynchronousTestCase):
    """
    Mapping, port allocation and filtering, as somebody inside measures them.
    """

    def test_mapping(self) -> None:
        """
        The outer port depends on just what the mapping is named after.
        """
        for nat, found in _behaviour().items():
            ports = [ports for ports, _ in self._ports(found)]
            sameForPort = all(home == otherPort for home, otherPort, _, _ in ports)
            sameForAddress = all(home == otherAddress for home, _, otherAddress, _ in ports)
            named = {
                (True, True): Mapping.ENDPOINT_INDEPENDENT,
                (True, False): Mapping.ADDRESS_DEPENDENT,
                (False, False): Mapping.ADDRESS_AND_PORT_DEPENDENT,
            }
            self.assertIs(named[sameForPort, sameForAddress], nat.mapping, _name(nat))

    def test_allocation(self) -> None:
        """
        Outer ports are those inside, or follow each other, or neither.
        """
        for nat, found in _behaviour().items():
            flat = [port for ports, _ in self._ports(found) for port in ports]
            kept = all(set(ports) == {local} for ports, local in self._ports(found))
            counted = flat == list(range(flat[0], flat[0] + len(flat)))
            self.assertEqual(
                (kept, counted),
                (
                    nat.allocation is PortAllocation.PRESERVING,
                    nat.allocation is PortAllocation.SEQUENTIAL,
                ),
                f"{_name(nat)}: {found}",
            )

    def test_filtering(self) -> None:
        """
        Answers are let in from just what the filtering is named after.
        """
        heard = {
            Filtering.ENDPOINT_INDEPENDENT: [[0, 0], [0, 1], [1, 0]],
            Filtering.ADDRESS_DEPENDENT: [[0, 0], [0, 1]],
            Filtering.ADDRESS_AND_PORT_DEPENDENT: [[0, 0]],
        }
        for nat, found in _behaviour().items():
            self.assertEqual(found["heard"], heard[nat.filtering], _name(nat))

    def test_flows(self) -> None:
        """
        Of many flows to one remote address each has an outer port of its own, so that none is lost.
        """
        for nat, ports in _flows().items():
            self.assertNotIn(None, ports, _name(nat))
            self.assertEqual(len(set(ports)), _FLOWS, _name(nat))

    def test_latency(self) -> None:
        """
        A round trip between a site and the public host takes twice their delays, and little more:
        of the many, the shortest, which the machine's other work held up least.
        """
        shortest = min(trip for found in _behaviour().values() for trip in found["seconds"])
        self.assertGreaterEqual(shortest, 0.050)
        self.assertLess(shortest, 0.055)

    def test_unknown(self) -> None:
        """
        A NAT that the laboratory has not is refused.
        """
        nat = NAT(mapping=Mapping.ADDRESS_DEPENDENT, allocation=PortAllocation.SEQUENTIAL)
        with Laboratory() as laboratory:
            self.assertRaises(namespace.LaboratoryError, laboratory.site, "none", nat)

    def _ports(self, found: Any) -> list[tuple[list[int], int]]:
        return [
            ([port for _, port in seen], local)
            for seen, local in zip(found["mapped"], found["local"], strict=True)
        ]


@once
def _meetings() -> dict[str, list[Any]]:
    """
    @return: what each of two plain punchers found, by the name of the pair of NATs.
    """
    accepting, rejecting = NAT(uninvited=Uninvited.ACCEPT), NAT(uninvited=Uninvited.ICMP)
    moving = NAT(allocation=PortAllocation.RANDOM)
    pairs = {
        "home": (NAT(), NAT()),
        "moving": (moving, moving),
        "symmetric": (NAT(), _SYMMETRIC),
        "loose": (_LOOSE, _SYMMETRIC),
        "accepting": (accepting, accepting),
        "rejecting": (rejecting, rejecting),
    }
    with Laboratory() as laboratory:
        public = laboratory.mirror()
        hosts = {
            name: [
                laboratory.site(f"{name}{i}", nat).host(f"{name}{i}") for i, nat in enumerate(pair)
            ]
            for name, pair in pairs.items()
        }
        probes = {
            name: [host.probe("punch", *public.addresses) for host in pair]
            for name, pair in hosts.items()
        }
        mapped = {
            name: [json.loads(probe.line(timeout=_PATIENCE)) for probe in pair]
            for name, pair in probes.items()
        }
        for name, pair in probes.items():
            for probe, peer, after in zip(pair, reversed(mapped[name]), _SKEW, strict=True):
                order = {"peer": peer, "after": after, "seconds": 2.0}
                probe.write(json.dumps(order) + "\n")
        return {name: [probe.result(_PATIENCE) for probe in pair] for name, pair in probes.items()}


class MeetingTests(unittest.SynchronousTestCase):
    """
    Which NATs the plainest hole puncher gets through: what is known of such routers is true here.
    """

    def test_home(self) -> None:
        """
        Two common home routers let two peers meet, and a round trip takes twice both delays.
        """
        for found in _meetings()["home"]:
            self.assertIsNotNone(found["heard"])
            self.assertGreaterEqual(found["seconds"], 0.080)
            self.assertLess(found["seconds"], 0.095)

    def test_notPreserving(self) -> None:
        """
        So do NATs that change the port, while all destinations see the same one.
        """
        self.assertNotIn(None, self._heard("moving"))

    def test_symmetric(self) -> None:
        """
        A symmetric NAT and address-and-port-dependent filtering keep the peers apart.
        """
        self.assertEqual(self._heard("symmetric"), [None, None])

    def test_loose(self) -> None:
        """
        A symmetric NAT and endpoint-independent filtering do not.
        """
        self.assertIsNotNone(self._heard("loose")[0])

    def test_accepting(self) -> None:
        """
        Routers that accept uninvited packets remember them, and give their own side another port:
        unless the first packets cross on the way, the peers never meet.
        """
        self.assertEqual(self._heard("accepting"), [None, None])

    def test_rejecting(self) -> None:
        """
        Routers that reject uninvited packets do no such harm.
        """
        self.assertNotIn(None, self._heard("rejecting"))

    def _heard(self, name: str) -> list[Any]:
        return [found["heard"] for found in _meetings()[name]]


class UninvitedTests(unittest.SynchronousTestCase):
    """
    What becomes of packets that nobody asked for.
    """

    def test_uninvited(self) -> None:
        """
        They vanish, or are refused, or are refused and remembered; those to nowhere just vanish.
        """
        kinds = (Uninvited.DROP, Uninvited.ICMP, Uninvited.ACCEPT)
        with Laboratory() as laboratory:
            stranger = laboratory.publicHost("stranger")
            routers = [laboratory.site(kind.value, NAT(uninvited=kind)) for kind in kinds]
            inside = routers[0].host("inside").probe("knock", "192.168.77.7:99", "11.9.9.9:99")
            doors = [f"{router.external}:4000" for router in routers]
            outside = stranger.probe("knock", *doors, "10.0.0.1:99", "11.9.9.9:99")
            self.assertEqual(
                outside.result(_PATIENCE), ["silence", "refused", "refused", "silence", "silence"]
            )
            self.assertEqual(inside.result(_PATIENCE), ["silence", "silence"])
            remembered = [any("dport=4000" in flow for flow in r.flows()) for r in routers]
            self.assertEqual(remembered, [False, False, True])
            unrouted = laboratory.counts().unrouted
            self.assertEqual([unrouted[stranger.port], unrouted[routers[0].port]], [2, 2])

    def test_hairpin(self) -> None:
        """
        A packet from inside to an outer address of the same router is dropped, or comes from its
        sender's outer address, or from its inner one.
        """
        kinds = (Hairpinning.NONE, Hairpinning.EXTERNAL, Hairpinning.INTERNAL)
        with Laboratory() as laboratory:
            public = laboratory.mirror()
            pairs = []
            for kind in kinds:
                router = laboratory.site(kind.name, NAT(hairpinning=kind))
                pairs.append([router.host(f"{kind.name}{i}") for i in range(2)])
            probes = [[host.probe("punch", *public.addresses) for host in pair] for pair in pairs]
            mapped = [[json.loads(p.line(timeout=_PATIENCE)) for p in pair] for pair in probes]
            for pair, addresses in zip(probes, mapped, strict=True):
                for probe, peer in zip(pair, reversed(addresses), strict=True):
                    probe.write(json.dumps({"peer": peer, "seconds": 1.0}) + "\n")
            heard = [[probe.result(_PATIENCE)["heard"] for probe in pair] for pair in probes]
        self.assertEqual(heard[0], [None, None])
        self.assertEqual(heard[1], mapped[1][::-1])
        inner = [
            [host.addresses[0], port] for host, (_, port) in zip(pairs[2], mapped[2], strict=True)
        ]
        self.assertEqual(heard[2], inner[::-1])


class ChangeTests(unittest.SynchronousTestCase):
    """
    Mappings end, routers reboot and move.
    """

    def test_lifetime(self) -> None:
        """
        A mapping is there for its lifetime, and not for longer.
        """
        nat = NAT(udpTimeout=_SHORT)
        late = [str(_SHORT - 1), str(_SHORT + 2)]
        with Laboratory() as laboratory:
            public = laboratory.mirror()
            probe = laboratory.site("site", nat).host("host").probe("nat", *public.addresses, *late)
            self.assertEqual(probe.result(_PATIENCE), [True, False])

    def test_fixedLife(self) -> None:
        """
        Where mappings have a fixed life, a busy socket gets another port every so often.
        """
        life = (2.0, 3.0)
        with Laboratory() as laboratory:
            public = laboratory.mirror()
            router = laboratory.site("site", NAT(allocation=PortAllocation.RANDOM, udpLife=life))
            probe = router.host("host").probe("ports", *public.addresses, "10")
            *ended, _ = probe.result(_PATIENCE)
        self.assertGreaterEqual(len(ended), 2)
        for _, seconds in ended:
            self.assertGreater(seconds, life[0] - 0.5)

    def test_newPorts(self) -> None:
        """
        A reboot gives an inside address another outer port, where the NAT changes ports; a new
        outer address is seen outside.
        """
        with Laboratory() as laboratory:
            public = laboratory.mirror()
            router = laboratory.site("site", NAT(allocation=PortAllocation.RANDOM))
            host = router.host("host")
            found = []
            for change in (lambda: None, router.reboot, router.renumber):
                change()
                probe = host.probe("punch", *public.addresses, "4321")
                found.append(json.loads(probe.line(timeout=_PATIENCE)))
                probe.end()
            (home, first), (rebooted, second), (moved, _) = found
            self.assertEqual(home, rebooted)
            self.assertNotEqual(first, second)
            self.assertEqual(moved, router.external)
            self.assertNotEqual(moved, home)


class IPv6Tests(unittest.SynchronousTestCase):
    """
    Sites with IPv6.
    """

    def test_firewall(self) -> None:
        """
        Nothing is translated, and only what was asked for comes in.
        """
        with Laboratory() as laboratory:
            public = laboratory.mirror(ipv6=True)
            host = laboratory.site("site", NAT(), ipv6=True).host("host")
            found = host.probe("nat", *public.addresses[2:]).result(_PATIENCE)
            self.assertEqual(found["heard"], [[0, 0]])
            for seen, local in zip(found["mapped"], found["local"], strict=True):
                self.assertEqual(seen, [[host.addresses[1], local]] * 4)
