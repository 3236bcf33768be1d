"""
A probe that is a UPnP router which means no good: C{ADDRESS MODE [OTHER]}.

It has the SSDP port and the group of searches, on the interface that has C{ADDRESS}.  C{MODE} is a
lie of L{tests.contract.igdlies}, told instead of the description, or one of L{_MODES}; C{OTHER} is
the address of somebody else, whom C{p2ptwist} is led to.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import reactor as _reactor

from p2ptwist.core.portmapping.ssdp import MULTICAST_GROUP, SSDP_PORT
from tests.contract.fakeigd import SSDP, FakeRouter
from tests.contract.igdlies import ENDLESS, LIES
from tests.unit.upnpwire import ssdpAnswer

reactor: Any = _reactor
# Answers to one search.
_FLOOD = 10_000
_IP_TRANSPARENT = 19  # linux/in.h: have any source address


class _Loud(SSDP):
    """
    Answers searches, and says so.
    """

    def datagramReceived(self, data: bytes, address: Any) -> None:
        """
        A search.
        """
        print("searched")
        super().datagramReceived(data, address)


def _forge(router: FakeRouter, source: str) -> SSDP:
    """
    @return: a protocol that answers searches in another's name, and leads to this router.
    """
    forging = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    forging.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    forging.bind((source, SSDP_PORT))

    class Forger(SSDP):
        """
        Has a socket of its own to answer from.
        """

        def datagramReceived(self, data: bytes, address: Any) -> None:
            """
            A search.
            """
            print("searched")
            forging.sendto(ssdpAnswer(router.url), address)

    return Forger(router)


def main(address: str, mode: str, other: str = "") -> None:
    """
    Be that router until told to end.
    """
    router = FakeRouter(host=address)
    lies = {**LIES, **ENDLESS}
    if mode in lies:
        router.lies["description"] = lies[mode]
    router.port = reactor.listenTCP(0, router, interface=address).getHost().port
    elsewhere = f"http://{other}:{router.port}/"
    if mode == "flood":
        router.locations = [router.url] * _FLOOD
    elif mode == "location":
        router.locations = [elsewhere]
    elif mode == "control":
        router.control = elsewhere
    elif mode == "base":
        router.base = elsewhere
    elif mode == "redirect":
        head = f"Location: {elsewhere}\r\n"
        router.lies["description"] = lambda exchange: exchange.say(b"", "302 Found", head)
    protocol = _forge(router, other) if mode == "forger" else _Loud(router)
    # Without the group's address a socket has what is sent to the host itself as well.
    interface = MULTICAST_GROUP if mode in ("group", "neighbour", "forger") else ""
    port = reactor.listenMulticast(SSDP_PORT, protocol, interface, listenMultiple=True)
    port.joinGroup(MULTICAST_GROUP, address)
    print("ready")
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
