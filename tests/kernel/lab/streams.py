"""
Streams between two real peers, while the world around them changes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from p2ptwist.testing.nat import NAT, PortAllocation
from tests.kernel.lab.laboratory import Laboratory, Place, Router
from tests.kernel.lab.peers import CALL, LINKS, START, startNode
from tests.kernel.lab.process import Program

# What happens to a NAT, by name, in the order in which it happens.
CHANGES: dict[str, Callable[[Router], object]] = {
    "forgets": lambda router: router.reboot(),
    "changes ports": lambda router: router.reboot(NAT(allocation=PortAllocation.RANDOM)),
    "changes address": lambda router: router.renumber(),
}
_NO_UDP = """
table inet lab {
  chain out { type filter hook output priority filter;
    meta l4proto udp drop
    ip daddr 11.1.0.0/16 drop comment "other sites: no direct TCP either"
  }
  chain in { type filter hook input priority filter; meta l4proto udp drop; }
}
"""


def blockUDP(place: Place) -> None:
    """
    Let nothing into or out of C{place} but TCP with public hosts.
    """
    place.namespace.run("nft", "-f", "-", text=_NO_UDP)


def words(program: Program) -> list[dict[str, Any]]:
    """
    @return: the JSON objects that a program printed.
    """
    return [json.loads(line) for line in program.lines() if line.startswith("{")]


def waitForWord(program: Program, found: Callable[[dict[str, Any]], bool], timeout: float) -> Any:
    """
    @return: the first object that C{found} likes.
    @raise AssertionError: when none comes in time.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for word in words(program):
            if found(word):
                return word
        time.sleep(0.02)
    raise AssertionError(f"{program.name} did not say it in time\n{program.transcript()}")


class Streams:
    """
    Two sites 20 ms away with a peer in each, and a node 5 ms away.

    @ivar near: the router of the peer that calls.
    @ivar far: the router of the other.
    @ivar node: the program of the node.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        *,
        udp: bool = True,
        near: NAT | None = None,
        far: NAT | None = None,
    ) -> None:
        """
        @param udp: whether anything but TCP passes.
        @param near: how the router of the peer that calls behaves.
        @param far: the same of the other.
        """
        self.host = laboratory.publicHost("node")
        self.node = startNode(self.host)
        self.near, self.far = (
            laboratory.site(name, nat or NAT()) for name, nat in (("near", near), ("far", far))
        )
        self._caller, callee = self.near.host("caller"), self.far.host("callee")
        if not udp:
            for place in (self._caller, callee):
                blockUDP(place)
        self._address = f"{self.host.addresses[0]}:{LINKS}"
        self.callee = callee.probe("stream", self._address)
        self._peer: str = json.loads(self.callee.line('"', timeout=START))

    def start(self, name: str, count: int, *, kind: str = "direct") -> Program:
        """
        Open a stream, and wait until it is carried as it should be: until it is direct, or until
        the first echo came through the relay.
        """
        networks = self.near.external, self.far.external
        program = self._caller.probe(
            "stream", self._address, self._peer, name, str(count), *networks
        )
        if kind == "direct":
            waitForWord(program, lambda word: word.get("kind") == kind, START + CALL)
        else:
            waitForWord(program, lambda word: "began" in word, START + CALL)
        return program

    def restartNode(self, down: float) -> float:
        """
        Kill the node as by SIGKILL, and start it again.

        @param down: seconds that it is gone for.
        @return: when it was back, on the machine's monotonic clock.
        """
        self.node.kill()
        self.node.wait(START)
        time.sleep(down)
        self.node = startNode(self.host)
        return time.monotonic()


@contextmanager
def streams(
    *, udp: bool = True, near: NAT | None = None, far: NAT | None = None
) -> Iterator[Streams]:
    """
    A laboratory with L{Streams}.
    """
    with Laboratory() as laboratory:
        yield Streams(laboratory, udp=udp, near=near, far=far)


def longestGap(times: list[float], since: float, until: float) -> float:
    """
    @param times: when something came.
    @return: seconds of the longest silence that ended after C{since} and began before C{until}.
    """
    gaps = [later - time for time, later in pairwise(times) if later > since and time < until]
    return max(gaps, default=float("inf"))
