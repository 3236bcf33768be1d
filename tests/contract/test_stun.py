"""
The STUN server and client on the real reactor, over loopback: both ways of reading a socket give
the same answers.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation
from p2ptwist.core.stun.attributes import decodeAddress, encodeUInt32
from p2ptwist.core.stun.binding import reflexiveAddress
from p2ptwist.core.stun.limits import UNLIMITED, STUNLimits
from p2ptwist.core.stun.message import (
    MAX_MESSAGE_LENGTH,
    AttributeType,
    MessageClass,
    decode,
    encode,
    encodeAttribute,
)
from p2ptwist.core.stun.server import PLAIN_REQUEST
from p2ptwist.core.tokenbucket import Rate
from p2ptwist.errors import LocalUsageError, PortUnusable
from p2ptwist.net import stunserver
from p2ptwist.net.batch import BATCH, batchSupported
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.natdiscovery import discoverNAT
from p2ptwist.net.stunclient import STUNClient
from p2ptwist.net.stunserver import STUNService

reactor: Any = globalReactor
HOST, OTHER_HOST = "127.0.0.1", "127.0.0.2"
ID = bytes(range(12))
LOCK_UP = 20.0  # seconds after which a test that hangs is ended


class Client(DatagramProtocol):
    """
    A UDP port with a STUN client on it.

    @ivar received: what came that was not the client's, with its source.
    """

    noisy = False

    def __init__(self, host: str) -> None:
        self.received: list[tuple[bytes, HostPort]] = []
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self.stun = STUNClient(reactor, self.write)
        self.port = reactor.listenUDP(0, self, host, 8192)
        self.address: HostPort = (host, self.port.getHost().port)

    def write(self, data: bytes, address: HostPort) -> None:
        """
        Send a datagram.
        """
        self.port.write(data, address)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        Offer each datagram to STUN first.
        """
        if self.stun.datagramReceived(datagram, addr):
            return
        self.received.append((datagram, addr))
        for count, waiting in self._waiting:
            if len(self.received) == count:
                waiting.callback(None)

    async def wait(self, count: int) -> list[tuple[bytes, HostPort]]:
        """
        @return: the first C{count} datagrams that come.
        """
        if len(self.received) < count:
            waiting: Deferred[None] = Deferred()
            self._waiting.append((count, waiting))
            await waiting.addTimeout(LOCK_UP, reactor)
        return self.received


def freePort() -> int:
    """
    @return: a port that was free on both hosts a moment ago.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("0.0.0.0", 0))
        port: int = one.getsockname()[1]
        return port


class ServerCases:
    """
    What a L{STUNService} does, however it reads its sockets.
    """

    batched: bool
    timeout = LOCK_UP

    def setUp(self: Any) -> None:
        """
        Choose how sockets are read.
        """
        self.patch(stunserver, "batchSupported", lambda: self.batched)

    def serve(
        self: Any,
        primary: HostPort = (HOST, 0),
        alternate: HostPort | None = None,
        limits: STUNLimits = UNLIMITED,
        software: str | None = None,
    ) -> STUNService:
        """
        @return: a service that runs until the end of the test.
        """
        service = STUNService(reactor, primary, alternate, software, limits)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def client(self: Any, host: str = HOST) -> Client:
        """
        @return: a client that lives until the end of the test.
        """
        client = Client(host)
        self.addCleanup(client.port.stopListening)
        return client

    async def test_bind(self: Any) -> None:
        """
        A client learns the address of its own port.
        """
        service, client = self.serve(), self.client()
        self.assertEqual(await client.stun.bind(service.addresses[0]), client.address)
        self.assertEqual((service.counters.received, service.counters.answered), (1, 1))

    async def test_ipv6(self: Any) -> None:
        """
        So it does over IPv6.
        """
        service, client = self.serve(("::1", 0)), self.client("::1")
        self.assertEqual(await client.stun.bind(service.addresses[0]), client.address)

    async def test_dualStack(self: Any) -> None:
        """
        A server on all IPv6 addresses tells IPv4 clients their IPv4 address.
        """
        service, client = self.serve(("::", 0)), self.client()
        port = service.addresses[0][1]
        self.assertEqual(await client.stun.bind((HOST, port)), client.address)
        other = self.client("::1")
        self.assertEqual(await other.stun.bind(("::1", port)), other.address)

    async def test_manyAtOnce(self: Any) -> None:
        """
        More requests than a batch holds, with others among them, are all answered, each with its
        own address.
        """
        service = self.serve()
        clients = [self.client() for _ in range(2)]
        server = service.addresses[0]
        software = encode(MessageClass.REQUEST, 1, ID, [(AttributeType.SOFTWARE, b"x")])
        for number in range(BATCH):
            for client in clients:
                client.write(PLAIN_REQUEST + number.to_bytes(12, "big"), server)
                if number % 7 == 0:
                    client.write(software, server)
                    client.write(b"nonsense", server)
        expected = BATCH + 10
        for client in clients:
            answers = (await client.wait(expected))[:expected]
            messages = [decode(data) for data, _ in answers]
            self.assertEqual({reflexiveAddress(each) for each in messages}, {client.address})
            identities = [each.transactionID for each in messages]
            self.assertEqual(len(set(identities)), BATCH + 1)
        counters = service.counters
        self.assertEqual(counters.answered, 2 * expected)
        self.assertEqual(counters.malformed, 20)
        self.assertEqual(counters.received, 2 * expected + 20)

    async def test_strangeDatagrams(self: Any) -> None:
        """
        Empty, too long, truncated and hostile datagrams are counted, and the next is answered.
        """
        service, client = self.serve(), self.client()
        server = service.addresses[0]
        tooLong = encode(MessageClass.REQUEST, 1, ID, [(6, bytes(MAX_MESSAGE_LENGTH - 24))])
        for data in (
            b"",
            PLAIN_REQUEST,
            PLAIN_REQUEST + bytes(13),
            tooLong + bytes(4),
            tooLong[:2] + b"\x08\0" + tooLong[4:] + bytes(12),
            bytes(8000),
        ):
            client.write(data, server)
        client.write(encode(MessageClass.SUCCESS, 1, ID), server)
        self.assertEqual(await client.stun.bind(server), client.address)
        self.assertEqual(service.counters.malformed, 6)
        self.assertEqual(service.counters.ignored, 1)
        self.assertEqual(service.counters.answered, 1)
        self.assertEqual(client.received, [])

    async def test_longest(self: Any) -> None:
        """
        The longest message there is is read whole.
        """
        service, client = self.serve(), self.client()
        longest = encode(MessageClass.REQUEST, 1, ID, [(6, bytes(MAX_MESSAGE_LENGTH - 24))])
        client.write(longest, service.addresses[0])
        (data, _), *_ = await client.wait(1)
        self.assertEqual(reflexiveAddress(decode(data)), client.address)

    async def test_limited(self: Any) -> None:
        """
        Who asks too often is not answered.
        """
        service, client = self.serve(limits=STUNLimits(Rate(0.001, 3), None)), self.client()
        for _ in range(10):
            client.write(PLAIN_REQUEST + ID, service.addresses[0])
        await client.wait(3)
        other = self.client(OTHER_HOST)
        await other.stun.bind(service.addresses[0])
        self.assertEqual(len(client.received), 3)
        self.assertEqual(service.counters.limited, 7)

    async def test_limitedIPv6(self: Any) -> None:
        """
        That is so for IPv6 as well.
        """
        limits = STUNLimits(Rate(0.001, 3), None)
        service, client = self.serve(("::1", 0), limits=limits), self.client("::1")
        for _ in range(10):
            client.write(PLAIN_REQUEST + ID, service.addresses[0])
        await client.wait(3)
        self.assertEqual(service.counters.answered, 3)

    async def test_discovery(self: Any) -> None:
        """
        With four addresses the whole of discovery works, and loopback has no NAT.
        """
        one, two = freePort(), freePort()
        service = self.serve((HOST, one), (OTHER_HOST, two))
        self.assertEqual(len(service.addresses), 4)
        ports: list[DatagramPort] = []

        def openPort() -> DatagramPort:
            ports.append(DatagramPort(reactor, HOST))
            return ports[-1]

        found = await discoverNAT(reactor, openPort, [(HOST, one)])
        self.assertEqual(len(found.addresses), 1)
        self.assertEqual(
            found.behavior,
            NATBehavior(
                NATMapping.ENDPOINT_INDEPENDENT,
                NATFiltering.ENDPOINT_INDEPENDENT,
                PortAllocation.PRESERVING,
                hairpinning=True,
            ),
        )
        self.assertEqual({port.transport for port in ports}, {None})

    async def test_plainWithAlternate(self: Any) -> None:
        """
        Every address of a server tells its own other address, and its name.
        """
        one, two = freePort(), freePort()
        service = self.serve((HOST, one), (OTHER_HOST, two), software="node")
        client = self.client()
        for index, server in enumerate(service.addresses):
            client.write(PLAIN_REQUEST + ID, server)
            data, source = (await client.wait(index + 1))[index]
            message = decode(data)
            self.assertEqual(source, server)
            self.assertEqual(message.get(AttributeType.SOFTWARE), b"node")
            origin = message.get(AttributeType.RESPONSE_ORIGIN)
            other = message.get(AttributeType.OTHER_ADDRESS)
            assert origin is not None and other is not None
            self.assertEqual(decodeAddress(origin), server)
            self.assertEqual(decodeAddress(other), service.addresses[3 - index])

    async def test_change(self: Any) -> None:
        """
        CHANGE-REQUEST is answered from another socket.
        """
        one, two = freePort(), freePort()
        self.serve((HOST, one), (OTHER_HOST, two))
        client = self.client()
        for index, (flags, source) in enumerate(
            ((6, (OTHER_HOST, two)), (4, (OTHER_HOST, one)), (2, (HOST, two)))
        ):
            change = (AttributeType.CHANGE_REQUEST, encodeUInt32(flags))
            client.write(encode(MessageClass.REQUEST, 1, ID, [change]), (HOST, one))
            self.assertEqual((await client.wait(index + 1))[index][1], source)

    async def test_classic(self: Any) -> None:
        """
        A request of RFC 3489 is answered in its own way.
        """
        service, client = self.serve(), self.client()
        client.write(b"\0\1\0\0" + bytes(16), service.addresses[0])
        (data, _), *_ = await client.wait(1)
        self.assertEqual(data[:2], b"\1\1")
        self.assertEqual(decodeAddress(data[24:32]), client.address)

    async def test_portInUse(self: Any) -> None:
        """
        A port that cannot be opened fails with what to do about it, and leaves none open.
        """
        one, two = freePort(), freePort()
        taken = self.client(OTHER_HOST).address
        second = STUNService(reactor, (HOST, one), taken)
        error = self.assertRaises(PortUnusable, second.startService)
        self.assertIn("cannot be opened for STUN (Address already in use): free it", str(error))
        self.assertEqual(second.addresses, ())
        self.serve((HOST, two))

    async def test_notOurs(self: Any) -> None:
        """
        So does an address that this machine does not have.
        """
        service = STUNService(reactor, ("192.0.2.1", 0))
        error = self.assertRaises(PortUnusable, service.startService)
        self.assertIn("UDP 192.0.2.1:0 cannot be opened", str(error))

    async def test_mistakes(self: Any) -> None:
        """
        Addresses that clients cannot be told are refused at once.
        """
        for primary, alternate in (
            (("0.0.0.0", 3478), (HOST, 3479)),
            ((HOST, 3478), ("::", 3479)),
            ((HOST, 0), (OTHER_HOST, 3479)),
            ((HOST, 3478), (HOST, 3478)),
            (("example.org", 3478), None),
        ):
            self.assertRaises(LocalUsageError, STUNService, reactor, primary, alternate)

    async def test_restart(self: Any) -> None:
        """
        A service that has stopped is silent, and can start again on the same port.
        """
        service, client = self.serve((HOST, freePort())), self.client()
        server = service.addresses[0]
        await client.stun.bind(server)
        await service.stopService()
        self.assertEqual(service.addresses, ())
        service.privilegedStartService()
        self.assertEqual(service.addresses, (server,))
        service.startService()
        self.assertEqual(await client.stun.bind(server), client.address)
        self.assertEqual(service.counters.answered, 2)


class BatchedServerTests(ServerCases, TestCase):
    """
    Sockets that are read by many datagrams at a time.
    """

    batched = True
    if not batchSupported():
        skip = "this system has no recvmmsg"

    async def test_localAddress(self) -> None:
        """
        A server on all addresses answers from the one that it was asked at: the plain way, one by
        one, and a classic request with that address in it.
        """
        service, client = self.serve(("0.0.0.0", 0)), self.client()
        port = service.addresses[0][1]
        fingerprinted = encode(MessageClass.REQUEST, 1, ID, fingerprint=True)
        classic = b"\0\1\0\0" + bytes(16)
        for index, (data, host) in enumerate(
            (data, host)
            for data in (PLAIN_REQUEST + ID, fingerprinted, classic)
            for host in ("127.0.0.9", "127.0.0.8", HOST)
        ):
            client.write(data, (host, port))
            answer, source = (await client.wait(index + 1))[index]
            self.assertEqual(source, (host, port))
            if data is classic:
                self.assertEqual(
                    answer[32:44],
                    encodeAttribute(4, b"\0\1" + port.to_bytes(2, "big") + socket.inet_aton(host)),
                )

    async def test_localAddressIPv6(self) -> None:
        """
        So does its IPv6 half.
        """
        service, client = self.serve(("::", 0)), self.client("::1")
        port = service.addresses[0][1]
        self.assertEqual(service.addresses, (("::", port), ("0.0.0.0", port)))
        fingerprinted = encode(MessageClass.REQUEST, 1, ID, fingerprint=True)
        for index, data in enumerate((PLAIN_REQUEST + ID, fingerprinted)):
            client.write(data, ("::1", port))
            answer, source = (await client.wait(index + 1))[index]
            self.assertEqual(source, ("::1", port))
            self.assertEqual(reflexiveAddress(decode(answer)), client.address)

    async def test_localAddressAmongDropped(self) -> None:
        """
        Where some of a batch are dropped, the others still get their own answers, from their own
        addresses.
        """
        service = self.serve(("0.0.0.0", 0))
        clients = [self.client() for _ in range(4)]
        port = service.addresses[0][1]
        for _ in range(10):
            for index, client in enumerate(clients):
                client.write(b"nonsense", (HOST, port))
                client.write(PLAIN_REQUEST + ID, (f"127.0.0.{index + 2}", port))
        for index, client in enumerate(clients):
            for data, source in (await client.wait(10))[:10]:
                self.assertEqual(source, (f"127.0.0.{index + 2}", port))
                self.assertEqual(reflexiveAddress(decode(data)), client.address)


class UDPServerTests(ServerCases, TestCase):
    """
    Sockets that are read by C{listenUDP}.
    """

    batched = False

    async def test_unsent(self) -> None:
        """
        An answer that the network does not take is counted.
        """
        service, client = self.serve(), self.client()
        server = service.addresses[0]

        def refuse(data: bytes, address: HostPort) -> None:
            raise OSError("no buffer space available")

        port: Any = service._ports[server]
        send = port.send
        port.send = refuse
        client.write(PLAIN_REQUEST + ID, server)
        while not service.counters.unsent:
            await deferLater(reactor, 0.001)
        port.send = send
        await client.stun.bind(server)
        self.assertEqual((service.counters.unsent, service.counters.answered), (1, 1))
