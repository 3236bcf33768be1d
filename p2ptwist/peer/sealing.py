"""
Sealing to an identity's key: only its owner reads it, and it says nothing of who sealed it.

It is HPKE (RFC 9180, base mode) with X25519, HKDF-SHA256 and ChaCha20-Poly1305.  An identity is an
Ed25519 key; the X25519 key is the same point on the other form of the curve (RFC 7748 section 4.1),
and so needs no exchange of its own.
"""

from __future__ import annotations

from hashlib import sha512

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_PRIME = 2**255 - 19  # RFC 7748 section 4.1


def seal(publicKey: bytes, data: bytes, info: bytes) -> bytes | None:
    """
    @param publicKey: of an identity, exactly 32 bytes.
    @param info: what it is for; it does not open with another.
    @return: C{data} for the owner of that key, 48 bytes longer; C{None} when it is no key, or one
        that anybody could read with.
    """
    point = _montgomery(publicKey)
    if point is None:
        return None
    try:
        return _SUITE.encrypt(data, X25519PublicKey.from_public_bytes(point), info)
    except ValueError:
        return None  # a point of low order


def unseal(key: Ed25519PrivateKey, sealed: bytes, info: bytes) -> bytes | None:
    """
    @param key: of the identity that it was sealed for.
    @return: what was sealed; C{None} when C{sealed} or C{info} is not that.
    """
    scalar = sha512(key.private_bytes_raw()).digest()[:32]  # RFC 8032 section 5.1.5
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(scalar), info)
    except (InvalidTag, ValueError):
        return None


def _montgomery(publicKey: bytes) -> bytes | None:
    """
    @return: the X25519 public key of an Ed25519 one: u = (1 + y) / (1 - y).
    """
    y = int.from_bytes(publicKey, "little") & (2**255 - 1)
    if (1 - y) % _PRIME == 0:
        return None
    return ((1 + y) * pow(1 - y, -1, _PRIME) % _PRIME).to_bytes(32, "little")
