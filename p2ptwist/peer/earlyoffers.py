"""
Early offers of one peer: sealed and signed, opened and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.session.early import (
    EarlyMemory,
    EarlyOffer,
    decodeEarly,
    earlyInfo,
    earlyText,
    encodeEarly,
)
from p2ptwist.core.session.envelope import Envelope
from p2ptwist.core.tokenbucket import KeyedBuckets, Rate, TokenBucket
from p2ptwist.net.signatures import verifySignature
from p2ptwist.peer.identity import Identity
from p2ptwist.peer.sealing import seal

# Early offers of one caller that are read, a second and at once, over all its sessions: as many as
# offers are answered in one session.  Who calls more often does without, and waits a round trip.
CALLER_RATE = Rate(0.2, 6.0)
CALLER_LIMIT = 1024  # callers whose allowance is remembered; it is full again after 30 s
# The same of all callers, once their signatures were right.  However many keys somebody makes, this
# side sends no more than 800 checks a second for callers that it only knows a signature of; and the
# memory is never full.
TOTAL_RATE = Rate(4.0, 64.0)


class EarlyOffers:
    """
    The early offers that this peer makes and gets.
    """

    def __init__(self, identity: Identity, wallClock: Callable[[], float] = time) -> None:
        """
        @param wallClock: seconds since 1970, which both sides agree about within minutes; where
            they do not, there are no early offers between them, and nothing else is different.
        """
        self._identity = identity
        self._wallClock = wallClock
        self._memory = EarlyMemory()
        self._callers = KeyedBuckets(CALLER_RATE, CALLER_LIMIT)
        self._total: TokenBucket | None = None

    def make(
        self, called: bytes, session: bytes, signals: Sequence[bytes], datagrams: Sequence[bytes]
    ) -> bytes | None:
        """
        @param called: the key of the peer that is called.
        @param session: the name of the session.
        @param signals: at least one.
        @param datagrams: those of QUIC that it goes with.
        @return: a sealed offer; C{None} when there is no sealing to that key.
        """
        identity, now = self._identity, int(self._wallClock())
        text = earlyText(identity.publicKey, called, session, now, datagrams, signals)
        offer = EarlyOffer(now, identity.sign(text), tuple(signals))
        return seal(called, encodeEarly(offer), earlyInfo(session))

    def read(self, caller: bytes, envelope: Envelope, now: float) -> tuple[bytes, ...]:
        """
        @param caller: whom the node named as the sender.
        @param now: seconds on the clock of this side's timers, for what is read in how much time.
        @return: the signals of its early offer; none when there is none, it is somebody else's, of
            another time, came before, or is one too many.
        """
        if not envelope.early or not self._callers.take(caller, now):
            return ()
        identity, session = self._identity, envelope.session
        data = identity.unseal(envelope.early, earlyInfo(session))
        if data is None:
            return ()
        try:
            offer = decodeEarly(data)
        except MalformedDatagram:
            return ()
        text = earlyText(
            caller, identity.publicKey, session, offer.time, envelope.datagrams, offer.signals
        )
        genuine = verifySignature(caller, offer.signature, text)
        if not genuine or not self._mayOffer(now):
            return ()
        fresh = self._memory.isFresh(caller, session, offer, self._wallClock())
        return offer.signals if fresh else ()

    def _mayOffer(self, now: float) -> bool:
        if self._total is None:
            self._total = TokenBucket(TOTAL_RATE, now)
        return self._total.take(now)
