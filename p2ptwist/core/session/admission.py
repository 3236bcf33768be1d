"""
Who is who: the first messages of the control stream, on either side.

The called side has proved its key by its certificate before.  It sends a fresh challenge, and the
caller signs it together with both keys.  So a proof is worth nothing in another session, to another
peer, or from another one.

==============  ====================================  ====================================
state           the caller takes                      the called side takes
==============  ====================================  ====================================
C{UNCERTIFIED}  nothing                               (is never in this state)
C{UNPROVED}     challenge: proves; signal: passed on  proof: checks it
C{UNDECIDED}    admitted; signal: passed on           signal, grant: kept until it decides
C{ADMITTED}     signal, grant: passed on              signal, grant: passed on
C{ENDED}        nothing; all is dropped               nothing; all is dropped
==============  ====================================  ====================================

Any other message ends the session with L{CloseCode.PROTOCOL}.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.peerid import PUBLIC_KEY_LENGTH
from p2ptwist.core.session.control import (
    CHALLENGE_LENGTH,
    Admitted,
    Challenge,
    CloseCode,
    ControlMessage,
    Grant,
    Proof,
    SignalMessage,
)
from p2ptwist.core.session.errors import SessionViolation

# Messages that wait for the decision.  A caller has an offer, and one more signal for each of at
# most 24 candidates; it has received nothing yet that it could grant.
KEPT_LIMIT = 32

_CONTEXT = b"p2ptwist session v1\x00"

Traffic = SignalMessage | Grant


class AdmissionState(enum.Enum):
    """
    How far the two sides know each other.
    """

    UNCERTIFIED = "uncertified"
    UNPROVED = "unproved"
    UNDECIDED = "undecided"
    ADMITTED = "admitted"
    ENDED = "ended"


def proofText(challenge: bytes, callerKey: bytes, calledKey: bytes) -> bytes:
    """
    @param challenge: exactly 32 bytes.
    @param callerKey: the public key of the caller, exactly 32 bytes.
    @param calledKey: the public key of the called side, exactly 32 bytes.
    @return: what the caller signs.
    @raise LocalUsageError: when a part does not have its length, which would let one text have two
        meanings.
    """
    lengths = (len(challenge), len(callerKey), len(calledKey))
    if lengths != (CHALLENGE_LENGTH, PUBLIC_KEY_LENGTH, PUBLIC_KEY_LENGTH):
        raise LocalUsageError(f"a challenge and two keys, not {lengths} bytes")
    return _CONTEXT + challenge + callerKey + calledKey


def ownCallStands(ownKey: bytes, otherKey: bytes) -> bool:
    """
    Two peers called each other at once.

    @return: whether this peer's call is the one that becomes the session; the other peer decides
        the opposite.  The greater key's call stands, as numbers.
    """
    return ownKey > otherKey


class CallerAdmission:
    """
    The caller's side.  Single use.

    @ivar state: how far it is.
    """

    __slots__ = (
        "_calledKey",
        "_outgoing",
        "_ownKey",
        "_sign",
        "state",
    )

    def __init__(self, ownKey: bytes, sign: Callable[[bytes], bytes], calledKey: bytes) -> None:
        """
        @param ownKey: this peer's public key, exactly 32 bytes.
        @param sign: makes a signature, exactly 64 bytes, with its private key.
        @param calledKey: the public key of the peer that is called, exactly 32 bytes.
        @raise LocalUsageError: when this peer calls itself.
        """
        if ownKey == calledKey:
            raise LocalUsageError("a peer cannot call itself: this is its own peer ID")
        self.state = AdmissionState.UNCERTIFIED
        self._ownKey = ownKey
        self._sign = sign
        self._calledKey = calledKey
        self._outgoing: list[ControlMessage] = []

    def certified(self, publicKey: bytes) -> None:
        """
        The handshake completed.

        @param publicKey: the key of the certificate, with which the other side signed the
            handshake; C{b""} when it is no Ed25519 key.
        @raise SessionViolation: when it is not the key of the peer that is called.
        @raise LocalUsageError: when this was called before.
        """
        if self.state is not AdmissionState.UNCERTIFIED:
            raise LocalUsageError(f"a handshake completes once; this session is {self.state.value}")
        if publicKey != self._calledKey:
            self.end()
            raise SessionViolation(CloseCode.IMPOSTOR, "the certificate is another peer's")
        self.state = AdmissionState.UNPROVED

    def receive(self, message: ControlMessage) -> Traffic | None:
        """
        Take the next message of the control stream.

        @return: the message when it is for the session to process.
        @raise SessionViolation: when it may not come now.  The session is to be closed.
        """
        state = self.state
        if state is AdmissionState.ADMITTED and isinstance(message, Traffic):
            return message
        proving = state in (AdmissionState.UNPROVED, AdmissionState.UNDECIDED)
        if proving and isinstance(message, SignalMessage):
            return message  # the answer to an early offer; the certificate was right
        if state is AdmissionState.UNPROVED and isinstance(message, Challenge):
            self._prove(message.value)
        elif state is AdmissionState.UNDECIDED and isinstance(message, Admitted):
            self.state = AdmissionState.ADMITTED
        elif state is not AdmissionState.ENDED:
            self.end()
            raise _untimely(message, state)
        return None

    def pollTransmit(self) -> ControlMessage | None:
        """
        @return: the next message to send, or C{None}.
        """
        return self._outgoing.pop(0) if self._outgoing else None

    def end(self) -> None:
        """
        The session is over, whoever ended it.
        """
        self.state = AdmissionState.ENDED
        self._outgoing.clear()

    def _prove(self, challenge: bytes) -> None:
        signature = self._sign(proofText(challenge, self._ownKey, self._calledKey))
        self._outgoing.append(Proof(self._ownKey, signature))
        self.state = AdmissionState.UNDECIDED


class CalledAdmission:
    """
    The called side.  Single use.

    When L{state} becomes C{UNDECIDED} the caller has proved its key, and the application is to be
    asked: then L{admit}, or L{end} and a close with L{CloseCode.NOT_ADMITTED}.

    @ivar state: how far it is.
    """

    __slots__ = (
        "_callerKey",
        "_kept",
        "_outgoing",
        "_ownKey",
        "_text",
        "_verify",
        "state",
    )

    def __init__(
        self,
        ownKey: bytes,
        callerKey: bytes,
        challenge: bytes,
        verify: Callable[[bytes, bytes, bytes], bool],
    ) -> None:
        """
        @param ownKey: this peer's public key, exactly 32 bytes.
        @param callerKey: the public key that the rendezvous node named as the sender of the
            envelopes, exactly 32 bytes.
        @param challenge: 32 fresh random bytes.
        @param verify: called with public key, signature and text; says whether they fit.
        """
        self.state = AdmissionState.UNPROVED
        self._ownKey = ownKey
        self._callerKey = callerKey
        self._text = proofText(challenge, callerKey, ownKey)
        self._verify = verify
        self._outgoing: list[ControlMessage] = [Challenge(challenge)]
        self._kept: list[Traffic] = []

    def receive(self, message: ControlMessage) -> Traffic | None:
        """
        Take the next message of the control stream.

        @return: the message when it is for the session to process.
        @raise SessionViolation: when it may not come now, or proves nothing.  The session is to be
            closed.
        """
        state = self.state
        if state is AdmissionState.ADMITTED and isinstance(message, Traffic):
            return message
        if state is AdmissionState.UNDECIDED and isinstance(message, Traffic):
            self._keep(message)
        elif state is AdmissionState.UNPROVED and isinstance(message, Proof):
            self._checkProof(message)
        elif state is not AdmissionState.ENDED:
            self.end()
            raise _untimely(message, state)
        return None

    def admit(self) -> tuple[Traffic, ...]:
        """
        The application takes the caller.

        @return: what came in the meantime, for the session to process now.
        @raise LocalUsageError: when the caller has proved nothing, was admitted before, or the
            session is over.
        """
        if self.state is not AdmissionState.UNDECIDED:
            raise LocalUsageError(f"there is nobody to admit: this session is {self.state.value}")
        self.state = AdmissionState.ADMITTED
        self._outgoing.append(Admitted())
        kept, self._kept = tuple(self._kept), []
        return kept

    def pollTransmit(self) -> ControlMessage | None:
        """
        @return: the next message to send, or C{None}.
        """
        return self._outgoing.pop(0) if self._outgoing else None

    def end(self) -> None:
        """
        The session is over, whoever ended it.
        """
        self.state = AdmissionState.ENDED
        self._outgoing.clear()
        self._kept.clear()

    def _keep(self, message: Traffic) -> None:
        if len(self._kept) >= KEPT_LIMIT:
            self.end()
            raise SessionViolation(CloseCode.OVERFLOW, "too many messages before the admission")
        self._kept.append(message)

    def _checkProof(self, proof: Proof) -> None:
        reason = self._flaw(proof)
        if reason:
            self.end()
            raise SessionViolation(CloseCode.IMPOSTOR, reason)
        self.state = AdmissionState.UNDECIDED

    def _flaw(self, proof: Proof) -> str:
        """
        @return: what is wrong with C{proof}; empty for nothing.
        """
        if self._callerKey == self._ownKey:
            return "a call in the name of this peer itself"
        if proof.publicKey != self._callerKey:
            return "the proof is for another key than the one that the rendezvous node named"
        if not self._verify(proof.publicKey, proof.signature, self._text):
            return "the signature does not fit key and challenge"
        return ""


def _untimely(message: ControlMessage, state: AdmissionState) -> SessionViolation:
    kind = type(message).__name__
    return SessionViolation(CloseCode.PROTOCOL, f"{kind} in a session that is {state.value}")
