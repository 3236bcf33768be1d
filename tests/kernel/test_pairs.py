"""
The real node and real peers behind real NATs: which pairs talk directly, and why others do not.

Whether a path is direct is judged by what crosses the links of the sites, not by a peer's word.
"""

from __future__ import annotations

import itertools

from twisted.trial import unittest

from p2ptwist.testing.nat import (
    NAT,
    Filtering,
    Hairpinning,
    Mapping,
    PortAllocation,
    Uninvited,
)
from tests.kernel.lab.laboratory import Laboratory, Place
from tests.kernel.lab.once import once
from tests.kernel.lab.peers import COUNT, SIZE, Calls, Outcome, startNode

# The ordinary ones: every filtering under endpoint-independent mapping.
ORDINARY = {
    f"{filtering.value} filtering, {allocation.value} ports": NAT(
        filtering=filtering, allocation=allocation
    )
    for filtering, allocation in itertools.product(
        Filtering, (PortAllocation.PRESERVING, PortAllocation.RANDOM)
    )
}
_HOME = NAT()
_LOOSE = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)
_SYMMETRIC = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
# Both ways, without any header.
_PAYLOAD = 2 * COUNT * SIZE
_PORT_DEPENDENT = "address-and-port-dependent"


@once
def _ordinary() -> dict[str, Outcome]:
    """
    @return: what came of the calls between ordinary NATs, every one with every one.
    """
    names = list(ORDINARY)
    outcomes = {}
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        callers = [laboratory.site(f"a{i}", ORDINARY[x]).host(f"a{i}") for i, x in enumerate(names)]
        callees = [laboratory.site(f"b{i}", ORDINARY[x]).host(f"b{i}") for i, x in enumerate(names)]
        calls = Calls(node)
        calls.answering(*callees)
        for shift in range(len(names)):
            # Every place in one call at a time, so that counts of links are counts of calls.
            pairs = {}
            for i, j in ((i, (i + shift) % len(names)) for i in range(len(names))):
                pairs[f"{names[i]} - {names[j]}"] = (callers[i], callees[j])
            outcomes.update(calls.run(pairs))
    return outcomes


class _Places:
    """
    The places of the special pairs, by the name of the pair.
    """

    def __init__(self, laboratory: Laboratory) -> None:
        self._laboratory = laboratory
        self.pairs: dict[str, tuple[Place, Place]] = {}

    def apart(self, name: str, one: NAT, other: NAT, *, ipv6: bool = False) -> None:
        """
        Two sites.
        """
        a, b = (
            self._laboratory.site(f"{name}{i}", nat, ipv6=ipv6).host(f"{name}{i}")
            for i, nat in enumerate((one, other))
        )
        self.pairs[name] = a, b

    def twice(self, name: str, inner: NAT, outer: NAT) -> None:
        """
        Two sites, each with a second router inside the first.
        """
        a, b = (
            self._laboratory.site(f"{name}{i}", outer)
            .router(f"{name}{i}-inner", inner)
            .host(f"{name}{i}")
            for i in range(2)
        )
        self.pairs[name] = a, b

    def together(self, name: str, nat: NAT) -> None:
        """
        Two hosts in one LAN.
        """
        router = self._laboratory.site(name, nat)
        self.pairs[name] = router.host(f"{name}0"), router.host(f"{name}1")

    def under(self, name: str, carrier: NAT, home: NAT) -> None:
        """
        Two homes behind one router of their carrier.
        """
        router = self._laboratory.site(name, carrier)
        a, b = (router.router(f"{name}{i}", home).host(f"{name}{i}") for i in range(2))
        self.pairs[name] = a, b


@once
def _special() -> tuple[dict[str, Outcome], dict[str, tuple[Place, Place]]]:
    """
    @return: what came of the special pairs, and their places, which are gone by then.
    """
    accepting, rejecting = NAT(uninvited=Uninvited.ACCEPT), NAT(uninvited=Uninvited.ICMP)
    restricted = NAT(filtering=Filtering.ADDRESS_DEPENDENT)
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node", ipv6=True)
        startNode(node)
        places = _Places(laboratory)
        places.twice("double", _HOME, _HOME)
        places.together("same", _HOME)
        places.under("hairpin", NAT(hairpinning=Hairpinning.EXTERNAL), _HOME)
        places.under("carrier", _HOME, _HOME)
        places.apart("symmetricLoose", _SYMMETRIC, _LOOSE)
        places.apart("symmetricRestricted", restricted, _SYMMETRIC)
        places.apart("symmetricHome", _SYMMETRIC, _HOME)
        places.apart("symmetricBoth", _SYMMETRIC, _SYMMETRIC)
        places.apart("acceptingBoth", accepting, accepting)
        places.apart("acceptingCaller", accepting, _HOME)
        places.apart("acceptingCallee", _HOME, accepting)
        places.apart("rejecting", rejecting, rejecting)
        places.apart("ipv6", _SYMMETRIC, _SYMMETRIC, ipv6=True)
        calls = Calls(node)
        calls.answering(*(callee for _, callee in places.pairs.values()))
        return calls.run(places.pairs), places.pairs


class _PairTests(unittest.SynchronousTestCase):
    """
    What the tests of pairs ask for.
    """

    def assertDirect(self, name: str, outcome: Outcome) -> None:
        """
        Assert that datagrams went from site to site, and not by the node.
        """
        self.assertTrue(outcome.connected, f"{name}: {outcome.event}")
        self.assertEqual(outcome.echoed, COUNT, name)
        self.assertGreater(outcome.direct, _PAYLOAD, name)
        self.assertNotRelayed(name, outcome)

    def assertNotRelayed(self, name: str, outcome: Outcome) -> None:
        """
        Assert that the node saw hardly anything of them.
        """
        self.assertLess(outcome.relayed, _PAYLOAD / 4, name)


class OrdinaryTests(_PairTests):
    """
    Endpoint-independent mapping on both sides.
    """

    def test_direct(self) -> None:
        """
        Whatever the filtering, and whether ports are preserved or not, every pair is direct.
        """
        outcomes = _ordinary()
        self.assertEqual(len(outcomes), len(ORDINARY) ** 2)
        for name, outcome in outcomes.items():
            self.assertDirect(name, outcome)


class SpecialTests(_PairTests):
    """
    One pair each.
    """

    def test_doubleNAT(self) -> None:
        """
        Two routers on each side are as good as one.
        """
        self.assertDirect("double", self.outcomeOf("double"))

    def test_sameLAN(self) -> None:
        """
        Two hosts in one LAN use their own addresses, and nothing leaves the site.
        """
        outcome, (_, callee) = self.outcomeOf("same"), _special()[1]["same"]
        self.assertTrue(outcome.connected, str(outcome.event))
        self.assertEqual(outcome.event["remote"].rpartition(":")[0], callee.addresses[0])
        self.assertEqual((outcome.echoed, outcome.direct), (COUNT, 0))
        self.assertNotRelayed("same", outcome)

    def test_hairpin(self) -> None:
        """
        Two homes of a carrier meet at their outer addresses, where its router allows it.
        """
        outcome = self.outcomeOf("hairpin")
        self.assertTrue(outcome.connected, str(outcome.event))
        self.assertEqual((outcome.echoed, outcome.direct), (COUNT, 0))
        self.assertNotRelayed("hairpin", outcome)

    def test_noHairpin(self) -> None:
        """
        Where it does not, they cannot, and are told what was tried.
        """
        self.assertIn("no direct path", self.reasonOf("carrier"))

    def test_symmetricLoose(self) -> None:
        """
        A symmetric NAT and one that filters by address, or not at all, are direct.
        """
        for name in ("symmetricLoose", "symmetricRestricted"):
            self.assertDirect(name, self.outcomeOf(name))

    def test_symmetricHome(self) -> None:
        """
        A symmetric NAT and port-dependent filtering fail; the reason names the behaviour of both.
        """
        reason = self.reasonOf("symmetricHome")
        self.assertIn(f"this side's NAT has {_PORT_DEPENDENT} mapping", reason)
        self.assertIn("the other side's has endpoint-independent mapping", reason)
        self.assertIn(f"{_PORT_DEPENDENT} filtering", reason.rpartition("other side's")[2])

    def test_symmetricBoth(self) -> None:
        """
        Two symmetric NATs fail; the reason names the behaviour of both.
        """
        reason = self.reasonOf("symmetricBoth")
        self.assertIn(f"this side's NAT has {_PORT_DEPENDENT} mapping", reason)
        self.assertIn(f"the other side's has {_PORT_DEPENDENT} mapping", reason)

    def test_rejecting(self) -> None:
        """
        Routers that answer uninvited packets with an ICMP error do no harm.
        """
        self.assertDirect("rejecting", self.outcomeOf("rejecting"))

    def test_acceptingCallee(self) -> None:
        """
        A router at the callee's that accepts uninvited packets does no harm either: the callee has
        sent before anything comes.
        """
        self.assertDirect("acceptingCallee", self.outcomeOf("acceptingCallee"))

    def test_acceptingCaller(self) -> None:
        """
        Neither does one at the caller's, although the callee's first check leaves before the caller
        has heard of the callee: until the caller has sent as well, checks die on the way, so that
        no router takes one for itself.
        """
        for name in ("acceptingCaller", "acceptingBoth"):
            self.assertDirect(name, self.outcomeOf(name))

    def test_ipv6(self) -> None:
        """
        Hosts behind stateful firewalls use IPv6 where IPv4 cannot work.
        """
        outcome, (_, callee) = self.outcomeOf("ipv6"), _special()[1]["ipv6"]
        self.assertDirect("ipv6", outcome)
        self.assertIn(callee.addresses[1], outcome.event["remote"])

    def outcomeOf(self, name: str) -> Outcome:
        """
        @return: how the call of that name ended.
        """
        return _special()[0][name]

    def reasonOf(self, name: str) -> str:
        """
        @return: why the call of that name, which failed, did.
        """
        outcome = self.outcomeOf(name)
        self.assertFalse(outcome.connected, str(outcome.event))
        reason: str = outcome.event["reason"]
        return reason
