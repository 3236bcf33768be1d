"""
L{p2ptwist.net.offload} on real sockets of the loopback interface.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any, cast
from unittest import skipUnless

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.net.offload import (
    SegmentReader,
    SegmentSender,
    _runs,
    offloadSupported,
)

_LONGEST_CALL = 65_000  # bytes
_NO_CHECK = 11  # SO_NO_CHECK of Linux: without checksums there is no segmentation offload either


def bound(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    """
    @return: a UDP socket on loopback with room for much.
    """
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    sock.setblocking(False)
    return sock


class FullSocket:
    """
    A socket whose buffer is full, which loopback's never is.
    """

    def sendmsg(self, *arguments: object) -> int:
        """
        There is no room.
        """
        raise BlockingIOError(11, "full")

    sendto = sendmsg


class RunTests(SynchronousTestCase):
    """
    What goes into one call.
    """

    @given(st.lists(st.binary(max_size=3) | st.integers(1100, 1200).map(bytes), max_size=300))
    def test_runs(self, datagrams: list[bytes]) -> None:
        """
        Nothing is lost or reordered; of each run all are as long as the first but the last, which
        may be shorter; and no run is more than the kernel takes.
        """
        runs = [list(run) for run in _runs(datagrams)]
        self.assertEqual([data for run in runs for data in run], datagrams)
        for run in runs:
            self.assertTrue(all(len(data) == len(run[0]) for data in run[:-1]))
            self.assertLessEqual(len(run[-1]), len(run[0]))
            self.assertLessEqual(len(run), 64)
            self.assertLessEqual(sum(map(len, run)), _LONGEST_CALL)

    def test_longest(self) -> None:
        """
        Datagrams too long to be joined go by themselves.
        """
        self.assertEqual(len(list(_runs([bytes(40_000)] * 3))), 3)


@skipUnless(sys.platform == "linux", "segmentation offload is Linux's")
class SenderTests(SynchronousTestCase):
    """
    Many datagrams in few calls.
    """

    def setUp(self) -> None:
        """
        Make two sockets.
        """
        self.pair(socket.AF_INET)

    def pair(self, family: socket.AddressFamily) -> None:
        """
        Make two sockets of one family.
        """
        self.sending, self.receiving = bound(family), bound(family)
        for sock in (self.sending, self.receiving):
            self.addCleanup(sock.close)
        self.sender = SegmentSender(self.sending)
        self.there = self.receiving.getsockname()[:2]

    def received(self) -> list[bytes]:
        """
        @return: what has come.
        """
        datagrams = []
        while True:
            try:
                datagrams.append(self.receiving.recv(65_535))
            except BlockingIOError:
                return datagrams

    def test_inOrder(self) -> None:
        """
        Datagrams of any lengths arrive whole, each by itself, in their order; IPv4 and IPv6.
        """
        sizes = [1200] * 70 + [33] + [1200, 1199, 1200] + [0, 5, 5, 0, 4]
        datagrams = [bytes([number]) * size for number, size in enumerate(sizes)]
        for family in (socket.AF_INET, socket.AF_INET6):
            self.pair(family)
            self.assertEqual(self.sender.send(datagrams, self.there), len(datagrams))
            self.assertEqual(self.received(), datagrams)
            self.assertTrue(self.sender.offloading)

    def test_refused(self) -> None:
        """
        Where the kernel does not cut, each goes by itself, from then on at once.
        """
        self.sending.setsockopt(socket.SOL_SOCKET, _NO_CHECK, 1)
        datagrams = [bytes([number]) * 100 for number in range(10)]
        twice = [*datagrams, *(data + b"!" for data in datagrams)]
        self.assertEqual(self.sender.send(twice, self.there), 20)
        self.assertFalse(self.sender.offloading)
        self.assertEqual(self.sender.send(datagrams, self.there), 10)
        self.assertEqual(self.received(), [*twice, *datagrams])

    def test_wrongAddress(self) -> None:
        """
        An address that nothing can be sent to says nothing of the offload.
        """
        self.assertEqual(self.sender.send([b"1", b"2"], ("127.0.0.1", 0)), 0)
        self.assertTrue(self.sender.offloading)

    def test_full(self) -> None:
        """
        What finds no room is lost, and not tried again one by one.
        """
        sender = SegmentSender(cast(socket.socket, FullSocket()))
        self.assertEqual(sender.send([b"1", b"2"], self.there), 0)
        self.assertEqual(sender.send([b"1"], self.there), 0)
        self.assertTrue(sender.offloading)


class SupportTests(SynchronousTestCase):
    """
    Whether there is such an offload.
    """

    def test_otherSystems(self) -> None:
        """
        Other systems are not asked.
        """
        sock = bound()
        self.addCleanup(sock.close)
        self.patch(sys, "platform", "darwin")
        self.assertFalse(offloadSupported(sock))

    @skipUnless(sys.platform == "linux", "segmentation offload is Linux's")
    def test_asked(self) -> None:
        """
        Linux can for UDP, and refuses for other sockets.
        """
        able, stream = bound(), socket.socket()
        for sock in (able, stream):
            self.addCleanup(sock.close)
        self.assertTrue(offloadSupported(able))
        self.assertFalse(offloadSupported(stream))


class Port:
    """
    As much of a port of Twisted's as a reader needs.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.reading = True
        self.lost: Any = None

    def stopReading(self) -> None:
        """
        The reader takes over.
        """
        self.reading = False

    def logPrefix(self) -> str:
        """
        @return: a name.
        """
        return "Port"

    def connectionLost(self, reason: object) -> None:
        """
        The end.
        """
        self.lost = reason


class Readers:
    """
    As much of a reactor as a reader needs.
    """

    def __init__(self) -> None:
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        """
        Watch it.
        """
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """
        Watch it no more.
        """
        self.readers.remove(reader)


@skipUnless(sys.platform == "linux", "segmentation offload is Linux's")
class ReaderTests(SynchronousTestCase):
    """
    Many datagrams read at a time.
    """

    def setUp(self) -> None:
        """
        Make a reader and two senders.
        """
        self.socket, *others = (bound() for _ in range(3))
        for sock in (self.socket, *others):
            self.addCleanup(sock.close)
        self.assertTrue(offloadSupported(self.socket))
        self.port, self.reactor = Port(self.socket), Readers()
        self.batches: list[tuple[list[bytes], tuple[Any, ...]]] = []
        self.answer: Callable[[], object] = lambda: None
        self.reader = SegmentReader(cast(Any, self.reactor), self.port, 10_000, self.deliver)
        self.senders = [SegmentSender(sock) for sock in others]
        self.sources = [sock.getsockname() for sock in others]
        self.there = self.socket.getsockname()

    def deliver(self, datagrams: list[bytes], address: tuple[Any, ...]) -> None:
        """
        Keep them, and answer; the letter S stops the reader.
        """
        self.batches.append((datagrams, address))
        self.answer()
        if datagrams[0] == b"S":
            self.reader.stop()

    def test_place(self) -> None:
        """
        The reader reads in the port's place, under its name, and tells it of the end.
        """
        self.assertFalse(self.port.reading)
        self.assertEqual(self.reactor.readers, [self.reader])
        self.assertEqual(self.reader.fileno(), self.socket.fileno())
        self.assertEqual(self.reader.logPrefix(), "Port")
        self.reader.connectionLost(cast(Any, "gone"))
        self.assertEqual(self.port.lost, "gone")

    def test_batches(self) -> None:
        """
        What came in a row from one source is delivered together, in its order, up to a datagram
        that does not fill its path.
        """
        first, second = self.senders
        a, b, c, d = (bytes([letter]) * 1200 for letter in b"abcd")
        first.send([a, b], self.there)
        first.send([c], self.there)
        second.send([d, b"end"], self.there)
        second.send([b"more"], self.there)
        first.send([a], self.there)
        self.reader.doRead()
        one, two = self.sources
        self.assertEqual(
            self.batches,
            [([a, b, c], one), ([d, b"end"], two), ([b"more"], two), ([a], one)],
        )
        self.reader.doRead()
        self.assertEqual(len(self.batches), 4)

    def test_answered(self) -> None:
        """
        What comes because a short datagram was delivered is read before the reactor has its turn,
        but not for ever.
        """
        self.answer = lambda: self.senders[0].send([b"again"], self.there)
        self.answer()
        self.reader.doRead()
        self.assertEqual([batch for batch, _ in self.batches], [[b"again"]] * 10)

    def test_turns(self) -> None:
        """
        One turn of the reactor reads no more than was said, and a call's worth.
        """
        for number in range(30):
            self.senders[0].send([bytes([number]) * 1000], self.there)
        self.reader.doRead()
        self.assertEqual([len(batch) for batch, _ in self.batches], [5])
        while len(self.batches) < 6:
            self.reader.doRead()
        numbers = [data[0] for batch, _ in self.batches for data in batch]
        self.assertEqual(numbers, list(range(30)))

    def test_stopped(self) -> None:
        """
        After the reader was stopped nothing is delivered, though it was read already.
        """
        self.senders[0].send([b"S"], self.there)
        self.senders[1].send([b"late"], self.there)
        self.reader.doRead()
        self.assertEqual(self.batches, [([b"S"], self.sources[0])])
        self.assertEqual(self.reactor.readers, [])
