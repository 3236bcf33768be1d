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
from p2ptwist.net.signatures import verifySignature
from p2ptwist.peer.identity import Identity
from p2ptwist.peer.sealing import seal


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

    def read(self, caller: bytes, envelope: Envelope) -> tuple[bytes, ...]:
        """
        @param caller: whom the node named as the sender.
        @return: the signals of its early offer; none when there is none, it is somebody else's, of
            another time, or came before.
        """
        identity, session = self._identity, envelope.session
        data = identity.unseal(envelope.early, earlyInfo(session)) if envelope.early else None
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
        if genuine and self._memory.isFresh(caller, session, offer, self._wallClock()):
            return offer.signals
        return ()
