"""
Have a port mapped by one's own router, and say what came of it.

Without an option, a simulated router is asked, in virtual time.  With --real it is the router of
this machine, for UDP port 5000, which is kept for ten seconds and given back.
"""

from __future__ import annotations

import argparse
from typing import Any

from twisted.internet.task import deferLater, react

from p2ptwist.core.address import formatAddress
from p2ptwist.errors import PortMappingError
from p2ptwist.interfaces import IPortMapping
from p2ptwist.net.portmapping import PortMappings
from p2ptwist.testing import NAT, Internet
from p2ptwist.testing.portmapper import PortMapper

PORT = 5000


def changed(mapping: IPortMapping) -> None:
    """
    Others reach the port elsewhere from now on, or not any more.
    """
    addresses = " ".join(map(formatAddress, mapping.externals)) or "nowhere"
    print(f"{mapping.transport} port {mapping.port} is reached at {addresses}")


async def mapPort(reactor: Any) -> None:
    """
    Map it, keep it, and give it back.
    """
    mappings = PortMappings(reactor)
    mappings.observe(changed)
    mappings.startService()
    try:
        mapping = await mappings.map("udp", PORT)
        minutes = (mapping.expiry - reactor.seconds()) / 60
        print(f"by {mapping.mapper}, for {minutes:.0f} minutes, renewed at half of that")
        if mapping.doubleNAT:
            print("another NAT is in front of the router: the Internet does not get in")
        await deferLater(reactor, 10.0, lambda: None)
    except PortMappingError as error:
        print(f"not mapped: {error}")
    finally:
        await mappings.stopService()


def simulated() -> None:
    """
    A home whose router speaks PCP and NAT-PMP.
    """
    internet = Internet(seed=1)
    home = internet.router("home", "203.0.113.7", nat=NAT(portMapping=PortMapper()))
    internet.runUntil(mapPort(home.host("laptop")), timeout=60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", action="store_true", help="ask the router of this machine")
    if parser.parse_args().real:
        react(mapPort)
    else:
        simulated()
