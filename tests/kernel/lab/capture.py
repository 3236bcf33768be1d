"""
When a site sends to another one, by the kernel's clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.kernel.lab.laboratory import Router
from tests.kernel.lab.nat import WAN
from tests.kernel.lab.peers import START

# What tcpdump takes for a protocol that it knows may go on in further lines.
_PACKET = re.compile(r"(\d+\.\d+) IP ")


class Capture:
    """
    The packets that leave a router for another, each with the time at which the kernel sent it: not
    that at which a busy machine let anybody look.
    """

    def __init__(self, router: Router, other: Router) -> None:
        """
        Begin to look.
        """
        flow = f"src host {router.external} and dst host {other.external}"
        argv = ["tcpdump", "-tt", "-l", "-n", "--immediate-mode", "-i", WAN, flow]
        self._program = router.run(*argv, name=f"{router.name}-capture")
        self._program.errorLine("listening on", timeout=START)

    def end(self) -> list[float]:
        """
        Look no more.

        @return: when each packet was sent, in seconds since the epoch.
        """
        self._program.end()
        packets = map(_PACKET.match, self._program.lines())
        return [float(packet[1]) for packet in packets if packet]


def mostWithin(times: Sequence[float], seconds: float) -> int:
    """
    @param times: in order.
    @return: how many of them are at most in any span of so many seconds.
    """
    most = first = 0
    for index, time in enumerate(times):
        while times[first] <= time - seconds:
            first += 1
        most = max(most, index + 1 - first)
    return most
