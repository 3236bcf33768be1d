"""
A probe for a router: it forgets every UDP mapping after a while, however much it is used, as the
NATs of some carriers do.

C{probe_forget.py EXTERNAL LEAST MOST} runs until it is ended. Each inside address has a mapping
from its first flow on; after between C{LEAST} and C{MOST} seconds all of its flows are forgotten,
and the port that it has outside, if that is not the one inside. It prints the seconds and the
inside address of each.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time

_LOOK = 0.2  # seconds between two looks
_FLOW = re.compile(r"src=(\S+) dst=\S+ sport=(\d+)")


def _endpoints(external: str) -> set[tuple[str, str]]:
    """
    @return: the inside addresses with flows.
    """
    listed = subprocess.run(
        ["conntrack", "-L", "-p", "udp"], capture_output=True, text=True, check=True
    )
    found = {match.groups() for match in map(_FLOW.search, listed.stdout.splitlines()) if match}
    return {(host, port) for host, port in found if host != external}


def _forget(host: str, port: str) -> None:
    # In this order: the next packet of a flow that is still there draws the new port, and the first
    # one after that begins a new flow from it.
    for argv in (
        ["nft", "delete", "element", "ip", "lab", "udp_mapped", f"{{ {host} . {port} }}"],
        ["conntrack", "-D", "-p", "udp", "--orig-src", host, "--orig-port-src", port],
    ):
        subprocess.run(argv, capture_output=True, check=False)  # neither need be there


def main(external: str, least: float, most: float) -> None:
    """
    Look and forget for good.
    """
    ends: dict[tuple[str, str], float] = {}
    while True:
        now = time.monotonic()
        present = _endpoints(external)
        ends = {each: ends.get(each) or now + random.uniform(least, most) for each in present}
        for endpoint, end in list(ends.items()):
            if now >= end:
                _forget(*endpoint)
                del ends[endpoint]
                print(f"{now:.3f} {endpoint[0]}:{endpoint[1]}", flush=True)
        time.sleep(_LOOK)


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:4]))
