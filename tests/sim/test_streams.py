"""
Streams between whole peers: as much as anybody likes, as many as allowed, and no more memory than
was promised.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost

from p2ptwist.core.session.credit import INITIAL_CREDIT, SESSION_BUDGET
from p2ptwist.errors import StreamRefused
from p2ptwist.peer.sessionstreams import QUEUE_LEAST, UNANSWERED_LIMIT
from p2ptwist.peer.streamtable import STREAM_LIMIT
from p2ptwist.testing import Link
from tests.sim.sessions import HalfTalk, SessionCase, Talk, Talks

FAST = Link(latency=0.002)


class TransferTests(SessionCase):
    """
    Bytes in both directions.
    """

    def test_bothWays(self) -> None:
        """
        8 MB each way at the same time, and the ends: the digests are equal.
        """
        pairs = self.pairs()
        a, b = pairs.two(link=FAST)
        far = b.offers("sink", lambda: Talk(b.host, keep=False))
        talk = pairs.talk(a, b, "sink", Talk(a.host, keep=False))
        pairs.internet.advance(1.0)
        ends = [talk, far.made[0]]
        payloads = [Random(seed).randbytes(1_000_000) * 8 for seed in (1, 2)]
        for end, payload in zip(ends, payloads, strict=True):
            end.transport.write(payload)
        pairs.internet.advance(30.0)
        for end, payload in zip(ends, reversed(payloads), strict=True):
            self.assertEqual(end.count, len(payload))
            self.assertEqual(end.digest.digest(), sha256(payload).digest())
        pairs.close()

    def test_loseConnection(self) -> None:
        """
        All that was written before the end arrives, though the end is said at once.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        far = b.offers("sink", lambda: Talk(b.host, keep=False))
        for size in (0, 1, 100_000, 3_000_000):
            talk = pairs.talk(a, b, "sink")
            talk.transport.write(bytes(size))
            talk.transport.loseConnection()
            pairs.internet.advance(20.0)
            self.assertEqual(far.made[-1].count, size)
            for end in (talk, far.made[-1]):
                self.assertEqual(end.losses, 1)
                assert end.lost is not None
                self.assertIsInstance(end.lost.value, ConnectionDone)
        pairs.close()

    def test_stopService(self) -> None:
        """
        What was written arrives although the program stops at once.
        """
        for loss in (0.0, 0.02):
            pairs = self.pairs()
            a, b = pairs.two(link=Link(latency=0.02, loss=loss))
            far = b.offers("sink", lambda b=b: Talk(b.host, keep=False))  # type: ignore[misc]
            talk = pairs.talk(a, b, "sink")
            talk.transport.write(bytes(200_000))
            pairs.internet.runUntil(a.peer.stopService(), timeout=10.0)
            pairs.internet.advance(5.0)
            self.assertEqual(far.made[0].count, 200_000)
            pairs.close()

    def test_halfClose(self) -> None:
        """
        Who has said everything still hears the answer.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        halves = b.offers("half", lambda: HalfTalk(b.host))
        near = HalfTalk(a.host)
        pairs.talk(a, b, "half", near)
        near.transport.write(b"question")
        near.transport.loseWriteConnection()
        pairs.internet.advance(2.0)
        far = halves.made[0]
        self.assertEqual((far.data, far.ends), (b"question", ["read"]))
        self.assertEqual(near.ends, ["write"])
        far.transport.write(b"answer")
        far.transport.loseWriteConnection()
        pairs.internet.advance(2.0)
        self.assertEqual((near.data, near.ends), (b"answer", ["write", "read"]))
        for end in (near, far):
            self.assertEqual(end.losses, 1)
            self.assertIsInstance(end.lost.value, ConnectionDone)  # type: ignore[union-attr]
        pairs.close()

    def test_abort(self) -> None:
        """
        An abort is no clean end for the other side.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        far = b.echoes()
        talk = pairs.talk(a, b)
        talk.transport.write(b"hello")
        pairs.internet.advance(1.0)
        talk.transport.write(bytes(1_000_000))
        talk.transport.abortConnection()
        pairs.internet.advance(1.0)
        self.assertEqual(talk.losses, 1)
        self.assertEqual(far.made[0].losses, 1)
        self.assertIsInstance(far.made[0].lost.value, ConnectionLost)
        pairs.close()

    def test_abortEarly(self) -> None:
        """
        A stream that is aborted before the session is admitted comes and goes.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        far = b.echoes()
        talk = pairs.talk(a, b)
        talk.transport.abortConnection()
        pairs.internet.advance(1.0)
        self.assertEqual(talk.losses, 1)
        for each in far.made:
            self.assertEqual(each.losses, 1)
        again = pairs.talk(a, b)
        again.transport.write(b"hello")
        pairs.internet.advance(1.0)
        self.assertEqual(again.data, b"hello")
        pairs.close()

    def test_muchEarly(self) -> None:
        """
        Who writes much on many streams before it is admitted is held, and loses nothing.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        far = b.offers("sink", lambda: Talk(b.host, keep=False))
        talks = [Talk(a.host) for _ in range(5)]
        for talk in talks:
            a.peer.connect(b.peerID, "sink", Talks(partial(_same, talk)))
        pairs.internet.advance(0.11)
        for talk in talks:
            talk.transport.write(bytes(50_000))
        pairs.internet.advance(5.0)
        self.assertEqual([end.count for end in far.made], [50_000] * 5)
        pairs.close()


class ManyTests(SessionCase):
    """
    Many streams in one session.
    """

    def test_oneAfterTheOther(self) -> None:
        """
        Hundreds of streams, one after the other, use one session and leave nothing in it.
        """
        pairs = self.pairs()
        a, b = pairs.two(link=FAST)
        b.echoes()
        for number in range(300):
            talk = pairs.talk(a, b)
            talk.transport.write(b"%d" % number)
            pairs.internet.advance(0.02 if number else 1.0)
            self.assertEqual(talk.data, b"%d" % number)
            talk.transport.loseConnection()
        pairs.internet.advance(1.0)
        for caller, other in ((a, b), (b, a)):
            session = caller.peer._sessions.current(other.identity.publicKey)
            assert session is not None
            self.assertEqual(len(session._streams), 0)
            self.assertEqual(session._streams.budget.free, SESSION_BUDGET)
        pairs.close()

    def test_limit(self) -> None:
        """
        A peer has a bounded number of streams open; one more fails and says why, and when one has
        ended there is room for another.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        far = b.echoes()
        talks = [pairs.talk(a, b) for _ in range(STREAM_LIMIT)]
        pairs.internet.advance(1.0)
        factory = Talks(partial(Talk, a.host))
        failure = self.failureResultOf(a.peer.connect(b.peerID, "echo", factory), StreamRefused)
        self.assertEqual(failure.value.word, "overflow")
        self.assertEqual(len(far.made), STREAM_LIMIT)
        for talk in talks:
            talk.transport.write(b"hello")
        pairs.internet.advance(1.0)
        self.assertEqual([talk.data for talk in talks], [b"hello"] * STREAM_LIMIT)
        talks[0].transport.loseConnection()
        pairs.internet.advance(1.0)
        again = pairs.talk(a, b)
        again.transport.write(b"hello")
        pairs.internet.advance(1.0)
        self.assertEqual(again.data, b"hello")
        pairs.close()


class BackPressureTests(SessionCase):
    """
    Applications that do not read.
    """

    def test_oneReadsNot(self) -> None:
        """
        20 MB for an application that does not read cost it 1 MiB and stall nobody; when it reads
        all arrives.
        """
        pairs = self.pairs()
        a, b = pairs.two(link=FAST)
        lazy = b.offers("lazy", lambda: Talk(b.host, keep=False))
        b.echoes()
        idle = pairs.talk(a, b, "lazy")
        pairs.internet.advance(1.0)
        lazy.made[0].transport.pauseProducing()
        for _ in range(20):
            idle.transport.write(bytes(1_000_000))
        for _ in range(10):
            pairs.internet.advance(1.0)
            kept = sum(map(len, lazy.made[0].transport._incoming or ()))
            self.assertLessEqual(kept, 1 << 20)
        talk = pairs.talk(a, b)
        talk.transport.write(bytes(2_000_000))
        pairs.internet.advance(5.0)
        self.assertEqual(talk.count, 2_000_000)
        self.assertEqual(lazy.made[0].count, 0)
        lazy.made[0].transport.resumeProducing()
        pairs.internet.advance(20.0)
        self.assertEqual(lazy.made[0].count, 20_000_000)
        pairs.close()

    def test_manyReadNot(self) -> None:
        """
        Many that do not read cost 6 MiB and 64 KiB each together, and one that reads goes on.
        """
        pairs = self.pairs()
        a, b = pairs.two(link=FAST)
        lazy = b.offers("lazy", lambda: Talk(b.host, keep=False))
        b.echoes()
        for _ in range(20):
            idle = pairs.talk(a, b, "lazy")
            pairs.internet.advance(0.5)
            # Some reading first, so that the windows grow.
            idle.transport.write(bytes(2_000_000))
            pairs.internet.advance(1.0)
            lazy.made[-1].transport.pauseProducing()
            idle.transport.write(bytes(3_000_000))
        pairs.internet.advance(5.0)
        kept = sum(len(piece) for each in lazy.made for piece in each.transport._incoming or ())
        self.assertLessEqual(kept, SESSION_BUDGET + 20 * INITIAL_CREDIT)
        talk = pairs.talk(a, b)
        talk.transport.write(bytes(500_000))
        pairs.internet.advance(10.0)
        self.assertEqual(talk.count, 500_000)
        pairs.close()

    def test_manyWrite(self) -> None:
        """
        Of many that write much at once QUIC holds little, and none is behind the others.
        """
        pairs = self.pairs()
        a, b = pairs.two(link=Link(latency=0.02, bandwidth=2_500_000, queue=1_000_000))
        far = b.offers("sink", lambda: Talk(b.host, keep=False))
        talks = [pairs.talk(a, b, "sink") for _ in range(40)]
        pairs.internet.advance(2.0)
        for talk in talks:
            talk.transport.write(bytes(500_000))
        streams: Any = talks[0].transport._host
        behind = most = 0
        for _ in range(1000):
            pairs.internet.advance(0.02)
            counts = [talk.count for talk in far.made]
            behind = max(behind, max(counts) - min(counts))
            most = max(most, streams._quic.outstanding())
        self.assertEqual(counts, [500_000] * 40)
        self.assertLessEqual(most, UNANSWERED_LIMIT + QUEUE_LEAST + 40 * 1200)
        self.assertLessEqual(behind, 200_000)
        pairs.close()


def _same(talk: Talk) -> Talk:
    return talk
