"""
A probe for a host behind a NAT: it finds out how the NAT maps and filters with plain sockets and
the mirror on a public host.

C{probe_nat.py ADDRESS ADDRESS} prints one JSON object: C{mapped}, the outer addresses of three
sockets towards the mirror's four; C{local}, their own ports; C{heard}, which of the mirror's
sockets are heard by a socket that has sent to the first one alone; C{seconds}, round trips to the
mirror.  With numbers of seconds as further arguments it prints a list instead: whether an answer
that takes so long is heard.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

from tests.kernel.probe_mirror import PORTS

# Two seconds of asking: the laboratory loses nothing unless told to, but two cores may be busy.
_TRIES, _PATIENCE = 4, 0.5
_FIRST = (0, 0)
_ALL = [_FIRST, (0, 1), (1, 0), (1, 1)]


class Mirror:
    """
    The mirror, asked from one socket.

    @ivar port: the socket's own.
    """

    def __init__(self, addresses: list[str], port: int = 0) -> None:
        self._addresses = addresses
        family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(("", port))
        self.port: int = self.socket.getsockname()[1]
        self._asked = 0

    def ask(
        self, to: tuple[int, int], via: tuple[int, int], tries: int = _TRIES, after: float = 0.0
    ) -> dict[str, Any] | None:
        """
        Ask until there is an answer.

        @param to: number of the address, number of the port.
        @param via: where the answer shall come from.
        @param after: how late the answer shall be, in seconds.
        @return: the answer, with the C{seconds} that it took; L{None} after a while.
        """
        for _ in range(tries):
            self._asked += 1
            started = time.monotonic()
            request = json.dumps({"id": self._asked, "via": via, "after": after}).encode()
            self.socket.sendto(request, (self._addresses[to[0]], PORTS[to[1]]))
            answer = self._receive(started + _PATIENCE + after)
            if answer is not None:
                return {**answer, "seconds": time.monotonic() - started}
        return None

    def _receive(self, deadline: float) -> dict[str, Any] | None:
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data, source = self.socket.recvfrom(2048)
            except TimeoutError:
                return None
            answer: dict[str, Any] = json.loads(data)
            a, p = answer["via"]
            if answer["id"] == self._asked and source[:2] == (self._addresses[a], PORTS[p]):
                return answer
        return None


def measure(addresses: list[str]) -> dict[str, Any]:
    """
    @return: what the NAT does.
    """
    local, mapped, seconds = [], [], []
    for _ in range(3):
        mirror = Mirror(addresses)
        answers = [mirror.ask(which, which) for which in _ALL]
        local.append(mirror.port)
        mapped.append([answer and answer["seen"] for answer in answers])
        seconds += [answer["seconds"] for answer in answers if answer]
    mirror = Mirror(addresses)
    heard = [via for via in _ALL[:3] if mirror.ask(_FIRST, via)]
    return {"local": local, "mapped": mapped, "heard": heard, "seconds": seconds}


def main(addresses: list[str], late: list[float]) -> None:
    """
    Measure and print.
    """
    if late:
        found = [Mirror(addresses).ask(_FIRST, _FIRST, 1, after) is not None for after in late]
        print(json.dumps(found))
    else:
        print(json.dumps(measure(addresses)))


if __name__ == "__main__":
    main(sys.argv[1:3], [float(seconds) for seconds in sys.argv[3:]])
