"""
What the simulated Internet says of Linux's NATs is so.
"""

from __future__ import annotations

import sys

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT, Mapping, PortAllocation, Uninvited
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.miniupnpd import Miniupnpd
from tests.kernel.probe_mapped import EXTERNAL, OUTSIDE

_SYMMETRIC = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
# How long a probe may take on busy cores, in seconds.
_PATIENCE = 60.0
_KNOCK = "import socket, sys; print(socket.socket().connect_ex((sys.argv[1], 4000)))"
_REFUSED = "111"


class LinuxTests(unittest.SynchronousTestCase):
    """
    Small truths that the simulator has learned from the kernel.
    """

    def setUp(self) -> None:
        """
        A laboratory with a stranger outside.
        """
        self.laboratory = Laboratory()
        self.addCleanup(self.laboratory.close)
        self.stranger = self.laboratory.publicHost("stranger")

    def test_mappedPort(self) -> None:
        """
        What a host begins from a port that is mapped leaves from another one; whom it has sent to
        is seen to come in from another port than it has, and is answered there.
        """
        router = self.laboratory.site("home", _SYMMETRIC)
        Miniupnpd(router)
        host = router.host("host")
        gateway = f"{host.addresses[0].rpartition('.')[0]}.1"
        address = self.stranger.addresses[0]
        outside = self.stranger.probe("mapped", "outside", f"{router.external}:{EXTERNAL}")
        inside = host.probe("mapped", "inside", gateway, f"{address}:{OUTSIDE}")
        seenHost, seenPort = inside.result(_PATIENCE)
        self.assertEqual(seenHost, address)
        self.assertNotEqual(seenPort, OUTSIDE)
        flow, answer = outside.result(_PATIENCE)
        self.assertEqual(answer, [router.external, EXTERNAL])
        self.assertEqual(flow[0], router.external)
        self.assertNotEqual(flow[1], EXTERNAL)

    def test_resetIsForgotten(self) -> None:
        """
        A router that accepts what nobody asked for forgets a SYN that it has reset.
        """
        router = self.laboratory.site("open", NAT(uninvited=Uninvited.ACCEPT))
        knocking = self.stranger.run(sys.executable, "-c", _KNOCK, router.external)
        self.assertEqual(knocking.line(timeout=_PATIENCE), _REFUSED)
        self.assertEqual([flow for flow in router.flows() if "dport=4000" in flow], [])
