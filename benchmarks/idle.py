"""
An idle path under short mappings: is it still there, and what did it cost?

C{python benchmarks/idle.py [SECONDS]}, as root; ten minutes by default.  Two pairs of peers open
paths through NATs that forget a mapping after 20 s, say nothing, and then talk again.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.kernel.lab.measures import idle


def main(seconds: float) -> int:
    """
    Measure, and print a table.

    @return: 0 when all paths are alive.
    """
    print(f"idle for {seconds:.0f} s, mappings of 20 s; packets a minute that each side sent")
    print(f"{'ports':12}{'alive':>8}{'to the peer':>16}{'to the node':>16}{'goal':>8}")
    outcomes = idle(seconds)
    for name, outcome in outcomes.items():
        perMinute = 60 / outcome.seconds
        toPeer = " / ".join(f"{count * perMinute:.1f}" for count in outcome.packets)
        toNode = " / ".join(f"{count * perMinute:.1f}" for count in outcome.linkPackets)
        alive = "yes" if outcome.alive else "no"
        print(f"{name:12}{alive:>8}{toPeer:>16}{toNode:>16}{'<= 8':>8}")
    return 0 if all(outcome.alive for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 600.0))
