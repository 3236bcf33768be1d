"""
STUN Binding requests answered per CPU second of the rendezvous node, beside coturn.

Run C{python benchmarks/stun.py}.  Both servers run at once and are asked in turn, round for round,
over loopback, by as many requests on their way as keep them busy.  The node is
C{twistd -n natrendezvous}; its rate limits are in force, with figures that this load does not
reach.  CPU seconds are those of the whole process, as the kernel counts them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.stunservers import Load, Server, coturn, node


def measure(server: Server, sockets: int, window: int, seconds: float) -> float:
    """
    @return: answers per CPU second.
    """
    load = Load(server.port, sockets, window)
    try:
        before = server.cpu()
        answered = load.run(seconds)
        return answered / (server.cpu() - before)
    finally:
        load.close()


def main() -> int:
    """
    Measure and print; the status says whether the ratio is good enough.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--sockets", type=int, default=4, help="that ask at once")
    parser.add_argument("--window", type=int, default=48, help="requests on their way for each")
    parser.add_argument("--at-least", type=float, default=0.9, help="the ratio that is asked for")
    options = parser.parse_args()
    print(f"{options.sockets} x {options.window} requests on their way, answers per CPU second")
    print(f"{'round':>6} {'p2ptwist':>10} {'coturn':>10} {'ratio':>6}")
    ours: list[float] = []
    theirs: list[float] = []
    with node() as mine, coturn() as other:
        for number in range(options.rounds + 1):
            one = measure(mine, options.sockets, options.window, options.seconds)
            two = measure(other, options.sockets, options.window, options.seconds)
            if number == 0:
                continue  # to warm up
            ours.append(one)
            theirs.append(two)
            print(f"{number:6} {one:10,.0f} {two:10,.0f} {one / two:6.2f}", flush=True)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    one, two = statistics.median(ours), statistics.median(theirs)
    print(f"{'median':>6} {one:10,.0f} {two:10,.0f} {ratio:6.2f}   (at least {options.at_least})")
    return 0 if ratio >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
