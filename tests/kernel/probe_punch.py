"""
A probe for a host behind a NAT: the plainest hole puncher there is.

C{probe_punch.py ADDRESS ADDRESS [PORT]} asks the mirror for its outer address and prints it, reads
its peer's as one line of JSON, C{{"peer": [HOST, PORT], "after": S, "seconds": S}}, sends there
every 50 ms for so long, and prints C{{"heard": [HOST, PORT] or null, "seconds": shortest round trip
or null}}.
"""

from __future__ import annotations

import json
import sys
import time

from tests.kernel.probe_nat import Mirror

_INTERVAL = 0.05  # seconds


def main(addresses: list[str], port: int) -> None:
    """
    Meet the peer.
    """
    mirror = Mirror(addresses, port)
    answer = mirror.ask((0, 0), (0, 0))
    print(json.dumps(answer and answer["seen"]), flush=True)
    order = json.loads(sys.stdin.readline())
    peer = tuple(order["peer"])
    time.sleep(order.get("after", 0.0))
    heard, trips = None, []
    end = time.monotonic() + order["seconds"]
    while (now := time.monotonic()) < end:
        mirror.socket.sendto(json.dumps({"sent": now}).encode(), peer)
        while (left := now + _INTERVAL - time.monotonic()) > 0:
            mirror.socket.settimeout(left)
            try:
                data, source = mirror.socket.recvfrom(2048)
            except TimeoutError:
                break
            heard = heard or source[:2]
            message = json.loads(data)
            if "sent" in message:
                mirror.socket.sendto(json.dumps({"echo": message["sent"]}).encode(), source)
            else:
                trips.append(time.monotonic() - message["echo"])
    print(json.dumps({"heard": heard, "seconds": min(trips, default=None)}))


if __name__ == "__main__":
    main(sys.argv[1:3], int(sys.argv[3]) if sys.argv[3:] else 0)
