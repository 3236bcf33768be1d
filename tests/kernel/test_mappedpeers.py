"""
Two peers behind symmetric NATs, one of which maps ports: real peers, real miniupnpd.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT, Mapping, PortAllocation
from tests.kernel.lab.laboratory import Host, Laboratory, PublicHost, Router
from tests.kernel.lab.miniupnpd import Miniupnpd
from tests.kernel.lab.nat import LAN
from tests.kernel.lab.once import once
from tests.kernel.lab.peers import CALL, LINKS, START, startNode
from tests.kernel.lab.process import Program
from tests.kernel.lab.streams import waitForWord

# Random ports in both directions: nobody can guess them.
_SYMMETRIC = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
# The laboratory's routers translate TCP in an easier way than UDP, which is not what is tried here.
_NO_DIRECT_TCP = """
table inet lab {
  chain out { type filter hook output priority filter;
    ip daddr 11.1.0.0/16 meta l4proto tcp drop
  }
}
"""
# The daemon has one switch for PCP and NAT-PMP: a router that has never heard of the former.
_NO_PCP = f"""
table inet nopcp {{
  chain in {{ type filter hook input priority filter;
    iifname {LAN} udp dport 5351 @th,64,8 2 drop
  }}
}}
"""
# The routers by what they speak.
_ROUTERS = {"pcp": False, "nat-pmp": False, "upnp": True}


class _Pair:
    """
    Two sites and their peers.
    """

    def __init__(self, laboratory: Laboratory, node: PublicHost, name: str) -> None:
        self.near = laboratory.site(f"{name}-near", _SYMMETRIC)
        self.far = laboratory.site(f"{name}-far", _SYMMETRIC)
        self._caller = self._host(self.near, f"{name}-caller")
        self._callee = self._host(self.far, f"{name}-callee")
        self._address = f"{node.addresses[0]}:{LINKS}"

    def _host(self, router: Router, name: str) -> Host:
        host = router.host(name)
        host.namespace.run("nft", "-f", "-", text=_NO_DIRECT_TCP)
        return host

    def listen(self) -> None:
        """
        Start the peer that is called.
        """
        self._listener = self._callee.probe("session", self._address)

    def call(self) -> Program:
        """
        Start the one that calls.
        """
        peer = json.loads(self._listener.line('"', timeout=START))
        return self._caller.probe("session", self._address, peer)


@once
def _called() -> dict[str, Any]:
    """
    @return: for each kind of router in front of the called peer, C{near} and C{far} for which of
        the two sides has it, what its caller printed; C{None} without a direct path.
    """
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        pairs = {name: _Pair(laboratory, node, name) for name in (*_ROUTERS, "none")}
        for name, upnp in _ROUTERS.items():
            # The side that calls, and the one that is called.
            router = pairs[name].near if name == "nat-pmp" else pairs[name].far
            Miniupnpd(router, upnp=upnp, pmp=not upnp)
            if name == "nat-pmp":
                router.namespace.run("nft", "-f", "-", text=_NO_PCP)
        for pair in pairs.values():
            pair.listen()
        callers = {name: pair.call() for name, pair in pairs.items()}
        found = {
            name: waitForWord(callers[name], lambda word: "direct" in word, START + CALL)
            for name in _ROUTERS
        }
        found["none"] = callers["none"].lines()
        return found


class MappedPeersTests(unittest.SynchronousTestCase):
    """
    Nobody can guess a port, and only one router lets anybody in.
    """

    def test_none(self) -> None:
        """
        Without such a router there is no direct path: the NATs are as hard as they should be.
        """
        self.assertEqual(_called()["none"], [])

    def test_pcp(self) -> None:
        """
        With PCP there is, soon.
        """
        self.assertLess(_called()["pcp"]["direct"], 5.0)

    def test_natpmp(self) -> None:
        """
        So there is with NAT-PMP, on the side that calls.
        """
        self.assertLess(_called()["nat-pmp"]["direct"], 5.0)

    def test_upnp(self) -> None:
        """
        And with UPnP.
        """
        self.assertLess(_called()["upnp"]["direct"], 5.0)
