"""
A probe that sends one datagram to each C{HOST:PORT} of its arguments, waits a second, and prints
what came of each as a JSON list: C{"silence"}, C{"refused"} (an ICMP error), C{"unreachable"}.
"""

from __future__ import annotations

import json
import socket
import sys
import time


def main(destinations: list[str]) -> None:
    """
    Knock.
    """
    sockets = []
    for destination in destinations:
        host, _, port = destination.rpartition(":")
        knocking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        knocking.connect((host, int(port)))
        knocking.send(b"?")
        sockets.append(knocking)
    time.sleep(1.0)
    results = []
    for knocking in sockets:
        error = knocking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        results.append({0: "silence", 111: "refused"}.get(error, "unreachable"))
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
