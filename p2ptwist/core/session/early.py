"""
The early offer: what a caller says together with its first QUIC datagrams.

Without it the called side learns where the caller is only when the handshake is over, a round trip
after the call began.  The early offer carries the caller's first signals, sealed to the called
side's key and signed with the caller's.  The signature covers the QUIC datagrams that come with it,
so that nobody else can go on with the handshake that it belongs to.

Sealing, signing and the clock are the caller's of this module; C{docs/session.md} has the wire.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.session.control import SIGNATURE_LENGTH

SIGNAL_COUNT = 32  # an offer, and a signal for each of at most 24 candidates that came after it
SKEW = 300.0  # seconds that two clocks may differ; an older offer may be a replay
# Offers that are remembered, so that none counts twice while it is not too old: 13 calls a second
# for ten minutes, and 1.6 MB.  Whoever is called more often does without some of them.
MEMORY_LIMIT = 8192
_CONTEXT = b"p2ptwist early offer v1\x00"
_HEAD = struct.Struct(f"!Q{SIGNATURE_LENGTH}s")
_LENGTH = struct.Struct("!H")


@dataclass(frozen=True, slots=True)
class EarlyOffer:
    """
    What is inside the seal.

    @ivar time: seconds since 1970, whole, by the caller's clock.
    @ivar signature: by the caller's key, of L{earlyText}; exactly 64 bytes.
    @ivar signals: 1 to 32 of them, each of 1 to 65,535 bytes.
    """

    time: int
    signature: bytes
    signals: tuple[bytes, ...]


def earlyInfo(session: bytes) -> bytes:
    """
    @param session: the session's name, exactly 8 bytes.
    @return: what the seal is bound to besides its key.
    """
    return _CONTEXT + session


def earlyText(
    callerKey: bytes,
    calledKey: bytes,
    session: bytes,
    time: int,
    datagrams: Iterable[bytes],
    signals: Sequence[bytes],
) -> bytes:
    """
    @param callerKey: exactly 32 bytes, as is C{calledKey}.
    @param session: exactly 8 bytes.
    @param datagrams: the QUIC datagrams that the offer comes with.
    @return: what the caller signs.
    """
    bound = sha256(b"".join(_LENGTH.pack(len(each)) + each for each in datagrams)).digest()
    head = _CONTEXT + callerKey + calledKey + session + time.to_bytes(8, "big") + bound
    return head + _encodeSignals(signals)


def encodeEarly(offer: EarlyOffer) -> bytes:
    """
    @return: what is to be sealed.
    """
    return _HEAD.pack(offer.time, offer.signature) + _encodeSignals(offer.signals)


def decodeEarly(data: bytes) -> EarlyOffer:
    """
    @raise MalformedDatagram: for anything that L{encodeEarly} cannot have made.
    """
    if len(data) < _HEAD.size:
        raise MalformedDatagram(f"an early offer of {len(data)} bytes")
    time, signature = _HEAD.unpack_from(data)
    signals: list[bytes] = []
    offset = _HEAD.size
    while offset < len(data):
        start = offset + _LENGTH.size
        length = int.from_bytes(data[offset:start], "big")
        offset = start + length
        if not length or offset > len(data) or len(signals) == SIGNAL_COUNT:
            raise MalformedDatagram("the signals of an early offer are cut short, or too many")
        signals.append(data[start:offset])
    if not signals:
        raise MalformedDatagram("an early offer without a signal")
    return EarlyOffer(time, signature, tuple(signals))


def _encodeSignals(signals: Sequence[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(each)) + each for each in signals)


class EarlyMemory:
    """
    Which offers came before.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()

    def isFresh(self, caller: bytes, session: bytes, offer: EarlyOffer, now: float) -> bool:
        """
        @param caller: who signed it.
        @param session: the name of its session.
        @param now: seconds since 1970, by this side's clock.
        @return: whether it is of this time, and did not come before.  From then on it did.
        """
        while self._seen and next(iter(self._seen.values())) < now - 2 * SKEW:
            self._seen.popitem(last=False)
        key = (caller, session)
        if abs(offer.time - now) > SKEW or key in self._seen or len(self._seen) >= MEMORY_LIMIT:
            return False
        self._seen[key] = int(now)
        return True
