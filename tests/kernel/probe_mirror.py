"""
A probe for a public host: it tells everybody the address that it sees them come from, from
whichever of its four sockets they ask it to answer, when they ask it to.

A request is JSON, C{{"id": ID, "via": [A, P], "after": SECONDS}}; the answer C{{"id": ID, "via":
[A, P], "seen": [HOST, PORT]}} leaves from address number A and port number P.
"""

from __future__ import annotations

import heapq
import json
import selectors
import socket
import sys
import time

PORTS = (7001, 7002)
Answer = tuple[float, int, socket.socket, bytes, tuple[str, int]]


def openSockets(addresses: list[str]) -> dict[tuple[int, int], socket.socket]:
    """
    @return: the bound sockets by number of the address and number of the port.
    """
    sockets = {}
    for a, address in enumerate(addresses):
        for p, port in enumerate(PORTS):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sockets[a, p] = socket.socket(family, socket.SOCK_DGRAM)
            sockets[a, p].bind((address, port))
    return sockets


def main(addresses: list[str]) -> None:
    """
    Answer until killed.
    """
    sockets = openSockets(addresses)
    ready = selectors.DefaultSelector()
    for mirror in sockets.values():
        ready.register(mirror, selectors.EVENT_READ)
    print("ready", flush=True)
    waiting: list[Answer] = []
    for order in range(sys.maxsize):
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, mirror, answer, destination = heapq.heappop(waiting)
            mirror.sendto(answer, destination)
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for count, (key, _) in enumerate(ready.select(patience)):
            data, source = key.fileobj.recvfrom(2048)  # type: ignore[union-attr]
            request = json.loads(data)
            a, p = request["via"]
            answer = json.dumps({"id": request["id"], "via": [a, p], "seen": source[:2]}).encode()
            due = time.monotonic() + request.get("after", 0.0)
            heapq.heappush(waiting, (due, 4 * order + count, sockets[a, p], answer, source))


if __name__ == "__main__":
    main(sys.argv[1:])
