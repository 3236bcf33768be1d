"""
Find out how the NAT before a UDP port behaves.

With --server the tests run on a port of this machine.  The server needs a second address for it,
as C{twistd natrendezvous --stun HOST --stun-alternate-address OTHER-HOST:3479} has one.  Without
--server they run on the simulated Internet, behind every kind of NAT in turn, and take no time::

    python examples/nat_behavior.py
    python examples/nat_behavior.py --server stun.example.org:3478
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import react

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.core.discovery import Discovered
from p2ptwist.errors import P2PError
from p2ptwist.net.names import resolveAddress
from p2ptwist.net.natdiscovery import discoverNAT
from p2ptwist.net.stunserver import STUNService
from p2ptwist.testing import NAT, Filtering, Internet, Mapping

STUN_PORT = 3478  # RFC 8489 section 18.6


class Application(DatagramProtocol):
    """
    A program with a UDP port.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def discover(self, server: HostPort) -> Deferred[Discovered]:
        """
        Run the tests on this port.
        """
        assert self.transport is not None
        self._receive, result = discoverNAT(self._reactor, self.transport.write, server)
        return result

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        Offer each datagram to the tests; what they do not take is the application's.
        """
        if not self._receive(datagram, addr):
            print(f"{datagram!r} from {formatAddress(addr)}")


async def discover(reactor: Any, server: HostPort) -> None:
    """
    Test the NAT before this machine.
    """
    address = await resolveAddress(reactor, *server)
    application = Application(reactor)
    port = reactor.listenUDP(0, application)
    result = await application.discover(address)
    print(f"seen at {', '.join(map(formatAddress, result.addresses))}: {result.behavior}")
    await port.stopListening()


def simulate() -> None:
    """
    Test every kind of NAT on the simulated Internet.
    """
    for mapping, filtering in product(Mapping, Filtering):
        internet = Internet(seed=1)
        node = internet.host("node", "192.0.2.1", "192.0.2.2")
        service = STUNService(node, ("192.0.2.1", 3478), ("192.0.2.2", 3479))
        service.startService()
        nat = NAT(mapping=mapping, filtering=filtering)
        alice = internet.router("home", "203.0.113.7", nat=nat).host("alice")
        application = Application(alice)
        alice.listenUDP(0, application)
        result = internet.runUntil(application.discover(("192.0.2.1", 3478)), timeout=5.0)
        print(f"{result.behavior}   ({len(result.addresses)} addresses, {alice.seconds():.2f} s)")


def hostPort(text: str) -> HostPort:
    """
    @return: host and port of C{HOST}, C{HOST:PORT} or C{[IPV6]:PORT}.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(STUN_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def main() -> None:
    """
    Run the example.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", metavar="HOST[:PORT]", type=hostPort, help="the STUN server to ask"
    )
    options = parser.parse_args()
    if options.server is None:
        simulate()
        return

    async def run(reactor: Any) -> None:
        try:
            await discover(reactor, options.server)
        except P2PError as error:
            sys.exit(str(error))

    react(lambda reactor: ensureDeferred(run(reactor)))


if __name__ == "__main__":
    main()
