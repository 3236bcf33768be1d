"""
Ed25519 signatures, checked.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def verifySignature(publicKey: bytes, signature: bytes, data: bytes) -> bool:
    """
    @param publicKey: a raw Ed25519 key, 32 bytes from anywhere.
    @param signature: 64 bytes from anywhere.
    @return: whether the holder of C{publicKey} signed C{data}.
    @see: RFC 8032 section 5.1.7
    """
    try:
        Ed25519PublicKey.from_public_bytes(publicKey).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
