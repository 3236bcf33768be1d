"""
Ask a STUN server how the Internet sees a UDP port that the application uses for something else.

The application is an echo server on one UDP port.  On that very port it asks the STUN server, and
prints the address that others would have to use; then it shows that the port still echoes.

Without --server a STUN server is started on loopback, so that this runs on any machine::

    python examples/stun_client.py
    python examples/stun_client.py --server stun.example.org:3478
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import react

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.errors import P2PError
from p2ptwist.net.names import resolveAddress
from p2ptwist.net.stunclient import STUNClient
from p2ptwist.net.stunserver import STUNService

STUN_PORT = 3478  # RFC 8489 section 18.6
PATIENCE = 5.0  # seconds for the STUN server, and for the echo


class Echo(DatagramProtocol):
    """
    The application, with a STUN client on its port.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def startProtocol(self) -> None:
        """
        The port is open: STUN sends what the application would.
        """
        assert self.transport is not None
        self._write = self.transport.write
        self.stun = STUNClient(self._reactor, self._write)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        STUN takes the answers that it waits for; everything else is the application's.
        """
        if not self.stun.datagramReceived(datagram, addr):
            self._write(datagram, addr)


class Caller(DatagramProtocol):
    """
    Somebody else's port: says hello once, and waits for the echo.
    """

    def __init__(self, to: HostPort) -> None:
        self.echoed: Deferred[bytes] = Deferred()
        self._to = to

    def startProtocol(self) -> None:
        """
        Say hello.
        """
        assert self.transport is not None
        self.transport.write(b"hello", self._to)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        That is the echo.
        """
        if not self.echoed.called:
            self.echoed.callback(datagram)


async def ask(reactor: Any, server: HostPort | None) -> None:
    """
    Open the application's port, and ask on it.
    """
    application = Echo(reactor)
    port = reactor.listenUDP(0, application)
    local = ("127.0.0.1", port.getHost().port)
    service = None
    if server is None:
        service = STUNService(reactor, ("127.0.0.1", 0))
        service.startService()
        address = service.addresses[0]
    else:
        address = await resolveAddress(reactor, *server)
    seen = await application.stun.bind(address, timeout=PATIENCE)
    print(f"the STUN server {formatAddress(address)} sees this port at {formatAddress(seen)}")
    caller = Caller(local)
    other = reactor.listenUDP(0, caller)
    await caller.echoed.addTimeout(PATIENCE, reactor)
    print(f"the application still echoes at {formatAddress(local)}")
    for each in (port, other):
        await each.stopListening()
    if service is not None:
        await service.stopService()


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

    async def run(reactor: Any) -> None:
        try:
            await ask(reactor, options.server)
        except P2PError as error:
            sys.exit(str(error))

    react(lambda reactor: ensureDeferred(run(reactor)))


if __name__ == "__main__":
    main()
