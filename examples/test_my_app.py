"""
How to test an application of your own under NATs: in virtual time, on a simulated Internet.

Run it with trial, or by itself::

    trial examples/test_my_app.py
    python examples/test_my_app.py

The application is the few lines of L{Greeter} and L{greet}.  Nothing in it knows of the simulation:
it is handed a reactor, as it would be the real one.
"""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    clientFromString,
    connectProtocol,
    serverFromString,
)
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.net.stunserver import STUNService
from p2ptwist.rendezvous.service import NodeService
from p2ptwist.testing import NAT, Filtering, Internet, Link, Mapping

NODE = "192.0.2.1"


# The application


class Greeter(LineOnlyReceiver):
    """
    Answers each name with a greeting.
    """

    def lineReceived(self, line: bytes) -> None:
        """
        A name has come.
        """
        self.sendLine(b"hello " + line)


class Guest(LineOnlyReceiver):
    """
    Says its name, and waits for a greeting.
    """

    def __init__(self) -> None:
        self.greeted: Deferred[str] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        """
        The greeting.
        """
        self.greeted.callback(line.decode())


async def greet(reactor: Any, endpoint: str) -> tuple[str, Any]:
    """
    @return: a greeting from the greeter at C{endpoint}, and the guest that it was for.
    """
    guest: Any = await connectProtocol(clientFromString(reactor, endpoint), Guest())
    guest.sendLine(b"Alice")
    return await guest.greeted, guest


# Its tests


class GreetingTests(SynchronousTestCase):
    """
    A greeter in one home, a guest in another one.
    """

    def setUp(self) -> None:
        """
        Make an Internet with a rendezvous node.
        """
        self.internet = Internet(seed=7)
        self.internet.showOnFailure(self)  # a test that fails shows the last packets
        node = self.internet.host("node", NODE, link=Link(latency=0.005))
        listening = TCP4ServerEndpoint(node, 8470, 50, NODE)
        NodeService(node, "node", [("tcp", listening)], stunServers=(("", 3478),)).startService()
        STUNService(node, (NODE, 3478)).startService()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def description(self, name: str, *words: str) -> str:
        """
        @return: an endpoint description for somebody.
        """
        rest = (rf"rendezvous=tcp\:{NODE}\:8470", f"identity={self.folder / name}")
        return ":".join(("p2p", *words, "service=greeting", *rest))

    def homes(self, first: NAT, second: NAT) -> tuple[Any, Any]:
        """
        @return: a host behind each kind of NAT.
        """
        line = Link(latency=0.02, loss=0.01)
        one = self.internet.router("one home", "203.0.113.1", nat=first, link=line)
        other = self.internet.router("other home", "203.0.113.2", nat=second, link=line)
        return one.host("alice"), other.host("bob")

    def greeting(self, first: NAT, second: NAT) -> tuple[str, Any]:
        """
        Have Bob listen, and Alice greeted.

        @return: the greeting, and the guest, after a few seconds.
        """
        alice, bob = self.homes(first, second)
        server = serverFromString(bob, self.description("bob"))
        port = self.successResultOf(server.listen(Factory.forProtocol(Greeter)))
        self.internet.advance(5.0)
        target = self.description("alice", port.getHost().peerID)
        answer = self.internet.runUntil(greet(alice, target), timeout=10.0)
        self.internet.advance(5.0)
        return answer

    def test_atHome(self) -> None:
        """
        Behind two ordinary home routers the greeting comes, and the path is direct.
        """
        greeting, guest = self.greeting(NAT(), NAT())
        self.assertEqual(greeting, "hello Alice")
        self.assertEqual(guest.transport.getPeer().kind, "direct")

    def test_strictNATs(self) -> None:
        """
        Behind two NATs that nobody can punch through it comes as well, relayed.
        """
        strict = NAT(
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
            filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        )
        greeting, guest = self.greeting(strict, strict)
        self.assertEqual(greeting, "hello Alice")
        self.assertEqual(guest.transport.getPeer().kind, "relayed")

    def test_routerRestarts(self) -> None:
        """
        When a router forgets everything the connection goes on.
        """
        _, guest = self.greeting(NAT(), NAT())
        self.internet.routers["one home"].reboot()
        self.internet.advance(30.0)
        guest.greeted = Deferred()
        guest.sendLine(b"Alice again")
        self.assertEqual(self.internet.runUntil(guest.greeted), "hello Alice again")


if __name__ == "__main__":
    unittest.main()
