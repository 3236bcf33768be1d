"""
L{p2ptwist.core.tcppath.opening}, L{p2ptwist.core.tcppath.dialing} and
L{p2ptwist.core.tcppath.verification}, with literal times.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.ice.check import Check, Credentials, encodeCheck
from p2ptwist.core.stun.message import AttributeType, MessageClass, Method, decode, encode
from p2ptwist.core.tcppath.dialing import DIAL_LIMIT, RETRY_GAP, Dialing
from p2ptwist.core.tcppath.opening import (
    BUDGET,
    UNPROVED_LIMIT,
    VERIFICATION_LIMIT,
    Dial,
    Drop,
    Event,
    Failed,
    Opened,
    Opening,
    Say,
    Send,
)
from p2ptwist.core.tcppath.signal import (
    CANDIDATE_LIMIT,
    Answer,
    Goodbye,
    Offer,
    Start,
    TCPCandidate,
)
from p2ptwist.core.tcppath.verification import OUTSTANDING_LIMIT, Keys, Verification

CALLER, ANSWERER = ("203.0.113.1", 40001), ("203.0.113.2", 40002)
LOCAL, REMOTE = Credentials(b"aaaa", b"a" * 22), Credentials(b"bbbb", b"b" * 22)


def candidates(*addresses: HostPort) -> tuple[TCPCandidate, ...]:
    """
    @return: a candidate of each.
    """
    return tuple(TCPCandidate(CandidateType.SERVER_REFLEXIVE, each) for each in addresses)


def events(opening: Opening) -> list[Event]:
    """
    @return: all that is queued.
    """
    found = []
    while (event := opening.pollEvent()) is not None:
        found.append(event)
    return found


class DialingTests(SynchronousTestCase):
    """
    Which addresses are dialed, and when.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.dialing = Dialing(Random(1))

    def test_atOnce(self) -> None:
        """
        Every address is dialed at the agreed time, and not again while that dial is under way.
        """
        self.dialing.add(candidates(CALLER, ANSWERER), 5.0)
        self.assertEqual(self.dialing.take(4.9), [])
        self.assertEqual(self.dialing.deadline(), 5.0)
        self.assertEqual(self.dialing.take(5.0), [CALLER, ANSWERER])
        self.assertEqual(self.dialing.take(9.0), [])
        self.assertIsNone(self.dialing.deadline())

    def test_again(self) -> None:
        """
        An address whose dial failed is dialed again 10 to 100 ms later, at random.
        """
        self.dialing.add(candidates(CALLER), 0.0)
        gaps = set()
        for _ in range(50):
            self.dialing.take(100.0)
            self.dialing.failed(CALLER, 1.0)
            deadline = self.dialing.deadline()
            assert deadline is not None
            gaps.add(deadline - 1.0)
        self.assertGreaterEqual(min(gaps), RETRY_GAP[0])
        self.assertLessEqual(max(gaps), RETRY_GAP[1])
        self.assertGreater(len(gaps), 40)
        self.assertEqual((self.dialing.dials, self.dialing.refused), (50, 50))

    def test_hosts(self) -> None:
        """
        An address of the other host itself that refuses is dialed less and less often: who refuses
        is another host of this network.  One of IPv6 is not: that is a firewall's answer.
        """
        for host, dials in (("192.168.1.2", 8), ("2001:db8::1", 100)):
            dialing = Dialing(Random(1))
            dialing.add([TCPCandidate(CandidateType.HOST, (host, 4000))], 0.0)
            now = 0.0
            while now < BUDGET:
                dialing.take(now)
                dialing.failed((host, 4000), now)
                now = dialing.deadline() or BUDGET
            self.assertLess(abs(dialing.dials - dials), dials)
            self.assertEqual(dialing.dials <= 9, dials == 8)

    def test_silent(self) -> None:
        """
        A dial without an answer does not count as refused.
        """
        self.dialing.add(candidates(CALLER), 0.0)
        self.dialing.take(0.0)
        self.dialing.failed(CALLER, 3.0, early=False)
        self.assertEqual(self.dialing.refused, 0)
        self.assertIsNotNone(self.dialing.deadline())

    def test_stands(self) -> None:
        """
        An address with a connection is not dialed before that is lost; others do not matter.
        """
        self.dialing.add(candidates(CALLER), 0.0)
        self.dialing.stands(CALLER)
        self.dialing.stands(ANSWERER)
        self.assertEqual(self.dialing.take(1.0), [])
        self.dialing.failed(ANSWERER, 1.0)
        self.dialing.failed(CALLER, 1.0)
        self.dialing.failed(CALLER, 1.5)
        self.assertEqual(self.dialing.take(1.2), [CALLER])

    def test_bounds(self) -> None:
        """
        There are eight addresses and 200 dials at most.
        """
        many = candidates(*(("192.0.2.1", 2000 + each) for each in range(20)))
        self.dialing.add(many + many, 0.0)
        self.assertEqual(len(self.dialing), CANDIDATE_LIMIT)
        now = 0.0
        while (deadline := self.dialing.deadline()) is not None:
            now = deadline
            for address in self.dialing.take(now):
                self.dialing.failed(address, now)
        self.assertEqual(self.dialing.dials, DIAL_LIMIT)
        self.assertEqual(self.dialing.take(now + 9.0), [])


class VerificationTests(SynchronousTestCase):
    """
    The checks of one connection.
    """

    def setUp(self) -> None:
        """
        Make both ends.
        """
        random = Random(2).randbytes
        self.near = Verification(Keys(LOCAL, REMOTE, True), ANSWERER, random)
        self.far = Verification(Keys(REMOTE, LOCAL, False), CALLER, random)

    def pass_(self, source: Verification, target: Verification, now: float) -> None:
        """
        Carry what waits from one end to the other.
        """
        while source.transmits:
            self.assertTrue(target.receive(source.transmits.popleft(), now))

    def test_proof(self) -> None:
        """
        Who dialed begins; both have proved themselves when each has answered the other; the
        controlling side chooses, and datagrams may flow.
        """
        self.near.check(0.0)
        self.pass_(self.near, self.far, 0.1)
        self.assertEqual((self.far.heard, self.far.proved), (True, False))
        self.pass_(self.far, self.near, 0.2)
        self.assertTrue(self.near.proved)
        self.assertAlmostEqual(self.near.roundTrip or 0.0, 0.2)
        self.assertEqual(self.near.mapped, CALLER)
        self.assertFalse(self.near.nominated)
        self.near.nominate(0.2)
        self.pass_(self.near, self.far, 0.3)
        self.assertTrue(self.far.proved and self.far.nominated)
        self.assertFalse(self.far.receive(b"a datagram", 0.3))

    def test_nothingBefore(self) -> None:
        """
        A datagram before the connection was chosen ends it.
        """
        self.assertRaises(MalformedDatagram, self.far.receive, b"too early", 0.0)

    def test_nominatedEarly(self) -> None:
        """
        A connection that is not proved cannot be chosen.
        """
        self.near.nominate(0.0)
        frame = self.near.transmits.popleft()
        self.assertRaises(MalformedDatagram, self.far.receive, frame, 0.0)

    def test_strangers(self) -> None:
        """
        Checks with another name, another password or this side's own role end the connection, and
        get no answer.
        """
        wrong = Credentials(REMOTE.fragment, b"w" * 22)
        name = Credentials(b"cccc", REMOTE.password)
        asked = Check(1, True, 7)
        for check, local, remote in (
            (asked, LOCAL, wrong),
            (asked, LOCAL, name),
            (asked, name, REMOTE),
            (Check(1, False, 7), LOCAL, REMOTE),
        ):
            frame = encodeCheck(bytes(12), check, local, remote)
            self.assertRaises(MalformedDatagram, self.far.receive, frame, 0.0)
        self.assertFalse(self.far.transmits or self.far.heard)

    def test_answers(self) -> None:
        """
        Answers to nothing, of somebody else, or that refuse, end the connection.
        """
        self.far.check(0.0)
        transactionID = decode(self.far.transmits.popleft()).transactionID
        error = ((int(AttributeType.ERROR_CODE), b"\0\0\x04\x57"),)
        for identifier, key, kind in (
            (bytes(12), LOCAL.password, MessageClass.SUCCESS),
            (transactionID, REMOTE.password, MessageClass.SUCCESS),
        ):
            frame = encode(kind, Method.BINDING, identifier, (), key=key, fingerprint=True)
            self.assertRaises(MalformedDatagram, self.far.receive, frame, 0.0)
        self.far.check(0.0)
        transactionID = decode(self.far.transmits.popleft()).transactionID
        frame = encode(
            MessageClass.ERROR,
            Method.BINDING,
            transactionID,
            error,
            key=LOCAL.password,
            fingerprint=True,
        )
        self.assertRaises(MalformedDatagram, self.far.receive, frame, 0.0)
        self.assertFalse(self.far.proved)

    def test_otherMessages(self) -> None:
        """
        Another method ends the connection; an indication is ignored.
        """
        other = encode(MessageClass.REQUEST, 3, bytes(12), (), fingerprint=True)
        self.assertRaises(MalformedDatagram, self.far.receive, other, 0.0)
        indication = encode(
            MessageClass.INDICATION, Method.BINDING, bytes(12), (), fingerprint=True
        )
        self.assertTrue(self.far.receive(indication, 0.0))
        self.assertFalse(self.far.heard)

    def test_bound(self) -> None:
        """
        Only the latest checks may still be answered.
        """
        for _ in range(OUTSTANDING_LIMIT + 1):
            self.near.check(0.0)
        oldest = self.near.transmits.popleft()
        self.far.receive(oldest, 0.0)
        self.assertRaises(MalformedDatagram, self.near.receive, self.far.transmits[0], 0.0)


class OpeningTests(SynchronousTestCase):
    """
    One attempt.
    """

    def setUp(self) -> None:
        """
        Make both sides: the caller has offered, the other side has the offer.
        """
        self.caller = Opening(Random(3).randbytes, 0.0)
        (said,) = events(self.caller)
        assert isinstance(said, Say)
        assert isinstance(said.signal, Offer)
        self.offer = said.signal
        self.answerer = Opening(Random(4).randbytes, 0.1, self.offer)

    def answer(self) -> Answer:
        """
        @return: the answerer's, who was ready 0.3 s after the offer came.
        """
        self.answerer.prepared(candidates(ANSWERER), 0.4)
        (said,) = events(self.answerer)
        assert isinstance(said, Say)
        assert isinstance(said.signal, Answer)
        return said.signal

    def started(self) -> None:
        """
        Both sides dial.
        """
        self.caller.prepared(candidates(CALLER), 0.2)
        self.caller.receiveSignal(self.answer(), 0.5)
        (said,) = events(self.caller)
        assert isinstance(said, Say)
        self.answerer.receiveSignal(said.signal, 0.6)

    def timeOut(self, opening: Opening) -> list[Event]:
        """
        Let what is due next happen.
        """
        deadline = opening.deadline()
        assert deadline is not None
        opening.handleTimeout(deadline)
        return events(opening)

    def connect(self, number: int, now: float) -> None:
        """
        Give both sides a connection that both dialed.
        """
        self.caller.connected(number, ANSWERER, True, now)
        self.answerer.connected(number, CALLER, True, now)

    def carry(self, source: Opening, target: Opening, now: float) -> list[Event]:
        """
        Carry the frames that wait.

        @return: what else there was.
        """
        others: list[Event] = []
        for event in events(source):
            if isinstance(event, Send):
                target.receiveFrame(event.number, event.frame, now)
            else:
                others.append(event)
        return others

    def test_agreedStart(self) -> None:
        """
        The caller waits half the round trip of the channel, without the time that the offer was
        held; so both dial at the same moment.
        """
        self.started()
        self.caller.handleTimeout(0.55)
        self.assertEqual(events(self.caller), [])
        # 0.5 s until the answer came, of which it was held for 0.3 s.
        self.assertAlmostEqual(self.caller.deadline() or 0.0, 0.6)
        self.assertEqual(self.timeOut(self.caller), [Dial(ANSWERER)])
        self.assertAlmostEqual(self.answerer.deadline() or 0.0, 0.6)
        self.assertEqual(self.timeOut(self.answerer), [Dial(CALLER)])

    def test_readyLate(self) -> None:
        """
        A caller that is not ready when the answer comes starts when it is.
        """
        self.caller.receiveSignal(self.answer(), 0.5)
        self.assertEqual(events(self.caller), [])
        self.caller.prepared(candidates(CALLER), 0.9)
        self.assertEqual(events(self.caller), [Say(Start(self.offer.session, candidates(CALLER)))])
        self.assertAlmostEqual(self.caller.deadline() or 0.0, 1.0)

    def test_slowChannel(self) -> None:
        """
        However slow the channel is, the caller waits 1 s at most; and a lie about the time that the
        offer was held is not waited for.
        """
        self.caller.prepared(candidates(CALLER), 0.2)
        answer = self.answer()
        self.caller.receiveSignal(answer, 8.0)
        self.assertEqual(self.caller.deadline(), 9.0)
        other = Opening(Random(5).randbytes, 0.0)
        other.prepared(candidates(CALLER), 0.2)
        liar = Answer(other.session, 9.0, answer.credentials, answer.candidates)
        other.receiveSignal(liar, 0.5)
        self.assertEqual(other.deadline(), 0.5)

    def test_opened(self) -> None:
        """
        A connection that both dialed is proved both ways, and chosen by the caller.
        """
        self.started()
        self.connect(7, 1.0)
        self.carry(self.caller, self.answerer, 1.1)
        self.carry(self.answerer, self.caller, 1.2)
        opened = self.carry(self.caller, self.answerer, 1.3)
        self.assertIsInstance(opened[-1], Opened)
        (last,) = [each for each in events(self.answerer) if isinstance(each, Opened)]
        self.assertEqual((last.number, last.verification.address), (7, CALLER))
        for opening in (self.caller, self.answerer):
            self.assertTrue(opening.over)
            self.assertIsNone(opening.deadline())
            opening.handleTimeout(99.0)
            opening.receiveFrame(7, b"", 99.0)
            opening.receiveSignal(Goodbye(opening.session, "late"), 99.0)
            opening.connected(8, CALLER, False, 99.0)
            opening.close("late", 99.0)
            self.assertEqual(events(opening), [Drop(8)])

    def test_accepted(self) -> None:
        """
        The side that accepted says nothing to a stranger, who is dropped in time.
        """
        self.started()
        self.answerer.connected(1, ("192.0.2.99", 9999), False, 1.0)
        self.assertEqual(events(self.answerer), [])
        self.answerer.handleTimeout(1.0 + VERIFICATION_LIMIT)
        self.assertIn(Drop(1), events(self.answerer))

    def test_hostile(self) -> None:
        """
        A connection that breaks a rule is dropped; the address is dialed again.
        """
        self.started()
        self.timeOut(self.answerer)
        self.answerer.connected(1, CALLER, True, 1.0)
        events(self.answerer)
        self.answerer.receiveFrame(1, b"not a check", 1.0)
        self.assertEqual(events(self.answerer), [Drop(1)])
        self.answerer.receiveFrame(1, b"more", 1.0)
        self.assertEqual(self.timeOut(self.answerer), [Dial(CALLER)])

    def test_lost(self) -> None:
        """
        A connection that is lost before it is proved is dialed again; one that is not known does
        not matter.
        """
        self.started()
        self.timeOut(self.answerer)
        self.answerer.connected(1, CALLER, True, 1.0)
        events(self.answerer)
        self.answerer.lost(1, 1.5)
        self.answerer.lost(1, 1.5)
        self.assertEqual(self.timeOut(self.answerer), [Dial(CALLER)])
        self.answerer.dialFailed(CALLER, True, 1.7)
        self.assertEqual(self.timeOut(self.answerer), [Dial(CALLER)])

    def test_tooMany(self) -> None:
        """
        Connections that are not proved are bounded, and none is taken before there are keys.
        """
        self.caller.connected(1, ANSWERER, False, 0.1)
        self.assertEqual(events(self.caller), [Drop(1)])
        for number in range(UNPROVED_LIMIT + 1):
            self.answerer.connected(number, ("192.0.2.99", 2000 + number), False, 0.2)
        self.assertEqual(events(self.answerer), [Drop(UNPROVED_LIMIT)])

    def failure(self, opening: Opening) -> Failed:
        """
        @return: how it failed.
        """
        found = events(opening)[-1]
        assert isinstance(found, Failed)
        return found

    def test_budget(self) -> None:
        """
        After 10 s an attempt fails, says what was tried, and tells the other side.
        """
        self.started()
        self.timeOut(self.answerer)
        self.answerer.dialFailed(CALLER, True, 1.0)
        self.answerer.handleTimeout(0.1 + BUDGET)
        said, failed = events(self.answerer)
        assert isinstance(said, Say)
        assert isinstance(failed, Failed)
        self.assertEqual((failed.left, failed.elapsed, failed.dials), (False, BUDGET, 1))
        self.assertIn("1 dials to 1 addresses, of which 1 were refused", failed.reason)
        self.caller.receiveSignal(said.signal, 11.0)
        told = self.failure(self.caller)
        self.assertTrue(told.left)
        self.assertIn(failed.reason, told.reason)

    def test_silent(self) -> None:
        """
        A side whose other side never gets ready says so.
        """
        self.assertEqual(self.caller.deadline(), BUDGET)
        self.caller.handleTimeout(BUDGET)
        self.assertIn("did not get ready", self.failure(self.caller).reason)

    def test_nothingToDial(self) -> None:
        """
        Without an address on either side there is no attempt; loopback is dialed only by who has
        loopback.
        """
        self.answerer.prepared((), 0.2)
        self.assertIn("this side has no address", self.failure(self.answerer).reason)
        self.caller.prepared(candidates(CALLER), 0.2)
        loopback = candidates(("127.0.0.1", 4000), ("203.0.113.2", 22))
        answer = Answer(self.offer.session, 0.1, REMOTE, loopback)
        self.caller.receiveSignal(answer, 0.3)
        self.assertIn("no address that may be dialed", self.failure(self.caller).reason)

    def test_loopback(self) -> None:
        """
        Two programs on one machine dial loopback.
        """
        self.caller.prepared(candidates(("127.0.0.1", 4001)), 0.2)
        remote = candidates(("127.0.0.1", 4000))
        self.caller.receiveSignal(Answer(self.offer.session, 0.1, REMOTE, remote), 0.3)
        events(self.caller)
        self.assertEqual(self.timeOut(self.caller), [Dial(("127.0.0.1", 4000))])

    def test_outOfTurn(self) -> None:
        """
        Signals of another session, twice, or of the wrong side change nothing.
        """
        self.started()
        answer = Answer(self.offer.session, 0.0, REMOTE, candidates(("192.0.2.9", 9999)))
        start = Start(self.offer.session, candidates(("192.0.2.9", 9999)))
        before = (self.caller.deadline(), self.answerer.deadline())
        for opening in (self.caller, self.answerer):
            for signal in (answer, start, self.offer, Goodbye(b"another!", "")):
                opening.receiveSignal(signal, 0.6)
        self.answerer.prepared(candidates(ANSWERER), 0.6)
        self.assertEqual((self.caller.deadline(), self.answerer.deadline()), before)
        self.assertEqual(events(self.answerer), [])

    def test_close(self) -> None:
        """
        Who gives up tells the other side, and nothing else comes.
        """
        self.started()
        self.caller.close("enough", 0.7)
        self.assertEqual(events(self.caller), [Say(Goodbye(self.offer.session, "enough"))])
        self.assertTrue(self.caller.over)

    def test_hopelessDials(self) -> None:
        """
        When the dials are used up, the attempt waits for the other side's until its time is over.
        """
        self.started()
        now = 0.6
        while (deadline := self.caller.deadline()) is not None and deadline < BUDGET:
            now = deadline
            self.caller.handleTimeout(now)
            for event in events(self.caller):
                assert isinstance(event, Dial)
                self.caller.dialFailed(event.address, True, now)
        self.assertEqual(self.caller.deadline(), BUDGET)
