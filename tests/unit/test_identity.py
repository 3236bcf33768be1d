"""
Tests for L{p2ptwist.peer.identity}.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from p2ptwist.core.peerid import decodePeerID
from p2ptwist.errors import IdentityUnusable
from p2ptwist.interfaces import IIdentity
from p2ptwist.peer import identity
from p2ptwist.peer.identity import (
    createIdentity,
    generateIdentity,
    loadIdentity,
    loadOrCreateIdentity,
)


class IdentityTests(SynchronousTestCase):
    """
    An identity is a key that signs, and its peer ID.
    """

    def test_interface(self) -> None:
        """
        It provides what a link needs.
        """
        verifyObject(IIdentity, generateIdentity())

    def test_signature(self) -> None:
        """
        What it signs is verified with its public key, which its peer ID stands for.
        """
        made = generateIdentity()
        signature = made.sign(b"data")
        self.assertEqual((len(made.publicKey), len(signature)), (32, 64))
        Ed25519PublicKey.from_public_bytes(decodePeerID(made.peerID)).verify(signature, b"data")

    def test_different(self) -> None:
        """
        Every identity is another.
        """
        self.assertNotEqual(generateIdentity().peerID, generateIdentity().peerID)


class FileTests(SynchronousTestCase):
    """
    Identities are kept in files that nobody else can read.
    """

    def setUp(self) -> None:
        """
        Name a file that is not there, in a folder that is.
        """
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "peer.key"

    def write(self, content: bytes) -> None:
        """
        Make a private file.
        """
        self.path.write_bytes(content)
        self.path.chmod(0o600)

    def assertUnusable(self, *words: str) -> None:
        """
        Check that the file is refused, with its name and C{words}.
        """
        message = str(self.assertRaises(IdentityUnusable, loadIdentity, self.path))
        for word in (str(self.path), *words):
            self.assertIn(word, message)

    def test_roundTrip(self) -> None:
        """
        What was created is what is loaded, and only its file is left.
        """
        made = createIdentity(self.path)
        self.assertEqual(loadIdentity(str(self.path)).peerID, made.peerID)
        self.assertEqual(os.listdir(self.folder), ["peer.key"])

    def test_private(self) -> None:
        """
        Whatever the umask is, only the owner can read the file.
        """
        self.addCleanup(os.umask, os.umask(0))
        createIdentity(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_neverOver(self) -> None:
        """
        A file that exists is never written over.
        """
        self.write(b"precious")
        error = self.assertRaises(IdentityUnusable, createIdentity, self.path)
        self.assertIn("File exists", str(error))
        self.assertEqual(self.path.read_bytes(), b"precious")
        self.assertEqual(os.listdir(self.folder), ["peer.key"])

    def test_loadOrCreate(self) -> None:
        """
        The first call makes the identity that every later call finds.
        """
        made = loadOrCreateIdentity(self.path)
        self.assertEqual(loadOrCreateIdentity(self.path).peerID, made.peerID)

    def test_createdMeanwhile(self) -> None:
        """
        When another process makes the file in between, that identity is taken.
        """
        original = createIdentity

        def slow(path: str | Path) -> object:
            original(path)
            return original(path)

        self.patch(identity, "createIdentity", slow)
        self.assertEqual(loadOrCreateIdentity(self.path).peerID, loadIdentity(self.path).peerID)

    def test_folderMissing(self) -> None:
        """
        Where the file cannot be made, the error says so.
        """
        error = self.assertRaises(
            IdentityUnusable, loadOrCreateIdentity, self.folder / "no" / "peer.key"
        )
        self.assertIn("No such file or directory", str(error))

    def test_brokenLink(self) -> None:
        """
        A link that leads nowhere is not replaced.
        """
        self.path.symlink_to(self.folder / "gone")
        self.assertRaises(IdentityUnusable, loadOrCreateIdentity, self.path)
        self.assertTrue(self.path.is_symlink())

    def test_missing(self) -> None:
        """
        A file that is not there cannot be loaded.
        """
        self.assertUnusable("No such file")

    def test_readableByOthers(self) -> None:
        """
        A key that others could read is refused, with what to do.
        """
        createIdentity(self.path)
        for mode in (0o640, 0o604, 0o610):
            self.path.chmod(mode)
            self.assertUnusable("chmod 600")

    def test_notKey(self) -> None:
        """
        Anything but an Ed25519 key in PEM form is refused, and named as what it is not.
        """
        other = generate_private_key(SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        for content in (b"", b"\0" * 10, b"-----BEGIN PRIVATE KEY-----\n", other, b"x" * 10_000):
            self.write(content)
            self.assertUnusable("not an identity file")
