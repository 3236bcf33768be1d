"""
Sessions of real peers behind the NATs of L{tests.hardpairs}: when they become direct, over what.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.hardpairs import Pair
from tests.kernel.lab.laboratory import SITE_LINK, Host, Laboratory, PublicHost, Router
from tests.kernel.lab.miniupnpd import Miniupnpd
from tests.kernel.lab.peers import LINKS, START, startNode
from tests.kernel.lab.process import Program
from tests.kernel.lab.streams import waitForWord, words

# Drops what comes from the other site: the pair never meets.
_APART = """
table ip apart {{
  chain forward {{ type filter hook forward priority filter - 10;
    ip saddr {other} drop
  }}
}}
"""
# Lets in what was asked for.
_WALL = """
table ip wall {
  chain input { type filter hook input priority filter;
    iifname wan0 ct state new drop
  }
}
"""
# Remembers whom a host sends to.
_WATCH = """
table ip watch {
  set hosts { type ipv4_addr; flags dynamic; }
  chain out { type filter hook output priority filter;
    update @hosts { ip daddr }
  }
}
"""
LIMIT = 22.0  # seconds for a direct path; the ladder gives up after 20
COUNT = 500_000  # bytes there and back, to see which way they go: after a silence the first go both
_PATIENCE = 60.0  # seconds for them, on busy cores
_ADDRESS = r"\d+\.\d+\.\d+\.\d+"
_POLL = 0.05  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Try:
    """
    What came of one session.

    @ivar seconds: from the call until it was direct on both sides; infinite when it was not.
    @ivar echo: seconds from the call to the first byte back.
    @ivar transport: what the direct path goes over, C{None} without one.
    @ivar crossed: bytes from site to site while L{COUNT} bytes went there and back.
    @ivar relayed: bytes between the sites and the node meanwhile.
    @ivar reason: why it stayed relayed.
    """

    seconds: float
    echo: float
    transport: str | None
    crossed: int
    relayed: int
    reason: str | None

    @property
    def direct(self) -> bool:
        """
        Whether both sides say so, and the bytes did not pass the node.
        """
        return self.seconds < math.inf and self.relayed < COUNT / 4


class Meeting:
    """
    The sites of one pair, and its programs.
    """

    def __init__(self, laboratory: Laboratory, pair: Pair, number: int) -> None:
        self._laboratory = laboratory
        self.routers: list[Router] = []
        outer = None
        if pair.shared:
            # Addresses that look public: miniupnpd maps no ports on a router with private ones.
            outer = laboratory.site(f"p{number}", pair.near[0], lan=f"11.2.{number}")
        self.near = self._side(pair.near, f"a{number}", outer)
        self.far = self._side((pair.near[0], *pair.far) if outer else pair.far, f"b{number}", outer)
        self.caller: Program
        self.callee: Program

    def _side(self, nats: Sequence[Any], name: str, router: Router | None) -> Host | PublicHost:
        if not nats:
            return self._walled(name)
        for depth, nat in enumerate(nats):
            if router is None:
                router = self._laboratory.site(name, nat)
            elif depth > 0:
                router = router.router(f"{name}i{depth}", nat)
            if depth == len(nats) - 1:
                self.routers.append(router)
            if nat.portMapping is not None:
                Miniupnpd(router)
            if nat.backgroundFlows:
                router.host(f"{name}x").probe("background", str(nat.backgroundFlows))
        assert router is not None
        return router.host(name)

    def _walled(self, name: str) -> PublicHost:
        """
        @return: a host with addresses of its own behind a stateful firewall.
        """
        host = self._laboratory.publicHost(name, SITE_LINK)
        host.namespace.run("nft", "-f", "-", text=_WALL)
        return host

    def keepApart(self) -> None:
        """
        Let the two sites hear nothing of each other: the ladder tries all that it has.
        """
        for router, other in zip(self.routers, reversed(self.routers), strict=True):
            text = _APART.format(other=other.external)
            router.namespace.run("nft", "-f", "-", text=text)

    def watch(self) -> None:
        """
        Remember whom both hosts send to from now on.
        """
        for host in (self.near, self.far):
            host.namespace.run("nft", "-f", "-", text=_WATCH)

    def watched(self) -> tuple[set[str], set[str]]:
        """
        @return: the IPv4 addresses that each of the two hosts has sent to.
        """
        near, far = (
            set(
                re.findall(
                    _ADDRESS, host.namespace.run("nft", "list", "set", "ip", "watch", "hosts")
                )
            )
            for host in (self.near, self.far)
        )
        return near, far

    def listen(self, address: str, *options: str) -> None:
        """
        Start the peer that is called.
        """
        self.callee = self.far.probe("path", address, *(("", *options) if options else ()))

    def join(self, address: str, *options: str) -> None:
        """
        Start the peer that calls, when the other one is ready.
        """
        peer = json.loads(self.callee.line('"', timeout=START))
        self.caller = self.near.probe("path", address, peer, *options)

    def call(self) -> None:
        """
        Call, when both have measured their NATs.
        """
        self.caller.line('"ready"', timeout=START)
        self.caller.write("call\n")

    def directAt(self) -> float:
        """
        @return: when both were direct, on the machine's monotonic clock; infinite while they are
            not.
        """
        times: list[float] = []
        for program in (self.caller, self.callee):
            moves = [word for word in words(program) if "kind" in word]
            if not moves or moves[-1]["kind"] != "direct":
                return math.inf
            times.append(moves[-1]["at"])
        return max(times)

    def send(self, count: int) -> float:
        """
        Send bytes there and back.

        @return: the seconds that it took.
        """
        number = sum("sent" in word for word in words(self.caller)) + 1
        self.caller.write(f"send {count}\n")
        seconds: float = self._wait("sent", number)["sent"]
        return seconds

    def outcome(self, node: PublicHost) -> Try:
        """
        Send bytes there and back, and look which way they go.
        """
        called = waitForWord(self.caller, lambda word: "calledAt" in word, START)["calledAt"]
        directAt = self.directAt()
        failed = [word["failed"] for word in words(self.caller) if "failed" in word]
        if failed:
            return Try(math.inf, math.inf, None, 0, 0, failed[0])
        echo = waitForWord(self.caller, lambda word: "sent" in word, _PATIENCE)["at"] - called
        before = self._laboratory.counts()
        self.send(COUNT)
        after = self._laboratory.counts()
        self.caller.write("why\n")
        reason = self._wait("why", 1)["why"]

        def crossed(one: int, other: int) -> int:
            pairs = {(one, other), (other, one)}
            return sum(after.octets[x][y] - before.octets[x][y] for x, y in pairs)

        sites = {self.near.port, self.far.port}
        return Try(
            directAt - called,
            echo,
            self._transport(),
            crossed(self.near.port, self.far.port),
            sum(crossed(site, node.port) for site in sites),
            reason,
        )

    def end(self) -> None:
        """
        End both programs.
        """
        for program in (self.caller, self.callee):
            program.terminate()
        for program in (self.caller, self.callee):
            program.end()

    def _transport(self) -> str | None:
        moves = [word for word in words(self.caller) if word.get("kind") == "direct"]
        return moves[-1]["transport"] if moves else None

    def _wait(self, key: str, count: int) -> dict[str, Any]:
        """
        Wait for the word of that kind with that number.
        """
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            found = [word for word in words(self.caller) if key in word]
            if len(found) >= count:
                return found[count - 1]
            time.sleep(_POLL)
        raise AssertionError(f"{key} is missing\n{self.caller.transcript()}")


def tryAll(pairs: Sequence[Pair], times: int = 1) -> list[list[Try]]:
    """
    Try pairs in one laboratory, all at the same time.

    @param times: how often, each time with new programs: they remember what worked.
    @return: for each pair, what came of each try.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        meetings = [Meeting(laboratory, pair, i) for i, pair in enumerate(pairs)]
        outcomes = [_tryOnce(meetings, node) for _ in range(times)]
    return [list(each) for each in zip(*outcomes, strict=True)]


def _tryOnce(meetings: Sequence[Meeting], node: PublicHost) -> list[Try]:
    address = f"{node.addresses[0]}:{LINKS}"
    for meeting in meetings:
        meeting.listen(address)
    for meeting in meetings:
        meeting.join(address)
    for meeting in meetings:
        meeting.call()
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if all(meeting.directAt() < math.inf for meeting in meetings):
            break
        time.sleep(_POLL)
    outcomes = [meeting.outcome(node) for meeting in meetings]
    for meeting in meetings:
        meeting.end()
    return outcomes
