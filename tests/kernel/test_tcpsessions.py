"""
Sessions through routers that let no UDP pass: direct over TCP.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT, Uninvited
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.once import once
from tests.kernel.lab.peers import LINKS, START, startNode
from tests.kernel.lab.streams import waitForWord
from tests.kernel.test_tcpopen import BLOCK_UDP

_COUNT = 2_000_000  # bytes there and back
_PATIENCE = 60.0  # seconds
# What a router drops so that a path over TCP dies.
_CUT = """
table ip cut {{
  chain forward {{ type filter hook forward priority filter - 10; ip daddr {address} drop; }}
}}
"""
# The sites without UDP, and what both routers do with uninvited SYNs.
_CASES = {
    "caller": ("near", Uninvited.DROP),
    "callee": ("far", Uninvited.DROP),
    "both": ("near far", Uninvited.DROP),
    "both, reset": ("near far", Uninvited.RESET),
    "both, accept": ("near far", Uninvited.ACCEPT),
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """
    What came of one call.

    @ivar first: what the caller's program printed when the session was direct.
    @ivar direct: bytes from site to site while the bytes went there and back.
    @ivar relayed: bytes between the sites and the node meanwhile.
    @ivar kind: what carried the session after TCP between the sites was cut as well, and all came.
    """

    first: dict[str, Any]
    direct: int
    relayed: int
    kind: str


def _run(blocked: str, uninvited: Uninvited) -> _Outcome:
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        sites = {name: laboratory.site(name, NAT(uninvited=uninvited)) for name in ("near", "far")}
        for name in blocked.split():
            sites[name].namespace.run("nft", "-f", "-", text=BLOCK_UDP)
        address = f"{node.addresses[0]}:{LINKS}"
        near, far = (sites[name].host(name) for name in ("near", "far"))
        callee = json.loads(far.probe("session", address).line('"', timeout=START))
        caller = near.probe("tcpsession", address, callee, str(_COUNT))
        first = json.loads(caller.line('{"echo"', timeout=_PATIENCE))
        before = laboratory.counts()
        caller.write("go\n")
        caller.line('{"seconds"', timeout=_PATIENCE)
        after = laboratory.counts()
        cut = _CUT.format(address=sites["far"].external)
        sites["near"].namespace.run("nft", "-f", "-", text=cut)
        caller.write("go\n")
        last = waitForWord(caller, lambda word: word.get("kind") == "relayed", _PATIENCE)

        def crossed(one: int, other: int) -> int:
            pairs = ((one, other), (other, one))
            return sum(after.octets[x][y] - before.octets[x][y] for x, y in pairs)

        relayed = crossed(near.port, node.port) + crossed(far.port, node.port)
        return _Outcome(first, crossed(near.port, far.port), relayed, last["kind"])


@once
def _outcomes() -> dict[str, _Outcome]:
    """
    @return: what came of each case, one after the other, as time is measured.
    """
    return {name: _run(*case) for name, case in _CASES.items()}


class BlockedTests(unittest.SynchronousTestCase):
    """
    UDP is blocked on one side, or on both.
    """

    def direct(self, name: str) -> None:
        """
        The session was relayed at once, then direct over TCP, and what it carried did not pass the
        node.
        """
        outcome = _outcomes()[name]
        self.assertEqual(outcome.first["transport"], "tcp")
        self.assertLess(outcome.first["echo"], outcome.first["direct"])
        self.assertGreater(outcome.direct, 2 * _COUNT)
        self.assertLess(outcome.relayed, _COUNT / 100)
        # And then the relay carried it, when that path had died in the middle.
        self.assertEqual(outcome.kind, "relayed")

    def test_caller(self) -> None:
        """
        The caller's router lets no UDP pass.
        """
        self.direct("caller")

    def test_callee(self) -> None:
        """
        The other side's does not.
        """
        self.direct("callee")

    def test_both(self) -> None:
        """
        Neither does.
        """
        self.direct("both")

    def test_reset(self) -> None:
        """
        Neither does, and both answer uninvited SYNs with RST.
        """
        self.direct("both, reset")

    def test_accept(self) -> None:
        """
        Neither does, and the own stacks of both take uninvited SYNs.
        """
        self.direct("both, accept")
