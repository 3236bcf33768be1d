"""
A probe for a host behind a NAT: which outer ports one busy socket has, and for how long.

C{probe_ports.py ADDRESS ADDRESS SECONDS} asks the mirror all the time, and prints a list of
C{[port, seconds]}: how long each was seen.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise

from tests.kernel.probe_nat import Mirror

_INTERVAL = 0.05  # seconds


def main(addresses: list[str], seconds: float) -> None:
    """
    Ask and print.
    """
    mirror = Mirror(addresses)
    seen: list[tuple[int, float]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = mirror.ask((0, 0), (0, 0))
        if answer and (not seen or seen[-1][0] != answer["seen"][1]):
            seen.append((answer["seen"][1], time.monotonic()))
        time.sleep(_INTERVAL)
    seen.append((0, time.monotonic()))
    found = [[port, later - at] for (port, at), (_, later) in pairwise(seen)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:3], float(sys.argv[3]))
