"""
coturn on loopback: its server with our client, and its clients with our server.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import DatagramProtocol, ProcessProtocol
from twisted.internet.utils import getProcessOutput
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation
from p2ptwist.core.stun.binding import errorOf
from p2ptwist.core.stun.message import MessageClass, decode, encode
from p2ptwist.errors import STUNTimeout
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.lifetime import measureLifetime
from p2ptwist.net.natdiscovery import discoverNAT
from p2ptwist.net.stunclient import STUNClient
from p2ptwist.net.stunserver import STUNService

reactor: Any = globalReactor
ONE, TWO = "127.0.0.1", "127.0.0.2"
STARTING = 20  # questions, half a second each, until coturn must answer


def freePort() -> int:
    """
    @return: a port that was free on all hosts a moment ago.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("0.0.0.0", 0))
        port: int = one.getsockname()[1]
        return port


class Ended(ProcessProtocol):
    """
    Notes when a process has ended.
    """

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def processEnded(self, reason: Failure) -> None:
        """
        It has.
        """
        self.ended.callback(None)


class Client(DatagramProtocol):
    """
    A UDP port that asks.
    """

    noisy = False

    def __init__(self) -> None:
        self.stun = STUNClient(reactor, self.write)
        self.other: Deferred[bytes] = Deferred()
        self.port = reactor.listenUDP(0, self, ONE)
        self.address: HostPort = (ONE, self.port.getHost().port)

    def write(self, data: bytes, address: HostPort) -> None:
        """
        Send a datagram.
        """
        self.port.write(data, address)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        Offer each datagram to STUN first.
        """
        if not self.stun.datagramReceived(datagram, addr):
            self.other.callback(datagram)


class CoturnTestCase(TestCase):
    """
    Skipped where coturn is not installed.
    """

    timeout = 60
    if shutil.which("turnserver") is None:
        skip = "coturn is not installed"

    def client(self) -> Client:
        """
        @return: one that lives until the end of the test.
        """
        client = Client()
        self.addCleanup(client.port.stopListening)
        return client


class ServerTests(CoturnTestCase):
    """
    C{turnserver}, asked by us.
    """

    async def start(self) -> None:
        """
        Start it on two hosts and two ports, and wait until it answers.
        """
        self.ports = freePort(), freePort()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        command = f"turnserver -n -L {ONE} -L {TWO} -p {self.ports[0]} "
        command += f"--alt-listening-port {self.ports[1]} -S --no-tls --no-dtls --no-tcp --no-cli "
        command += "--simple-log --log-file turn.log --pidfile turn.pid --userdb turn.db"
        program = shutil.which("turnserver")
        process = Ended()
        transport: IProcessTransport = reactor.spawnProcess(
            process, program, command.split(), path=directory.name
        )
        self.addCleanup(lambda: process.ended)
        self.addCleanup(transport.signalProcess, "TERM")
        await self.answering()

    async def answering(self) -> None:
        """
        Wait until it answers.
        """
        client = self.client()
        for _ in range(STARTING):
            try:
                await client.stun.bind((ONE, self.ports[0]), timeout=0.5)
            except STUNTimeout:
                continue
            return
        self.fail("coturn does not answer")

    async def test_bind(self) -> None:
        """
        It tells our client its address.
        """
        await self.start()
        client = self.client()
        self.assertEqual(await client.stun.bind((ONE, self.ports[0])), client.address)

    async def test_discovery(self) -> None:
        """
        It is a server that all of discovery works with.
        """
        await self.start()
        found = await discoverNAT(
            reactor, lambda: DatagramPort(reactor, ONE), [(ONE, self.ports[0])]
        )
        self.assertEqual(
            found.behavior,
            NATBehavior(
                NATMapping.ENDPOINT_INDEPENDENT,
                NATFiltering.ENDPOINT_INDEPENDENT,
                PortAllocation.PRESERVING,
                hairpinning=True,
            ),
        )

    async def test_lifetime(self) -> None:
        """
        It answers to another port, so that lifetimes can be measured with it.
        """
        await self.start()
        lifetime = await measureLifetime(
            reactor, lambda: DatagramPort(reactor, ONE), (ONE, self.ports[0]), low=0.1, high=0.5
        )
        self.assertEqual(lifetime, 0.5)

    async def test_refusal(self) -> None:
        """
        It refuses what it does not understand, in words that our codec reads.
        """
        await self.start()
        client = self.client()
        request = encode(MessageClass.REQUEST, 1, bytes(range(12)), [(0x7ABC, b"?")])
        client.write(request, (ONE, self.ports[0]))
        message = decode(await client.other)
        self.assertEqual(message.messageClass, MessageClass.ERROR)
        self.assertEqual(errorOf(message)[0], 420)

    async def test_fingerprint(self) -> None:
        """
        It answers a FINGERPRINT with one that our codec finds right.
        """
        await self.start()
        client = self.client()
        request = encode(MessageClass.REQUEST, 1, bytes(range(12)), fingerprint=True)
        client.write(request, (ONE, self.ports[0]))
        self.assertTrue(decode(await client.other).fingerprinted)


class ClientTests(CoturnTestCase):
    """
    coturn's clients, answered by us.
    """

    async def output(self, program: str, alternate: HostPort | None, *options: str) -> str:
        """
        @param alternate: our server's second address.
        @return: what a program prints.
        """
        port = freePort()
        service = STUNService(reactor, (ONE, port), alternate)
        service.startService()
        self.addCleanup(service.stopService)
        path = shutil.which(program)
        assert path is not None
        arguments = [*options, "-p", str(port), ONE]
        output: bytes = await getProcessOutput(path, arguments, reactor=reactor, errortoo=True)
        return output.decode(errors="replace")

    async def test_discovery(self) -> None:
        """
        C{turnutils_natdiscovery} finds a mapping and a filter that depend on nothing.
        """
        output = await self.output("turnutils_natdiscovery", (TWO, freePort()), "-m", "-f")
        self.assertIn("NAT with Endpoint Independent Mapping!", output)
        self.assertIn("NAT with Endpoint Independent Filtering!", output)

    async def test_stunclient(self) -> None:
        """
        C{turnutils_stunclient} finds its address.
        """
        output = await self.output("turnutils_stunclient", None)
        self.assertIn(f"UDP reflexive addr: {ONE}:", output)
