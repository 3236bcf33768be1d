"""
The simplest signaling there is, for peers of other libraries: a TCP server that forwards lines.

C{forwarder.py PORT}.  The first line of a connection is its name; every other line is C{NAME TEXT},
and arrives as C{TEXT} at that name's connection.
"""

from __future__ import annotations

import sys
from typing import cast

from twisted.internet import reactor
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, ServerFactory
from twisted.protocols.basic import LineOnlyReceiver


class Forwarding(LineOnlyReceiver):
    """
    One client's connection.
    """

    delimiter = b"\n"
    clients: dict[bytes, Forwarding] = {}  # noqa: RUF012 - shared by all of them
    name = b""

    def connectionMade(self) -> None:
        """
        Do not let the kernel hold lines back.
        """
        cast(ITCPTransport, self.transport).setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:
        """
        Learn the name, or forward.
        """
        if not self.name:
            self.name = line
            self.clients[line] = self
            return
        name, _, text = line.partition(b" ")
        if name in self.clients:
            self.clients[name].sendLine(text)

    def connectionLost(self, reason: object = None) -> None:
        """
        Forget the name.
        """
        if self.clients.get(self.name) is self:
            del self.clients[self.name]


if __name__ == "__main__":
    factory = cast(ServerFactory, Factory.forProtocol(Forwarding))
    reactor.listenTCP(int(sys.argv[1]), factory)
    print("ready", flush=True)
    reactor.run()
