"""
One stream of a session at full speed, beside datagrams of plain Twisted UDP and aioquic.

C{python benchmarks/session_bulk.py}: two processes on loopback for each; rounds of all kinds
alternate.  The session's peers meet at a rendezvous node, and are measured on the direct path.
Plain UDP is what C{listenUDP} makes, with datagrams of 1,200 bytes and a window that keeps most of
them from being lost; aioquic, when it is installed, is driven by Twisted as well.  CPU seconds
are those of each process while the bytes moved.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PEERS = str(Path(__file__).with_name("bulkpeers.py"))
_PATIENCE = 300.0  # seconds that one measurement may take
GIGABYTE = 1_000_000_000
# What a session has to show, beside the others of the same run.
UDP_RATIO, AIOQUIC_RATIO, CPU_LIMIT, ECHO_RATIO = 0.9, 10.0, 4.0, 2.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    One measurement.

    @ivar rate: bytes that arrived, in MB/s.
    @ivar giving: CPU seconds per GB of the side that sends.
    @ivar taking: the same of the other side.
    @ivar echo: seconds from sending 64 bytes until they are back, the median.
    """

    rate: float
    giving: float
    taking: float
    echo: float


@contextmanager
def running(*arguments: str) -> Iterator[Any]:
    """
    @return: a process of C{bulkpeers.py}, which ends with the context.
    """
    command = [sys.executable, _PEERS, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def said(process: Any) -> dict[str, Any]:
    """
    @return: the next thing that a process says.
    """
    line = process.stdout.readline()
    if not line:
        sys.exit("a process ended before it had measured anything")
    values: dict[str, Any] = json.loads(line)
    return values


def measure(kind: str, node: str, megabytes: float, echoes: int) -> Outcome:
    """
    Measure once.
    """
    with running(kind, "take", node) as taker:
        address = said(taker)["address"]
        with running(kind, "give", node, address, str(megabytes), str(echoes)) as giver:
            echo = said(giver)["echo"]
            giving, taking = said(giver), said(taker)
            giver.wait(_PATIENCE)
    return Outcome(
        taking["octets"] / taking["seconds"] / 1e6,
        giving["cpu"] * GIGABYTE / giving["octets"],
        taking["cpu"] * GIGABYTE / taking["octets"],
        echo,
    )


def median(outcomes: list[Outcome]) -> Outcome:
    """
    @return: the medians of each.
    """
    columns = zip(*((x.rate, x.giving, x.taking, x.echo) for x in outcomes), strict=True)
    return Outcome(*map(statistics.median, columns))


def main() -> int:
    """
    Measure and print; the status says whether the session is fast enough.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--megabytes", type=float, default=1000.0, help="through each stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--echoes", type=int, default=5000, help="of 64 bytes, before the bulk")
    arguments = parser.parse_args()
    kinds = {"udp": arguments.megabytes, "session": arguments.megabytes}
    if importlib.util.find_spec("aioquic") is not None:
        kinds["aioquic"] = arguments.megabytes / 20  # it would take minutes
    else:
        print("aioquic is not installed, and left out")
    outcomes: dict[str, list[Outcome]] = {kind: [] for kind in kinds}
    with running("node") as node:
        address = said(node)["address"]
        for _ in range(arguments.rounds):
            for kind, megabytes in kinds.items():
                outcomes[kind].append(measure(kind, address, megabytes, arguments.echoes))
    return report(outcomes, arguments.megabytes)


def report(outcomes: dict[str, list[Outcome]], megabytes: float) -> int:
    """
    Print the table.

    @return: 0 when the session is fast enough.
    """
    rounds = len(outcomes["udp"])
    print(f"{megabytes:g} MB one way on loopback, medians of {rounds} interleaved rounds")
    print(
        f"{'':10}{'MB/s':>8}{'CPU s/GB sender':>18}{'receiver':>10}{'echo us':>10}"
        f"{'MB/s by round':>20}"
    )
    medians = {kind: median(each) for kind, each in outcomes.items()}
    for kind, each in medians.items():
        rates = " ".join(f"{outcome.rate:.0f}" for outcome in outcomes[kind])
        print(
            f"{kind:10}{each.rate:8.0f}{each.giving:18.2f}{each.taking:10.2f}"
            f"{each.echo * 1e6:10.0f}  {rates}"
        )
    session, udp = medians["session"], medians["udp"]
    goals = [
        ("of plain UDP's speed", paired(outcomes, "udp"), UDP_RATIO, True),
        ("CPU s/GB, the worse side", max(session.giving, session.taking), CPU_LIMIT, False),
        ("of plain UDP's echo time", session.echo / udp.echo, ECHO_RATIO, False),
    ]
    if "aioquic" in outcomes:
        goals.append(("of aioquic's speed", paired(outcomes, "aioquic"), AIOQUIC_RATIO, True))
    for what, value, goal, atLeast in goals:
        sign = ">=" if atLeast else "<="
        met = value >= goal if atLeast else value <= goal
        print(f"session: {value:6.2f} {what:26} {sign} {goal:g}  {'yes' if met else 'NO'}")
    return 0 if all((v >= g) if least else (v <= g) for _, v, g, least in goals) else 1


def paired(outcomes: dict[str, list[Outcome]], other: str) -> float:
    """
    @return: the median over the rounds of how much faster the session was than another one.
    """
    rounds = zip(outcomes["session"], outcomes[other], strict=True)
    return statistics.median(session.rate / each.rate for session, each in rounds)


if __name__ == "__main__":
    sys.exit(main())
