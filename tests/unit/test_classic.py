"""
Tests for L{p2ptwist.net.classic} and L{p2ptwist.core.nattests.classic}.
"""

from __future__ import annotations

import socket
import sys
import threading
from itertools import product
from types import ModuleType
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping
from p2ptwist.core.nattests.classic import classicKind
from p2ptwist.net.classic import BoundedSocket, OutOfTime, classicOpinion

reactor: Any = globalReactor
HOST = "127.0.0.1"
EI, AD, APD = NATMapping
FREE, BY_HOST, BY_PORT = NATFiltering


class KindTests(SynchronousTestCase):
    """
    What RFC 3489 calls a behaviour.
    """

    def test_kinds(self) -> None:
        """
        Each kind.
        """
        for translated, mapping, filtering, kind in (
            (False, EI, FREE, "Open Internet"),
            (False, EI, BY_HOST, "Symmetric UDP Firewall"),
            (False, EI, BY_PORT, "Symmetric UDP Firewall"),
            (True, EI, FREE, "Full Cone"),
            (True, APD, FREE, "Full Cone"),
            (True, None, FREE, "Full Cone"),
            (True, EI, BY_HOST, "Restric NAT"),
            (True, EI, BY_PORT, "Restric Port NAT"),
            (True, AD, BY_HOST, "Symmetric NAT"),
            (True, APD, BY_PORT, "Symmetric NAT"),
        ):
            self.assertEqual(classicKind(NATBehavior(mapping, filtering), translated), kind)

    def test_unknown(self) -> None:
        """
        Too little is nothing.
        """
        for mapping, filtering in product((None, *NATMapping), (None, *NATFiltering)):
            behavior = NATBehavior(mapping, filtering)
            self.assertIsNone(classicKind(behavior, None))
            if filtering is None:
                self.assertIsNone(classicKind(behavior, True))
                self.assertIsNone(classicKind(behavior, False))
            elif mapping is None and filtering is not FREE:
                self.assertIsNone(classicKind(behavior, True))


class BoundedSocketTests(SynchronousTestCase):
    """
    L{BoundedSocket}.
    """

    def open(self, timeLimit: float) -> tuple[BoundedSocket, Clock]:
        """
        @return: one whose server is on loopback, and its clock.
        """
        clock = Clock()
        bounded = BoundedSocket((HOST, 9), timeLimit, clock.seconds)
        self.addCleanup(bounded.close)
        return bounded, clock

    def test_exchange(self) -> None:
        """
        It is a socket: bound to the address that leads to the server.
        """
        bounded, _ = self.open(1.0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((HOST, 0))
            bounded.sendto(b"question", other.getsockname())
            data, source = other.recvfrom(100)
            self.assertEqual((data, source), (b"question", (bounded.source, bounded.port)))
            other.sendto(b"answer", source)
            self.assertEqual(bounded.recvfrom(100), (b"answer", other.getsockname()))

    def test_patience(self) -> None:
        """
        It waits for a while that ends.
        """
        bounded, clock = self.open(10.0)
        seconds = iter([0.0, 0.1, 0.1, 0.5, 0.5])
        clock.seconds = lambda: next(seconds)  # type: ignore[method-assign]
        bounded._clock = clock.seconds
        self.assertRaises(TimeoutError, bounded.recvfrom, 100)

    def test_ended(self) -> None:
        """
        After its time nothing is waited for, and sending ends whatever loop there is.
        """
        bounded, clock = self.open(1.0)
        clock.advance(1.0)
        self.assertRaises(TimeoutError, bounded.recvfrom, 100)
        self.assertRaises(OutOfTime, bounded.sendto, b"", (HOST, 9))

    def test_stopped(self) -> None:
        """
        So it is when somebody gives it up.
        """
        bounded, _ = self.open(1.0)
        bounded.stopped = True
        self.assertRaises(TimeoutError, bounded.recvfrom, 100)
        self.assertRaises(OutOfTime, bounded.sendto, b"", (HOST, 9))

    def test_noWay(self) -> None:
        """
        A server that there is no way to is an error at once, and leaves no socket.
        """
        self.assertRaises(OSError, BoundedSocket, ("255.255.255.255", 9), 1.0)


class OpinionTests(TestCase):
    """
    L{classicOpinion}, with what is called C{stun} replaced where that is needed.
    """

    timeout = 30

    def replace(self, module: ModuleType | None) -> None:
        """
        Let C{import stun} give something else.
        """
        self.patch(sys, "modules", {**sys.modules, "stun": module})

    def pretend(self, ask: Any) -> None:
        """
        @param ask: what C{get_nat_type} does.
        """
        module: Any = ModuleType("stun")
        module.get_nat_type = ask
        self.replace(module)

    async def test_missing(self) -> None:
        """
        Where pystun3 is not installed, or something else has its name, there is no opinion.
        """
        for module in (None, ModuleType("stun")):
            self.replace(module)
            self.assertIsNone(await classicOpinion(reactor, (HOST, 9)))

    async def test_ipv6(self) -> None:
        """
        It knows nothing of IPv6.
        """
        self.assertIsNone(await classicOpinion(reactor, ("::1", 3478)))

    async def test_noThreads(self) -> None:
        """
        A reactor without threads, as a simulated host is, has no opinion.
        """
        self.assertIsNone(await classicOpinion(Clock(), (HOST, 3478)))

    async def test_noWay(self) -> None:
        """
        A server that there is no way to is not asked.
        """
        self.assertIsNone(await classicOpinion(reactor, ("255.255.255.255", 3478)))

    async def test_said(self) -> None:
        """
        What it says is passed on, and it is told where it sends from.
        """
        asked: list[tuple[Any, ...]] = []

        def ask(sock: BoundedSocket, *arguments: Any) -> tuple[str, dict[str, Any]]:
            asked.append((sock.port, *arguments))
            return "Full Cone", {}

        self.pretend(ask)
        self.assertEqual(await classicOpinion(reactor, (HOST, 3478)), "Full Cone")
        ((bound, source, port, *server),) = asked
        self.assertEqual((source, port, server), (HOST, bound, [HOST, 3478]))

    async def test_failed(self) -> None:
        """
        What it stumbles over is no opinion.
        """

        def ask(*_: Any) -> None:
            raise KeyError("0111")

        self.pretend(ask)
        self.assertIsNone(await classicOpinion(reactor, (HOST, 3478)))

    async def test_blocked(self) -> None:
        """
        The real one, asked about a server that says nothing, says so within its time.
        """
        silent = reactor.listenUDP(0, DatagramProtocol(), HOST)
        self.addCleanup(silent.stopListening)
        said = await classicOpinion(reactor, (HOST, silent.getHost().port))
        self.assertEqual(said, "Blocked")

    async def test_endless(self) -> None:
        """
        A server whose answers never fit does not keep the real one for longer than its time.
        """

        class Babbling(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
                assert self.transport is not None
                self.transport.write(b"\1\1\0\0" + bytes(16), addr)

        port = reactor.listenUDP(0, Babbling(), HOST)
        self.addCleanup(port.stopListening)
        server = (HOST, port.getHost().port)
        self.assertIsNone(await classicOpinion(reactor, server, timeLimit=0.3))

    async def test_cancelled(self) -> None:
        """
        Giving it up ends the thread soon, and does no harm.
        """
        began, ended = threading.Event(), threading.Event()

        def ask(sock: BoundedSocket, *_: Any) -> tuple[str, None]:
            began.set()
            try:
                while True:
                    try:
                        sock.recvfrom(100)
                    except TimeoutError:
                        sock.sendto(b"", (HOST, 9))
            finally:
                ended.set()

        self.pretend(ask)
        opinion = classicOpinion(reactor, (HOST, 3478), timeLimit=20.0)
        while not began.is_set():
            await deferLater(reactor, 0.01)
        opinion.cancel()
        self.failureResultOf(opinion, CancelledError)
        while not ended.is_set():
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0.05)
