"""
Peer IDs: an Ed25519 public key of 32 bytes, written as 52 characters of lower-case base32.
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from binascii import Error

from p2ptwist.core.errors import LocalUsageError

PUBLIC_KEY_LENGTH = 32  # bytes; RFC 8032 section 5.1.5
PEER_ID_LENGTH = 52  # characters: 256 bits at five a character, without padding


def encodePeerID(publicKey: bytes) -> str:
    """
    @param publicKey: exactly 32 bytes.
    @raise LocalUsageError: for any other length.
    """
    if len(publicKey) != PUBLIC_KEY_LENGTH:
        raise LocalUsageError(f"a public key has 32 bytes, not {len(publicKey)}")
    return b32encode(publicKey).decode("ascii").rstrip("=").lower()


def decodePeerID(peerID: str) -> bytes:
    """
    @return: the public key, exactly 32 bytes.
    @raise LocalUsageError: when the text is not the one peer ID of a key, with what to do.
    """
    try:
        publicKey = b32decode(peerID.upper() + "====")
    except (Error, ValueError):
        publicKey = b""
    if len(publicKey) != PUBLIC_KEY_LENGTH or encodePeerID(publicKey) != peerID:
        raise LocalUsageError(
            f"{peerID!r} is not a peer ID: expected the 52 lower-case letters and digits 2-7 "
            "that the other program printed"
        )
    return publicKey
