"""
A host behind a simulated router that maps ports, or does not.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.net.mappedport import MapperReport
from p2ptwist.net.portmapper import natpmpMapper, pcpMapper
from p2ptwist.net.portmapping import PortMappings
from p2ptwist.testing import NAT, Host, Internet
from p2ptwist.testing.portmapper import PortMapper

EXTERNAL = "203.0.113.7"
FAR = "203.0.113.9"
PORT = 5000
SECRET = bytes(32)
ASKED = (pcpMapper, natpmpMapper)
ONE_PROTOCOL = (PortMapper(natPMP=False), PortMapper(pcp=False))


class Heard(DatagramProtocol):
    """
    Keeps what comes to a UDP port.
    """

    noisy = False

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Keep it.
        """
        self.received.append(datagram)


class PortMappingCase(SynchronousTestCase):
    """
    A host behind a router that may map ports, and another far away.
    """

    def build(self, mapper: PortMapper | None = None, prefix6: str | None = None) -> None:
        """
        @param mapper: how the router maps ports, if it does.
        @param prefix6: the LAN's IPv6 network, if it has one.
        """
        self.internet = Internet(seed=5)
        self.internet.showOnFailure(self)
        nat = NAT(portMapping=mapper)
        self.home = self.internet.router("home", EXTERNAL, nat=nat, prefix6=prefix6)
        self.host = self.home.host("host")
        self.far = self.internet.host("far", FAR, "2001:db8:9::1")

    def mappings(self, host: Host | None = None, **options: Any) -> PortMappings:
        """
        @return: a service that has started on a host behind the router.
        """
        made = PortMappings(host or self.host, random=Random(1), **options)
        made.startService()
        return made

    def wait(self, waiting: Deferred[Any], seconds: float = 3.5) -> Any:
        """
        @return: what C{waiting} fires with in C{seconds}.
        """
        return self.internet.runUntil(waiting, timeout=seconds)

    def failureOf(self, waiting: Deferred[Any], seconds: float = 3.5) -> Any:
        """
        @return: what C{waiting} fails with in C{seconds}.
        """
        failures: list[Failure] = []
        waiting.addErrback(failures.append)
        self.internet.advance(seconds)
        (failure,) = failures
        return failure.value

    def reaches(self, address: HostPort, port: int = PORT) -> bool:
        """
        @return: whether a datagram from far away to C{address} comes to the host's C{port}.
        """
        heard = Heard()
        interface = "::" if ":" in address[0] else ""
        listening = self.host.listenUDP(port, heard, interface, 8192)
        sending = self.far.listenUDP(0, DatagramProtocol(), interface, 8192)
        transport: Any = sending
        transport.write(b"knock", address)
        self.internet.advance(1.0)
        for each in (listening, sending):
            each.stopListening()
        self.internet.advance(0.1)
        return bool(heard.received)

    def sole(self, mappings: PortMappings, name: str) -> MapperReport:
        """
        @return: what is reported of the protocol C{name} over IPv4.
        """
        (report,) = [
            each for each in mappings.reports() if each.mapper == name and ":" not in each.gateway
        ]
        return report
