"""
Tests for L{p2ptwist.peer.carrier} with paths that a test opens and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from types import SimpleNamespace

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.candidate import Candidate
from p2ptwist.core.ice.signal import Goodbye, Signal, decodeSignal, encodeSignal
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior
from p2ptwist.core.session.selector import PathKind
from p2ptwist.errors import PathLost, PunchFailed
from p2ptwist.interfaces import IBatchPathReceiver
from p2ptwist.net.latch import Latch
from p2ptwist.net.puncher import Puncher
from p2ptwist.peer.carrier import Carrier
from p2ptwist.peer.pathwatch import LINK_PATIENCE, LULL_PATIENCE, STALLED
from p2ptwist.peer.succession import DRAIN
from p2ptwist.peer.udpsearch import OFFER_RATE


class Path:
    """
    A punch that opens and ends when a test says so.
    """

    roundTrip = 0.1
    flowing = True
    receiver: object = None
    exhausted = False
    answered = False
    remote = ("203.0.113.2", 4000)
    survey = SimpleNamespace(
        networks=None, rung=None, remote=UNKNOWN_BEHAVIOR, fired=0, putOff=False
    )

    def __init__(self, session: bytes) -> None:
        self.session = session
        self.outlet = SimpleNamespace(fresh=False)
        self.sent: list[bytes] = []
        self.signals: list[Signal] = []
        self.added = 0
        self.checks = 0
        self.closed: str | None = None
        self.opened: Latch[Path] = Latch()
        self.ended: Latch[BaseException | None] = Latch()

    def whenOpen(self) -> Deferred[Path]:
        """
        @return: as L{p2ptwist.net.punch.Punch}.
        """
        return self.opened.when()

    def tellOver(self, callback: Callable[[object], object]) -> None:
        """
        As L{p2ptwist.net.punch.Punch}.
        """
        self.ended.tell(callback)

    def writeMany(self, datagrams: Sequence[bytes]) -> bool:
        """
        Keep them.
        """
        self.sent += datagrams
        return self.flowing

    def probe(self) -> None:
        """
        Count.
        """
        self.checks += 1

    def takeSignal(self, signal: Signal) -> None:
        """
        Keep it.
        """
        self.signals.append(signal)

    def addCandidates(
        self, candidates: Iterable[Candidate], complete: bool, behavior: NATBehavior
    ) -> None:
        """
        Count.
        """
        self.added += 1

    def close(self, reason: str) -> None:
        """
        End.
        """
        if self.closed is None:
            self.closed = reason
            error = PathLost(reason)
            self.opened.settle(Failure(error))
            self.ended.settle(error)

    def fail(self, error: Exception) -> None:
        """
        End for another reason.
        """
        self.opened.settle(Failure(error))
        self.ended.settle(error)


class Paths:
    """
    A puncher whose paths a test controls.
    """

    gear = None

    def __init__(self) -> None:
        self.made: list[Path] = []

    def call(self, signal: object, candidates: object, **options: object) -> Path:
        """
        @return: a new path.
        """
        self.made.append(Path(b"call%4d" % len(self.made)))
        return self.made[-1]

    def answer(self, offer: Signal, signal: object, candidates: object, **options: object) -> Path:
        """
        @return: a new path.
        """
        self.made.append(Path(offer.session))
        return self.made[-1]


class Addresses:
    """
    This side's addresses: none.
    """

    complete = True
    answered = False
    behavior = NATBehavior()

    def candidates(self) -> tuple[Candidate, ...]:
        """
        @return: none.
        """
        return ()


class CarrierTests(SynchronousTestCase):
    """
    L{Carrier}.
    """

    def setUp(self) -> None:
        """
        Make a carrier that remembers what it does.
        """
        self.clock = Clock()
        self.paths = Paths()
        self.relayed: list[bytes] = []
        self.delivered: list[bytes] = []
        self.probes = 0
        self.repeats = 0
        self.changes = 0
        self.unanswered: int | None = 0
        self.doubts: list[float] = []
        self.carrier = self.make()

    def make(self) -> Carrier:
        """
        @return: a carrier.
        """
        return Carrier(
            self.clock,
            self.paths,  # type: ignore[arg-type]
            Addresses(),
            Random(1),
            relay=self.relayed.extend,
            deliver=self.delivered.extend,
            deliverAll=self.delivered.extend,
            signal=lambda data: None,
            probe=self.probe,
            repeat=self.repeat,
            changed=self.change,
            doubt=self.doubts.append,
            unanswered=lambda: self.unanswered,
        )

    def probe(self) -> None:
        """
        Count.
        """
        self.probes += 1

    def repeat(self) -> None:
        """
        Count.
        """
        self.repeats += 1

    def change(self) -> None:
        """
        Count.
        """
        self.changes += 1

    def offer(self) -> bytes:
        """
        @return: an offer, as another puncher makes it.
        """
        offers: list[bytes] = []
        clock = Clock()
        puncher = Puncher(clock, lambda data, address: None)
        punch = puncher.call(offers.append, ())
        punch.close()
        return offers[0]

    def direct(self) -> Path:
        """
        @return: a direct path that carries the session.
        """
        self.carrier.call()
        path = self.paths.made[-1]
        path.opened.settle(path)
        self.carrier.datagramReceived(b"here")
        return path

    def call(self) -> None:
        """
        Look for a path.
        """
        self.carrier.call()

    def test_direct(self) -> None:
        """
        A path that opens is tried at once, used beside the relay until something comes on it,
        and then alone.
        """
        self.carrier.send([b"first"])
        self.carrier.call()
        (path,) = self.paths.made
        path.opened.settle(path)
        self.assertIs(path.receiver, self.carrier)
        self.assertEqual(self.probes, 1)
        self.carrier.send([b"both"])
        self.assertEqual((self.changes, self.carrier.kind), (0, PathKind.RELAYED))
        self.carrier.datagramReceived(b"here")
        self.carrier.send([b"direct"])
        self.assertEqual((self.changes, self.carrier.kind), (1, PathKind.DIRECT))
        self.assertEqual(self.relayed, [b"first", b"both"])
        self.assertEqual(path.sent, [b"both", b"direct"])
        self.assertEqual(self.delivered, [b"here"])
        self.carrier.datagramsReceived([b"many", b"more"])
        self.assertEqual(self.delivered, [b"here", b"many", b"more"])

    def test_consent(self) -> None:
        """
        While consent has to be renewed the relay carries as well.
        """
        path = self.direct()
        path.flowing = False
        self.carrier.send([b"both"])
        self.assertEqual((self.relayed, path.sent), ([b"both"], [b"both"]))

    def test_doubt(self) -> None:
        """
        When an answer is late the path is checked, and the link asked, once until something comes.
        """
        path = self.direct()
        self.carrier.send([b"one"])
        self.clock.advance(0.1)
        self.carrier.send([b"two"])
        self.assertEqual((path.checks, self.doubts), (0, []))
        self.clock.advance(0.06)
        self.carrier.send([b"three"])
        self.assertEqual((path.checks, self.doubts), (1, [LINK_PATIENCE]))
        self.carrier.datagramReceived(b"here")
        self.carrier.send([b"four"])
        self.clock.advance(0.16)
        self.carrier.send([b"five"])
        self.assertEqual((path.checks, len(self.doubts)), (1, 2))
        self.clock.advance(0.31)
        self.carrier.datagramReceived(b"here")
        self.carrier.send([b"six"])
        self.clock.advance(0.16)
        self.assertEqual((path.checks, len(self.doubts)), (2, 3))

    def test_confirmed(self) -> None:
        """
        A late path that proves itself has what waits sent again, and is trusted.
        """
        path = self.direct()
        self.carrier.send([b"one"])
        self.clock.advance(0.3)
        self.clock.advance(0.2)
        self.repeats = 0
        self.carrier.send([b"both"])
        self.assertEqual(self.relayed, [b"both"])
        self.carrier.pathConfirmed(True)
        self.carrier.send([b"direct"])
        self.assertEqual((self.repeats, self.relayed), (1, [b"both"]))
        path.fail(PathLost("gone"))
        self.carrier.pathConfirmed(True)

    def test_lulled(self) -> None:
        """
        When the other side falls silent a direct path is checked, and something sent that has to
        be answered; without one the link is asked for a sign of life.
        """
        self.carrier.lulled(0.0)
        self.assertEqual((self.probes, self.doubts), (0, [LULL_PATIENCE]))
        path = self.direct()
        probes = self.probes
        self.carrier.lulled(0.0)
        self.assertEqual((self.probes, path.checks), (probes + 1, 1))
        self.assertEqual(self.doubts, [LULL_PATIENCE] * 2)

    def test_repeatedInVain(self) -> None:
        """
        What QUIC repeats through the relay in vain says that the link is dead, perhaps.
        """
        for count, doubts in ((None, 0), (1, 0), (STALLED, 1)):
            self.unanswered = count
            self.carrier.timedOut()
            self.assertEqual(len(self.doubts), doubts)
        self.direct()
        self.carrier.datagramReceived(b"direct")
        self.carrier.timedOut()
        self.assertEqual(len(self.doubts), 1)

    def test_lost(self) -> None:
        """
        A path that is lost is replaced by the relay at once and looked for again after a while, and
        after a longer one when that fails.
        """
        path = self.direct()
        path.fail(PathLost("gone"))
        self.assertIsNone(self.carrier.direct)
        self.assertEqual((self.changes, self.carrier.kind), (2, PathKind.RELAYED))
        self.carrier.send([b"relayed"])
        self.assertEqual(self.relayed, [b"relayed"])
        self.clock.advance(1.0)
        second = self.paths.made[1]
        failure = PunchFailed("no way", 1.0, 1)
        second.fail(failure)
        self.assertEqual(self.carrier.reason, "no way")
        self.clock.advance(0.9)
        self.assertEqual(len(self.paths.made), 2)
        self.clock.advance(1.1)
        self.assertEqual(len(self.paths.made), 3)

    def test_relay(self) -> None:
        """
        While the link is down a direct path that is silent goes alone.
        """
        path = self.direct()
        self.carrier.relayDown()
        self.carrier.send([b"one"])
        self.clock.advance(5.0)
        self.carrier.send([b"two"])
        self.assertEqual(self.relayed, [])
        self.carrier.relayUp()
        self.carrier.send([b"three"])
        self.assertEqual(self.relayed, [b"three"])
        self.assertEqual(path.sent, [b"one", b"two", b"three"])
        for _ in range(3):
            self.clock.advance(1.0)
            self.carrier.relayedReceived()
        self.assertEqual(self.carrier.kind, PathKind.RELAYED)

    def test_moved(self) -> None:
        """
        A path that moves is told, and is doubted until something comes.
        """
        path = self.direct()
        self.carrier.pathMoved()
        self.assertEqual(self.changes, 2)
        self.carrier.send([b"both"])
        self.assertEqual((self.relayed, path.sent), ([b"both"], [b"both"]))
        self.carrier.pathLost(Failure(PathLost("seen elsewhere")))
        self.carrier.close("over")
        self.carrier.pathMoved()

    def test_answer(self) -> None:
        """
        The called side answers the newest offer, and takes further signals where they belong.
        """
        self.carrier.signalReceived(b"nonsense")
        first, second = self.offer(), self.offer()
        self.carrier.signalReceived(first)
        self.carrier.signalReceived(first)
        self.carrier.signalReceived(second)
        former, path = self.paths.made
        self.assertEqual([each.session for each in former.signals], [former.session])
        self.assertEqual((former.closed, path.closed), ("a newer attempt", None))
        self.carrier.addressesChanged()
        self.assertEqual(path.added, 1)
        path.opened.settle(path)
        self.carrier.addressesChanged()
        self.assertEqual(path.added, 1)
        goodbye = encodeSignal(Goodbye(path.session, "bye"))
        self.carrier.signalReceived(goodbye)
        self.assertEqual(path.signals, [decodeSignal(goodbye)])
        self.carrier.signalReceived(self.offer())
        newest = self.paths.made[-1]
        newest.opened.settle(newest)
        self.assertIs(self.carrier.direct, newest)
        self.assertIsNone(path.closed)
        assert IBatchPathReceiver.providedBy(path.receiver)
        path.receiver.datagramReceived(b"1")
        path.receiver.datagramsReceived((b"2", b"3"))
        self.assertEqual(self.delivered[-3:], [b"1", b"2", b"3"])
        self.clock.advance(DRAIN)
        self.assertEqual(path.closed, "a newer path")
        newest.fail(PathLost("gone"))
        self.clock.advance(100.0)
        self.assertEqual(len(self.paths.made), 3, "the caller offers, not this side")

    def test_manyOffers(self) -> None:
        """
        A peer that offers all the time does not make this side check all the time.
        """
        for _ in range(100):
            self.carrier.signalReceived(self.offer())
        self.assertEqual(len(self.paths.made), OFFER_RATE.burst)
        self.clock.advance(1 / OFFER_RATE.perSecond)
        for _ in range(100):
            self.carrier.signalReceived(self.offer())
        self.assertEqual(len(self.paths.made), OFFER_RATE.burst + 1)

    def test_callerAnswersNot(self) -> None:
        """
        The caller makes the offers.
        """
        self.carrier.call()
        self.carrier.signalReceived(self.offer())
        self.assertEqual(len(self.paths.made), 1)

    def test_close(self) -> None:
        """
        In every state closing ends what there is, and nothing is left or told.
        """
        states: list[Callable[[], object]] = [
            lambda: None,
            self.call,
            self.direct,
            lambda: self.direct().fail(PathLost("gone")),
            lambda: self.carrier.signalReceived(self.offer()),
        ]
        for number in range(len(states)):
            self.setUp()
            states[number]()
            changes = self.changes
            self.carrier.close("over")
            self.assertEqual(self.clock.getDelayedCalls(), [])
            for path in self.paths.made:
                self.assertTrue(path.ended.settled)
            self.assertEqual(self.changes, changes)
            self.carrier.signalReceived(self.offer())
            self.assertEqual(len(self.paths.made), min(1, number))

    def test_openedTooLate(self) -> None:
        """
        A path that opens when it is not looked for any more is not used.
        """
        self.carrier.signalReceived(self.offer())
        (late,) = self.paths.made
        late.close = lambda reason: None  # type: ignore[method-assign]
        self.carrier.signalReceived(self.offer())
        late.opened.settle(late)
        self.assertIsNone(self.carrier.direct)
