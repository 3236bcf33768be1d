"""
TCP that both sides open at once, through the NATs of the Linux kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT, Uninvited
from tests.kernel.lab.laboratory import Laboratory, Place
from tests.kernel.lab.once import once
from tests.kernel.probe_tcpopen import COUNT, SIZE

_START = 60.0  # seconds until Python programs run, on busy cores
_LIMIT = 60.0  # seconds for all attempts at the same time

# What the routers drop where UDP is blocked.
BLOCK_UDP = """
table ip blocked {
  chain forward { type filter hook forward priority filter - 10;
    meta l4proto udp drop
  }
}
"""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """
    What came of one attempt.

    @ivar caller: what the caller's program printed.
    @ivar answerer: what the other side's did.
    @ivar direct: bytes from site to site, both ways.
    """

    caller: dict[str, Any]
    answerer: dict[str, Any]
    direct: int


@once
def _outcomes() -> dict[str, _Outcome]:
    """
    @return: what came of each pair, all at the same time.
    """
    with Laboratory() as laboratory:
        hub = laboratory.publicHost("hub")
        serving = hub.probe("tcpopen", "hub", hub.addresses[0])
        serving.line("ready", timeout=_START)
        pairs: dict[str, tuple[Place, Place, str]] = {}
        for uninvited in (Uninvited.DROP, Uninvited.RESET, Uninvited.ACCEPT):
            for lag in ("0", "0.3", "2.5"):
                name = f"{uninvited.name}{lag}"
                near, far = (laboratory.site(f"{name}{i}", NAT(uninvited=uninvited)) for i in "ab")
                pairs[name] = (near.host("a"), far.host("b"), lag)
        pairs["callee open"] = (
            laboratory.site("c", NAT()).host("c"),
            laboratory.publicHost("d"),
            "0",
        )
        pairs["caller open"] = (
            laboratory.publicHost("e"),
            laboratory.site("f", NAT()).host("f"),
            "0",
        )
        blocked = [laboratory.site(name, NAT()) for name in "gh"]
        for site in blocked:
            site.namespace.run("nft", "-f", "-", text=BLOCK_UDP)
        pairs["no UDP"] = (blocked[0].host("g"), blocked[1].host("h"), "0")
        running = {
            name: (
                far.probe("tcpopen", "answer", hub.addresses[0], name, lag),
                near.probe("tcpopen", "call", hub.addresses[0], name),
            )
            for name, (near, far, lag) in pairs.items()
        }
        results = {
            name: (caller.result(_LIMIT), answerer.result(_LIMIT))
            for name, (answerer, caller) in running.items()
        }
        octets = laboratory.counts().octets
        return {
            name: _Outcome(
                *results[name], octets[near.port][far.port] + octets[far.port][near.port]
            )
            for name, (near, far, _) in pairs.items()
        }


class OpenTests(unittest.SynchronousTestCase):
    """
    Pairs of sites.
    """

    def met(self, *names: str) -> None:
        """
        Each pair has a path, on which all datagrams came, from site to site.
        """
        for name in names:
            outcome = _outcomes()[name]
            for side in (outcome.caller, outcome.answerer):
                self.assertEqual(side.get("received"), COUNT, f"{name}: {side}")
            self.assertGreater(outcome.direct, 2 * COUNT * SIZE, name)

    def test_drop(self) -> None:
        """
        Routers that drop uninvited SYNs, whoever is late.
        """
        self.met("DROP0", "DROP0.3", "DROP2.5")

    def test_reset(self) -> None:
        """
        Routers that answer them with RST.
        """
        self.met("RESET0", "RESET0.3", "RESET2.5")

    def test_accept(self) -> None:
        """
        Routers whose own stack takes them.
        """
        self.met("ACCEPT0", "ACCEPT0.3", "ACCEPT2.5")

    def test_oneSideOpen(self) -> None:
        """
        One side without a NAT, whoever calls.
        """
        self.met("callee open", "caller open")

    def test_withoutUDP(self) -> None:
        """
        No UDP passes either router.
        """
        self.met("no UDP")
