"""
Tests for L{p2ptwist.core.session.early} and L{p2ptwist.peer.earlyoffers}, with real keys.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.session.early import (
    MEMORY_LIMIT,
    SIGNAL_COUNT,
    SKEW,
    EarlyMemory,
    EarlyOffer,
    decodeEarly,
    earlyInfo,
    encodeEarly,
)
from p2ptwist.core.session.envelope import (
    EARLY_TYPE,
    Envelope,
    decodeEnvelope,
    encodeEarlyEnvelope,
)
from p2ptwist.peer.earlyoffers import CALLER_RATE, TOTAL_RATE, EarlyOffers
from p2ptwist.peer.identity import Identity, generateIdentity
from p2ptwist.peer.prelude import Prelude
from p2ptwist.peer.sealing import seal

NAME = b"8 bytes!"
NOW = 1_800_000_000.0
LIMIT = 4096  # bytes that a link carries
HELLO = (b"\xc0" + bytes(1199),)
SIGNALS = (b"an offer", b"more")
ALICE, BOB, MALLORY = (generateIdentity() for _ in range(3))
OFFER = EarlyOffer(int(NOW), bytes(64), SIGNALS)


def offers(identity: object, now: float = NOW) -> EarlyOffers:
    """
    @return: the early offers of one peer whose clock stands still.
    """
    return EarlyOffers(identity, lambda: now)  # type: ignore[arg-type]


class WireTests(SynchronousTestCase):
    """
    What is inside the seal, and the envelope around it.
    """

    def test_bytes(self) -> None:
        """
        As C{docs/session.md} has them.
        """
        encoded = encodeEarly(OFFER)
        self.assertEqual(encoded[:8], int(NOW).to_bytes(8, "big"))
        self.assertEqual(encoded[8:72], bytes(64))
        self.assertEqual(encoded[72:], b"\x00\x08an offer\x00\x04more")
        self.assertEqual(decodeEarly(encoded), OFFER)

    def test_malformed(self) -> None:
        """
        Every other length, no signal, an empty one, too many.
        """
        encoded = encodeEarly(OFFER)
        whole = {len(encoded), len(encoded) - 6}
        for length in set(range(len(encoded))) - whole:
            self.assertRaises(MalformedDatagram, decodeEarly, encoded[:length])
        crowd = replace(OFFER, signals=(b"x",) * SIGNAL_COUNT)
        self.assertEqual(decodeEarly(encodeEarly(crowd)), crowd)
        for bad in (encodeEarly(crowd) + b"\0\1x", encoded + b"\0\0"):
            self.assertRaises(MalformedDatagram, decodeEarly, bad)

    @given(st.binary(max_size=200))
    def test_random(self, data: bytes) -> None:
        """
        Nothing but L{MalformedDatagram} is raised, by either decoder.
        """
        with contextlib.suppress(MalformedDatagram):
            decodeEarly(data)
        with contextlib.suppress(MalformedDatagram):
            decodeEnvelope(bytes((EARLY_TYPE,)) + data)

    def test_envelope(self) -> None:
        """
        The offer stands before the datagrams; both come back.
        """
        payload = encodeEarlyEnvelope(NAME, b"sealed", HELLO, LIMIT)
        assert payload is not None
        self.assertEqual(payload[:17], b"\x53" + NAME + b"\x00\x06sealed")
        self.assertEqual(decodeEnvelope(payload), Envelope(NAME, HELLO, b"sealed"))

    def test_badEnvelopes(self) -> None:
        """
        An empty offer, one that goes on too long, and one without datagrams.
        """
        head = b"\x53" + NAME
        for rest in (b"", b"\0", b"\0\0\0\x01x", b"\0\x05abc", b"\0\x03abc"):
            self.assertRaises(MalformedDatagram, decodeEnvelope, head + rest)

    def test_room(self) -> None:
        """
        What does not fit goes without the offer.
        """
        self.assertIsNone(encodeEarlyEnvelope(NAME, bytes(3000), HELLO, LIMIT))
        self.assertIsNone(encodeEarlyEnvelope(NAME, b"sealed", HELLO * 4, LIMIT))


class OfferTests(SynchronousTestCase):
    """
    Who can say what to whom.
    """

    def made(self) -> Envelope:
        """
        @return: what Alice calls Bob with.
        """
        early = offers(ALICE).make(BOB.publicKey, NAME, SIGNALS, HELLO)
        assert early is not None
        return Envelope(NAME, HELLO, early)

    def test_read(self) -> None:
        """
        Bob reads what Alice said, and sees nothing of it in what the node forwards.
        """
        envelope = self.made()
        self.assertEqual(offers(BOB).read(ALICE.publicKey, envelope, 0.0), SIGNALS)
        for secret in (*SIGNALS, ALICE.publicKey):
            self.assertNotIn(secret, envelope.early)

    def test_strangers(self) -> None:
        """
        Nobody else reads it; nobody else can have said it; and it belongs to this session and these
        datagrams alone.
        """
        envelope, bob, alice = self.made(), BOB.publicKey, ALICE.publicKey
        self.assertEqual(offers(MALLORY).read(alice, envelope, 0.0), ())
        self.assertEqual(offers(BOB).read(MALLORY.publicKey, envelope, 0.0), ())
        forged = offers(MALLORY).make(bob, NAME, SIGNALS, HELLO)
        assert forged is not None
        bad = [
            replace(envelope, session=b"another."),
            replace(envelope, datagrams=(b"\xc1" + HELLO[0][1:],)),
            replace(envelope, datagrams=HELLO * 2),
            replace(envelope, early=b""),
            replace(envelope, early=envelope.early[:40]),
            replace(envelope, early=envelope.early[:-1] + b"\0"),
            replace(envelope, early=forged),
        ]
        for each in bad:
            self.assertEqual(offers(BOB).read(alice, each, 0.0), ())

    def test_garbageInside(self) -> None:
        """
        What is sealed but is no offer says nothing.
        """
        sealed = seal(BOB.publicKey, b"garbage", earlyInfo(NAME))
        assert sealed is not None
        envelope = Envelope(NAME, HELLO, sealed)
        self.assertEqual(offers(BOB).read(ALICE.publicKey, envelope, 0.0), ())

    def test_replay(self) -> None:
        """
        It counts once, and in its time.
        """
        envelope, bob = self.made(), offers(BOB)
        self.assertEqual(bob.read(ALICE.publicKey, envelope, 0.0), SIGNALS)
        self.assertEqual(bob.read(ALICE.publicKey, envelope, 0.0), ())
        for now, said in ((NOW + SKEW, SIGNALS), (NOW + SKEW + 1, ()), (NOW - SKEW - 1, ())):
            self.assertEqual(offers(BOB, now).read(ALICE.publicKey, envelope, 0.0), said)

    def named(self, caller: Identity, number: int) -> Envelope:
        """
        @return: what that caller calls Bob with in one of many sessions.
        """
        name = number.to_bytes(8, "big")
        early = offers(caller).make(BOB.publicKey, name, SIGNALS, HELLO)
        assert early is not None
        return Envelope(name, HELLO, early)

    def test_oneCaller(self) -> None:
        """
        Of one caller so many are read at once, and then so many in a while, whatever they are; that
        is another caller's affair.
        """
        bob, burst = offers(BOB), int(CALLER_RATE.burst)
        for number in range(burst - 1):
            self.assertEqual(bob.read(ALICE.publicKey, self.named(ALICE, number), 0.0), SIGNALS)
        garbage = replace(self.named(ALICE, burst), early=b"garbage")
        self.assertEqual(bob.read(ALICE.publicKey, garbage, 0.0), ())
        last = self.named(ALICE, burst)
        self.assertEqual(bob.read(ALICE.publicKey, last, 0.0), ())
        self.assertEqual(bob.read(MALLORY.publicKey, self.named(MALLORY, 0), 0.0), SIGNALS)
        after = 1.0 / CALLER_RATE.perSecond
        self.assertEqual(bob.read(ALICE.publicKey, last, after), SIGNALS)
        self.assertEqual(bob.read(ALICE.publicKey, self.named(ALICE, 99), after), ())

    def test_allCallers(self) -> None:
        """
        Of all callers together so many are taken; what is not genuine takes nothing away.
        """
        bob, burst = offers(BOB), int(TOTAL_RATE.burst)
        callers = [generateIdentity() for _ in range(burst + 2)]
        forged = self.named(MALLORY, 1)
        for caller in callers:
            self.assertEqual(bob.read(caller.publicKey, forged, 0.0), ())
        taken = [bob.read(each.publicKey, self.named(each, 2), 0.0) for each in callers]
        self.assertEqual(taken, [SIGNALS] * burst + [()] * 2)

    def test_memorySuffices(self) -> None:
        """
        So many offers are remembered as are taken in the time for which they must be.
        """
        self.assertLess(TOTAL_RATE.burst + TOTAL_RATE.perSecond * (2 * SKEW + 1), MEMORY_LIMIT)

    def test_badKeys(self) -> None:
        """
        There is no sealing to what is no key: the session begins without.
        """
        one = (1).to_bytes(32, "little")
        for key in (one, bytes(32), b"\xff" * 32):
            offers(ALICE).make(key, NAME, SIGNALS, HELLO)
        self.assertIsNone(offers(ALICE).make(one, NAME, SIGNALS, HELLO))


class MemoryTests(SynchronousTestCase):
    """
    What came before.
    """

    def test_bounds(self) -> None:
        """
        So many are remembered; when there are more, none is taken until old ones are forgotten.
        """
        memory = EarlyMemory()
        for number in range(MEMORY_LIMIT):
            self.assertTrue(memory.isFresh(b"key", number.to_bytes(8, "big"), OFFER, NOW))
        self.assertFalse(memory.isFresh(b"key", NAME, OFFER, NOW))
        later = replace(OFFER, time=int(NOW + 2 * SKEW + 1))
        self.assertTrue(memory.isFresh(b"key", NAME, later, NOW + 2 * SKEW + 1))


class PreludeTests(SynchronousTestCase):
    """
    L{Prelude}.
    """

    def test_calling(self) -> None:
        """
        A caller's signals are kept until the handshake is over; of many the first and the last.
        """
        prelude = Prelude(True, lambda: True)
        for number in range(SIGNAL_COUNT + 5):
            self.assertTrue(prelude.hold(b"%d" % number))
        kept = [*range(SIGNAL_COUNT - 1), SIGNAL_COUNT + 4]
        self.assertEqual(prelude.signals, tuple(b"%d" % number for number in kept))
        self.assertEqual(prelude.end(), tuple(b"%d" % number for number in kept))
        self.assertFalse(prelude.hold(b"later"))
        self.assertEqual((prelude.signals, prelude.end()), ((), ()))

    def test_called(self) -> None:
        """
        Who is called keeps nothing, and asks its application once.
        """
        asked = []

        def ask() -> bool:
            asked.append(1)
            return True

        prelude = Prelude(False, ask)
        self.assertFalse(prelude.hold(b"signal"))
        self.assertEqual([prelude.admits(), prelude.admits()], [True, True])
        self.assertEqual(len(asked), 1)
