"""
Time from the call of a peer until a session is of use: to the first byte echoed, and to the direct
path.

C{python benchmarks/session_first_byte.py [CALLS]}, as root; seven calls by default, each from a new
process; then as many with UDP blocked on the caller's side, and on both. Both sides are behind
port-preserving NATs with address-and-port-dependent filtering, 20 ms away, and registered at a
node that is 5 ms away. The direct path carries when the first datagram of the session has come on
it, and back when one has come to the caller. A unit is the round trips A - node and A - B together,
130 ms. Beside it, aioice alone, which encrypts nothing, signals over a TCP forwarder on the same
host, and has gathered its candidates before the clock starts.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.punch import aioiceSeconds
from p2ptwist.testing.nat import NAT
from tests.kernel.lab.laboratory import Laboratory, Place, PublicHost
from tests.kernel.lab.measures import UNIT
from tests.kernel.lab.peers import CALL, LINKS, START, startNode
from tests.kernel.lab.streams import blockUDP

ECHO_GOAL, DIRECT_GOAL = 1.65, 2.2  # units


def sessionSeconds(
    caller: Place, callee: Place, node: PublicHost, count: int, *, direct: bool = True
) -> list[dict[str, float]]:
    """
    @param direct: whether there can be a direct path.
    @return: for each call the seconds to the first echo, and if there can be a direct path to the
        first datagram that came directly to the caller, and to the first that came directly to
        either side.
    """
    address = f"{node.addresses[0]}:{LINKS}"
    answering = callee.probe("session", address)
    peer: str = json.loads(answering.line('"', timeout=START))
    outcomes: list[dict[str, float]] = []
    for _ in range(count):
        # A new name for each: the output of a program is a file.
        calling = caller.run(
            sys.executable,
            "-m",
            "tests.kernel.probe_session",
            address,
            peer,
            *(() if direct else ("", "relayed")),
            name=f"{caller.name}-calling{len(outcomes)}",
        )
        outcomes.append(calling.result(START + CALL))
    answering.end()
    if not direct:
        return outcomes
    moves = [json.loads(line)["directAt"] for line in answering.lines() if line.startswith("{")]
    for outcome in outcomes:
        there = min(at for at in moves if at > outcome["calledAt"]) - outcome["calledAt"]
        outcome["carried"] = min(there, outcome["direct"])
    return outcomes


def main(count: int) -> int:
    """
    Measure, and print a table.

    @return: 0 when the goals are met.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        caller, callee = (laboratory.site(name, NAT()).host(name) for name in ("a", "b"))
        session = sessionSeconds(caller, callee, node, count)
        blocked = [laboratory.site(name, NAT()).host(name) for name in ("c", "d")]
        for place in blocked:
            blockUDP(place)
        one = sessionSeconds(blocked[0], callee, node, count, direct=False)
        both = sessionSeconds(blocked[0], blocked[1], node, count, direct=False)
        aioice = aioiceSeconds(caller, callee, node, count)
    print(f"from connect, {count} calls each; 1 unit = {UNIT * 1000:.0f} ms")
    print(f"{'':28}{'median ms':>10}{'units':>8}{'min':>8}{'max':>8}{'goal':>9}")
    good = row("session, first byte echoed", [each["echo"] for each in session], ECHO_GOAL)
    good &= row("session, direct path carries", [each["carried"] for each in session], DIRECT_GOAL)
    row("session, and back as well", [each["direct"] for each in session])
    good &= row("UDP blocked here, first byte", [each["echo"] for each in one], ECHO_GOAL)
    good &= row("UDP blocked on both sides", [each["echo"] for each in both], ECHO_GOAL)
    row("aioice, first byte echoed", aioice)
    return 0 if good else 1


def row(name: str, seconds: Sequence[float], goal: float | None = None) -> bool:
    """
    Print one.

    @return: whether it meets its goal.
    """
    units = [each / UNIT for each in seconds]
    median = statistics.median(units)
    columns = "".join(f"{each:8.2f}" for each in (median, min(units), max(units)))
    wanted = "" if goal is None else f"<= {goal:g}"
    print(f"{name:28}{median * UNIT * 1000:10.0f}{columns}{wanted:>9}")
    return goal is None or median <= goal


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 7))
