"""
The service by which one peer asks another whether it is there: it sends back what comes.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol

PING_SERVICE = "p2ptwist.ping"


class Echo(Protocol):
    """
    Sends everything back, no faster than the other side reads it.
    """

    transport: Any

    def connectionMade(self) -> None:
        """
        Read only as fast as what was read leaves.
        """
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        """
        Send it back.
        """
        self.transport.write(data)


class EchoFactory(Factory):
    """
    Makes an L{Echo} of each connection.
    """

    protocol = Echo
    noisy = False
