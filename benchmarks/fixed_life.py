"""
Sessions behind NATs that forget every mapping after a while, however much it is used: the silences.

C{python benchmarks/fixed_life.py [SECONDS [LEAST MOST]]}, as root; ten minutes by default, of
mappings that last 50 to 75 s, as those of some carriers do.  Sites are 20 ms away; a number is said
every 100 ms, and its echo noted.  For each pair of routers one line: how long mappings were found
to last; how often the session lost its path and went to the relay, when for the last time it was
direct again, and the longest silence until then; and from then on the longest silence, and how
often a path was replaced, at which age at most.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from p2ptwist.testing.nat import NAT, Mapping, PortAllocation
from tests.kernel.lab.fixedlife import talkAll

SYMMETRIC = Mapping.ADDRESS_AND_PORT_DEPENDENT


def main(seconds: float, life: tuple[float, float]) -> None:
    """
    Measure, and print a table.
    """
    home, carrier = NAT(), NAT(allocation=PortAllocation.RANDOM, udpLife=life)
    counting, scattering = (
        NAT(mapping=SYMMETRIC, allocation=allocation, udpLife=life)
        for allocation in (PortAllocation.SEQUENTIAL, PortAllocation.RANDOM)
    )
    pairs = {
        "carrier - home": (carrier, home),
        "home - carrier": (home, carrier),
        "carrier - carrier": (carrier, carrier),
        "home - sequential symmetric carrier": (home, counting),
        "home - random symmetric carrier": (home, scattering),
    }
    print(f"{seconds:.0f} s, mappings last {life[0]:.0f} to {life[1]:.0f} s")
    print("| pair | life | lost | direct from | silence before | after | renewed | oldest |")
    print("|---|---|---|---|---|---|---|---|")
    for name, each in zip(pairs, talkAll(list(pairs.values()), seconds), strict=True):
        found = "unknown" if each.life is None else f"{each.life:.0f} s"
        print(
            f"| {name} | {found} | {len(each.losses)} | {each.settled:.0f} s "
            f"| {each.before:.2f} s | {each.after:.2f} s | {len(each.ages) - 1} "
            f"| {max(each.ages):.0f} s |{'' if each.whole else ' NOT ALL CAME'}",
            flush=True,
        )


if __name__ == "__main__":
    numbers = [float(each) for each in sys.argv[1:]]
    main(
        numbers[0] if numbers else 600.0, (numbers[1], numbers[2]) if numbers[1:] else (50.0, 75.0)
    )
