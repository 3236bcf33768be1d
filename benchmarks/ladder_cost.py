"""
What the search for a direct path costs a relayed transfer.

C{python benchmarks/ladder_cost.py [ROUNDS]}, as root; five rounds by default.  A session between a
home router and a symmetric NAT with random ports, whose sites hear nothing of each other, so that
every strategy is tried for twenty seconds; meanwhile 10 MB go through the node there, and back.
Each round does so with the ladder and, from new processes, without it; the order changes each time.
It ends with 1 when the transfers with the ladder take over 1.2 times as long.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.hardpairs import HOME, RANDOM, Pair
from tests.kernel.lab.hardpairs import Meeting
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.peers import LINKS, startNode

COUNT = 10_000_000  # bytes, each way
GOAL = 1.2
_LEAD = 1.5  # seconds from the call until the spray is under way


def seconds(ladder: bool) -> tuple[float, int]:
    """
    @return: the seconds of one transfer, and the packets from site to site meanwhile.
    """
    options = () if ladder else ("no-ladder",)
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        meeting = Meeting(laboratory, Pair("apart", (HOME,), (RANDOM,)), 0)
        meeting.keepApart()
        address = f"{node.addresses[0]}:{LINKS}"
        meeting.listen(address, *options)
        meeting.join(address, *options)
        meeting.call()
        time.sleep(_LEAD)
        near, far = meeting.near.port, meeting.far.port
        before = laboratory.counts().packets[near][far]
        took = meeting.send(COUNT)
        return took, laboratory.counts().packets[near][far] - before


def main(rounds: int) -> int:
    """
    Measure, and print.

    @return: 0 when the goal is met.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for ladder in (True, False) if number % 2 else (False, True):
            took, packets = seconds(ladder)
            found[ladder].append(took)
            word = "with" if ladder else "without"
            print(f"round {number}, {word} the ladder: {took:.2f} s, {packets} packets beside it")
    with_, without = median(found[True]), median(found[False])
    print(
        f"median with {with_:.2f} s, without {without:.2f} s: {with_ / without:.3f} times as long"
    )
    return 0 if with_ <= GOAL * without else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
