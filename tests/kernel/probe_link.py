"""
A probe for a host: it sends C{COUNT} numbered datagrams to the mirror, one a millisecond, and
prints the numbers of the answers in the order in which they came, as a JSON list.

C{probe_link.py ADDRESS COUNT TTL}
"""

from __future__ import annotations

import json
import socket
import sys
import time

from tests.kernel.probe_mirror import PORTS

_PATIENCE = 0.5  # seconds after the last one: several round trips
_INTERVAL = 0.001  # seconds


def main(address: str, count: int, ttl: int) -> None:
    """
    Send and listen.
    """
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    numbers = []
    for number in range(count):
        request = json.dumps({"id": number, "via": [0, 0]}).encode()
        sender.sendto(request, (address, PORTS[0]))
        numbers += _receive(sender, _INTERVAL)
    numbers += _receive(sender, _PATIENCE)
    print(json.dumps(numbers))


def _receive(receiver: socket.socket, seconds: float) -> list[int]:
    """
    @return: the numbers that arrive in the next C{seconds}.
    """
    numbers = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        receiver.settimeout(left)
        try:
            numbers.append(json.loads(receiver.recv(2048))["id"])
        except TimeoutError:
            break
    return numbers


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
