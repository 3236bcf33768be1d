"""
Tests for L{p2ptwist.core.session.credit}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.session.control import CloseCode
from p2ptwist.core.session.credit import (
    EARLY_DATAGRAM_LIMIT,
    EARLY_LIMIT,
    INITIAL_CREDIT,
    OFFSET_LIMIT,
    SESSION_BUDGET,
    STREAM_WINDOW,
    EarlyCredit,
    ReceiveCredit,
    SendCredit,
    SessionBudget,
)
from p2ptwist.core.session.errors import SessionViolation

KIB = 1024


def transfer(credit: ReceiveCredit, count: int) -> int | None:
    """
    Have C{count} bytes come and be read at once.

    @return: the grant that is due.
    """
    credit.receive(count)
    return credit.consume(count)


def readAll(credit: ReceiveCredit) -> int | None:
    """
    Have everything come that may come, and be read at once.

    @return: the grant that is due.
    """
    return transfer(credit, credit.granted - credit.received)


class SendTests(SynchronousTestCase):
    """
    L{SendCredit}: what may be sent.
    """

    def test_initial(self) -> None:
        """
        64 KiB may be sent without a grant, and not a byte more.
        """
        credit = SendCredit()
        credit.spend(60 * KIB)
        self.assertEqual(credit.available, 4 * KIB)
        credit.spend(4 * KIB)
        self.assertEqual((credit.available, credit.sent), (0, 64 * KIB))
        self.assertRaises(LocalUsageError, credit.spend, 1)
        self.assertEqual(credit.sent, 64 * KIB)
        credit.spend(0)

    def test_negative(self) -> None:
        """
        Nothing is unsent.
        """
        credit = SendCredit()
        credit.spend(10)
        self.assertRaises(LocalUsageError, credit.spend, -1)

    def test_grant(self) -> None:
        """
        A higher grant is more to send; the same one or a lower one changes nothing.
        """
        credit = SendCredit()
        credit.spend(INITIAL_CREDIT)
        self.assertTrue(credit.grant(INITIAL_CREDIT + 100))
        self.assertEqual(credit.available, 100)
        for offset in (INITIAL_CREDIT + 100, INITIAL_CREDIT, 0):
            self.assertFalse(credit.grant(offset))
        self.assertEqual(credit.available, 100)

    def test_absurd(self) -> None:
        """
        A grant of more than a stream can have is taken for all that it can have.
        """
        credit = SendCredit()
        self.assertTrue(credit.grant(2**64 - 1))
        self.assertEqual(credit.granted, 2**62)
        self.assertFalse(credit.grant(2**64 - 1))

    @given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
    def test_monotonic(self, offsets: list[int]) -> None:
        """
        Whatever is granted, in whatever order, the highest counts.
        """
        credit = SendCredit()
        for offset in offsets:
            credit.grant(offset)
        self.assertEqual(credit.granted, min(max([INITIAL_CREDIT, *offsets]), OFFSET_LIMIT))


class EarlyTests(SynchronousTestCase):
    """
    L{EarlyCredit}: what a caller may send before it is admitted.
    """

    def test_shared(self) -> None:
        """
        All streams together have 64 KiB, until the caller is admitted; then each has its own.
        """
        early = EarlyCredit()
        one, other = SendCredit(early), SendCredit(early)
        one.spend(40 * KIB)
        self.assertEqual((one.available, other.available), (24 * KIB, 24 * KIB))
        other.spend(24 * KIB)
        self.assertEqual((one.available, other.available), (0, 0))
        self.assertRaises(LocalUsageError, one.spend, 1)
        self.assertFalse(early.lifted)
        early.lift()
        self.assertTrue(early.lifted)
        self.assertEqual((one.available, other.available), (24 * KIB, 40 * KIB))
        one.spend(24 * KIB)
        self.assertEqual(early.available, OFFSET_LIMIT)

    def test_misuse(self) -> None:
        """
        It holds for what is spent past L{SendCredit} too.
        """
        self.assertRaises(LocalUsageError, EarlyCredit().spend, EARLY_LIMIT + 1)

    def test_received(self) -> None:
        """
        The called side takes 64 KiB before it has decided; a byte more ends the session.
        """
        early = EarlyCredit()
        early.receive(EARLY_LIMIT)
        violation = self.assertRaises(SessionViolation, early.receive, 1)
        self.assertIs(violation.code, CloseCode.OVERFLOW)
        early.lift()
        early.receive(SESSION_BUDGET)

    def test_datagrams(self) -> None:
        """
        Counted as QUIC datagrams, a handshake and all early bytes fit three times over.
        """
        early = EarlyCredit(EARLY_DATAGRAM_LIMIT)
        overhead = 1200 / 1150
        early.receive(3 * round(EARLY_LIMIT * overhead + 4800))
        self.assertRaises(SessionViolation, early.receive, EARLY_LIMIT)


class ReceiveTests(SynchronousTestCase):
    """
    L{ReceiveCredit}: what is granted, and when.
    """

    def test_overflow(self) -> None:
        """
        What comes above the grant is a violation, and is not counted.
        """
        credit = ReceiveCredit(SessionBudget())
        credit.receive(INITIAL_CREDIT)
        violation = self.assertRaises(SessionViolation, credit.receive, 3)
        self.assertIs(violation.code, CloseCode.OVERFLOW)
        self.assertEqual(violation.reason, "3 bytes above the grant of a stream")
        self.assertEqual(credit.received, INITIAL_CREDIT)

    def test_halfWindow(self) -> None:
        """
        Nothing is granted until half the window is consumed; then twice the window is.
        """
        credit = ReceiveCredit(SessionBudget())
        self.assertIsNone(transfer(credit, 32 * KIB - 1))
        self.assertEqual(transfer(credit, 1), (32 + 128) * KIB)
        self.assertEqual(credit.granted, 160 * KIB)
        self.assertIsNone(transfer(credit, 64 * KIB - 1))
        self.assertEqual(transfer(credit, 1), (96 + 256) * KIB)

    def test_growth(self) -> None:
        """
        The window doubles to 1 MiB, and stays there.
        """
        credit = ReceiveCredit(SessionBudget())
        windows = []
        for _ in range(6):
            readAll(credit)
            windows.append((credit.granted - credit.consumed) // KIB)
        self.assertEqual(windows, [128, 256, 512, 1024, 1024, 1024])

    def test_unread(self) -> None:
        """
        Who reads nothing is granted nothing, and a stream on which little comes keeps a small
        window.
        """
        budget = SessionBudget()
        credit = ReceiveCredit(budget)
        credit.receive(INITIAL_CREDIT)
        self.assertIsNone(credit.consume(0))
        quiet = ReceiveCredit(budget)
        self.assertIsNone(transfer(quiet, 1000))
        self.assertEqual(budget.free, SESSION_BUDGET)

    def test_misuse(self) -> None:
        """
        Nobody consumes what did not come.
        """
        credit = ReceiveCredit(SessionBudget())
        credit.receive(10)
        self.assertRaises(LocalUsageError, credit.consume, 11)
        self.assertRaises(LocalUsageError, credit.consume, -1)
        credit.consume(10)
        self.assertRaises(LocalUsageError, credit.consume, 1)

    @given(st.lists(st.integers(0, 32 * KIB), max_size=50))
    def test_handed(self, counts: list[int]) -> None:
        """
        What is handed over as it comes counts as received and consumed.
        """
        handed, other = ReceiveCredit(SessionBudget()), ReceiveCredit(SessionBudget())
        for count in counts:
            self.assertEqual(handed.hand(count), transfer(other, count))
            self.assertEqual(
                (handed.received, handed.consumed, handed.granted),
                (other.received, other.consumed, other.granted),
            )

    def test_handedTooMuch(self) -> None:
        """
        No more is handed over than was granted; after the end nothing is counted.
        """
        credit = ReceiveCredit(SessionBudget())
        self.assertRaises(SessionViolation, credit.hand, INITIAL_CREDIT + 1)
        credit.close()
        self.assertIsNone(credit.hand(INITIAL_CREDIT + 1))
        self.assertEqual(credit.received, 0)

    def test_largest(self) -> None:
        """
        A window may be made smaller, not smaller than the initial one.
        """
        for largest, window in ((100 * KIB, 100), (1, 64)):
            credit = ReceiveCredit(SessionBudget(), largest)
            readAll(credit)
            readAll(credit)
            self.assertEqual(credit.granted - credit.consumed, window * KIB)


class BudgetTests(SynchronousTestCase):
    """
    L{SessionBudget}, shared by the streams of a session.
    """

    def test_lends(self) -> None:
        """
        What a stream has beyond 64 KiB is lent, and comes back as its reader takes it.
        """
        budget = SessionBudget()
        credit = ReceiveCredit(budget)
        readAll(credit)
        self.assertEqual(SESSION_BUDGET - budget.free, 64 * KIB)
        self.assertIsNone(transfer(credit, 16 * KIB))
        self.assertEqual(SESSION_BUDGET - budget.free, 48 * KIB)

    def test_short(self) -> None:
        """
        With an empty budget a stream still has 64 KiB, and is granted it anew each time that half
        of it is consumed; when the budget is back the window grows again.
        """
        budget = SessionBudget(0)
        credit = ReceiveCredit(budget)
        self.assertIsNone(transfer(credit, 32 * KIB - 1))
        self.assertEqual(transfer(credit, 1), 96 * KIB)
        self.assertEqual(readAll(credit), 160 * KIB)
        budget.free = SESSION_BUDGET
        self.assertEqual(readAll(credit), (160 + 128) * KIB)

    def test_own(self) -> None:
        """
        What a stream has borrowed itself counts as there for it: alone, it keeps the whole budget.
        """
        budget = SessionBudget(192 * KIB)
        credit = ReceiveCredit(budget)
        readAll(credit)
        readAll(credit)
        self.assertEqual(budget.free, 0)
        self.assertEqual(transfer(credit, 128 * KIB), credit.consumed + 256 * KIB)

    def test_crumbs(self) -> None:
        """
        A budget that lends a little is not asked for each little: with 10 KiB left, and then none,
        a grant waits until it is worth half a window.
        """
        budget = SessionBudget(74 * KIB)
        credit = ReceiveCredit(budget)
        readAll(credit)
        self.assertEqual(budget.free, 10 * KIB)
        self.assertIsNone(transfer(credit, 60 * KIB))
        self.assertEqual(budget.free, 70 * KIB)
        budget.free = 0
        self.assertIsNone(transfer(credit, 4 * KIB))
        self.assertEqual(budget.free, 4 * KIB)
        budget.free = 0
        self.assertIsNone(transfer(credit, 32 * KIB - 1))
        self.assertEqual(transfer(credit, 1), credit.consumed + 64 * KIB)

    def test_stalled(self) -> None:
        """
        Streams that nobody reads any more hold the budget, and the others go on in small windows.
        """
        budget = SessionBudget()
        stalled = [ReceiveCredit(budget) for _ in range(20)]
        for credit in stalled:
            for _ in range(5):
                readAll(credit)
            credit.receive(credit.granted - credit.received)
        self.assertEqual(budget.free, 0)
        total = sum(credit.granted - credit.consumed for credit in stalled)
        self.assertEqual(total, SESSION_BUDGET + 20 * INITIAL_CREDIT)
        credit = ReceiveCredit(budget)
        for round in range(1, 1000):
            self.assertEqual(readAll(credit), (round + 1) * INITIAL_CREDIT)

    def test_close(self) -> None:
        """
        A stream that is closed gives everything back, once, and what still comes is nobody's.
        """
        budget = SessionBudget()
        credit = ReceiveCredit(budget)
        for _ in range(5):
            readAll(credit)
        self.assertEqual(SESSION_BUDGET - budget.free, STREAM_WINDOW - INITIAL_CREDIT)
        credit.receive(200 * KIB)
        credit.close()
        self.assertEqual(budget.free, SESSION_BUDGET)
        credit.close()
        credit.receive(OFFSET_LIMIT)
        self.assertIsNone(credit.consume(200 * KIB))
        credit.finish()
        self.assertEqual(budget.free, SESSION_BUDGET)

    def test_finish(self) -> None:
        """
        When the other side has sent its last byte what it did not use goes back at once, and what
        is not read yet as it is read; nothing is granted any more.
        """
        budget = SessionBudget()
        credit = ReceiveCredit(budget)
        for _ in range(5):
            readAll(credit)
        credit.receive(200 * KIB)
        credit.finish()
        self.assertEqual(SESSION_BUDGET - budget.free, 136 * KIB)
        self.assertIsNone(credit.consume(100 * KIB))
        self.assertEqual(SESSION_BUDGET - budget.free, 36 * KIB)
        self.assertIsNone(credit.consume(100 * KIB))
        self.assertEqual(budget.free, SESSION_BUDGET)
        self.assertRaises(SessionViolation, credit.receive, 1)


class Direction:
    """
    One direction of one stream: a sender that fills its grant, and a reader.
    """

    def __init__(self, budget: SessionBudget) -> None:
        self.sender = SendCredit()
        self.receiver = ReceiveCredit(budget)
        self.open = True

    @property
    def buffered(self) -> int:
        """
        Bytes that came and were not read.
        """
        return self.receiver.received - self.receiver.consumed

    def send(self, count: int) -> int:
        """
        Send up to C{count} bytes.

        @return: how many the sender might.
        """
        sent = min(count, self.sender.available)
        self.sender.spend(sent)
        self.receiver.receive(sent)
        return sent

    def read(self, count: int) -> None:
        """
        Read up to C{count} bytes, and pass on the grant.
        """
        offset = self.receiver.consume(min(count, self.buffered))
        if offset is not None:
            assert self.sender.grant(offset), "a grant of nothing"

    def end(self, byReader: bool) -> None:
        """
        The reader goes away, or the sender is done.
        """
        self.open = False
        if byReader:
            self.receiver.close()
        else:
            self.receiver.finish()


COUNT = st.integers(0, 2 * STREAM_WINDOW)
INDEX = st.integers(0, 200)


class SessionMachine(RuleBasedStateMachine):
    """
    Streams of one session that are opened, filled, read, ended and forgotten in any order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limit = 4 * INITIAL_CREDIT
        self.budget = SessionBudget(self.limit)
        self.streams: list[Direction] = []

    def pick(self, index: int) -> Direction:
        """
        @return: one of the streams.
        """
        return self.streams[index % len(self.streams)]

    @rule()
    def openStream(self) -> None:
        """
        Open one stream more.
        """
        self.streams.append(Direction(self.budget))

    @precondition(lambda self: self.streams)
    @rule(index=INDEX, count=COUNT)
    def send(self, index: int, count: int) -> None:
        """
        Send what may be sent.
        """
        stream = self.pick(index)
        if stream.open:
            stream.send(count)

    @precondition(lambda self: self.streams)
    @rule(index=INDEX, count=COUNT)
    def read(self, index: int, count: int) -> None:
        """
        Read some of what is there.
        """
        self.pick(index).read(count)

    @precondition(lambda self: self.streams)
    @rule(index=INDEX)
    def progress(self, index: int) -> None:
        """
        Who reads all that is there lets at least 32 KiB more come, whatever the others do.
        """
        stream = self.pick(index)
        if stream.open:
            stream.read(stream.buffered)
            assert stream.send(2 * STREAM_WINDOW) >= INITIAL_CREDIT // 2
            assert stream.sender.granted == stream.receiver.granted

    @precondition(lambda self: self.streams)
    @rule(index=INDEX, byReader=st.booleans())
    def end(self, index: int, byReader: bool) -> None:
        """
        End a stream, from either side.
        """
        self.pick(index).end(byReader)

    @invariant()
    def bounded(self) -> None:
        """
        No stream has more than its grant, and all of them together no more than the budget and 64
        KiB each; what is lent and what is free is the whole, but for the last 4 KiB that a stream
        has given back.
        """
        lent = 0
        for stream in self.streams:
            credit = stream.receiver
            assert 0 <= credit.consumed <= credit.received <= credit.granted
            outstanding = credit.granted - credit.consumed
            assert outstanding <= STREAM_WINDOW
            lent += max(0, outstanding - INITIAL_CREDIT)
        assert self.budget.free >= 0
        assert 0 <= self.limit - self.budget.free - lent <= 4 * KIB * len(self.streams)


class SessionTests(SynchronousTestCase):
    """
    Many streams under one budget, at random.
    """

    def test_machine(self) -> None:
        """
        Whatever streams do, the bounds hold and every reader progresses.
        """
        thorough = settings(max_examples=100, stateful_step_count=40, deadline=None)
        run_state_machine_as_test(SessionMachine, settings=thorough)

    @given(st.lists(st.integers(1, 300_000), min_size=1, max_size=30), st.integers(0, 1))
    def test_hostile(self, counts: list[int], free: int) -> None:
        """
        A sender that heeds no grant is ended before more than the grant is counted.
        """
        credit = ReceiveCredit(SessionBudget(free * SESSION_BUDGET))
        for count in counts:
            try:
                credit.receive(count)
            except SessionViolation:
                self.assertGreater(credit.received + count, credit.granted)
                break
            credit.consume(count // 2)
        self.assertLessEqual(credit.received, credit.granted)
