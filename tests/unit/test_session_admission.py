"""
Tests for L{p2ptwist.core.session.admission}.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.session.admission import (
    KEPT_LIMIT,
    AdmissionState,
    CalledAdmission,
    CallerAdmission,
    ownCallStands,
    proofText,
)
from p2ptwist.core.session.control import (
    Admitted,
    Challenge,
    CloseCode,
    ControlMessage,
    Grant,
    Proof,
    SignalMessage,
)
from p2ptwist.core.session.errors import SessionViolation
from p2ptwist.net.signatures import verifySignature
from p2ptwist.peer.identity import Identity


def identityOf(number: int) -> Identity:
    """
    @return: always the same identity for the same number.
    """
    return Identity(Ed25519PrivateKey.from_private_bytes(bytes((number,)) * 32))


ALICE, BOB, MALLORY = map(identityOf, (1, 2, 3))
FRESH = bytes(range(32))
STALE = bytes(32)
OFFER, GRANT = SignalMessage(b"offer"), Grant(4, 131_072)

UNCERTIFIED = AdmissionState.UNCERTIFIED
UNPROVED = AdmissionState.UNPROVED
UNDECIDED = AdmissionState.UNDECIDED
ADMITTED = AdmissionState.ADMITTED
ENDED = AdmissionState.ENDED


def proofOf(
    signer: Identity,
    challenge: bytes = FRESH,
    caller: Identity | None = None,
    called: Identity = BOB,
) -> Proof:
    """
    @return: what C{signer} can say of itself or another caller, with its own private key.
    """
    key = (caller or signer).publicKey
    return Proof(key, signer.sign(proofText(challenge, key, called.publicKey)))


def callerIn(state: AdmissionState) -> CallerAdmission:
    """
    @return: Alice, who calls Bob, in that state, with nothing left to send.
    """
    caller = CallerAdmission(ALICE.publicKey, ALICE.sign, BOB.publicKey)
    if state is ENDED:
        caller.end()
    if state in (UNPROVED, UNDECIDED, ADMITTED):
        caller.certified(BOB.publicKey)
    if state in (UNDECIDED, ADMITTED):
        caller.receive(Challenge(FRESH))
    if state is ADMITTED:
        caller.receive(Admitted())
    caller.pollTransmit()
    return caller


def calledIn(state: AdmissionState) -> CalledAdmission:
    """
    @return: Bob, called in Alice's name, in that state, with nothing left to send.
    """
    called = CalledAdmission(BOB.publicKey, ALICE.publicKey, FRESH, verifySignature)
    called.pollTransmit()
    if state is ENDED:
        called.end()
    if state in (UNDECIDED, ADMITTED):
        called.receive(proofOf(ALICE))
    if state is ADMITTED:
        called.admit()
        called.pollTransmit()
    return called


EVERY_MESSAGE: list[ControlMessage] = [
    Challenge(FRESH),
    proofOf(ALICE),
    Admitted(),
    OFFER,
    GRANT,
]

# What is returned for each of EVERY_MESSAGE, or the code of the violation.
Verdict = ControlMessage | CloseCode | None
BROKEN = CloseCode.PROTOCOL


def verdict(receive: Callable[[ControlMessage], Verdict], message: ControlMessage) -> Verdict:
    """
    @return: what becomes of C{message}.
    """
    try:
        return receive(message)
    except SessionViolation as violation:
        return violation.code


class TextTests(SynchronousTestCase):
    """
    What is signed.
    """

    def test_layout(self) -> None:
        """
        The purpose, the challenge, and both keys with the caller's first.
        """
        text = proofText(FRESH, ALICE.publicKey, BOB.publicKey)
        expected = b"p2ptwist session v1\x00" + FRESH + ALICE.publicKey + BOB.publicKey
        self.assertEqual(text, expected)

    def test_lengths(self) -> None:
        """
        Parts of other lengths are refused, so that no text has two meanings.
        """
        key = ALICE.publicKey
        self.assertRaises(LocalUsageError, proofText, FRESH[1:], key, key)
        self.assertRaises(LocalUsageError, proofText, FRESH, key + b"\x00", key)
        self.assertRaises(LocalUsageError, proofText, FRESH, key, key[1:])

    @given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
    def test_glare(self, one: bytes, other: bytes) -> None:
        """
        When two peers call each other at once exactly one of the calls stands, and both agree.
        """
        self.assertEqual(ownCallStands(one, other) + ownCallStands(other, one), one != other)


class MeetingTests(SynchronousTestCase):
    """
    Both sides, with each other.
    """

    def test_admission(self) -> None:
        """
        Challenge, proof, admitted: then both are in, and what came early is there in order.
        """
        caller = callerIn(UNPROVED)
        called = CalledAdmission(BOB.publicKey, ALICE.publicKey, FRESH, verifySignature)
        challenge = called.pollTransmit()
        assert challenge is not None
        self.assertIsNone(called.pollTransmit())
        self.assertIsNone(caller.receive(challenge))
        proof = caller.pollTransmit()
        assert proof is not None
        self.assertIsNone(caller.pollTransmit())
        for message in (proof, OFFER, GRANT):
            self.assertIsNone(called.receive(message))
        self.assertIsNone(called.pollTransmit())
        self.assertEqual(called.admit(), (OFFER, GRANT))
        admitted = called.pollTransmit()
        self.assertEqual(admitted, Admitted())
        assert admitted is not None
        self.assertIsNone(caller.receive(admitted))
        self.assertEqual((caller.state, called.state), (ADMITTED, ADMITTED))
        self.assertIs(caller.receive(OFFER), OFFER)
        self.assertIs(called.receive(GRANT), GRANT)

    def test_relayedChallenge(self) -> None:
        """
        Mallory, whom Alice calls, hands Bob's challenge to her and her proof to Bob: it was signed
        for Mallory, so Bob refuses it.
        """
        caller = CallerAdmission(ALICE.publicKey, ALICE.sign, MALLORY.publicKey)
        caller.certified(MALLORY.publicKey)
        caller.receive(Challenge(FRESH))
        proof = caller.pollTransmit()
        assert proof is not None
        self.assertEqual(verdict(calledIn(UNPROVED).receive, proof), CloseCode.IMPOSTOR)


class CallerTests(SynchronousTestCase):
    """
    L{CallerAdmission}, whatever comes in whatever state.
    """

    def test_totality(self) -> None:
        """
        Every message in every state is passed on, answered, dropped or a violation; a violation
        ends it.
        """
        table: dict[AdmissionState, list[Verdict]] = {
            UNCERTIFIED: [BROKEN, BROKEN, BROKEN, BROKEN, BROKEN],
            UNPROVED: [None, BROKEN, BROKEN, OFFER, BROKEN],
            UNDECIDED: [BROKEN, BROKEN, None, OFFER, BROKEN],
            ADMITTED: [BROKEN, BROKEN, BROKEN, OFFER, GRANT],
            ENDED: [None, None, None, None, None],
        }
        after = {UNPROVED: UNDECIDED, UNDECIDED: ADMITTED, ENDED: ENDED}
        for state in AdmissionState:
            for message, expected in zip(EVERY_MESSAGE, table[state], strict=True):
                caller = callerIn(state)
                self.assertIs(caller.state, state)
                self.assertEqual(verdict(caller.receive, message), expected, (state, message))
                if expected is BROKEN:
                    self.assertIs(caller.state, ENDED)
                elif expected is None:
                    self.assertIs(caller.state, after[state])

    def test_answers(self) -> None:
        """
        Only a challenge in its time is answered; nothing is signed for anything else.
        """
        signed: list[bytes] = []

        def sign(text: bytes) -> bytes:
            signed.append(text)
            return ALICE.sign(text)

        caller = CallerAdmission(ALICE.publicKey, sign, BOB.publicKey)
        self.assertEqual(verdict(caller.receive, Challenge(FRESH)), BROKEN)
        self.assertEqual((signed, caller.pollTransmit()), ([], None))
        caller = CallerAdmission(ALICE.publicKey, sign, BOB.publicKey)
        caller.certified(BOB.publicKey)
        caller.receive(Challenge(FRESH))
        self.assertEqual(signed, [proofText(FRESH, ALICE.publicKey, BOB.publicKey)])
        self.assertEqual(caller.pollTransmit(), proofOf(ALICE))

    def test_wrongCertificate(self) -> None:
        """
        A certificate of another key, or of no key, ends it before anything is said.
        """
        for key in (MALLORY.publicKey, ALICE.publicKey, b"", BOB.publicKey[:-1]):
            caller = CallerAdmission(ALICE.publicKey, ALICE.sign, BOB.publicKey)
            violation = self.assertRaises(SessionViolation, caller.certified, key)
            self.assertIs(violation.code, CloseCode.IMPOSTOR)
            self.assertIs(caller.state, ENDED)
            self.assertIsNone(caller.receive(Challenge(FRESH)))
            self.assertIsNone(caller.pollTransmit())

    def test_misuse(self) -> None:
        """
        Calling oneself, and a handshake that completes twice, are errors of this program.
        """
        self.assertRaises(
            LocalUsageError, CallerAdmission, ALICE.publicKey, ALICE.sign, ALICE.publicKey
        )
        for state in (UNPROVED, UNDECIDED, ADMITTED, ENDED):
            self.assertRaises(LocalUsageError, callerIn(state).certified, BOB.publicKey)

    def test_end(self) -> None:
        """
        What was not sent when the session ends is not sent.
        """
        caller = callerIn(UNPROVED)
        caller.receive(Challenge(FRESH))
        caller.end()
        self.assertIsNone(caller.pollTransmit())


class CalledTests(SynchronousTestCase):
    """
    L{CalledAdmission}, whatever comes in whatever state.
    """

    def test_totality(self) -> None:
        """
        Every message in every state is passed on, kept, dropped or a violation; a violation ends
        it.
        """
        table: dict[AdmissionState, list[Verdict]] = {
            UNPROVED: [BROKEN, None, BROKEN, BROKEN, BROKEN],
            UNDECIDED: [BROKEN, BROKEN, BROKEN, None, None],
            ADMITTED: [BROKEN, BROKEN, BROKEN, OFFER, GRANT],
            ENDED: [None, None, None, None, None],
        }
        after = {UNPROVED: UNDECIDED, UNDECIDED: UNDECIDED, ENDED: ENDED}
        for state, verdicts in table.items():
            for message, expected in zip(EVERY_MESSAGE, verdicts, strict=True):
                called = calledIn(state)
                self.assertIs(called.state, state)
                self.assertEqual(verdict(called.receive, message), expected, (state, message))
                if expected is BROKEN:
                    self.assertIs(called.state, ENDED)
                elif expected is None:
                    self.assertIs(called.state, after[state])
                self.assertIsNone(called.pollTransmit())

    def test_impostors(self) -> None:
        """
        A proof for another challenge, from another key, for another peer, by another signer or
        spoiled in a single bit is refused, and ends the session before the application is asked.
        """
        good = proofOf(ALICE)
        forAlice = proofText(FRESH, ALICE.publicKey, BOB.publicKey)
        spoiled = bytearray(good.signature)
        spoiled[40] ^= 0x04
        flipped = Proof(good.publicKey, bytes(spoiled))
        for proof in (
            proofOf(ALICE, challenge=STALE),
            proofOf(MALLORY),
            proofOf(MALLORY, caller=ALICE),
            Proof(MALLORY.publicKey, MALLORY.sign(forAlice)),
            proofOf(ALICE, called=MALLORY),
            proofOf(ALICE, called=ALICE),
            proofOf(BOB, caller=ALICE),
            proofOf(BOB, called=ALICE),
            Proof(ALICE.publicKey, bytes(64)),
            Proof(bytes(32), bytes(64)),
            Proof(BOB.publicKey, good.signature),
            flipped,
        ):
            called = calledIn(UNPROVED)
            self.assertIs(verdict(called.receive, proof), CloseCode.IMPOSTOR)
            self.assertIs(called.state, ENDED)
            self.assertRaises(LocalUsageError, called.admit)

    def test_everyBit(self) -> None:
        """
        Each bit of the signature counts.
        """
        good = proofOf(ALICE)
        for bit in range(512):
            spoiled = int.from_bytes(good.signature, "big") ^ 1 << bit
            proof = Proof(good.publicKey, spoiled.to_bytes(64, "big"))
            self.assertIs(verdict(calledIn(UNPROVED).receive, proof), CloseCode.IMPOSTOR)

    def test_replay(self) -> None:
        """
        The proof of one session is worth nothing in the next one of the same two peers.
        """
        first = calledIn(UNPROVED)
        self.assertIsNone(first.receive(proofOf(ALICE)))
        challenge = bytes(reversed(FRESH))
        second = CalledAdmission(BOB.publicKey, ALICE.publicKey, challenge, verifySignature)
        self.assertIs(verdict(second.receive, proofOf(ALICE)), CloseCode.IMPOSTOR)

    def test_node(self) -> None:
        """
        A node that names another sender than the one who proves is found out, though the proof is
        right in itself.
        """
        called = CalledAdmission(BOB.publicKey, MALLORY.publicKey, FRESH, verifySignature)
        self.assertIs(verdict(called.receive, proofOf(ALICE)), CloseCode.IMPOSTOR)

    def test_oneself(self) -> None:
        """
        What a node reflects, so that a peer is called in its own name, is refused.
        """
        called = CalledAdmission(BOB.publicKey, BOB.publicKey, FRESH, verifySignature)
        self.assertIs(verdict(called.receive, proofOf(BOB)), CloseCode.IMPOSTOR)

    def test_kept(self) -> None:
        """
        Until the application decides 32 messages are kept; one more ends the session, and nothing
        is kept any longer.
        """
        called = calledIn(UNDECIDED)
        sent = [SignalMessage(bytes((number,))) for number in range(KEPT_LIMIT)]
        for message in sent:
            self.assertIsNone(called.receive(message))
        self.assertEqual(called.admit(), tuple(sent))
        called = calledIn(UNDECIDED)
        for message in sent:
            called.receive(message)
        self.assertIs(verdict(called.receive, OFFER), CloseCode.OVERFLOW)
        self.assertIs(called.state, ENDED)

    def test_admitOnce(self) -> None:
        """
        There is somebody to admit once, after the proof, while the session lasts.
        """
        for state in (UNPROVED, ADMITTED, ENDED):
            self.assertRaises(LocalUsageError, calledIn(state).admit)

    def test_end(self) -> None:
        """
        What was not sent when the session ends is not sent.
        """
        called = CalledAdmission(BOB.publicKey, ALICE.publicKey, FRESH, verifySignature)
        called.end()
        self.assertIsNone(called.pollTransmit())

    @given(st.lists(st.sampled_from([*EVERY_MESSAGE, proofOf(MALLORY)]), max_size=12))
    def test_sequences(self, sequence: list[ControlMessage]) -> None:
        """
        Whatever comes in whatever order, nothing is passed on before the right proof and the
        application's word.
        """
        called = calledIn(UNPROVED)
        for message in sequence:
            self.assertFalse(isinstance(verdict(called.receive, message), Grant | SignalMessage))
        if called.state is UNDECIDED:
            self.assertEqual(sequence[0], proofOf(ALICE))
