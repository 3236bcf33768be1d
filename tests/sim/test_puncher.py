"""
L{p2ptwist.net.puncher} on the simulated Internet: every way in which a session begins and ends.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.core.nat import NATBehavior, NATMapping
from p2ptwist.errors import PathLost, PeerUnreachable, PunchFailed
from p2ptwist.net.puncher import Punch
from p2ptwist.testing import Internet
from tests.sim.punching import LATENCY, SIGNAL_DELAY, FailingReceiver, Receiver, Side

NOWHERE: HostPort = ("198.51.100.99", 4000)


class PunchCase(SynchronousTestCase):
    """
    What these tests share: two public hosts.
    """

    def setUp(self) -> None:
        """
        Make two programs.
        """
        self.internet = Internet(seed=5)
        self.internet.showOnFailure(self)
        self.a = Side(self.internet, "a", "198.51.100.1")
        self.b = Side(self.internet, "b", "198.51.100.2")

    def connected(self) -> tuple[Punch, Punch, Receiver]:
        """
        @return: both ends of a path, and the receiver of the first.
        """
        punch = self.a.call(self.b)
        receiver = Receiver()
        punch.receiver = receiver
        self.internet.runUntil(punch.whenOpen())
        self.internet.advance(1.0)
        return punch, self.b.answered[-1], receiver

    def assertClean(self) -> None:
        """
        Nothing is left of any session.
        """
        for side in (self.a, self.b):
            self.assertEqual(len(side.puncher), 0)
            routes = side.puncher._routes
            self.assertEqual((routes.byAddress, routes._byFragment), ({}, {}))
        # Signals that are under way are this test's own.
        self.internet.advance(SIGNAL_DELAY + 0.01)
        self.assertEqual(self.internet.delayedCalls(), [])

    def sentAfter(self, moment: float) -> list[str]:
        """
        @return: what any host sent since then.
        """
        return [
            str(entry)
            for entry in self.internet.trace
            if entry.time > moment and entry.what == "sent"
        ]


class OpenTests(PunchCase):
    """
    From a call to data.
    """

    def test_unknownBefore(self) -> None:
        """
        A session knows nothing of its path before it is open, and everything after.
        """
        punch = self.a.call(self.b)
        before = (punch.remote, punch.mapped, punch.roundTrip, punch.openedAfter)
        self.assertEqual(before, (None, None, None, None))
        self.assertIsNone(punch.receiver)
        self.internet.runUntil(punch.whenOpen())
        self.internet.advance(1.0)
        self.assertEqual(punch.remote, self.b.address)
        self.assertEqual(punch.mapped, self.a.address)
        self.assertAlmostEqual(punch.roundTrip or 0.0, 4 * LATENCY, places=3)
        self.assertGreater(punch.openedAfter or 0.0, SIGNAL_DELAY)
        self.assertEqual(len(self.a.puncher), 1)

    def test_writtenEarly(self) -> None:
        """
        Datagrams that were written before the path opened are sent then: at most 64.
        """
        punch = self.a.call(self.b)
        for number in range(70):
            punch.write(b"%d" % number)
        self.internet.runUntil(punch.whenOpen())
        self.internet.advance(1.0)
        assert self.b.receiver is not None
        self.assertEqual(self.b.receiver.log, [b"%d" % number for number in range(64)])
        self.assertEqual(punch.counters.overflowed, 6)

    def test_looksLikeSTUN(self) -> None:
        """
        A datagram that could not be told from STUN is refused at once.
        """
        punch, _, _ = self.connected()
        data = bytes.fromhex("000100002112a442") + bytes(12)
        self.assertRaises(LocalUsageError, punch.write, data)

    def test_impossibleCandidate(self) -> None:
        """
        An address that no signal can carry is refused when it is made, not lost on the way.
        """
        for address in (("198.51.100.1", 0), ("198.51.100.1", 65536), ("a.example", 4000)):
            self.assertRaises(LocalUsageError, makeCandidate, CandidateType.HOST, address)

    def test_candidateThatComesLater(self) -> None:
        """
        An address that is found after the call is trickled, and a NAT's behaviour with it.
        """
        punch = self.a.puncher.call(
            self.a.channelTo(self.b), [makeCandidate(CandidateType.HOST, NOWHERE)], complete=False
        )
        self.a._sessions[punch.session] = punch
        # Only checks from b can open this path: the address that a names first is nobody's.
        self.b.port.write(b"", self.a.address)
        self.internet.advance(SIGNAL_DELAY * 1.5)
        behavior = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT)
        punch.addCandidates(self.a.candidates(), True, behavior)
        self.internet.runUntil(punch.whenOpen())

    def test_restart(self) -> None:
        """
        Both sides may look for a path anew; data flows on, and checks of both generations find
        their session.
        """
        punch, other, _ = self.connected()
        for restarting in (punch, other, punch):
            restarting.restart()
            self.internet.advance(1.0)
            punch.write(b"again")
            self.internet.advance(1.0)
        assert self.b.receiver is not None
        self.assertEqual(self.b.receiver.log, [b"again"] * 3)
        for side in (self.a, self.b):
            self.assertLessEqual(len(side.puncher._routes._byFragment), 2)
        self.a.stop()
        self.b.stop()
        self.assertClean()

    def test_manySessions(self) -> None:
        """
        Hundreds of sessions between two ports open, and leave nothing.
        """
        punches = [self.a.call(self.b) for _ in range(300)]
        for punch in punches:
            self.internet.runUntil(punch.whenOpen())
        self.assertEqual(len(self.b.puncher), 300)
        self.a.puncher.close("enough")
        self.internet.advance(1.0)
        self.assertClean()


class OfferTests(PunchCase):
    """
    What is no offer is not answered.
    """

    def refusals(self, offer: bytes) -> None:
        """
        Neither answering nor refusing it is possible, and nothing is left of the attempt.
        """
        puncher = self.b.puncher
        self.assertRaises(MalformedDatagram, puncher.answer, offer, self.fail, [])
        self.assertRaises(MalformedDatagram, puncher.refuse, offer, self.fail, "no")
        self.assertClean()

    def test_malformed(self) -> None:
        """
        Bytes that are no signal.
        """
        self.refusals(b"hello")

    def test_otherSignal(self) -> None:
        """
        A signal of another kind, and an offer of a later generation.
        """
        signals: list[bytes] = []
        punch = self.a.puncher.call(signals.append, self.a.candidates())
        punch.restart()
        punch.close()
        self.assertEqual(len(signals), 3)
        for signal in signals[1:]:
            self.refusals(signal)

    def test_malformedLater(self) -> None:
        """
        A malformed signal to a session is counted, and changes nothing.
        """
        punch, _, receiver = self.connected()
        for data in (b"", b"hello", bytes(2000)):
            punch.signalReceived(data)
        self.assertEqual(punch.counters.malformed, 3)
        self.internet.advance(1.0)
        self.assertEqual(receiver.log, [])


class EndTests(PunchCase):
    """
    Every end frees everything at once, on both sides.
    """

    def test_nobodyAnswers(self) -> None:
        """
        A call that nobody answers fails in time and says so.
        """
        self.b.deaf = True
        punch = self.a.call(self.b)
        error = self.assertRaises(PunchFailed, self.internet.runUntil, punch.whenOpen())
        self.assertIn("did not answer the call", str(error))
        self.assertLessEqual(error.elapsed, 20.1)
        self.assertClean()

    def test_noPath(self) -> None:
        """
        When no check is answered, both sides are told, and how much was tried.
        """
        for side in (self.a, self.b):
            side.candidates = lambda: [  # type: ignore[method-assign]
                makeCandidate(CandidateType.HOST, NOWHERE)
            ]
        punch = self.a.call(self.b)
        error = self.assertRaises(PunchFailed, self.internet.runUntil, punch.whenOpen())
        self.assertGreater(error.checks, 0)
        self.assertIn("1 addresses were not answered", str(error))
        self.internet.advance(1.0)
        self.failureResultOf(self.b.answered[0].whenOpen(), PunchFailed, PeerUnreachable)
        self.assertClean()

    def test_cancel(self) -> None:
        """
        A call that is given up, at whatever moment, ends at once on both sides, and nothing more
        is sent.
        """
        for moment in (0.0, 0.03, 0.055, 0.07, 0.085, 0.1):
            punch = self.a.call(self.b)
            opening = punch.whenOpen()
            over = punch.whenOver()
            self.internet.advance(moment)
            if opening.called:
                punch.close()
                continue
            opening.cancel()
            self.failureResultOf(opening, CancelledError)
            self.assertIsInstance(self.successResultOf(over), CancelledError)
            self.assertEqual(len(self.a.puncher), 0)
            self.internet.advance(SIGNAL_DELAY + 2 * LATENCY + 0.01)
            quiet = self.internet.seconds()
            self.internet.advance(5.0)
            self.assertEqual(self.sentAfter(quiet), [], f"cancelled after {moment} s")
            self.assertClean()

    def test_cancelOneOfTwo(self) -> None:
        """
        While somebody else waits for the path, a call goes on.
        """
        punch = self.a.call(self.b)
        first, second = punch.whenOpen(), punch.whenOpen()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertIs(self.internet.runUntil(second), punch)

    def test_closeEarly(self) -> None:
        """
        A session may be closed before it opened, and again after that.
        """
        punch = self.a.call(self.b)
        opening = punch.whenOpen()
        punch.close()
        self.failureResultOf(opening, PathLost)
        punch.close()
        self.failureResultOf(punch.whenOpen(), PathLost)
        self.internet.advance(1.0)
        self.assertClean()

    def test_afterTheEnd(self) -> None:
        """
        What is done with a session that is over has no effect.
        """
        punch, other, receiver = self.connected()
        punch.close("enough")
        self.assertIn("enough", str(self.successResultOf(punch.whenOver())))
        punch.write(b"late")
        punch.restart()
        punch.addCandidates(self.a.candidates(), True)
        punch.signalReceived(b"")
        self.assertEqual(punch.counters.late, 1)
        self.internet.advance(1.0)
        self.assertEqual(receiver.log, ["lost: this side ended it: enough"])
        self.assertIsInstance(self.successResultOf(other.whenOver()), PathLost)
        self.assertClean()

    def test_closeFromInside(self) -> None:
        """
        A path that is closed when a datagram comes says goodbye: the other side is told at once.
        """
        punch, other, receiver = self.connected()
        receiver.onData = lambda data: punch.close("heard enough")
        other.write(b"1")
        other.write(b"2")
        self.internet.advance(2 * LATENCY + SIGNAL_DELAY + 0.02)
        self.assertEqual(receiver.log, [b"1", "lost: this side ended it: heard enough"])
        assert self.b.receiver is not None
        ending = "lost: the other side ended it: heard enough"
        self.assertEqual(self.b.receiver.log, [ending])
        self.assertClean()

    def test_refusedByChannel(self) -> None:
        """
        A channel that knows that the other side is not there ends the call with its own reason.
        """
        punch = self.a.call(self.b)
        opening = punch.whenOpen()
        punch.fail(Failure(PeerUnreachable("nobody there")), "unreachable")
        self.failureResultOf(opening, PeerUnreachable)
        punch.fail(Failure(PeerUnreachable("still nobody")), "unreachable")
        self.internet.advance(1.0)
        self.assertClean()

    def test_channelThatEnds(self) -> None:
        """
        A channel that finds, while it carries the goodbye, that nobody is there may say so.
        """

        def failing(signal: bytes) -> None:
            if punch is not None:
                punch.fail(Failure(PeerUnreachable("nobody there")), "unreachable")

        punch: Punch | None = None
        punch = self.a.puncher.call(failing, self.a.candidates())
        over = punch.whenOver()
        punch.close()
        self.assertIsInstance(self.successResultOf(over), PeerUnreachable)
        self.assertClean()

    def test_callAgainWhenLost(self) -> None:
        """
        A program may call again as soon as it is told that its path is lost.
        """
        punch, _, receiver = self.connected()
        again: list[Punch] = []
        punch.whenOver().addCallback(lambda _: again.append(self.a.call(self.b)))
        self.b.answered[0].close()
        self.internet.advance(1.0)
        self.internet.runUntil(again[0].whenOpen())
        self.assertEqual(len(receiver.log), 1)


class ReceiverTests(PunchCase):
    """
    Who is told of datagrams, and when.
    """

    def setUp(self) -> None:
        """
        The called side sets no receiver by itself.
        """
        super().setUp()
        self.b.receiver = None

    def sendTo(self, other: Punch, punch: Punch, count: int) -> None:
        """
        Let C{count} datagrams arrive at C{other}.
        """
        for number in range(count):
            punch.write(b"%d" % number)
        self.internet.advance(1.0)

    def test_late(self) -> None:
        """
        Datagrams wait until there is a receiver, the latest 64.
        """
        punch, other, _ = self.connected()
        self.sendTo(other, punch, 70)
        receiver = Receiver()
        other.receiver = receiver
        self.assertIs(other.receiver, receiver)
        self.assertEqual(receiver.log, [b"%d" % number for number in range(6, 70)])

    def test_afterTheEnd(self) -> None:
        """
        A receiver that is set when the path is lost already gets what came, and then the reason.
        """
        punch, other, _ = self.connected()
        self.sendTo(other, punch, 2)
        punch.close("bye")
        self.internet.advance(1.0)
        receiver = Receiver()
        other.receiver = receiver
        self.assertEqual(receiver.log, [b"0", b"1", "lost: the other side ended it: bye"])

    def test_neverOpened(self) -> None:
        """
        A session that never had a path cannot lose it.
        """
        punch = self.a.call(self.b)
        receiver = Receiver()
        punch.receiver = receiver
        punch.close()
        punch.receiver = receiver
        self.assertEqual(receiver.log, [])

    def test_closesAtTheFirst(self) -> None:
        """
        Nothing comes after the end, not even what had waited, and the end is told once.
        """
        punch, other, _ = self.connected()
        self.sendTo(other, punch, 3)
        receiver = Receiver()
        receiver.onData = lambda data: other.close("no")
        other.receiver = receiver
        self.assertEqual(receiver.log, [b"0", "lost: this side ended it: no"])

    def test_handsOver(self) -> None:
        """
        A receiver that puts another one in its place gets nothing more.
        """
        punch, other, _ = self.connected()
        self.sendTo(other, punch, 3)
        punch.close("bye")
        self.internet.advance(1.0)
        first, second = Receiver(), Receiver()

        def handOver(data: bytes) -> None:
            other.receiver = second

        first.onData = handOver
        other.receiver = first
        self.assertEqual(first.log, [b"0"])
        self.assertEqual(second.log, [b"1", b"2", "lost: the other side ended it: bye"])

    def test_bugs(self) -> None:
        """
        What a receiver raises is logged, and neither ends the path nor keeps it from ending.
        """
        punch, other, _ = self.connected()
        receiver = FailingReceiver()
        other.receiver = receiver
        self.sendTo(other, punch, 2)
        self.assertIsNotNone(other.remote)
        punch.close("bye")
        self.internet.advance(1.0)
        self.assertEqual(receiver.log, [b"0", b"1", "lost: the other side ended it: bye"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.assertClean()

    def test_bugWhenMoved(self) -> None:
        """
        Neither does what it raises when it is told that the path moved.
        """
        punch, other, _ = self.connected()
        receiver = FailingReceiver()
        other.receiver = receiver
        self.a.host.addAddress("198.51.100.11")
        self.a.host.removeAddress("198.51.100.1")
        punch.restart([makeCandidate(CandidateType.HOST, ("198.51.100.11", self.a.address[1]))])
        self.internet.advance(3.0)
        self.assertEqual(receiver.log, ["moved"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        punch.write(b"x")
        self.internet.advance(1.0)
        self.assertEqual(receiver.log[1:], [b"x"])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_movesUnseen(self) -> None:
        """
        A path may move while nobody is told of it.
        """
        punch, other, _ = self.connected()
        self.a.host.addAddress("198.51.100.11")
        self.a.host.removeAddress("198.51.100.1")
        moved = ("198.51.100.11", self.a.address[1])
        punch.restart([makeCandidate(CandidateType.HOST, moved)])
        self.internet.advance(3.0)
        self.assertEqual(other.remote, moved)

    def test_bugInChannel(self) -> None:
        """
        A channel that raises loses its signal; the call fails in time.
        """

        def failing(signal: bytes) -> None:
            raise ZeroDivisionError

        punch = self.a.puncher.call(failing, self.a.candidates())
        self.assertRaises(PunchFailed, self.internet.runUntil, punch.whenOpen())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertClean()


class SocketTests(PunchCase):
    """
    Sockets that refuse to send.
    """

    def refusing(self, side: Side, refused: Callable[[HostPort], bool]) -> None:
        """
        Let the socket of C{side} refuse some destinations, as a host without a route does.
        """
        write = side.port.write

        def writing(data: bytes, address: HostPort) -> bool:
            if refused(address):
                raise OSError(101, "Network is unreachable")
            return write(data, address)

        side.puncher._write = writing

    def test_oneAddress(self) -> None:
        """
        A destination that the socket refuses costs that candidate, and no other.
        """
        self.refusing(self.a, lambda address: address == NOWHERE)
        self.b.candidates = lambda: [  # type: ignore[method-assign]
            makeCandidate(CandidateType.HOST, NOWHERE),
            makeCandidate(CandidateType.HOST, self.b.address),
        ]
        punch = self.a.call(self.b)
        self.internet.runUntil(punch.whenOpen())
        self.internet.advance(1.0)
        self.assertGreater(punch.unsent, 0)
        punch.write(b"x")
        self.internet.advance(1.0)
        assert self.b.receiver is not None
        self.assertEqual(self.b.receiver.log, [b"x"])

    def test_every(self) -> None:
        """
        Sockets that refuse everything are a path that is not found.
        """
        for side in (self.a, self.b):
            self.refusing(side, lambda address: True)
        punch = self.a.call(self.b)
        self.assertRaises(PunchFailed, self.internet.runUntil, punch.whenOpen())
        self.assertGreater(punch.unsent, 0)
        self.internet.advance(1.0)
        self.assertClean()
