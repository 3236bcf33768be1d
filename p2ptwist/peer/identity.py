"""
A peer's identity: an Ed25519 key pair in a file that only its owner can read.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from zope.interface import implementer

from p2ptwist.core.peerid import encodePeerID
from p2ptwist.errors import IdentityUnusable
from p2ptwist.interfaces import IIdentity
from p2ptwist.net.quic import Credentials
from p2ptwist.peer.sealing import unseal

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LARGEST = 4096  # bytes; a PEM file with an Ed25519 key has 119


@implementer(IIdentity)
class Identity:
    """
    An Ed25519 key pair.

    @ivar publicKey: the raw public key, exactly 32 bytes.
    @ivar peerID: the same in lower-case base32, 52 characters: what others call this peer by.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.publicKey = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.peerID = encodePeerID(self.publicKey)

    def sign(self, data: bytes) -> bytes:
        """
        @return: the signature of C{data}, exactly 64 bytes (RFC 8032).
        """
        return self._key.sign(data)

    def unseal(self, sealed: bytes, info: bytes) -> bytes | None:
        """
        @param sealed: what L{p2ptwist.peer.sealing.seal} made for this identity's public key.
        @param info: the same as there.
        @return: what was sealed; C{None} when it is not that.
        """
        return unseal(self._key, sealed, info)

    def credentials(self) -> Credentials:
        """
        @return: a self-signed certificate of this key, and the key, for the called side of a
            session.  Nothing in it counts but the key, so it is valid for ever.
        """
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "p2ptwist")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2999, 12, 31, tzinfo=UTC))
            .sign(self._key, None)
        )
        return Credentials(
            certificate.public_bytes(Encoding.PEM),
            self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )


def generateIdentity() -> Identity:
    """
    @return: a new identity, in memory only.
    """
    return Identity(Ed25519PrivateKey.generate())


def _open(path: str, flags: int) -> int:
    # What is no file, such as a pipe that nobody writes to, must not hold the program up.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def loadIdentity(path: str | Path) -> Identity:
    """
    @param path: a PEM file (PKCS #8) with an Ed25519 private key, readable by its owner alone.
    @raise IdentityUnusable: when it is anything else, with what to do.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LARGEST + 1) or b""
    except OSError as error:
        raise IdentityUnusable(f"cannot read the identity file {path}: {error.strerror}") from None
    if os.name == "posix" and mode & _OTHERS:
        raise IdentityUnusable(
            f"the identity file {path} can be read by others: run 'chmod 600 {path}', and make a "
            "new one if somebody may have copied it"
        )
    key = None
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = load_pem_private_key(data, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityUnusable(
            f"{path} is not an identity file: expected an unencrypted Ed25519 private key in PEM "
            "form; name another file, or one that does not exist yet to have it made"
        )
    return Identity(key)


def createIdentity(path: str | Path) -> Identity:
    """
    Make a new identity and its file, which nobody else can read at any moment.

    @raise IdentityUnusable: when the file cannot be made, or exists.
    """
    identity = generateIdentity()
    pem = identity._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Written beside and then linked: the name appears at once, whole, and never over another file.
    folder, name = os.path.split(path)
    try:
        descriptor, beside = tempfile.mkstemp(".new", f"{name}.", folder or os.curdir)  # mode 0600
        try:
            with open(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)
        finally:
            os.unlink(beside)
    except OSError as error:
        raise IdentityUnusable(f"cannot make the identity file {path}: {error.strerror}") from None
    return identity


def loadOrCreateIdentity(path: str | Path) -> Identity:
    """
    @return: the identity in that file, which is made if there is none.
    @raise IdentityUnusable: when the file cannot be used or made.
    """
    if os.path.lexists(path):
        return loadIdentity(path)
    try:
        return createIdentity(path)
    except IdentityUnusable:
        # Another process may have been faster, which is as good.
        if os.path.lexists(path):
            return loadIdentity(path)
        raise
