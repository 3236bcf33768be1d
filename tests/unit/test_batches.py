"""
Datagrams that are sent and taken many at a time: L{p2ptwist.net.punch}, L{p2ptwist.net.puncher} and
what they ask of the core; and the same of L{p2ptwist.net.quic}.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from random import Random

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.core.stun.message import MessageClass, Method, encode
from p2ptwist.interfaces import IBatchPathReceiver, IPathReceiver
from p2ptwist.net import quic
from p2ptwist.net.puncher import Punch, Puncher
from p2ptwist.net.quic import QUIC, StreamReceived, calledQUIC, callingQUIC, destinationOf
from p2ptwist.peer.identity import generateIdentity

_ONE_WAY = 0.01  # seconds
_STUN = encode(MessageClass.INDICATION, Method.BINDING, bytes(12), fingerprint=True)


@implementer(IPathReceiver)
class Single:
    """
    Takes datagrams one at a time.
    """

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []

    def datagramReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.calls.append([data])

    def pathMoved(self) -> None:
        """
        It does not here.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        At the end of every test.
        """


@implementer(IBatchPathReceiver)
class Batch(Single):
    """
    Takes many at a time.
    """

    def datagramsReceived(self, datagrams: Sequence[bytes]) -> None:
        """
        Keep them.
        """
        self.calls.append(list(datagrams))

    def pathConfirmed(self, answered: bool) -> None:
        """
        As it should be.
        """


class End:
    """
    One puncher on a network that delivers what was sent together together.

    @ivar many: how many datagrams were in each call that sent many.
    """

    def __init__(self, clock: Clock, address: HostPort, *, batches: bool) -> None:
        self.address = address
        self.other: End
        self.many: list[int] = []
        self.broken = False
        self._clock = clock
        writeMany = self.writeMany if batches else None
        self.puncher = Puncher(clock, self.write, Random(address[1]).randbytes, writeMany)

    def write(self, data: bytes, address: HostPort) -> None:
        """
        Send one.
        """
        self._clock.callLater(_ONE_WAY, self.other.receive, (data,))

    def writeMany(self, datagrams: Sequence[bytes], address: HostPort) -> None:
        """
        Send many.
        """
        if self.broken:
            raise OSError("no route")
        self.many.append(len(datagrams))
        self._clock.callLater(_ONE_WAY, self.other.receive, tuple(datagrams))

    def receive(self, datagrams: Sequence[bytes]) -> None:
        """
        They come.
        """
        self.puncher.datagramsReceived(datagrams, self.other.address)


class PathTests(SynchronousTestCase):
    """
    Many datagrams on a path.
    """

    def setUp(self) -> None:
        """
        Make two ends that know each other.
        """
        self.clock = Clock()
        self.a = End(self.clock, ("127.0.0.1", 4001), batches=True)
        self.b = End(self.clock, ("127.0.0.1", 4002), batches=False)
        self.a.other, self.b.other = self.b, self.a

    def call(self) -> tuple[Punch, Punch]:
        """
        @return: both ends of a session that has just begun.
        """
        toB: list[bytes] = []
        toA: list[bytes] = []
        host = CandidateType.HOST
        calling = self.a.puncher.call(toB.append, [makeCandidate(host, self.a.address)])
        called = self.b.puncher.answer(toB[0], toA.append, [makeCandidate(host, self.b.address)])
        calling.signalReceived(toA[0])
        return calling, called

    def opened(self, receiver: Single) -> tuple[Punch, Punch]:
        """
        @return: both ends of a path; C{receiver} takes what comes to the called side.
        """
        calling, called = self.call()
        called.receiver = receiver
        self.clock.pump([_ONE_WAY] * 50)
        return calling, called

    def test_together(self) -> None:
        """
        Datagrams leave in one call, and come in one to a receiver that takes many.
        """
        receiver = Batch()
        calling, _ = self.opened(receiver)
        datagrams = [b"%d" % number for number in range(100)]
        self.assertTrue(calling.writeMany(datagrams))
        self.clock.advance(_ONE_WAY)
        self.assertEqual(self.a.many, [100])
        self.assertEqual(receiver.calls, [datagrams])

    def test_oneByOne(self) -> None:
        """
        A receiver of single datagrams gets them singly, from a port that sends them singly.
        """
        receiver = Single()
        calling, called = self.opened(receiver)
        calling.writeMany([b"1", b"2"])
        self.clock.advance(_ONE_WAY)
        self.assertEqual(receiver.calls, [[b"1"], [b"2"]])
        answers = Batch()
        calling.receiver = answers
        called.writeMany([b"3", b"4"])
        self.clock.advance(_ONE_WAY)
        self.assertEqual(answers.calls, [[b"3"], [b"4"]])

    def test_beforeThePath(self) -> None:
        """
        Without a path, and after a long pause, datagrams wait as single ones do.
        """
        calling, called = self.call()
        receiver = Batch()
        called.receiver = receiver
        calling.writeMany([b"1", b"2"])
        self.clock.pump([_ONE_WAY] * 50)
        self.assertEqual(sorted(chain(*receiver.calls)), [b"1", b"2"])
        self.clock.pump([0.1] * 120)
        self.assertFalse(calling.writeMany([b"3", b"4"]))
        self.assertFalse(calling.writeMany([b"5"]))
        self.clock.pump([_ONE_WAY] * 10)
        self.assertEqual(list(chain(*receiver.calls))[2:], [b"3", b"4", b"5"])
        self.assertEqual(self.a.many, [])

    def test_stun(self) -> None:
        """
        What looks like STUN is refused, and nothing of it leaves; beside data it is told apart.
        """
        receiver = Batch()
        calling, called = self.opened(receiver)
        self.assertRaises(LocalUsageError, calling.writeMany, [b"1", _STUN])
        self.assertEqual(self.a.many, [])
        left = self.b.puncher.datagramsReceived([b"1", _STUN, b"2"], self.a.address)
        self.assertEqual(left, [_STUN])
        self.assertEqual(receiver.calls, [[b"1"], [b"2"]])
        self.assertIsNotNone(called.remote)

    def test_strangers(self) -> None:
        """
        Datagrams of nobody's are given back.
        """
        self.opened(Batch())
        left = self.b.puncher.datagramsReceived([b"1", b"2"], ("127.0.0.1", 9))
        self.assertEqual(left, [b"1", b"2"])

    def test_nobodyReads(self) -> None:
        """
        Without a receiver they wait for one.
        """
        calling, called = self.call()
        self.clock.pump([_ONE_WAY] * 50)
        calling.writeMany([b"1", b"2"])
        self.clock.advance(_ONE_WAY)
        receiver = Batch()
        called.receiver = receiver
        self.assertEqual(receiver.calls, [[b"1"], [b"2"]])

    def test_noRoute(self) -> None:
        """
        What the port raises is counted: they are lost.
        """
        calling, _ = self.opened(Batch())
        self.a.broken = True
        calling.writeMany([b"1", b"2"])
        self.assertEqual(calling.unsent, 2)

    def test_afterTheEnd(self) -> None:
        """
        After the end datagrams are neither sent nor taken.
        """
        receiver = Batch()
        calling, called = self.opened(receiver)
        calling.close()
        called.close()
        calling.writeMany([b"1"])
        self.assertEqual(calling.counters.late, 1)
        self.assertEqual(self.a.many, [])
        self.assertFalse(called.receiveMany([b"2"], self.a.address))
        self.assertEqual(receiver.calls, [])


class QUICTests(SynchronousTestCase):
    """
    Many datagrams for QUIC.
    """

    def setUp(self) -> None:
        """
        Connect the two sides.
        """
        self.now = 0.0
        self.calling = callingQUIC(self.now)
        flight = self.calling.takeDatagrams(self.now)
        destination = destinationOf(flight[0])
        assert destination is not None
        self.called = calledQUIC(generateIdentity().credentials(), destination)
        self.called.receive(flight, self.now)
        for _ in range(10):
            self.now += 0.01
            self.calling.receive(self.called.takeDatagrams(self.now), self.now)
            self.called.receive(self.calling.takeDatagrams(self.now), self.now)

    def datagrams(self, data: bytes) -> list[bytes]:
        """
        @return: what the caller sends to send C{data} on its first stream.
        """
        self.calling.send(0, data)
        return self.calling.takeDatagrams(self.now)

    def data(self, side: QUIC) -> bytes:
        """
        @return: what came on streams.
        """
        pieces = []
        while (event := side.pollEvent()) is not None:
            if isinstance(event, StreamReceived):
                pieces.append(event.data)
        return b"".join(pieces)

    def test_forgeries(self) -> None:
        """
        Rubbish and forgeries between datagrams cost those beside them nothing.
        """
        data = bytes(range(256)) * 32
        datagrams = self.datagrams(data)
        self.assertGreater(len(datagrams), 5)
        forged = datagrams[0][:20] + bytes(1100)
        mixed = [b"", b"\x40", datagrams[0], forged, bytes(1200), *datagrams[1:], datagrams[2]]
        self.called.receive(mixed, self.now)
        self.assertEqual(self.data(self.called), data)

    def test_libraryFails(self) -> None:
        """
        When the library raises for one of many, the others are given to it one by one.
        """
        connection = self.called._connection

        def fail(*arguments: object) -> None:
            raise ValueError

        self.patch(connection, "receive_many_datagrams", fail)
        data = bytes(5000)
        self.called.receive(self.datagrams(data), self.now)
        self.assertEqual(self.data(self.called), data)
        self.assertEqual(self.called.faults, 1)

    def test_prepared(self) -> None:
        """
        What is slow at first is done once, however many peers a process has.
        """
        self.patch(quic, "_prepared", [])
        credentials = generateIdentity().credentials()
        made: list[float] = []

        def counted(now: float) -> QUIC:
            made.append(now)
            return callingQUIC(now)

        self.patch(quic, "callingQUIC", counted)
        for _ in range(3):
            quic.prepareQUIC(credentials)
        self.assertEqual(made, [0.0])
