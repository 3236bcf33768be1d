"""
What a session costs while nobody says anything: memory, and packets.

C{python benchmarks/session_idle.py}, as root.  Memory: one listening peer, which others call on
loopback, each from an identity of its own; what is counted is how much the resident set of the
listening process grows with each session after the first.  Packets: two peers behind NATs that
forget a mapping after 20 s, in the kernel laboratory, once they have measured what they measure
once in each network; after some minutes of silence a byte is echoed again, on the direct path.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from benchmarks.bulkpeers import node, peerService, run, say
from benchmarks.memory import resident
from p2ptwist.rendezvous.descriptors import raiseDescriptorLimit
from p2ptwist.testing.nat import NAT
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.measures import MAPPING, SETTLING
from tests.kernel.lab.peers import CALL, LINKS, START, startNode

reactor: Any = globalReactor
MEMORY_GOAL, PACKET_GOAL = 60_000.0, 8.0  # bytes a session; packets a minute and side
_FIRST = 20  # sessions before counting begins, so that nothing is counted that comes once
_AT_ONCE = 4  # calls under way: a node holds few unproven connections from one address


async def listen(nodePort: str) -> None:
    """
    Be the listening peer.
    """
    peer = peerService(nodePort)
    await peer.whenReady()
    peer.listen("idle", Factory.forProtocol(Protocol))
    say(address=peer.peerID)
    await Deferred()


async def call(nodePort: str, address: str, counts: list[int]) -> None:
    """
    Be so many peers, each with one session; say when each count is reached.
    """
    raiseDescriptorLimit()
    done = 0
    for count in counts:
        while done < count:
            step = min(_AT_ONCE, count - done)
            await gatherResults(
                [Deferred.fromCoroutine(callOnce(nodePort, address)) for _ in range(step)]
            )
            done += step
        await deferLater(reactor, 1.0)
        say(sessions=done)
        await deferLater(reactor, 1.0)
    await Deferred()


async def callOnce(nodePort: str, address: str) -> None:
    """
    Have one session, on the direct path.
    """
    peer = peerService(nodePort)
    await peer.whenReady()
    await peer.connect(address, "idle", Factory.forProtocol(Protocol))
    while True:
        path = peer.path(address)
        if path is not None and path.kind == "direct":
            return
        await deferLater(reactor, 0.02)


@contextmanager
def running(*arguments: str) -> Iterator[Any]:
    """
    @return: a process of this program, which ends with the context.
    """
    command = [sys.executable, __file__, "--be", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def memory(sessions: int) -> float:
    """
    @return: bytes that a session costs the listening peer.
    """

    def said(process: Any) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(process.stdout.readline())
        return values

    with running("node") as nodeProcess:
        port = said(nodeProcess)["address"]
        with running("listen", port) as listening:
            address = said(listening)["address"]
            counts = f"{_FIRST},{_FIRST + sessions}"
            with running("call", port, address, counts) as calling:
                said(calling)
                before = resident(listening.pid)
                said(calling)
                return (resident(listening.pid) - before) / sessions


def packets(seconds: float) -> tuple[dict[str, tuple[float, float]], dict[str, Any]]:
    """
    @return: by where to, the packets a minute of the caller and of the callee; and the last echo.
    """
    with Laboratory() as laboratory:
        nodeHost = laboratory.publicHost("node")
        startNode(nodeHost)
        nat = NAT(udpTimeout=MAPPING)
        a, b = (laboratory.site(name, nat).host(name) for name in ("a", "b"))
        address = f"{nodeHost.addresses[0]}:{LINKS}"
        answering = b.probe("session", address)
        peer = json.loads(answering.line('"', timeout=START))
        # Its last byte comes after everything was counted.
        calling = a.run(
            sys.executable,
            "-m",
            "tests.kernel.probe_session",
            address,
            peer,
            str(seconds + SETTLING + 5.0),
            name="calling",
        )
        calling.line("{", timeout=START + CALL)
        time.sleep(SETTLING)
        before, started = laboratory.counts().packets, time.monotonic()
        time.sleep(seconds)
        after, passed = laboratory.counts().packets, time.monotonic() - started
        echo: dict[str, Any] = calling.result(START)
        answering.end()

    def rate(one: int, other: int) -> float:
        return (after[one][other] - before[one][other]) * 60 / passed

    ports = a.port, b.port, nodeHost.port
    return {
        "to the peer": (rate(ports[0], ports[1]), rate(ports[1], ports[0])),
        "to the node": (rate(ports[0], ports[2]), rate(ports[1], ports[2])),
    }, echo


def be(role: str, *rest: str) -> None:
    """
    Be a process of the benchmark.
    """
    gc.freeze()
    if role == "node":
        node("--accept-rate=none", "--address-accept-rate=none", "--network-accept-rate=none")
    elif role == "listen":
        reactor.callWhenRunning(lambda: run(listen(*rest)))
    else:
        nodePort, address, counts = rest
        numbers = [int(each) for each in counts.split(",")]
        reactor.callWhenRunning(lambda: run(call(nodePort, address, numbers)))
    reactor.run()


def main() -> int:
    """
    Measure and print; the status says whether a session is cheap enough.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600.0, help="of silence")
    parser.add_argument("--be", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be:
        be(*arguments.be)
        return 0
    each = memory(arguments.sessions)
    print(f"memory of an idle session, of {arguments.sessions}: {each:.0f} bytes", end="")
    print(f" (at most {MEMORY_GOAL:.0f})", flush=True)
    rates, echo = packets(arguments.seconds)
    totals = [sum(rate[side] for rate in rates.values()) for side in (0, 1)]
    print(f"packets a minute in {arguments.seconds:.0f} s of silence, mappings of {MAPPING:.0f} s")
    print(f"{'':14}{'caller':>8}{'callee':>8}")
    for name, rate in (*rates.items(), ("together", totals)):
        print(f"{name:14}{rate[0]:8.1f}{rate[1]:8.1f}")
    print(f"(at most {PACKET_GOAL:g}); then an echo after {echo['echo'] * 1000:.0f} ms", end="")
    print(f" on the {echo['kind']} path")
    good = each <= MEMORY_GOAL and max(totals) <= PACKET_GOAL and echo["kind"] == "direct"
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
