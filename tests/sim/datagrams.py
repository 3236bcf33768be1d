"""
Datagram protocols that tests of the simulated Internet share.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import DatagramProtocol

from p2ptwist.core.address import HostPort
from p2ptwist.testing import Host


class Recorder(DatagramProtocol):
    """
    Keeps what comes.

    @ivar received: each datagram with its source.
    """

    transport: Any

    def __init__(self) -> None:
        self.received: list[tuple[bytes, HostPort]] = []

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        A datagram has come.
        """
        self.received.append((datagram, addr))

    def send(self, data: bytes, to: HostPort) -> None:
        """
        Send a datagram.
        """
        self.transport.write(data, to)

    @property
    def sources(self) -> list[HostPort]:
        """
        Where datagrams came from.
        """
        return [source for _, source in self.received]


class Mirror(Recorder):
    """
    Answers each datagram with the address that it came from.
    """

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        A datagram has come.
        """
        super().datagramReceived(datagram, addr)
        self.send(f"{addr[0]} {addr[1]}".encode(), addr)


def listen(host: Host, protocol: Recorder, port: int = 5000, interface: str = "") -> Recorder:
    """
    @return: C{protocol}, on a port of C{host}.
    """
    host.listenUDP(port, protocol, interface, 8192)
    return protocol
