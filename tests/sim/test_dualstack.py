"""
A rendezvous node with a name and addresses of both families.
"""

from __future__ import annotations

from random import Random

from twisted.internet.endpoints import TCP6ServerEndpoint
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.net.stunserver import STUNService
from p2ptwist.peer.datagrams import DatagramPeer
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.linkendpoint import namedHost
from p2ptwist.rendezvous.service import NodeService
from p2ptwist.testing import NAT, Firewall, Host, Internet

NODE = "192.0.2.1"
NODE6 = "2001:db8:ffff::1"
HOME = "203.0.113.1"


class DualStackTests(SynchronousTestCase):
    """
    What a peer learns of itself from such a node.
    """

    def setUp(self) -> None:
        """
        Make the node, and a home with IPv6 beside a NAT.
        """
        self.internet = Internet(seed=4)
        self.internet.showOnFailure(self)
        self.node = self.internet.host("node", NODE, NODE6)
        self.internet.name("node.example", NODE, NODE6)
        self.internet.name("node6.example", NODE6)
        home = self.internet.router(
            "home", HOME, nat=NAT(), prefix6="2001:db8:1::/64", firewall=Firewall()
        )
        self.host = home.host("host")
        endpoint = TCP6ServerEndpoint(self.node, 8470)
        self.service = NodeService(
            self.node, "node", [("tcp6", endpoint)], stunServers=(("", 3478),)
        )
        self.service.startService()
        self.stun = [STUNService(self.node, (host, 3478)) for host in (NODE, NODE6)]
        for server in self.stun:
            server.startService()

    def reflexive(self, name: str, host: Host) -> set[str]:
        """
        @return: the hosts of the reflexive candidates of a peer whose link goes to C{name}.
        """
        identity = generateIdentity()
        link = RendezvousLink.fromString(host, f"tcp:{name}:8470", identity)
        peer = DatagramPeer(host, identity, link, randomBytes=Random(1).randbytes)
        peer.startService()
        self.internet.runUntil(peer.whenReady(), timeout=30.0)
        candidates = peer._requireReach().local.candidates()
        self.internet.runUntil(peer.stopService(), timeout=10.0)
        return {
            each.address[0] for each in candidates if each.type is CandidateType.SERVER_REFLEXIVE
        }

    def test_linkOverIPv6(self) -> None:
        """
        A link over IPv6 does not hide the IPv4 address that a NAT gives the peer.
        """
        self.assertEqual(self.reflexive("node.example", self.host), {HOME})

    def test_onlyIPv6(self) -> None:
        """
        A node with IPv6 alone is asked over IPv6, where there is no NAT to see.
        """
        self.assertEqual(self.reflexive("node6.example", self.host), set())
        self.assertGreater(self.stun[1].counters.answered, 0)


class NamedHostTests(SynchronousTestCase):
    """
    L{namedHost}.
    """

    def test_names(self) -> None:
        """
        A name is found in the usual form; a literal address, and any other form, has none.
        """
        for description, name in (
            ("tcp:node.example:8470", "node.example"),
            ("tcp:192.0.2.1:8470", ""),
            ("tcp:[2001:db8::1]:8470", ""),
            ("tls:node.example:443", ""),
        ):
            self.assertEqual(namedHost(description), name)
