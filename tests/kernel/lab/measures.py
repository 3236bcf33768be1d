"""
What is measured of peers in the laboratory, by tests and by C{benchmarks/}.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from p2ptwist.testing.nat import NAT, PortAllocation
from tests.kernel.lab.laboratory import NODE_LINK, SITE_LINK, Laboratory, Place, PublicHost
from tests.kernel.lab.peers import CALL, LINKS, START, peerID, startNode, startPeer
from tests.kernel.lab.process import Program

# What a connection is measured in: the round trips A - node and A - B together, in seconds.
UNIT = 2 * (SITE_LINK.delay + NODE_LINK.delay) + 2 * (SITE_LINK.delay + SITE_LINK.delay)

# How long an echo may take, in seconds: far more than the renewal of consent.
_ECHO = 10.0

# Mappings of this many seconds are what an idle path must survive.
MAPPING = 20.0

# Seconds after which a peer has measured all that it measures in its network, once: the lifetime
# of mappings comes last, a minute after the start, and takes up to three times 30 s.
SETTLING = 200.0


def callSeconds(caller: Place, callee: Place, node: PublicHost, count: int) -> list[float]:
    """
    Call from place to place with both sides registered, one call after the other.

    @return: the seconds from each call to its first echo.
    """
    answering = startPeer(callee, node)
    address = f"{node.addresses[0]}:{LINKS}"
    calling = caller.probe("connect", address, peerID(answering), str(count))
    seconds: list[float] = calling.result(START + count * CALL)
    answering.end()
    return seconds


@dataclass(frozen=True, slots=True)
class Idle:
    """
    What an idle path did.

    @ivar seconds: how long nothing was said.
    @ivar packets: by side (caller, callee), what it sent to the other side meanwhile.
    @ivar linkPackets: by side, what it sent to the node.
    @ivar settling: by side, what it had sent to both before that, since the path was opened.
    @ivar alive: whether a datagram was echoed after that.
    @ivar events: what the caller said, for a person to read.
    """

    seconds: float
    packets: tuple[int, int]
    linkPackets: tuple[int, int]
    settling: tuple[int, int]
    alive: bool
    events: list[dict[str, Any]]


def idle(seconds: float, settling: float = 0.0) -> dict[str, Idle]:
    """
    Open paths, leave them alone for so long, and use them again: between routers that keep a
    mapping for 20 s, and whose next mapping has the same port, or another one.

    @param settling: how long they are left alone before that.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        pairs = {
            allocation.value: _Pair(laboratory, node, allocation)
            for allocation in (PortAllocation.PRESERVING, PortAllocation.RANDOM)
        }
        for pair in pairs.values():
            pair.call()
        for pair in pairs.values():
            pair.talk("before")
        opened = laboratory.counts().packets
        time.sleep(settling)
        started = time.monotonic()
        before = laboratory.counts().packets
        time.sleep(seconds)
        after = laboratory.counts().packets
        passed = time.monotonic() - started
        return {name: pair.outcome(passed, opened, before, after) for name, pair in pairs.items()}


class _Pair:
    """
    Two places that call each other and then say nothing.
    """

    def __init__(
        self, laboratory: Laboratory, node: PublicHost, allocation: PortAllocation
    ) -> None:
        nat = NAT(allocation=allocation, udpTimeout=MAPPING)
        name = allocation.value
        self._node = node
        self._places = [laboratory.site(f"{name}{i}", nat).host(f"{name}{i}") for i in range(2)]
        self._callee = startPeer(self._places[1], node)
        self._caller: Program | None = None

    def call(self) -> None:
        self._caller = startPeer(self._places[0], self._node, call=peerID(self._callee))

    def talk(self, text: str) -> bool:
        """
        @return: whether there is an echo.
        """
        assert self._caller is not None
        self._caller.event("connected", timeout=CALL)
        self._caller.write(f"{text}\n")
        return self._caller.answers(text, timeout=_ECHO)

    def outcome(
        self,
        seconds: float,
        opened: list[list[int]],
        before: list[list[int]],
        after: list[list[int]],
    ) -> Idle:
        a, b, node = self._places[0].port, self._places[1].port, self._node.port

        def sent(one: int, other: int) -> int:
            return after[one][other] - before[one][other]

        def settling(one: int, other: int) -> int:
            return sum(before[one][each] - opened[one][each] for each in (other, node))

        alive = self.talk("after")
        assert self._caller is not None
        return Idle(
            seconds,
            (sent(a, b), sent(b, a)),
            (sent(a, node), sent(b, node)),
            (settling(a, b), settling(b, a)),
            alive,
            self._caller.events(),
        )
