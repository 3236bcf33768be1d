"""
Which pairs of NATs become direct, and how soon: a table.

C{python benchmarks/matrix.py} tries every pair five times in the kernel laboratory (as root), and
with ten seeds on the simulated Internet; C{--tries} and C{--seeds} say how often, 0 for not at all:
C{--seeds 1000} is what the table in the README was made with. C{--only WORD} takes the rows whose
name has that word in it, and C{--pairs} prints a line for each pair as well.

A session is direct when both sides say so and the bytes that are sent then do not pass the node.
Its time is that from the call until both sides are. A unit is the round trips A - node and A - B
together, 130 ms. It ends with 1 when a row is not as good as it is to be.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.hardpairs import ROWS, TIME_LIMIT, Pair, Row
from tests.kernel.lab.hardpairs import tryAll
from tests.kernel.lab.measures import UNIT
from tests.sim.hardpairs import tryOnce

# Pairs in one laboratory at the same time: more, and the cores are what is measured.
_TOGETHER = 3
_TIMES = " \N{MULTIPLICATION SIGN} "
_CHUNK = 20  # seeds that one process takes at once


@dataclass(frozen=True, slots=True)
class Result:
    """
    What came of one session.

    @ivar seconds: until it was direct; infinite when it was not in time.
    @ivar transport: what the direct path went over.
    """

    seconds: float
    transport: str | None

    @property
    def direct(self) -> bool:
        """
        Whether it was direct in time.
        """
        return self.seconds <= TIME_LIMIT


def kernel(row: Row, times: int) -> dict[str, list[Result]]:
    """
    @return: what came of each pair in the laboratory.
    """
    found = {}
    for start in range(0, len(row.pairs), _TOGETHER):
        group = row.pairs[start : start + _TOGETHER]
        for pair, tries in zip(group, tryAll(group, times), strict=True):
            found[pair.name] = [
                Result(each.seconds if each.direct else math.inf, each.transport) for each in tries
            ]
            odd = [each for each in tries if not each.direct and row.share]
            print(f"kernel: {pair.name}; not direct: {odd}", file=sys.stderr)
    return found


def simulated(row: Row, seeds: int, pool: ProcessPoolExecutor) -> dict[str, list[Result]]:
    """
    @return: what came of each pair on the simulated Internet.
    """
    found = {}
    for pair in row.pairs:
        found[pair.name] = list(pool.map(partial(_simulate, pair), range(seeds), chunksize=_CHUNK))
        late = [seed for seed, each in enumerate(found[pair.name]) if not each.direct]
        print(f"sim: {pair.name}; not direct: {late[:20]}", file=sys.stderr)
    return found


def _simulate(pair: Pair, seed: int) -> Result:
    outcome = tryOnce(pair, seed)
    return Result(outcome.seconds if outcome.direct else math.inf, outcome.transport)


def asGood(row: Row, results: Sequence[Result]) -> bool:
    """
    @return: whether the row is as good as it is to be.
    """
    return row.isMet([each.seconds for each in results], UNIT) and all(
        each.transport == row.transport for each in results if each.direct
    )


def cell(row: Row, results: Sequence[Result]) -> str:
    """
    @return: words for a table.
    """
    if not results:
        return "not tried"
    share = 100 * sum(each.direct for each in results) / len(results)
    if share == 0:
        words = f"relayed ({len(results)} tries)"
    else:
        middle = median(each.seconds for each in results)
        slowest = max(each.seconds for each in results if each.direct)
        over = "" if row.transport == "udp" else f" over {row.transport.upper()}"
        words = (
            f"{share:.4g} % of {len(results)} direct{over}, median {middle:.2f} s "
            f"({middle / UNIT:.1f} units), slowest {slowest:.1f} s"
        )
    return words if asGood(row, results) else f"**{words}**"


def main() -> int:
    """
    Measure, and print the table.

    @return: 0 when every row is as good as it is to be.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("--pairs", action="store_true")
    options = parser.parse_args()
    print(_line("pair (mapping)", "best known before", "here, Linux NATs", "here, simulated"))
    print("|---|---|---|---|")
    good = True
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for row in ROWS:
            if options.only not in row.name:
                continue
            worlds = [
                kernel(row, options.tries) if options.tries else {},
                simulated(row, options.seeds, pool) if options.seeds else {},
            ]
            found = [[each for tries in world.values() for each in tries] for world in worlds]
            good = good and all(asGood(row, results) for results in found if results)
            name = row.name.replace(" x ", _TIMES)
            print(_line(name, row.known, *(cell(row, each) for each in found)), flush=True)
            for pair in row.pairs if options.pairs else ():
                each = (cell(row, world.get(pair.name, ())) for world in worlds)
                print(_line(f"... {pair.name}", "", *each), flush=True)
    return 0 if good else 1


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
