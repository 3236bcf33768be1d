"""
What happens to a direct path when the world around it changes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT
from tests.kernel.lab.laboratory import Laboratory, PublicHost, Router
from tests.kernel.lab.once import once
from tests.kernel.lab.peers import CALL, peerID, startNode, startPeer
from tests.kernel.lab.process import Program, ProgramError
from tests.kernel.lab.switch import Link

# How long a dead path may go unnoticed while it is used, in seconds: RFC 7675 section 5.1.
_CONSENT = 30.0
# How often it is used meanwhile.
_INTERVAL = 0.25
# Why it died.
_SILENT = "nothing came from the other side"
# How long an echo may take, in seconds: far more than a round trip.
_ECHO = 5.0


@dataclass(frozen=True, slots=True)
class _Path:
    """
    A direct path between two sites.
    """

    callee: Program
    caller: Program
    near: Router
    far: Router

    def echoes(self, text: str) -> bool:
        """
        @return: whether a datagram comes back.
        """
        self.caller.write(f"{text}\n")
        return self.caller.answers(text, timeout=_ECHO)

    @property
    def lost(self) -> dict[str, Any] | None:
        """
        The event that the caller wrote when the path was lost.
        """
        return next((event for event in self.caller.events() if event["event"] == "lost"), None)


def _useUntilLost(paths: Iterable[_Path]) -> None:
    """
    Use paths until their callers say that they are lost, or should have.
    """
    deadline = time.monotonic() + _CONSENT
    while time.monotonic() < deadline:
        using = [path for path in paths if path.lost is None]
        if not using:
            return
        for path in using:
            with contextlib.suppress(BrokenPipeError):
                path.caller.write("still there?\n")
        time.sleep(_INTERVAL)


def _open(laboratory: Laboratory, node: PublicHost, names: list[str]) -> dict[str, _Path]:
    """
    @return: paths that carried a datagram already, all opened at the same time.
    """
    sites = {name: [laboratory.site(f"{name}{i}", NAT()) for i in range(2)] for name in names}
    callees = {name: startPeer(far.host(f"{name}1"), node) for name, (_, far) in sites.items()}
    paths = {}
    for name, (near, far) in sites.items():
        caller = startPeer(near.host(f"{name}0"), node, call=peerID(callees[name]))
        paths[name] = _Path(callees[name], caller, near, far)
    for path in paths.values():
        path.caller.event("connected", timeout=CALL)
        if not path.echoes("first"):
            raise ProgramError(path.caller.transcript())
    return paths


@once
def _changes() -> tuple[dict[str, dict[str, Any] | None], list[bool]]:
    """
    @return: how the paths ended that cannot go on, and whether the one that can did: after a reboot
        of a router, and after the end of the node.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        serving = startNode(node)
        paths = _open(laboratory, node, ["cut", "killed", "ended", "going"])
        going = paths.pop("going")
        laboratory.switch.setLink(paths["cut"].far.port, Link(up=False))
        paths["killed"].callee.kill()
        paths["ended"].callee.terminate()
        going.near.reboot()
        alive = [going.echoes("rebooted")]
        _useUntilLost(paths.values())
        lost = {name: path.lost for name, path in paths.items()}
        serving.end()
        alive.append(going.echoes("alone"))
        return lost, alive


class ChangeTests(unittest.SynchronousTestCase):
    """
    One change each.
    """

    def test_cut(self) -> None:
        """
        A path whose other side is cut off is reported with its reason.
        """
        self.assertLost("cut", _SILENT)

    def test_killed(self) -> None:
        """
        So is one whose other program was killed.
        """
        self.assertLost("killed", _SILENT)

    def test_ended(self) -> None:
        """
        A program that ends says goodbye.
        """
        self.assertLost("ended", "the program stopped")

    def test_rebooted(self) -> None:
        """
        A path in use survives the reboot of the router of the side that sends, when that gives it
        the same mapping again.
        """
        self.assertTrue(_changes()[1][0])

    def test_nodeGone(self) -> None:
        """
        A path does not need the node any more.
        """
        self.assertTrue(_changes()[1][1])

    def assertLost(self, name: str, part: str) -> None:
        """
        Assert that a path was lost for a reason that matches C{part}.
        """
        event = _changes()[0][name]
        assert event is not None, f"{name}: nothing was said in {_CONSENT} s"
        self.assertRegex(event["reason"], part)
