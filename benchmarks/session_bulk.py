"""
One stream of a session at full speed, beside datagrams of plain Twisted UDP, aioquic and aiortc.

C{python benchmarks/session_bulk.py}: two processes on loopback for each; rounds of all kinds
alternate.  The session's peers meet at a rendezvous node, and are measured on the direct path.
Plain UDP is what C{listenUDP} makes, with datagrams of 1,200 bytes and a window that keeps most of
them from being lost.  aioquic is driven by Twisted as well; a data channel of aiortc by asyncio, as
it is meant to be, with messages of 1,200 bytes and of 16 KiB.  Who is not installed is left out
(C{pip install p2ptwist[benchmarks]}).  CPU seconds are those of each process while the bytes moved;
each side has a core of its own, where there are two.  An echo is of 64 bytes; its CPU time is that
of both processes together.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

_PEERS = str(Path(__file__).with_name("bulkpeers.py"))
_PATIENCE = 300.0  # seconds that one measurement may take
GIGABYTE = 1_000_000_000
# What a session has to show, beside the others of the same run.
UDP_RATIO, AIOQUIC_RATIO, AIORTC_RATIO, CPU_LIMIT, ECHO_RATIO = 0.9, 10.0, 20.0, 4.0, 2.5
# What is measured of aiortc, by bytes of a message: as many as the others' datagrams have, and what
# every implementation of data channels takes, which costs it least.
MESSAGES = {"aiortc": 1200, "aiortc 16K": 16 * 1024}
# What the slow ones get less of, or it would take minutes; and the megabytes they get at least,
# or a slow start would be most of what is measured.
SHARE = {"udp": 1.0, "session": 1.0, "aioquic": 1 / 20, **dict.fromkeys(MESSAGES, 1 / 100)}
LEAST = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    One measurement.

    @ivar rate: bytes that arrived, in MB/s.
    @ivar giving: CPU seconds per GB of the side that sends.
    @ivar taking: the same of the other side.
    @ivar echo: seconds from sending 64 bytes until they are back, the median.
    @ivar echoCPU: CPU seconds of both processes for each; 0 where that cannot be told.
    """

    rate: float
    giving: float
    taking: float
    echo: float
    echoCPU: float


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


def processor(process: Any) -> float:
    """
    @return: CPU seconds that a process has used; 0 where that cannot be told.
    """
    # The clock of another process, as Linux numbers them: clock_getcpuclockid(3).
    return time.clock_gettime(~process.pid << 3 | 2) if sys.platform == "linux" else 0.0


def measure(name: str, node: str, megabytes: float, echoes: int) -> Outcome:
    """
    Measure once.
    """
    kind = name.split()[0]
    with running(kind, "take", node) as taker:
        address = said(taker)["address"]
        amounts = [megabytes, echoes, *([MESSAGES[name]] if name in MESSAGES else [])]
        with running(kind, "give", node, address, *map(str, amounts)) as giver:
            said(giver)
            before = processor(giver) + processor(taker)
            echo = said(giver)["echo"]
            echoCPU = (processor(giver) + processor(taker) - before) / echoes
            giving, taking = said(giver), said(taker)
            giver.wait(_PATIENCE)
    return Outcome(
        taking["octets"] / taking["seconds"] / 1e6,
        giving["cpu"] * GIGABYTE / giving["octets"],
        taking["cpu"] * GIGABYTE / taking["octets"],
        echo,
        echoCPU,
    )


def median(outcomes: list[Outcome]) -> Outcome:
    """
    @return: the medians of each.
    """
    columns = zip(*map(astuple, outcomes), strict=True)
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
    kinds = ["udp", "session"]
    for other, names in (("aioquic", ["aioquic"]), ("aiortc", [*MESSAGES])):
        if importlib.util.find_spec(other) is None:
            print(f"{other} is not installed, and left out: pip install p2ptwist[benchmarks]")
        else:
            kinds += names
    outcomes: dict[str, list[Outcome]] = {kind: [] for kind in kinds}
    with running("node") as node:
        address = said(node)["address"]
        for _ in range(arguments.rounds):
            for kind in kinds:
                share = SHARE[kind]
                megabytes = max(arguments.megabytes * share, min(LEAST, arguments.megabytes))
                echoes = int(arguments.echoes * share)
                outcomes[kind].append(measure(kind, address, megabytes, max(100, echoes)))
    return report(outcomes, arguments.megabytes)


def report(outcomes: dict[str, list[Outcome]], megabytes: float) -> int:
    """
    Print the table.

    @return: 0 when the session is fast enough.
    """
    rounds = len(outcomes["udp"])
    print(f"{megabytes:g} MB one way on loopback, medians of {rounds} interleaved rounds")
    print(
        f"{'':11}{'MB/s':>8}{'CPU s/GB sender':>18}{'receiver':>10}{'echo us':>10}{'CPU us':>8}"
        f"{'MB/s by round':>20}"
    )
    medians = {kind: median(each) for kind, each in outcomes.items()}
    for kind, each in medians.items():
        rates = " ".join(f"{outcome.rate:.0f}" for outcome in outcomes[kind])
        print(
            f"{kind:11}{each.rate:8.0f}{each.giving:18.2f}{each.taking:10.2f}"
            f"{each.echo * 1e6:10.1f}{each.echoCPU * 1e6:8.1f}  {rates}"
        )
    session, udp = medians["session"], medians["udp"]
    goals = [
        ("of plain UDP's speed", paired(outcomes, "udp", "rate"), UDP_RATIO, True),
        ("CPU s/GB, the worse side", max(session.giving, session.taking), CPU_LIMIT, False),
        ("of plain UDP's echo time", paired(outcomes, "udp", "echo"), ECHO_RATIO, False),
    ]
    for other, ratio in (("aioquic", AIOQUIC_RATIO), ("aiortc", AIORTC_RATIO)):
        if other in outcomes:
            goals.append((f"of {other}'s speed", paired(outcomes, other, "rate"), ratio, True))
    for what, value, goal, atLeast in goals:
        sign = ">=" if atLeast else "<="
        met = value >= goal if atLeast else value <= goal
        print(f"session: {value:6.2f} {what:26} {sign} {goal:g}  {'yes' if met else 'NO'}")
    if "aiortc 16K" in outcomes:
        ratio = paired(outcomes, "aiortc 16K", "rate")
        print(f"session: {ratio:6.2f} of aiortc's speed with messages of 16 KiB")
    if udp.echoCPU:
        ratio = paired(outcomes, "udp", "echoCPU")
        print(f"session: {ratio:6.2f} of plain UDP's CPU time for an echo")
    return 0 if all((v >= g) if least else (v <= g) for _, v, g, least in goals) else 1


def paired(outcomes: dict[str, list[Outcome]], other: str, what: str) -> float:
    """
    @return: the median over the rounds of how many times another one's value the session has.
    """
    rounds = zip(outcomes["session"], outcomes[other], strict=True)
    ratios: list[float] = [getattr(one, what) / getattr(two, what) for one, two in rounds]
    return statistics.median(ratios)


if __name__ == "__main__":
    sys.exit(main())
