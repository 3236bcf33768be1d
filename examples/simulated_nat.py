"""
Two unchanged Twisted programs on a simulated Internet, behind simulated NATs::

    python examples/simulated_nat.py [--seed N]

The first program is a chat over TCP: a C{ClientService} that reconnects to a server.  While it
chats, its router reboots; it notices, and comes back.  The second one is a UDP hole punch between
two homes.  Nothing in the programs knows that their reactor, their network and their time are
simulated: give them C{twisted.internet.reactor} and they run on the real one.

What happened is printed, with the virtual time of each event.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from twisted.application.internet import ClientService
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import LineOnlyReceiver

from p2ptwist.testing import NAT, Filtering, Internet, Link, Uninvited

Say = Callable[[str], None]


# The first program


class ChatServer(LineOnlyReceiver):
    """
    Answers each line.
    """

    def lineReceived(self, line: bytes) -> None:
        """
        A client has said something.
        """
        self.sendLine(b"you said: " + line)


class ChatClient(LineOnlyReceiver):
    """
    Says something every five seconds.
    """

    def __init__(self, reactor: Any, say: Say) -> None:
        """
        @param reactor: where time comes from.
        @param say: told what happens.
        """
        self._reactor = reactor
        self._say = say
        self._timer: Any = None

    def connectionMade(self) -> None:
        """
        Begin to talk.
        """
        self._say(f"chat: connected from {self.transport.getHost().host}")  # type: ignore[union-attr]
        self._talk()

    def lineReceived(self, line: bytes) -> None:
        """
        The server has answered.
        """
        self._say(f"chat: {line.decode()}")

    def connectionLost(self, reason: Any = None) -> None:
        """
        Stop to talk.
        """
        self._timer.cancel()
        self._say(f"chat: {reason.getErrorMessage()}")

    def _talk(self) -> None:
        self.sendLine(f"it is {self._reactor.seconds():.1f} s".encode())
        self._timer = self._reactor.callLater(5.0, self._talk)


def chat(reactor: Any, server: str, say: Say) -> ClientService:
    """
    The first program.

    @param reactor: any reactor.
    @param server: the server's address, as an endpoint description.
    @param say: told what happens.
    @return: the service, running.
    """
    factory: Any = Factory()
    factory.buildProtocol = lambda address: ChatClient(reactor, say)
    endpoint = clientFromString(reactor, server)
    service = ClientService(endpoint, factory, retryPolicy=lambda failed: 1.0, clock=reactor)
    service.startService()
    return service


# The second program


class Puncher(DatagramProtocol):
    """
    Learns its address from a server, and sends to its peer until it hears from it.
    """

    def __init__(self, reactor: Any, name: str, server: tuple[str, int], say: Say) -> None:
        """
        @param reactor: where time comes from.
        @param name: what to print.
        @param server: answers with the address that it sees.
        @param say: told what happens.
        """
        self._reactor = reactor
        self._name = name
        self._server = server
        self._say = say
        self._heard = False
        self.address: tuple[str, int] | None = None

    def startProtocol(self) -> None:
        """
        Ask for this program's address.
        """
        self._send(b"who am I?", self._server)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        The server or the peer has sent something.
        """
        if addr == self._server:
            host, port = datagram.decode().split()
            self.address = (host, int(port))
            self._say(f"{self._name}: the server sees me at {host}:{port}")
        elif not self._heard:
            self._heard = True
            self._say(f"{self._name}: heard {datagram.decode()!r} from {addr[0]}:{addr[1]}")

    def punch(self, peer: tuple[str, int], tries: int = 10) -> None:
        """
        Send to C{peer}, ten times a second.
        """
        self._send(f"hello from {self._name}".encode(), peer)
        if tries > 1:
            self._reactor.callLater(0.1, self.punch, peer, tries - 1)

    def _send(self, data: bytes, to: tuple[str, int]) -> None:
        self.transport.write(data, to)  # type: ignore[union-attr]


class Mirror(DatagramProtocol):
    """
    Answers with the address that it sees.
    """

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        Somebody wants to know.
        """
        self.transport.write(f"{addr[0]} {addr[1]}".encode(), addr)  # type: ignore[union-attr]


# The Internet that they run on


def main(seed: int) -> None:
    """
    Build an Internet, run both programs on it, and print what happens.

    @param seed: decides what the links lose.
    """
    internet = Internet(seed)

    def say(text: str) -> None:
        print(f"{internet.seconds():9.3f} s  {text}")

    node = internet.host("node", "192.0.2.1", link=Link(latency=0.005))
    internet.name("node.example", "192.0.2.1")
    wireless = Link(latency=0.020, jitter=0.005, loss=0.05)
    first = internet.router("first home", "203.0.113.1", nat=NAT(), link=wireless)
    strict = NAT(uninvited=Uninvited.RESET, filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT)
    second = internet.router("second home", "203.0.113.2", nat=strict, link=wireless)
    alice, bob = first.host("alice"), second.host("bob")

    say(f"seed {seed}: bob, whose router resets what it does not know, chats with node.example")
    internet.runUntil(serverFromString(node, "tcp:7000").listen(Factory.forProtocol(ChatServer)))
    service = chat(bob, "tcp:node.example:7000", say)
    internet.advance(12.0)
    say("bob's router reboots")
    second.reboot()
    internet.advance(12.0)
    internet.runUntil(service.stopService())

    say("alice and bob punch a hole")
    node.listenUDP(3478, Mirror())
    server = ("192.0.2.1", 3478)
    punchers = [Puncher(alice, "alice", server, say), Puncher(bob, "bob", server, say)]
    for host, puncher in zip((alice, bob), punchers, strict=True):
        host.listenUDP(5000, puncher)
    internet.advance(1.0)
    through = node.counters.packets
    one, other = punchers
    if one.address is None or other.address is None:
        say("the server's answer was lost: try another seed")
        return
    one.punch(other.address)
    other.punch(one.address)
    internet.advance(2.0)
    say(f"{node.counters.packets - through} packets of that passed the server")
    print("\nThe last packets:\n")
    print(internet.trace.text(last=8))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Run two unchanged Twisted programs behind simulated NATs."
    )
    parser.add_argument("--seed", type=int, default=7, help="decides what the links lose")
    main(parser.parse_args().seed)
