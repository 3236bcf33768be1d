"""
pystun3, a client of RFC 3489, against our server: over loopback, and behind simulated NATs.
"""

from __future__ import annotations

import importlib
import socket
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2ptwist.core.address import HostPort
from p2ptwist.net.stunserver import STUNService
from p2ptwist.testing import NAT, Filtering, Host, Internet, Mapping

reactor: Any = globalReactor
pystun3: Any = importlib.import_module("stun")  # it has no types
PRIMARY = ("192.0.2.1", 3478)
ALTERNATE = ("192.0.2.2", 3479)


class LoopbackTests(TestCase):
    """
    pystun3 in a thread, with a socket of its own.
    """

    timeout = 60

    def setUp(self) -> None:
        """
        Serve on two hosts and two ports.
        """
        self.ports = [self.freePort(), self.freePort()]
        self.service = STUNService(
            reactor, ("127.0.0.1", self.ports[0]), ("127.0.0.2", self.ports[1])
        )
        self.service.startService()
        self.addCleanup(self.service.stopService)

    def freePort(self) -> int:
        """
        @return: a port that was free on all hosts a moment ago.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind(("0.0.0.0", 0))
            port: int = one.getsockname()[1]
            return port

    async def ask(self, sourceHost: str) -> tuple[str, str, int]:
        """
        @return: what pystun3 finds: the kind of NAT, and its own address.
        """
        kind, host, port = await deferToThread(
            pystun3.get_ip_info, sourceHost, self.freePort(), "127.0.0.1", self.ports[0]
        )
        return kind, host, port

    async def test_openInternet(self) -> None:
        """
        A client that is seen at the address it has is on the open Internet.
        """
        kind, host, _ = await self.ask("127.0.0.1")
        self.assertEqual((kind, host), (pystun3.OpenInternet, "127.0.0.1"))

    async def test_anyAddress(self) -> None:
        """
        A client that does not know its own address takes that for a NAT which lets everybody in.
        """
        kind, host, _ = await self.ask("0.0.0.0")
        self.assertEqual((kind, host), (pystun3.FullCone, "127.0.0.1"))
        self.assertEqual(self.service.counters.malformed, 0)


class SimulatedSocket(DatagramProtocol):
    """
    As much of a blocking socket as pystun3 uses, on a host of the simulated Internet: to wait is to
    let virtual time pass.
    """

    noisy = False
    timeout = 2.0  # seconds, as pystun3 sets it on its own sockets

    def __init__(self, internet: Internet, host: Host) -> None:
        self.internet = internet
        self.received: list[tuple[bytes, HostPort]] = []
        host.listenUDP(0, self)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        Keep it until it is asked for.
        """
        self.received.append((datagram, addr))

    def sendto(self, data: bytes, address: HostPort) -> None:
        """
        Send a datagram.
        """
        assert self.transport is not None
        self.transport.write(data, address)

    def recvfrom(self, size: int) -> tuple[bytes, HostPort]:
        """
        Wait for a datagram.
        """
        waited = 0.0
        while not self.received:
            if waited >= self.timeout:
                raise TimeoutError
            self.internet.advance(0.05)
            waited += 0.05
        return self.received.pop(0)


class SimulatedNATTests(SynchronousTestCase):
    """
    pystun3 behind NATs.
    """

    def kindOf(
        self, nat: NAT | None = None, alternate: HostPort | None = ALTERNATE, serve: bool = True
    ) -> str:
        """
        @return: the kind that pystun3 finds.
        """
        internet = Internet(seed=1)
        internet.showOnFailure(self)
        node = internet.host("node", PRIMARY[0], ALTERNATE[0])
        if serve:
            service = STUNService(node, PRIMARY, alternate)
            service.startService()
            self.addCleanup(service.stopService)
        if nat is None:
            host = internet.host("alice", "198.51.100.9")
        else:
            host = internet.router("home", "203.0.113.7", nat=nat).host("alice")
        source = next(each for each in host.hostAddresses() if not each.startswith("127."))
        kind, _ = pystun3.get_nat_type(
            SimulatedSocket(internet, host), source, 0, PRIMARY[0], PRIMARY[1]
        )
        return str(kind)

    def test_openInternet(self) -> None:
        """
        No NAT.
        """
        self.assertEqual(self.kindOf(), pystun3.OpenInternet)

    def test_everyKind(self) -> None:
        """
        The four kinds of RFC 3489, which are so many of the nine behaviours of RFC 4787.
        """
        kinds = {
            Filtering.ENDPOINT_INDEPENDENT: pystun3.FullCone,
            Filtering.ADDRESS_DEPENDENT: pystun3.RestricNAT,
            Filtering.ADDRESS_AND_PORT_DEPENDENT: pystun3.RestricPortNAT,
        }
        for filtering, kind in kinds.items():
            self.assertEqual(self.kindOf(NAT(filtering=filtering)), kind)
        for mapping in (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT):
            self.assertEqual(self.kindOf(NAT(mapping=mapping)), pystun3.SymmetricNAT)

    def test_oneAddress(self) -> None:
        """
        A server with one address makes pystun3 assume the strictest filter, and end.
        """
        nat = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)
        self.assertEqual(self.kindOf(nat, alternate=None), pystun3.RestricPortNAT)

    def test_blocked(self) -> None:
        """
        No server.
        """
        self.assertEqual(self.kindOf(serve=False), pystun3.Blocked)
