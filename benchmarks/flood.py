"""
How late a timer is in the rendezvous node while its STUN port is flooded, beside a stock port.

Run C{python benchmarks/flood.py}.  One process sends datagrams as fast as the kernel takes them;
the server's process has a timer that is due every 10 ms, and notes how late it was called.  The
node is what C{twistd natrendezvous} makes; beside it, the same answers are given from a stock
Twisted C{DatagramProtocol} on C{listenUDP}, without limits.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from twisted.internet import reactor as globalReactor
from twisted.internet.protocol import DatagramProtocol

from benchmarks.stunservers import HOST, REQUEST
from p2ptwist.core.address import HostPort
from p2ptwist.core.stun.message import MessageClass, encode
from p2ptwist.core.stun.server import Responder, ServerAddresses
from p2ptwist.net.batch import BATCH, DatagramBatch
from p2ptwist.rendezvous.options import Options
from p2ptwist.rendezvous.tap import NodeApplication, makeService

reactor: Any = globalReactor
PERIOD = 0.010  # seconds between two calls of the timer
OUT_OF_REACH = ["--stun-rate=1e9/1e9", "--stun-network-rate=1e9/1e9"]
# Each is sent by itself: the commonest request, one that needs all of the codec, and rubbish.
FLOODS = {
    "plain": REQUEST,
    "signed": encode(MessageClass.REQUEST, 1, bytes(12), [(6, b"me")], key=b"x", fingerprint=True),
    "rubbish": bytes(20),
}
# The node with its default limits, where nearly all is dropped; and answering everything.
SERVERS = ("stock", "node, all answered", "node")


class StockPort(DatagramProtocol):
    """
    The same answers, from a port as Twisted has it.
    """

    noisy = False

    def __init__(self, address: HostPort) -> None:
        self.responder = Responder(ServerAddresses(address))
        self.received = 0

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        Answer.
        """
        self.received += 1
        reply = self.responder.answer(datagram, addr, self.responder.addresses.primary)
        if reply is not None and self.transport is not None:
            self.transport.write(reply.data, addr)


class Timer:
    """
    Notes how late it is called.
    """

    def __init__(self) -> None:
        self.lateness: list[float] = []
        self._start()

    def _start(self) -> None:
        self._due = time.monotonic() + PERIOD
        reactor.callLater(PERIOD, self._called)

    def _called(self) -> None:
        self.lateness.append(time.monotonic() - self._due)
        self._start()


def serve(kind: str, seconds: float) -> None:
    """
    Be a server process: print the port, and at the end what was measured.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    if kind == "stock":
        stock = StockPort((HOST, port))
        reactor.listenUDP(port, stock, HOST)
        received = lambda: stock.received  # noqa: E731
    else:
        options = Options()
        options.parseOptions(
            [f"--listen=tcp:0:interface={HOST}", f"--stun={HOST}:{port}"]
            + (OUT_OF_REACH if kind != "node" else [])
        )
        node = makeService(options)
        assert isinstance(node, NodeApplication)
        node.privilegedStartService()
        node.startService()
        received = lambda: node.stun[0].counters.received  # noqa: E731
    timer = Timer()

    def end() -> None:
        print(json.dumps({"lateness": timer.lateness, "received": received()}))
        reactor.stop()

    print(port, flush=True)
    reactor.callLater(seconds, end)
    reactor.run()


def flood(port: int, datagram: bytes, seconds: float) -> None:
    """
    Send C{datagram} as fast as the kernel takes it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HOST, port))
        batch = DatagramBatch(sock, 4, len(datagram))
        batch.outgoing[:] = datagram * BATCH  # type: ignore[call-overload]
        name = socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big")
        batch.names[:] = (name + socket.inet_aton(HOST) + bytes(8)) * BATCH  # type: ignore[call-overload]
        everything = range(BATCH)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            batch.send(everything)


def measure(kind: str, datagram: bytes, seconds: float) -> tuple[float, list[float]]:
    """
    @return: datagrams that the server read in a second, and the lateness of each call in ms.
    """
    command = [sys.executable, __file__, "--serve", kind, "--seconds", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            # Until a little after the server's end, so that the flood never pauses.
            flood(int(server.stdout.readline()), datagram, seconds + 0.2)
            result = json.loads(server.stdout.readline())
        finally:
            server.terminate()
    return result["received"] / seconds, [1000 * each for each in result["lateness"]]


def main() -> int:
    """
    Measure and print; the status says whether the node's timers are in time.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement")
    parser.add_argument("--at-most", type=float, default=50.0, help="the p99 asked for, in ms")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.seconds)
        return 0
    print(f"a timer of {1000 * PERIOD:g} ms under a flood of UDP, {os.cpu_count()} processors")
    print(f"{'flood':>8} {'server':>19} {'read/s':>10} {'calls':>6} {'p50 ms':>8} {'p99 ms':>8}")
    worst = 0.0
    for name, datagram in FLOODS.items():
        for kind in SERVERS:
            rate, lateness = measure(kind, datagram, options.seconds)
            p99 = percentile99(lateness)
            worst = worst if kind == "stock" else max(worst, p99)
            print(
                f"{name:>8} {kind:>19} {rate:10,.0f} {len(lateness):6} "
                f"{statistics.median(lateness):8.2f} {p99:8.2f}",
                flush=True,
            )
    print(f"the node's worst p99: {worst:.2f} ms (at most {options.at_most:g})")
    return 0 if worst <= options.at_most else 1


def percentile99(values: list[float]) -> float:
    """
    @return: what 99 of 100 do not exceed.
    """
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


if __name__ == "__main__":
    sys.exit(main())
