"""
Bytes relayed between links, per CPU second of the node process, by the size of the datagrams.

Run C{python benchmarks/relay.py}.  The node is a process of its own, without limits; the peers live
in this one.  Each pair keeps a fixed number of datagrams in flight, as C{benchmarks/forward.py}
does with messages.
"""

from __future__ import annotations

import argparse
import selectors
import statistics
import sys
import time

from benchmarks.forward import WARM_UP, Peer, Relay, linkPeer, spin
from p2ptwist.core.link.frames import MAX_PAYLOAD, FrameType, encodeHot

SIZES = (100, 1200, 4 * 1200, MAX_PAYLOAD)  # bytes: acknowledgments, one QUIC datagram, several
IN_FLIGHT = 128 * 1024  # bytes of each pair


def measure(size: int, pairs: int, seconds: float) -> tuple[float, float]:
    """
    @return: datagrams per CPU second of the node, and bytes per second.
    """
    relay = Relay("link")
    peers = [linkPeer(relay.port) for _ in range(2 * pairs)]
    try:
        return _measure(relay, peers, size, seconds)
    finally:
        for peer in peers:
            peer.connection.close()
        relay.stop()


def _measure(relay: Relay, peers: list[Peer], size: int, seconds: float) -> tuple[float, float]:
    selector = selectors.DefaultSelector()
    for number, peer in enumerate(peers):
        peer.message = encodeHot(FrameType.RELAY, peers[number ^ 1].key, bytes(size))
        peer.receivedLength = len(peer.message)
        selector.register(peer.connection, selectors.EVENT_READ, peer)
    for peer in peers[::2]:
        peer.connection.sendall(peer.message * max(1, IN_FLIGHT // len(peer.message)))
    spin(selector, WARM_UP)
    before, cpu, started = sum(peer.received for peer in peers), relay.cpu(), time.monotonic()
    spin(selector, seconds)
    relayed = sum(peer.received for peer in peers) - before
    selector.close()
    return relayed / (relay.cpu() - cpu), size * relayed / (time.monotonic() - started)


def main() -> int:
    """
    Measure and print.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--pairs", type=int, default=8)
    arguments = parser.parse_args()
    print(f"{arguments.pairs} pairs, {IN_FLIGHT} bytes in flight each, {arguments.rounds} rounds")
    print(f"{'bytes':>6} {'datagrams/CPU s':>16} {'MB/CPU s':>9} {'MB/s':>7}")
    for size in SIZES:
        rounds = [
            measure(size, arguments.pairs, arguments.seconds) for _ in range(arguments.rounds)
        ]
        datagrams, speed = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{size:6} {datagrams:16,.0f} {datagrams * size / 1e6:9.0f} {speed / 1e6:7.0f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
