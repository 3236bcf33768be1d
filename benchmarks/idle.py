"""
An idle path under short mappings: is it still there, and what did it cost?

C{python benchmarks/idle.py [SECONDS]}, as root; ten minutes by default.  Two pairs of peers open
paths through NATs that forget a mapping after 20 s, say nothing, and then talk again.  Counting
begins after 200 s, when they have measured what they measure once in each network.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.kernel.lab.measures import SETTLING, idle

GOAL = 8  # packets a minute that each side sends, to the peer and to the node together


def main(seconds: float) -> int:
    """
    Measure, and print a table.

    @return: 0 when all paths are alive, within the goal.
    """
    print(f"idle for {seconds:.0f} s, mappings of 20 s; packets a minute, caller / callee")
    print(
        f"{'ports':12}{'alive':>8}{'to the peer':>16}{'to the node':>16}{'together':>16}{'goal':>8}"
    )
    good = True
    for name, outcome in idle(seconds, SETTLING).items():
        counts = zip(outcome.packets, outcome.linkPackets, strict=True)
        rates = [[each * 60 / outcome.seconds for each in (*two, sum(two))] for two in counts]
        columns = [f"{caller:.1f} / {callee:.1f}" for caller, callee in zip(*rates, strict=True)]
        alive = "yes" if outcome.alive else "no"
        print(f"{name:12}{alive:>8}{''.join(f'{each:>16}' for each in columns)}{f'<= {GOAL}':>8}")
        began = " / ".join(map(str, outcome.settling))
        print(f"{'':12}{began} packets in the {SETTLING:.0f} s before")
        good = good and outcome.alive and all(side[2] <= GOAL for side in rates)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 600.0))
