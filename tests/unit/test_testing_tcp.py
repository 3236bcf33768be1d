"""
The parts of a simulated TCP connection, each by itself.
"""

from __future__ import annotations

import errno

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.testing.clock import Clock
from p2ptwist.testing.packet import Segment, TCPFlag
from p2ptwist.testing.receivequeue import RECEIVE_BUFFER, ReceiveQueue
from p2ptwist.testing.rto import INITIAL_RTO, MAX_RTO, MIN_RTO, RetransmissionTimer
from p2ptwist.testing.sendqueue import FAST_RETRANSMIT, MSS, SEND_BUFFER, SendQueue
from p2ptwist.testing.tcp import TCPConnection, TCPState

ACK, FIN, SYN = TCPFlag.ACK, TCPFlag.FIN, TCPFlag.SYN


def data(sequence: int, octets: bytes, flags: int = ACK) -> Segment:
    """
    @return: a segment of data.
    """
    return Segment(flags, sequence, 0, 0, octets)


class ReceiveQueueTests(SynchronousTestCase):
    """
    L{ReceiveQueue}: order out of chaos.
    """

    def setUp(self) -> None:
        """
        Make a queue that expects octet 100.
        """
        self.queue = ReceiveQueue()
        self.queue.next = 100

    def test_inOrder(self) -> None:
        """
        What comes in order is read at once, in any pieces.
        """
        self.queue.take(data(100, b"abc"))
        self.queue.take(data(103, b"def", ACK | FIN))
        self.assertEqual((self.queue.next, self.queue.finished, len(self.queue)), (107, True, 6))
        self.assertEqual((self.queue.read(4), self.queue.read(9)), (b"abcd", b"ef"))

    def test_outOfOrder(self) -> None:
        """
        What comes too early waits for what is missing, the FIN too.
        """
        self.queue.take(data(106, b"", ACK | FIN))
        self.queue.take(data(103, b"def"))
        self.assertEqual((len(self.queue), self.queue.finished), (0, False))
        self.queue.take(data(100, b"abc"))
        self.assertEqual((self.queue.read(99), self.queue.finished), (b"abcdef", True))

    def test_repeated(self) -> None:
        """
        What has come before is taken once.
        """
        for _ in range(2):
            self.queue.take(data(100, b"abc"))
        self.queue.take(data(101, b"bcd"))
        self.assertEqual(self.queue.read(99), b"abcd")

    def test_overlapping(self) -> None:
        """
        Early segments that overlap what then comes lose what is already there.
        """
        self.queue.take(data(101, b"b"))
        self.queue.take(data(102, b"cde"))
        self.queue.take(data(100, b"abcd"))
        self.assertEqual((self.queue.read(99), self.queue.next), (b"abcde", 105))

    def test_afterTheEnd(self) -> None:
        """
        Nothing follows a FIN.
        """
        self.queue.take(data(100, b"", ACK | FIN))
        self.queue.take(data(101, b"more"))
        self.assertEqual(len(self.queue), 0)

    def test_window(self) -> None:
        """
        What the window does not allow is not taken, and neither is a FIN behind it.
        """
        self.queue.take(data(100, b"x" * RECEIVE_BUFFER))
        self.assertEqual(self.queue.window, 0)
        self.queue.take(data(100 + RECEIVE_BUFFER, b"yz", ACK | FIN))
        self.queue.take(data(101 + RECEIVE_BUFFER, b"z"))
        self.assertEqual((len(self.queue), self.queue.finished), (RECEIVE_BUFFER, False))
        self.queue.read(1)
        self.queue.take(data(100 + RECEIVE_BUFFER, b"yz", ACK | FIN))
        self.assertFalse(self.queue.finished)
        self.assertEqual(self.queue.next, 101 + RECEIVE_BUFFER)


class SendQueueTests(SynchronousTestCase):
    """
    L{SendQueue}: what is sent, and what is sent again.
    """

    def setUp(self) -> None:
        """
        Make a queue whose SYN was acknowledged, with a window of ten segments.
        """
        self.sent: list[tuple[TCPFlag, int, bytes]] = []
        self.queue = SendQueue(lambda *segment: self.sent.append(segment), 99)
        self.queue.sendSYN(SYN)
        self.queue.acknowledge(100, MSS * 10, False)
        self.sent.clear()

    def sequences(self) -> list[int]:
        """
        @return: where the segments that were sent begin, and forget these.
        """
        sequences = [sequence for _, sequence, _ in self.sent]
        self.sent.clear()
        return sequences

    def test_segments(self) -> None:
        """
        Data is cut into segments, as many as the window allows.
        """
        self.assertEqual(self.queue.write(b"x" * MSS * 12), MSS * 12)
        self.queue.push()
        self.assertEqual(self.sequences(), [100 + MSS * n for n in range(10)])
        self.assertTrue(self.queue.acknowledge(100 + MSS, MSS * 10, True))
        self.queue.push()
        self.assertEqual(self.sequences(), [100 + MSS * 10])

    def test_buffer(self) -> None:
        """
        Not more is taken than there is room for, and nothing after the end.
        """
        self.assertEqual(self.queue.write(b"x" * (SEND_BUFFER + 1)), SEND_BUFFER)
        self.assertEqual(self.queue.room, 0)
        other = SendQueue(lambda *segment: None, 0)
        other.finished = True
        self.assertEqual(other.write(b"x"), 0)

    def test_finish(self) -> None:
        """
        The FIN follows the last octet, takes a sequence number, and is repeated until it is
        acknowledged.
        """
        self.queue.write(b"last")
        self.queue.finished = True
        self.queue.push()
        self.assertEqual([flags for flags, _, _ in self.sent], [ACK, ACK | FIN])
        self.assertEqual(self.sequences(), [100, 104])
        self.queue.push()
        self.assertEqual(self.sequences(), [])
        self.queue.acknowledge(104, MSS, True)
        self.queue.retransmit()
        self.assertEqual(self.sent, [(ACK | FIN, 104, b"")])
        self.assertFalse(self.queue.isEmpty)
        self.queue.acknowledge(105, MSS, True)
        self.assertTrue(self.queue.isEmpty)

    def test_fastRetransmit(self) -> None:
        """
        Three duplicate acknowledgments repeat the oldest segment once; partial ones the next hole.
        """
        self.queue.write(b"x" * MSS * 5)
        self.queue.push()
        self.sequences()
        for _ in range(FAST_RETRANSMIT + 2):
            self.assertFalse(self.queue.acknowledge(100, MSS * 10, True))
        self.assertEqual(self.sequences(), [100])
        self.queue.acknowledge(100 + MSS * 2, MSS * 10, True)
        self.assertEqual(self.sequences(), [100 + MSS * 2])
        self.queue.acknowledge(100 + MSS * 5, MSS * 10, True)
        self.assertEqual(self.sequences(), [])

    def test_windowUpdatesAreNoDuplicates(self) -> None:
        """
        An acknowledgment that changes the window, or comes with data, says nothing of a loss.
        """
        self.queue.write(b"x" * MSS * 5)
        self.queue.push()
        self.sequences()
        for window in range(5):
            self.queue.acknowledge(100, MSS * 10 + window, True)
            self.queue.acknowledge(100, MSS * 10 + window, False)
        self.assertEqual(self.sequences(), [])

    def test_neverSent(self) -> None:
        """
        An acknowledgment of what was never sent is ignored.
        """
        self.assertFalse(self.queue.acknowledge(5000, 0, True))
        self.assertEqual((self.queue.unacknowledged, self.queue.window), (100, MSS * 10))

    def test_blocked(self) -> None:
        """
        A closed window leaves a queue blocked; a probe asks with what was already taken.
        """
        self.queue.acknowledge(100, 0, True)
        self.queue.write(b"x")
        self.queue.push()
        self.assertTrue(self.queue.isBlocked)
        self.assertFalse(self.queue.isUnderWay)
        self.queue.probe()
        self.assertEqual(self.sent, [(ACK, 99, b"")])

    def test_synIsNotData(self) -> None:
        """
        While the SYN is under way there is no segment to repeat.
        """
        queue = SendQueue(lambda *segment: self.sent.append(segment), 7)
        queue.sendSYN(SYN)
        queue.retransmit()
        self.assertEqual(self.sent, [(SYN, 7, b"")])


class RetransmissionTimerTests(SynchronousTestCase):
    """
    L{RetransmissionTimer} (RFC 6298).
    """

    def setUp(self) -> None:
        """
        Make a timer that notes when it fires.
        """
        self.clock = Clock(self.fail)
        self.fired: list[float] = []
        self.timer = RetransmissionTimer(
            self.clock, lambda: self.fired.append(self.clock.seconds())
        )

    def measure(self, end: int, roundTrip: float) -> None:
        """
        Send a segment that is acknowledged one round trip later.
        """
        self.timer.sent(end, False)
        self.clock.runUntil(self.clock.seconds() + roundTrip)
        self.timer.acknowledged(end)

    def delay(self) -> float:
        """
        @return: how long the timer runs now.
        """
        self.timer.start()
        start = self.clock.seconds()
        self.clock.runUntil(start + 2 * MAX_RTO)
        return self.fired[-1] - start

    def test_initial(self) -> None:
        """
        Before anything is measured, the timer runs for a second.
        """
        self.assertAlmostEqual(self.delay(), INITIAL_RTO)

    def test_measured(self) -> None:
        """
        It follows the round trip, and never gets shorter than the least.
        """
        self.measure(1, 0.5)
        self.assertAlmostEqual(self.delay(), 0.5 + 4 * 0.25)
        for end in range(2, 60):
            self.measure(end, 0.001)
        self.assertAlmostEqual(self.delay(), MIN_RTO)

    def test_backOff(self) -> None:
        """
        It doubles each time, up to the most, and starts afresh with an acknowledgment.
        """
        times = [self.delay()]
        for _ in range(8):
            start = self.clock.seconds()
            self.timer.backOff()
            self.clock.runUntil(start + 2 * MAX_RTO)
            times.append(self.fired[-1] - start)
        expected = [min(MAX_RTO, 2.0**n) for n in range(9)]
        for time, wanted in zip(times, expected, strict=True):
            self.assertAlmostEqual(time, wanted)
        self.timer.acknowledged(5)
        self.assertAlmostEqual(self.delay(), INITIAL_RTO)

    def test_karn(self) -> None:
        """
        The round trip of what was sent twice is not measured.
        """
        self.timer.sent(1, False)
        self.timer.sent(1, True)
        self.clock.runUntil(50.0)
        self.timer.acknowledged(1)
        self.assertAlmostEqual(self.delay(), INITIAL_RTO)

    def test_oneAtATime(self) -> None:
        """
        One segment is measured at a time, and an earlier acknowledgment does not end it.
        """
        self.timer.sent(10, False)
        self.clock.runUntil(0.25)
        self.timer.sent(20, False)
        self.timer.acknowledged(5)
        self.clock.runUntil(0.5)
        self.timer.acknowledged(20)
        self.assertAlmostEqual(self.delay(), 0.5 + 4 * 0.25)

    def test_stop(self) -> None:
        """
        A timer that was stopped does not fire; stopping it again does nothing.
        """
        self.timer.start()
        self.timer.start()
        self.timer.stop()
        self.timer.stop()
        self.clock.runUntil(10.0)
        self.assertEqual(self.fired, [])


class TCPConnectionTests(SynchronousTestCase):
    """
    L{TCPConnection} and segments that do not belong (RFC 9293 section 3.10.7).
    """

    def setUp(self) -> None:
        """
        Make a connection that notes what it sends.
        """
        self.clock = Clock(self.fail)
        self.sent: list[Segment] = []
        self.ended = 0
        self.connection = TCPConnection(
            self.clock, self.sent.append, lambda: None, self.connectionEnded, 1000
        )

    def connectionEnded(self) -> None:
        """
        The connection needs no more segments.
        """
        self.ended += 1

    def receive(self, flags: int, sequence: int, acknowledgment: int) -> list[Segment]:
        """
        @return: what the connection sends when it gets this segment.
        """
        self.sent.clear()
        self.connection.receive(Segment(flags, sequence, acknowledgment, 5000))
        return self.sent

    def establish(self) -> None:
        """
        Open the connection; the peer's octets begin at 501.
        """
        self.connection.open()
        self.receive(SYN | ACK, 500, 1001)
        self.assertTrue(self.connection.isOpen)

    def test_strangeAnswers(self) -> None:
        """
        Answers to a SYN that acknowledge something else, or nothing, do not open a connection.
        """
        self.connection.open()
        self.assertEqual(self.receive(SYN | ACK, 500, 77), [Segment(TCPFlag.RST, 77, 0, 0)])
        for flags, acknowledgment in (
            (TCPFlag.RST | ACK, 77),
            (TCPFlag.RST, 0),
            (ACK, 1001),
            (FIN, 0),
        ):
            self.assertEqual(self.receive(flags, 500, acknowledgment), [])
        self.assertIs(self.connection.state, TCPState.SYN_SENT)
        self.receive(TCPFlag.RST | ACK, 500, 1001)
        self.assertEqual((self.connection.error, self.ended), (errno.ECONNREFUSED, 1))

    def test_strangeResets(self) -> None:
        """
        A RST outside of the window is ignored, one inside ends the connection.
        """
        self.establish()
        self.receive(TCPFlag.RST, 400, 0)
        self.receive(TCPFlag.RST, 10_000_000, 0)
        self.assertTrue(self.connection.isOpen)
        self.receive(TCPFlag.RST, 501, 0)
        self.assertEqual((self.connection.error, self.ended), (errno.ECONNRESET, 1))

    def test_resetBeforeOpen(self) -> None:
        """
        A RST to a half-open connection refuses it.
        """
        self.connection.accept(Segment(SYN, 500, 0, 5000))
        self.receive(TCPFlag.RST, 501, 0)
        self.assertEqual(self.connection.error, errno.ECONNREFUSED)

    def test_repeatedSYN(self) -> None:
        """
        A SYN that comes again is answered as the first one was; in an open connection it is only
        acknowledged.
        """
        self.connection.accept(Segment(SYN, 500, 0, 5000))
        self.assertEqual([s.flags for s in self.receive(SYN, 500, 0)], [SYN | ACK])
        self.assertEqual(self.receive(SYN | ACK, 500, 77), [])
        self.assertEqual(self.receive(ACK, 501, 77), [])
        self.assertFalse(self.connection.isOpen)
        self.receive(ACK, 501, 1001)
        self.assertTrue(self.connection.isOpen)
        self.assertEqual([s.flags for s in self.receive(SYN, 500, 0)], [ACK])

    def test_simultaneous(self) -> None:
        """
        SYNs that cross, and then SYN+ACKs that cross, open the connection.
        """
        self.connection.open()
        self.assertEqual([s.flags for s in self.receive(SYN, 500, 0)], [SYN | ACK])
        self.assertIs(self.connection.state, TCPState.SYN_RECEIVED)
        self.receive(SYN | ACK, 500, 1001)
        self.assertTrue(self.connection.isOpen)

    def test_unreachable(self) -> None:
        """
        An ICMP error ends a connection only while it is being opened.
        """
        self.establish()
        self.connection.refuse()
        self.assertTrue(self.connection.isOpen)

    def test_endsOnce(self) -> None:
        """
        What has ended does not end again, and cannot be finished.
        """
        self.establish()
        self.connection.vanish()
        self.connection.abort()
        self.connection.shutdownWrite()
        self.connection.close()
        self.assertEqual(self.ended, 1)
        self.assertIsNone(self.clock.nextEvent())

    def test_synReceivedGivesUp(self) -> None:
        """
        A half-open connection that is never confirmed is given up after a minute.
        """
        self.connection.accept(Segment(SYN, 500, 0, 5000))
        self.clock.runUntil(120.0)
        self.assertEqual((self.ended, len(self.sent)), (1, 6))
