"""
The rendezvous node on the real reactor, over loopback: C{twistd natrendezvous} as a process, and
links over TCP, TLS and Unix sockets.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as globalReactor
from twisted.internet.endpoints import clientFromString, serverFromString, wrapClientTLS
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from p2ptwist.core.link.frames import FrameType, encodeFrame
from p2ptwist.core.link.limits import Limits
from p2ptwist.core.tokenbucket import Rate
from p2ptwist.errors import LocalUsageError, PortUnusable, RendezvousRefused
from p2ptwist.net.stunclient import STUNClient
from p2ptwist.rendezvous.connections import UNSENT_LIMIT
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.linkendpoint import rendezvousEndpoint
from p2ptwist.rendezvous.options import Options
from p2ptwist.rendezvous.service import NodeService
from p2ptwist.rendezvous.tap import NodeApplication, makeService
from tests.contract.rendezvous import (
    GENEROUS,
    LOCK_UP,
    Case,
    Program,
    Receiver,
    residentKiB,
    twistd,
)

reactor: Any = globalReactor
CHAT = str(Path(__file__).resolve().parents[2] / "examples" / "link_chat.py")


class ProcessTests(Case):
    """
    The real command.
    """

    def start(self, *options: str) -> Program:
        """
        @return: a node on free ports of the loopback interface.
        """
        return twistd(self, "--listen=tcp:0:interface=127.0.0.1", "--stun=127.0.0.1:0", *options)

    async def test_serve(self) -> None:
        """
        It says what it serves, and serves it.
        """
        node = self.start("--name=example")
        endpoint = await node.printed(r"p2ptwist: links on (tcp:127\.0\.0\.1:\d+)\n")
        stun = await node.printed(r"p2ptwist: STUN on udp:127\.0\.0\.1:(\d+)\n")
        welcome = await self.exchange(endpoint)
        self.assertEqual(welcome.nodeName, "example")
        self.assertEqual(welcome.observedAddress[0], "127.0.0.1")
        port, address = await self.askSTUN(int(stun))
        self.assertEqual(address, ("127.0.0.1", port))

    async def askSTUN(self, port: int) -> tuple[int, tuple[str, int]]:
        """
        @return: a local UDP port, and how the server at C{port} sees it.
        """

        class Port(DatagramProtocol):
            noisy = False

            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                client.datagramReceived(datagram, addr)

        protocol = Port()
        listening = reactor.listenUDP(0, protocol, "127.0.0.1", 8192)
        self.addCleanup(listening.stopListening)
        client = STUNClient(reactor, listening.write)
        return listening.getHost().port, await client.bind(("127.0.0.1", port))

    async def test_drain(self) -> None:
        """
        On SIGTERM it says goodbye to its peers and ends by that signal, without a traceback.
        """
        node = self.start()
        endpoint = await node.printed(r"p2ptwist: links on (\S+)\n")
        link = self.link(endpoint)
        await link.whenUp()
        node.terminate()
        assert isinstance(link.receiver, Receiver)
        reason = await link.receiver.down
        assert isinstance(reason, RendezvousRefused)
        self.assertEqual(reason.reason, "draining")
        self.assertEqual(await node.ended, -signal.SIGTERM)
        self.assertIn("p2ptwist: the node has stopped; accepted=1 proven=1", node.output)
        self.assertNotIn("Traceback", node.output + node.errors)

    async def test_help(self) -> None:
        """
        Help is printed, and that is no error.
        """
        node = twistd(self, "--help")
        self.assertEqual(await node.ended, 0)
        self.assertIn("--stun-alternate-address=", node.output)
        self.assertIn("[default: 20000]", " ".join(node.output.split()))

    async def test_wrongOption(self) -> None:
        """
        A wrong option is one line on standard error, and status 1.
        """
        for option in ("--bogus", "--max-links=none", "--listen=bogus:1"):
            node = twistd(self, option)
            self.assertEqual(await node.ended, 1)
            self.assertEqual(node.output, "")
            self.assertEqual(len(node.errors.splitlines()), 1)
            self.assertIn(option.split("=")[0], node.errors)

    async def test_portInUse(self) -> None:
        """
        A port in use is one line, and status 1.
        """
        busy = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(busy.close)
        taken = socket.socket(type=socket.SOCK_DGRAM)
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        for options, named in (
            (
                [f"--listen=tcp:{busy.getsockname()[1]}:interface=127.0.0.1"],
                "cannot listen on tcp:",
            ),
            (
                [
                    "--listen=tcp:0:interface=127.0.0.1",
                    f"--stun=127.0.0.1:{taken.getsockname()[1]}",
                ],
                "cannot be opened for STUN",
            ),
        ):
            node = twistd(self, *options)
            self.assertEqual(await node.ended, 1)
            said = [line for line in (node.output + node.errors).splitlines() if named in line]
            self.assertEqual(len(said), 1, node.output + node.errors)
            self.assertIn("ddress already in use", said[0])
            self.assertNotIn("Traceback", node.output + node.errors)

    async def test_malformed(self) -> None:
        """
        Thousands of connections that send nonsense change nothing: honest peers are served, memory
        stays flat, and nothing is logged.
        """
        rates = ("accept-rate", "address-accept-rate", "network-accept-rate")
        node = self.start(*(f"--{rate}=none" for rate in rates))
        endpoint = await node.printed(r"p2ptwist: links on (\S+)\n")
        port = int(endpoint.rpartition(":")[2])
        await self.exchange(endpoint)
        # The first thousand fill the allocator; what matters is that it does not go on.
        await deferToThreadPool(reactor, reactor.getThreadPool(), abuse, port, 1000)
        before = residentKiB(node.processID)
        attack = deferToThreadPool(reactor, reactor.getThreadPool(), abuse, port, 3000)
        for _ in range(3):
            await self.exchange(endpoint)
        await attack
        await self.exchange(endpoint)
        self.assertLess(residentKiB(node.processID) - before, 5 * 1024)
        node.terminate()
        await node.ended
        self.assertIn("malformed=4000", node.output)
        self.assertLess(len(node.output.splitlines()), 20)
        self.assertNotIn("Traceback", node.output)


def abuse(port: int, connections: int) -> None:
    """
    Connect, send one of several kinds of nonsense, and read until the node closes.
    """
    nonsense = (
        b"\x00\x00",
        b"\xff\xff" + bytes(2000),
        encodeFrame(FrameType.SEND, bytes(500)),
        encodeFrame(FrameType.PROVE, bytes(64)),
        b"GET / HTTP/1.1\r\n\r\n",
    )
    for number in range(connections):
        with socket.create_connection(("127.0.0.1", port), timeout=LOCK_UP) as connection:
            connection.sendall(nonsense[number % len(nonsense)])
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass  # it closed before it had read everything


class ExampleTests(Case):
    """
    C{examples/link_chat.py} does what it says.
    """

    async def test_chat(self) -> None:
        """
        The first program starts a node and prints a command; who runs that is heard.
        """
        first = Program(self, [sys.executable, CHAT])
        command = await first.printed(r"python \S+ (--rendezvous \S+ \S+)\n")
        second = Program(self, [sys.executable, CHAT, *command.split()])
        second.say("hello")
        self.assertEqual(await second.ended, 0)
        self.assertEqual(await first.printed(r": (\w+)\n"), "hello")

    async def test_noNode(self) -> None:
        """
        Without a node there is one line, and status 1.
        """
        chat = Program(self, [sys.executable, CHAT, "--rendezvous=tcp:127.0.0.1:1"])
        self.assertEqual(await chat.ended, 1)
        self.assertEqual(len(chat.errors.splitlines()), 1)
        self.assertIn("check the address", chat.errors)


class TransportTests(Case):
    """
    Links over everything that Twisted listens on.
    """

    async def test_tcp(self) -> None:
        """
        By address and by name, IPv4 and, where there is one, IPv6.
        """
        node = self.serve("tcp:0:interface=127.0.0.1")
        port = node.addresses[0].port  # type: ignore[attr-defined]
        for host in ("127.0.0.1", "localhost"):
            welcome = await self.exchange(f"tcp:{host}:{port}")
            self.assertEqual(welcome.observedAddress[0], "127.0.0.1")
            # By its name where it has one, so that both of its addresses can be found.
            self.assertEqual(welcome.stunServers, ((host, 3478),))
        if socket.has_dualstack_ipv6():
            node = self.serve("tcp6:0:interface=\\:\\:1")
            port = node.addresses[0].port  # type: ignore[attr-defined]
            for host in ("[::1]", "\\:\\:1"):
                welcome = await self.exchange(f"tcp:{host}:{port}")
                self.assertEqual(welcome.observedAddress[0], "::1")

    async def test_unix(self) -> None:
        """
        Over a Unix socket nobody has an address.
        """
        path = f"link{os.getpid()}"  # short: a Unix socket's name has 107 bytes at most
        self.serve(f"unix:{path}")
        welcome = await self.exchange(f"unix:{path}")
        self.assertEqual(welcome.observedAddress, ("", 0))
        self.assertEqual(welcome.stunServers, ())

    async def test_tls(self) -> None:
        """
        Over TLS, also when the node has no room, and when it drains.
        """
        path, certificate = selfSigned(Path(self.mktemp()))
        node = self.serve(f"ssl:0:interface=127.0.0.1:privateKey={path}:certKey={path}")
        port = node.addresses[0].port  # type: ignore[attr-defined]
        trust = trustRootFromCertificates([certificate])

        def endpoint() -> Any:
            options = optionsForClientTLS("localhost", trustRoot=trust)
            return wrapClientTLS(options, clientFromString(reactor, f"tcp:127.0.0.1:{port}"))

        await self.exchange(endpoint())
        link = self.link(endpoint())
        await link.whenUp()
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        connection: Any = link._core.connection
        if option is not None:
            value = connection.transport.socket.getsockopt(socket.IPPROTO_TCP, option)
            self.assertEqual(value, UNSENT_LIMIT)
        await node.stopService()
        assert isinstance(link.receiver, Receiver)
        reason = await link.receiver.down
        assert isinstance(reason, RendezvousRefused)
        self.assertEqual(reason.reason, "draining")

    async def test_tlsIgnored(self) -> None:
        """
        A connection that is not taken on is closed, over TLS too, and nothing is logged.
        """
        path, _ = selfSigned(Path(self.mktemp()))
        limits = Limits(acceptRate=Rate(0.001, 1), refusalRate=Rate(0.001, 1))
        description = f"ssl:0:interface=127.0.0.1:privateKey={path}:certKey={path}"
        node = self.serve(description, limits)
        port = node.addresses[0].port  # type: ignore[attr-defined]

        def connect() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=LOCK_UP) as connection:
                    return connection.recv(1) == b""
            except ConnectionResetError:
                return True

        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", port))
            self.addCleanup(connection.close)
            await deferLater(reactor, 0.01)
        self.assertEqual(node.counters.ignored, 1)
        pool = reactor.getThreadPool()
        self.assertTrue(await deferToThreadPool(reactor, pool, connect))
        self.assertEqual(node.counters.ignored, 2)

    async def test_slowReader(self) -> None:
        """
        A peer that stops reading costs the node a bounded queue, and then its link; one that reads
        again in time has lost nothing.
        """
        limits = Limits(
            messageRate=GENEROUS,
            siteAcceptRate=GENEROUS,
            maxQueuedMessages=10**6,
            maxQueuedBytes=10**9,
        )
        for bounds, survives in ((limits, True), (Limits(messageRate=GENEROUS), False)):
            node = self.serve("tcp:0:interface=127.0.0.1", bounds)
            endpoint = f"tcp:127.0.0.1:{node.addresses[0].port}"  # type: ignore[attr-defined]
            fast, slow = self.link(endpoint), self.link(endpoint)
            await fast.whenUp()
            await slow.whenUp()
            await self.flood(node, fast, slow)
            assert slow._core.connection is not None
            slow._core.connection.transport.resumeProducing()
            if survives:
                assert isinstance(slow.receiver, Receiver)
                self.assertEqual(await slow.receiver.message, bytes(16_000))
                self.assertEqual(node.counters.tooSlow, 0)
            await slow.stopService()

    async def flood(self, node: NodeService, fast: RendezvousLink, slow: RendezvousLink) -> None:
        """
        Send until the node has lost patience, or 32 MB.
        """
        assert slow._core.connection is not None
        slow._core.connection.transport.pauseProducing()
        for _ in range(2000):
            fast.send(slow._identity.publicKey, bytes(16_000))
            await deferLater(reactor, 0)
            assert fast._core.connection is not None
            while fast._core.connection.full:
                await deferLater(reactor, 0.001)
            if node.counters.tooSlow:
                return
        while node.counters.forwarded < 2000:
            await deferLater(reactor, 0.001)

    async def test_portInUse(self) -> None:
        """
        When one endpoint cannot be opened, none is.
        """
        busy = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(busy.close)
        texts = ["tcp:0:interface=127.0.0.1", f"tcp:{busy.getsockname()[1]}:interface=127.0.0.1"]
        endpoints = [(text, serverFromString(reactor, text)) for text in texts]
        node = NodeService(reactor, "node", endpoints)
        error = self.assertRaises(PortUnusable, node.startService)
        self.assertIn(texts[1], str(error))
        self.assertEqual(node.addresses, [])
        self.assertFalse(node.running)
        await node.stopService()

    async def test_application(self) -> None:
        """
        What twistd runs, run here: links and STUN on ports that the system chose.
        """
        options = Options()
        options.parseOptions(["--listen=tcp:0:interface=127.0.0.1", "--stun=127.0.0.1:0"])
        application = makeService(options)
        assert isinstance(application, NodeApplication)
        application.privilegedStartService()
        application.startService()
        self.addCleanup(application.stopService)
        port = application.node.addresses[0].port  # type: ignore[attr-defined]
        welcome = await self.exchange(f"tcp:127.0.0.1:{port}")
        self.assertEqual(welcome.stunServers, application.stun[0].addresses)

    async def test_applicationPortInUse(self) -> None:
        """
        It ends the program with one line when it cannot listen.
        """
        busy = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(busy.close)
        options = Options()
        listen = f"--listen=tcp:{busy.getsockname()[1]}:interface=127.0.0.1"
        options.parseOptions([listen, "--no-stun"])
        application = makeService(options)
        with self.assertRaises(SystemExit) as caught:
            application.privilegedStartService()
        self.assertIn("twistd natrendezvous: cannot listen on tcp:", str(caught.exception))

    def test_wrongEndpoint(self) -> None:
        """
        What is not an endpoint is refused with what to write.
        """
        for text in ("", "tcp", "tcp:host", "tcp:host:0", "tcp:host:70000", "bogus:1", "tcp:h:x"):
            error = self.assertRaises(LocalUsageError, rendezvousEndpoint, reactor, text)
            self.assertIn("write tcp:HOST:PORT", str(error))


def selfSigned(path: Path) -> tuple[str, Certificate]:
    """
    @return: the name of a new file with a key and a certificate for localhost; the certificate.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + text
    )
    return str(path), Certificate.loadPEM(text)
