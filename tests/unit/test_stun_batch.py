"""
Tests for L{p2ptwist.net.batch} and L{p2ptwist.net.stunbatch}: the corners that no well-meaning peer
reaches.  Real sockets on loopback, read by hand.
"""

from __future__ import annotations

import ctypes
import importlib
import socket
from errno import EAGAIN
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, IWriteDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from p2ptwist.core.address import HostPort
from p2ptwist.core.stun.binding import reflexiveAddress
from p2ptwist.core.stun.limits import UNLIMITED, SourceLimits
from p2ptwist.core.stun.message import MessageClass, decode, encode
from p2ptwist.core.stun.server import PLAIN_REQUEST, Reply, Responder, ServerAddresses
from p2ptwist.net.batch import BATCH, DatagramBatch, batchSupported
from p2ptwist.net.stunbatch import BatchPort

batchModule: Any = importlib.import_module("p2ptwist.net.batch")

HOST = "127.0.0.1"
ID = bytes(range(12))
PLAIN = PLAIN_REQUEST + ID
FINGERPRINTED = encode(MessageClass.REQUEST, 1, ID, fingerprint=True)


@implementer(IReactorFDSet)
class HandReactor(Clock):
    """
    A clock that remembers whom it should read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[IReadDescriptor] = []

    def addReader(self, reader: IReadDescriptor) -> None:
        """
        Remember C{reader}.
        """
        self.readers.append(reader)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """
        Forget C{reader}.
        """
        self.readers.remove(reader)

    def addWriter(self, writer: object) -> None:
        """
        Nobody writes later.
        """

    def removeWriter(self, writer: object) -> None:
        """
        Nobody writes later.
        """

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        """
        Nothing to do.
        """
        return []

    def getReaders(self) -> list[IReadDescriptor]:
        """
        @return: whom it should read.
        """
        return self.readers

    def getWriters(self) -> list[IWriteDescriptor]:
        """
        @return: nobody.
        """
        return []


def anyReactor() -> Any:
    """
    @return: a L{HandReactor}, which is as much of a reactor as is needed here.
    """
    return HandReactor()


class SocketTestCase(SynchronousTestCase):
    """
    Sockets that are closed at the end.
    """

    if not batchSupported():
        skip = "this system has no recvmmsg"

    def socket(self, host: str = HOST) -> socket.socket:
        """
        @return: a bound one.
        """
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind((host, 0))
        sock.settimeout(10)
        return sock


class DatagramBatchTests(SocketTestCase):
    """
    L{DatagramBatch}.
    """

    def setUp(self) -> None:
        """
        Make a batch and somebody who sends to it.
        """
        self.server = self.socket()
        self.client = self.socket()
        self.batch: Any = DatagramBatch(self.server, 64, 4)

    def receive(self, count: int) -> list[int]:
        """
        Send C{count} datagrams of one byte more each.

        @return: the lengths that were received.
        """
        for length in range(count):
            self.client.sendto(bytes([length]) * length, self.server.getsockname())
        lengths: list[int] = self.batch.receive()
        return lengths

    def test_nothing(self) -> None:
        """
        When nothing waits, nothing is received, and nothing sent.
        """
        self.assertEqual(self.batch.receive(), [])
        self.assertEqual(self.batch.send([]), 0)

    def test_receive(self) -> None:
        """
        Lengths, contents and sources are those that were sent; what is too long is cut.
        """
        self.assertEqual(self.receive(5), [0, 1, 2, 3, 4])
        self.assertEqual(self.batch.datagram(3, 3), b"\3\3\3")
        self.assertEqual(self.batch.source(4), self.client.getsockname())
        self.assertEqual(self.batch.local(4), self.server.getsockname())
        self.client.sendto(bytes(100), self.server.getsockname())
        self.assertEqual(self.batch.receive(), [64])

    def test_bound(self) -> None:
        """
        No more than a batch is received at once.
        """
        for _ in range(BATCH + 3):
            self.client.sendto(b"x", self.server.getsockname())
        self.assertEqual(len(self.batch.receive()), BATCH)
        self.assertEqual(len(self.batch.receive()), 3)

    def test_sendAfterGaps(self) -> None:
        """
        Answers find their way when some requests were not answered, and after that as well.
        """
        clients = [self.socket() for _ in range(3)]
        for requests in ([0, 2], [0, 1, 2], [1], [0]):
            for client in clients:
                client.sendto(b"x", self.server.getsockname())
            self.batch.receive()
            for answer, request in enumerate(requests):
                self.batch.outgoing[answer * 4 : answer * 4 + 4] = b"%4d" % request
            self.assertEqual(self.batch.send(requests), len(requests))
            for request in requests:
                self.assertEqual(clients[request].recv(10), b"%4d" % request)

    def test_refusedOne(self) -> None:
        """
        An answer that the system refuses is left out; the others are sent.
        """
        self.receive(3)
        self.batch.names[16 + 2 : 16 + 4] = b"\0\0"
        self.batch.outgoing[:12] = b"one two four"[:12]
        self.assertEqual(self.batch.send([0, 1, 2]), 2)
        self.assertEqual(self.client.recv(10), b"one ")
        self.assertEqual(self.client.recv(10), b"four")

    def test_bufferFull(self) -> None:
        """
        With a full buffer the rest is left out, without another try.
        """
        calls = []

        def send(*arguments: object) -> int:
            calls.append(arguments)
            ctypes.set_errno(EAGAIN)
            return -1

        self.receive(3)
        self.patch(self.batch, "_send", send)
        self.assertEqual(self.batch.send([0, 1, 2]), 0)
        self.assertEqual(len(calls), 1)

    def test_unsupported(self) -> None:
        """
        Other systems, other layouts and other C libraries do without.
        """
        self.patch(batchModule.sys, "platform", "darwin")
        self.assertFalse(batchSupported())
        self.patch(batchModule.sys, "platform", "linux")
        self.patch(batchModule.ctypes, "CDLL", lambda name: object())
        self.assertFalse(batchSupported())


class BatchPortTests(SocketTestCase):
    """
    L{BatchPort}.
    """

    def setUp(self) -> None:
        """
        Make a port that serves.
        """
        self.reactor = anyReactor()
        self.port = BatchPort(self.reactor, (HOST, 0), SourceLimits(UNLIMITED, 1))
        self.responder = Responder(ServerAddresses(self.port.address))
        self.forwarded: list[tuple[Reply, HostPort]] = []
        self.port.start(self.responder, lambda reply, to: self.forwarded.append((reply, to)))
        self.client = self.socket()

    def tearDown(self) -> None:
        """
        Stop it.
        """
        if self.reactor.readers:
            self.port.stop()

    def test_interface(self) -> None:
        """
        It is what a reactor reads.
        """
        verifyObject(IReadDescriptor, self.port)
        self.assertEqual(self.reactor.readers, [self.port])
        self.assertEqual(self.port.logPrefix(), f"STUN {HOST}:{self.port.address[1]}")
        self.assertGreater(self.port.fileno(), 0)

    def test_wokenForNothing(self) -> None:
        """
        A reactor that reads it without need does no harm.
        """
        self.port.doRead()
        self.assertEqual(self.responder.counters.received, 0)

    def test_unsent(self) -> None:
        """
        Answers that the network does not take, in a batch and alone, are counted.
        """
        batch: Any = self.port._batch
        receive = batch.receive

        def receiveFromNowhere() -> list[int]:
            lengths: list[int] = receive()
            for index in range(len(lengths)):
                batch.names[16 * index + 2 : 16 * index + 4] = b"\0\0"
            return lengths

        self.patch(batch, "receive", receiveFromNowhere)
        for datagram in (PLAIN, FINGERPRINTED, PLAIN):
            self.client.sendto(datagram, self.port.address)
        self.port.doRead()
        self.assertEqual(self.responder.counters.unsent, 3)
        self.assertEqual(self.responder.counters.answered, 0)

    def test_forwarded(self) -> None:
        """
        An answer from another address is handed on.
        """
        self.responder.answer = lambda *_: Reply(b"answer", ("127.0.0.2", 1))  # type: ignore[method-assign]
        self.client.sendto(FINGERPRINTED, self.port.address)
        self.port.doRead()
        self.assertEqual(
            self.forwarded, [(Reply(b"answer", ("127.0.0.2", 1)), self.client.getsockname())]
        )

    def test_send(self) -> None:
        """
        It sends what others hand to it.
        """
        self.port.send(b"answer", self.client.getsockname())
        self.assertEqual(self.client.recvfrom(10), (b"answer", self.port.address))

    def test_mixture(self) -> None:
        """
        Plain and other requests in one batch are all answered.
        """
        for datagram in (FINGERPRINTED, PLAIN, b"", PLAIN, FINGERPRINTED):
            self.client.sendto(datagram, self.port.address)
        self.port.doRead()
        lengths = sorted(len(self.client.recv(100)) for _ in range(4))
        self.assertEqual(lengths, [32, 32, 40, 40])
        self.client.sendto(PLAIN, self.port.address)
        self.port.doRead()
        self.assertEqual(reflexiveAddress(decode(self.client.recv(100))), self.client.getsockname())

    def test_connectionLost(self) -> None:
        """
        When the reactor gives it up, its socket is closed.
        """
        self.port.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.port.fileno(), -1)
