"""
Memory that an idle link costs the node process, beside a connection of the same relay in AMP.

Run C{python benchmarks/memory.py}.  The peers live in this process, prove their keys and fall
silent; what is counted is how much the resident set of the relay's process grows.  Ten thousand
links need as many file descriptors in each of the two processes.
"""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks.forward import CLIENTS, PAYLOAD, Peer, Relay
from p2ptwist.rendezvous.descriptors import raiseDescriptorLimit

SPARE_DESCRIPTORS = 100  # for what a process has open anyway
FIRST = 100  # links that are up before counting begins, so that nothing is counted that comes once


def resident(process: int) -> int:
    """
    @return: bytes of the resident set.
    """
    with open(f"/proc/{process}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def perLink(kind: str, links: int, each: bool) -> float:
    """
    @param each: whether each link carries one message before it is counted.
    @return: bytes for each idle link.
    """
    relay = Relay(kind)
    peers: list[Peer] = []
    try:
        bringUp(kind, relay.port, FIRST, peers, each)
        before = resident(relay.process)
        bringUp(kind, relay.port, links, peers, each)
        return (resident(relay.process) - before) / links
    finally:
        for peer in peers:
            peer.connection.close()
        relay.stop()


def bringUp(kind: str, port: int, links: int, peers: list[Peer], each: bool) -> None:
    """
    Add links to C{peers}.
    """
    connect, encode, _ = CLIENTS[kind]
    for _number in range(links):
        peer = connect(port)
        peers.append(peer)
        if each:
            peer.connection.sendall(encode(peer.key))
            received = 0
            while received < len(PAYLOAD):
                received += len(peer.connection.recv(4096))


def main() -> int:
    """
    Measure and print; the status says whether a link is small enough.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--links", type=int, default=10_000)
    parser.add_argument("--at-most", type=float, default=4.0, help="KiB that a link may cost")
    arguments = parser.parse_args()
    limit = raiseDescriptorLimit()
    if limit is not None and limit < arguments.links + FIRST + SPARE_DESCRIPTORS:
        sys.exit(f"{limit} file descriptors are too few for {arguments.links} links")
    print(f"{arguments.links} idle connections held")
    print(f"{'':24} {'link KiB':>9} {'AMP KiB':>9}")
    worst = 0.0
    for name, each in (("connected, then silent", False), ("after one message each", True)):
        link, other = (perLink(kind, arguments.links, each) / 1024 for kind in ("link", "amp"))
        print(f"{name:24} {link:9.2f} {other:9.2f}", flush=True)
        worst = max(worst, link)
    return 0 if worst <= arguments.at_most else 1


if __name__ == "__main__":
    sys.exit(main())
