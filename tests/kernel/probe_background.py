"""
A probe for a host behind a NAT: others behind the same one, who open flows.

C{probe_background.py RATE} sends a datagram from a fresh socket so many times a second, at random
times, to where nobody answers, until it is ended.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import time

_NOBODY = ("11.9.9.9", 99)


def main(rate: float) -> None:
    """
    Send for good.
    """
    while True:
        time.sleep(random.expovariate(rate))
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh,
            contextlib.suppress(OSError),
        ):
            fresh.sendto(b"background", _NOBODY)


if __name__ == "__main__":
    main(float(sys.argv[1]))
