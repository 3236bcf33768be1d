"""
Tests for L{p2ptwist.peer.chronicle}, L{p2ptwist.net.attempts} and L{p2ptwist.cli.story}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.cli.story import storyAsJSON, storyInWords, verdict
from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.ladder.message import Busy, Stand
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.tcppath.signal import Goodbye, Start, TCPCandidate
from p2ptwist.errors import PathLost, PunchFailed
from p2ptwist.net.attempts import (
    AttemptBegun,
    AttemptEvent,
    AttemptOpened,
    CheckAnswered,
    CheckSent,
    Connected,
    Dialed,
    DialFailed,
    SignalSent,
    SignalTaken,
    noteSent,
    tell,
    tellOver,
)
from p2ptwist.peer.chronicle import ATTEMPT_LIMIT, RECORD_LIMIT, Chronicle
from p2ptwist.peer.service import PathEvent

UDP, TCP = b"udp.udp.", b"tcp.tcp."
THERE = ("203.0.113.9", 5000)
TRANSACTION = bytes(12)


class ChronicleTests(SynchronousTestCase):
    """
    What is kept of what was told.
    """

    def setUp(self) -> None:
        """
        Begin one.
        """
        self.clock = Clock()
        self.said: list[str] = []
        self.chronicle = Chronicle(self.clock, self.said.append)
        self.clock.advance(7.0)
        self.chronicle.begin()

    def tell(self, *events: AttemptEvent) -> None:
        """
        Tell of something, a tenth of a second later each.
        """
        for event in events:
            self.clock.advance(0.1)
            self.chronicle.observe(event)

    def fail_(self, session: bytes = UDP, error: Exception | None = None) -> None:
        """
        End an attempt.
        """
        tellOver(self.chronicle.observe, session, error or PunchFailed("nobody is there", 1.0, 1))

    def lines(self) -> str:
        """
        @return: the words.
        """
        return "\n".join(storyInWords(self.chronicle))

    def test_checks(self) -> None:
        """
        A check that is answered has its time; who answers twice, or something else, changes
        nothing.
        """
        other = bytes(11) + b"1"
        self.tell(
            AttemptBegun(UDP, "udp", True),
            CheckSent(UDP, THERE, TRANSACTION),
            CheckSent(UDP, THERE, other),
            CheckAnswered(UDP, THERE, TRANSACTION),
            CheckAnswered(UDP, THERE, TRANSACTION),
            CheckAnswered(UDP, THERE, bytes(11) + b"2"),
        )
        first, second = self.chronicle.attempts[0].tries
        self.assertAlmostEqual(first.at, 0.2)
        self.assertAlmostEqual((first.ended or 0.0) - first.at, 0.2)
        self.assertTrue(first.succeeded)
        self.assertEqual((second.ended, second.succeeded), (None, False))
        self.assertIn("check of 203.0.113.9:5000: answered after 200 ms", self.lines())
        self.assertIn("check of 203.0.113.9:5000: no answer", self.lines())

    def test_dials(self) -> None:
        """
        A dial is refused, not answered, or a connection; those of the other side are heard.
        """
        fourth = ("203.0.113.9", 5003)
        self.tell(AttemptBegun(TCP, "tcp", False), Dialed(TCP, THERE), DialFailed(TCP, THERE, True))
        self.tell(Dialed(TCP, ("203.0.113.9", 5001)), Dialed(TCP, ("203.0.113.9", 5002)))
        self.tell(DialFailed(TCP, ("203.0.113.9", 5001), False))
        self.tell(Connected(TCP, ("203.0.113.9", 5002), True), Connected(TCP, fourth, False))
        candidate = TCPCandidate(CandidateType.HOST, fourth)
        self.tell(SignalTaken(TCP, Start(TCP, (candidate,))), SignalSent(TCP, Goodbye(TCP, "bye")))
        for words in (
            "offered by the other side",
            "this side: no address",
            "the other: host 203.0.113.9:5003",
            "dialed 203.0.113.9:5000: refused after 100 ms",
            "dialed 203.0.113.9:5001: no answer",
            "dialed 203.0.113.9:5002: answered after 200 ms",
            "heard 203.0.113.9:5003",
        ):
            self.assertIn(words, self.lines())

    def test_rounds(self) -> None:
        """
        Each side's stand is told, with its address where it has one.
        """
        self.tell(
            AttemptBegun(UDP, "udp", True),
            SignalSent(UDP, Stand(UDP, 0, False, Posture.STEADY, THERE)),
            SignalTaken(UDP, Stand(UDP, 0, True, Posture.SCATTERED, ("203.0.113.8", 0))),
            SignalTaken(UDP, Busy(UDP, 1, 20)),
        )
        self.assertIn("ladder, round 0: this side is steady at 203.0.113.9:5000", self.lines())
        self.assertIn("ladder, round 0: the other side is scattered\n", self.lines() + "\n")
        report: Any = storyAsJSON(self.chronicle, "b")
        addresses = [each["address"] for each in report["attempts"][0]["rounds"]]
        self.assertEqual(addresses, ["203.0.113.9:5000", None])

    def test_complete(self) -> None:
        """
        A direct path over UDP, or the end of the first attempt and of TCP's, is the end.
        """
        chronicle = self.chronicle
        self.assertFalse(chronicle.complete)
        self.tell(AttemptBegun(UDP, "udp", True), AttemptBegun(TCP, "tcp", True))
        self.fail_()
        self.clock.advance(1.0)
        self.assertFalse(chronicle.complete)
        self.tell(AttemptOpened(TCP, THERE))
        self.assertTrue(chronicle.complete)
        chronicle.pathChanged(PathEvent("b", "direct", "tcp", THERE, 0.05))
        self.assertIn("Direct over TCP", verdict(chronicle))
        self.assertIn("Over UDP: nobody is there.", verdict(chronicle))
        self.assertIn("direct over TCP to 203.0.113.9:5000, 50 ms", self.lines())

    def test_replaced(self) -> None:
        """
        An attempt that gave way to another one has not failed.
        """
        self.tell(AttemptBegun(UDP, "udp", True))
        self.fail_(error=PathLost("this side ended it: a newer attempt"))
        self.clock.advance(1.0)
        self.assertFalse(self.chronicle.complete)
        self.assertEqual(verdict(self.chronicle), "Relayed.")

    def test_relayedAgain(self) -> None:
        """
        Who lost the direct path is relayed.
        """
        self.chronicle.welcomed()
        self.chronicle.pathChanged(PathEvent("b", "direct", "udp", THERE, None))
        self.chronicle.pathChanged(PathEvent("b", "relayed", "tcp", None, None))
        self.assertEqual(storyAsJSON(self.chronicle, "b")["kind"], "relayed")
        self.assertIn("relayed over TCP", self.lines())
        self.assertEqual(len(self.said), 3)
        self.assertIn("no attempt", verdict(self.chronicle))

    def test_bounds(self) -> None:
        """
        Nobody fills the memory; what belongs to nothing, or comes after the end, is left out.
        """
        self.chronicle.observe(CheckSent(UDP, THERE, TRANSACTION))
        for number in range(ATTEMPT_LIMIT + 1):
            self.tell(AttemptBegun(number.to_bytes(8, "big"), "udp", True))
        self.assertEqual(len(self.chronicle.attempts), ATTEMPT_LIMIT)
        session = bytes(8)
        stand = SignalTaken(session, Stand(session, 0, False, Posture.STEADY, THERE))
        for number in range(RECORD_LIMIT + 1):
            self.chronicle.observe(CheckSent(session, THERE, number.to_bytes(12, "big")))
            self.chronicle.observe(Connected(session, THERE, False))
            self.chronicle.observe(stand)
        attempt = self.chronicle.attempts[0]
        kept = len(attempt.tries), len(attempt.heard), len(attempt.rounds), len(attempt.waiting)
        self.assertEqual(kept, (RECORD_LIMIT,) * 4)
        self.chronicle.close()
        self.fail_(session)
        self.assertIsNone(attempt.over)


class TellTests(SynchronousTestCase):
    """
    Observers.
    """

    def test_nobody(self) -> None:
        """
        Nobody needs to be there.
        """
        tell(None, AttemptBegun(UDP, "udp", True))
        tellOver(None, UDP, None)

    def test_broken(self) -> None:
        """
        What an observer raises ends nothing.
        """

        def broken(event: AttemptEvent) -> None:
            raise RuntimeError("oh")

        tell(broken, AttemptBegun(UDP, "udp", True))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_onlyChecks(self) -> None:
        """
        Answers and data are no checks.
        """
        told: list[AttemptEvent] = []
        cookie = bytes.fromhex("2112a442") + bytes(12)
        for data in (b"data", b"\x01\x01\x00\x00" + cookie, b"\x00\x01\x00\x00" + cookie):
            noteSent(told.append, UDP, data, THERE)
        self.assertEqual(told, [CheckSent(UDP, THERE, bytes(12))])
