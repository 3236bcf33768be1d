"""
Time to the first echo between two peers behind NATs, beside aioice.

C{python benchmarks/punch.py [CALLS]}, as root; seven calls by default.  Both sides are behind
port-preserving NATs with address-and-port-dependent filtering, 20 ms away, and registered at a
node that is 5 ms away.  A unit is the round trips A - node and A - B together, 130 ms.  Ours
signals over the node's link; aioice over a TCP forwarder on the same host, with our node as its
STUN server, and with its candidates gathered before the clock starts.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from p2ptwist.testing.nat import NAT
from tests.kernel.lab.laboratory import Laboratory, Place, PublicHost
from tests.kernel.lab.measures import UNIT, callSeconds
from tests.kernel.lab.peers import CALL, START, startNode

_HERE = Path(__file__).parent
_FORWARDER = "9000"  # the port


def aioiceSeconds(caller: Place, callee: Place, node: PublicHost, count: int) -> list[float]:
    """
    @return: the seconds from each call to its first echo, by aioice.
    """
    program, peer = str(_HERE / "forwarder.py"), str(_HERE / "aioicepeer.py")
    node.run(sys.executable, program, _FORWARDER, name="forwarder").line("ready", timeout=START)
    answering = callee.run(sys.executable, peer, node.addresses[0], "bob", name="answering")
    answering.line("ready", timeout=START)
    time.sleep(0.5)  # until its candidates are gathered
    argv = [sys.executable, peer, node.addresses[0], "alice", "bob", str(count)]
    seconds: list[float] = caller.run(*argv, name="calling").result(START + count * CALL)
    answering.end()
    return seconds


def main(count: int) -> None:
    """
    Measure, and print a table.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        caller, callee = (laboratory.site(name, NAT()).host(name) for name in ("a", "b"))
        results = {
            "p2ptwist": callSeconds(caller, callee, node, count),
            "aioice, STUN only": aioiceSeconds(caller, callee, node, count),
        }
    print(f"from call to first echo, {count} calls each; 1 unit = {UNIT * 1000:.0f} ms")
    print(f"{'':20}{'median ms':>10}{'units':>8}{'min':>8}{'max':>8}{'goal':>8}")
    for name, seconds in results.items():
        units = [each / UNIT for each in seconds]
        median = statistics.median(units)
        row = "".join(f"{each:8.2f}" for each in (median, min(units), max(units)))
        goal = "<= 1.6" if name == "p2ptwist" else ""
        print(f"{name:20}{median * UNIT * 1000:10.0f}{row}{goal:>8}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 7)
