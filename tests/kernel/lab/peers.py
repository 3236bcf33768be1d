"""
The real thing: C{twistd natrendezvous} and C{examples/datagrams.py} as processes in the laboratory.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernel.lab.laboratory import Place, PublicHost
from tests.kernel.lab.process import Program

# How long Python programs may take to start on busy cores, many at a time, in seconds.
START = 60.0
# How long a call may take to succeed or to fail, in seconds: more than the library allows itself.
CALL = 90.0
# Datagrams sent over every path, and their size in bytes: much more than what goes to the node
# meanwhile, and less than fills any queue.
COUNT, SIZE = 20, 1000
# How long an echo may take, in seconds: far more than a round trip.
_ECHO = 5.0
_EXAMPLE = Path(__file__).parents[3] / "examples" / "datagrams.py"
# The node's ports, and the port of its second STUN address.
LINKS, STUN, ALTERNATE = 8470, 3478, 3479
_identities = itertools.count()


def startNode(host: PublicHost) -> Program:
    """
    Start a rendezvous node that serves STUN on two addresses, so that peers can measure their NATs.
    """
    first, second = host.addresses[:2]
    stun = ["--stun", f"{first}:{STUN}", "--stun-alternate-address", f"{second}:{ALTERNATE}"]
    for address in host.addresses[2:3]:
        stun += ["--stun", f"[{address}]:{STUN}"]
    return startPlainNode(host, *stun)


def startPlainNode(host: PublicHost, *options: str) -> Program:
    """
    Start a rendezvous node with these options, and wait until it serves.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    argv = [twistd, "--nodaemon", "--pidfile=", "natrendezvous", *options]
    program = host.run(*argv, name="node")
    program.errorLine("links on", timeout=START)
    program.errorLine("STUN on", timeout=START)
    return program


def startPeer(place: Place, node: PublicHost, *, call: str | None = None) -> Program:
    """
    Start the example program.

    @param call: whom to call; L{None} to wait for calls and echo.
    """
    identity = place.laboratory.directory / f"identity{next(_identities)}"
    argv = [sys.executable, str(_EXAMPLE), "--rendezvous", f"tcp:{node.addresses[0]}:{LINKS}"]
    argv += ["--identity", str(identity), *([call] if call else [])]
    return place.run(*argv, name=f"{place.name}-{'caller' if call else 'callee'}")


def peerID(program: Program) -> str:
    """
    Wait until a peer is registered.

    @return: its ID.
    """
    peer: str = program.event("ready", timeout=START)["peer"]
    return peer


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of one call.

    @ivar event: the C{connected} or C{failed} event of the caller.
    @ivar echoed: how many of the datagrams sent after that came back.
    @ivar direct: bytes from site to site meanwhile, both ways.
    @ivar relayed: bytes between the sites and the node meanwhile, both ways.
    """

    event: dict[str, Any]
    echoed: int = 0
    direct: int = 0
    relayed: int = 0

    @property
    def connected(self) -> bool:
        """
        Whether there was a path.
        """
        return bool(self.event["event"] == "connected")


class Calls:
    """
    Calls between places, by the example program.
    """

    def __init__(self, node: PublicHost) -> None:
        """
        @param node: where the node runs.
        """
        self._node = node
        self._callees: dict[Place, Program] = {}

    def answering(self, *places: Place) -> None:
        """
        Start programs that wait for calls, and wait until they are registered.
        """
        new = [place for place in places if place not in self._callees]
        self._callees.update({place: startPeer(place, self._node) for place in new})
        for place in new:
            peerID(self._callees[place])

    def run(self, pairs: Mapping[str, tuple[Place, Place]]) -> dict[str, Outcome]:
        """
        Make calls, all at the same time.

        @param pairs: by any name, the caller and the callee, who must be answering.
        @return: what came of each.
        """
        callers = {
            name: startPeer(caller, self._node, call=peerID(self._callees[callee]))
            for name, (caller, callee) in pairs.items()
        }
        events = {
            name: caller.event("connected", "failed", timeout=CALL)
            for name, caller in callers.items()
        }
        outcomes = {}
        for name, caller in callers.items():
            if events[name]["event"] == "connected":
                outcomes[name] = self._exchange(caller, events[name], *pairs[name])
            else:
                outcomes[name] = Outcome(events[name])
            caller.end()
        return outcomes

    def _exchange(self, program: Program, event: dict[str, Any], a: Place, b: Place) -> Outcome:
        """
        Send datagrams, and count what crosses which link until they are back.
        """
        before = self._node.laboratory.counts()
        for number in range(COUNT):
            program.write(f"{number:04}".ljust(SIZE, ".") + "\n")
            time.sleep(0.005)  # a burst may overflow a queue, which is no matter of these tests
        echoed = _echoes(program)
        after = self._node.laboratory.counts()

        def crossed(one: int, other: int) -> int:
            return sum(
                after.octets[x][y] - before.octets[x][y] for x, y in ((one, other), (other, one))
            )

        relayed = sum(crossed(site, self._node.port) for site in {a.port, b.port})
        return Outcome(event, echoed, crossed(a.port, b.port), relayed)


def _echoes(program: Program) -> int:
    """
    @return: how many of the datagrams come back in a while.
    """
    for number in range(COUNT):
        if not program.answers(f"{number:04}", timeout=_ECHO):
            break
    return len({line[:4] for line in program.lines()})
