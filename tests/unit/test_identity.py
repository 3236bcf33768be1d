"""
Tests for L{p2ptwist.peer.identity}.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from p2ptwist.core.peerid import decodePeerID
from p2ptwist.errors import IdentityUnusable
from p2ptwist.interfaces import IIdentity
from p2ptwist.peer.identity import (
    createIdentity,
    generateIdentity,
    loadIdentity,
    loadOrCreateIdentity,
)


def pem(
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    """
    @return: C{key} as a file has it.
    """
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


class IdentityTests(SynchronousTestCase):
    """
    A key pair in memory.
    """

    def test_interface(self) -> None:
        """
        It is an identity, and its peer ID is its public key.
        """
        identity = generateIdentity()
        self.assertTrue(verifyObject(IIdentity, identity))
        self.assertEqual(decodePeerID(identity.peerID), identity.publicKey)

    def test_unprinted(self) -> None:
        """
        Nothing secret is in what is printed of it, as in a log or a traceback.
        """
        identity = generateIdentity()
        credentials = identity.credentials()
        for each in (identity, credentials):
            self.assertNotIn("PRIVATE KEY", repr(each))
        self.assertIn("BEGIN CERTIFICATE", repr(credentials))

    def test_sign(self) -> None:
        """
        Its signatures are Ed25519's, under its public key.
        """
        identity = generateIdentity()
        signature = identity.sign(b"data")
        self.assertEqual(len(signature), 64)
        key = ed25519.Ed25519PublicKey.from_public_bytes(identity.publicKey)
        key.verify(signature, b"data")

    def test_different(self) -> None:
        """
        No two are the same.
        """
        self.assertNotEqual(generateIdentity().peerID, generateIdentity().peerID)


class FileCase(SynchronousTestCase):
    """
    What tests of identity files share.
    """

    def setUp(self) -> None:
        """
        A folder for one test, and a usual umask.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "peer.key"
        self.addCleanup(os.umask, os.umask(0o022))

    def write(self, data: bytes, mode: int = 0o600) -> None:
        """
        Make the identity file by hand.
        """
        self.path.write_bytes(data)
        self.path.chmod(mode)

    def assertUnusable(self, words: str) -> None:
        """
        Loading fails, with these words and the name of the file.
        """
        for load in (loadIdentity, loadOrCreateIdentity):
            error = self.assertRaises(IdentityUnusable, load, self.path)
            self.assertIn(words, str(error))
            self.assertIn(str(self.path), str(error))


class CreateTests(FileCase):
    """
    Making identity files.
    """

    def test_roundTrip(self) -> None:
        """
        What was created is what is loaded, from a C{str} or a C{Path}.
        """
        created = createIdentity(self.path)
        self.assertEqual(loadIdentity(self.path).peerID, created.peerID)
        self.assertEqual(loadOrCreateIdentity(str(self.path)).peerID, created.peerID)

    def test_private(self) -> None:
        """
        Only the owner may read it, whatever the umask, and nothing else is left in the folder.
        """
        os.umask(0)
        createIdentity(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.folder), ["peer.key"])

    def test_privateAtEveryMoment(self) -> None:
        """
        There is no moment at which others could open it: neither the name nor the file that
        becomes it appears with another mode.
        """
        os.umask(0)
        modes = []
        link = os.link

        def watching(source: str, target: str) -> None:
            modes.append(stat.S_IMODE(os.stat(source).st_mode))
            self.assertFalse(os.path.lexists(target))
            link(source, target)

        self.patch(os, "link", watching)
        createIdentity(self.path)
        self.assertEqual(modes, [0o600])

    def test_bareName(self) -> None:
        """
        A name without a folder is one in the current folder.
        """
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.folder)
        created = createIdentity("peer.key")
        self.assertEqual(loadIdentity(self.path).peerID, created.peerID)

    def test_neverOver(self) -> None:
        """
        A file that exists is not replaced, whatever is in it.
        """
        self.write(b"precious")
        error = self.assertRaises(IdentityUnusable, createIdentity, self.path)
        self.assertIn("File exists", str(error))
        self.assertEqual(self.path.read_bytes(), b"precious")
        self.assertEqual(os.listdir(self.folder), ["peer.key"])

    def test_noFolder(self) -> None:
        """
        A folder that does not exist is said so.
        """
        self.path = self.folder / "nowhere" / "peer.key"
        for create in (createIdentity, loadOrCreateIdentity):
            error = self.assertRaises(IdentityUnusable, create, self.path)
            self.assertIn("No such file or directory", str(error))

    def test_fasterProcess(self) -> None:
        """
        When another process makes the file at the same moment, its identity is used.
        """
        other = generateIdentity()
        link = os.link

        def tooLate(source: str, target: str) -> None:
            self.write(pem(other._key))
            link(source, target)

        self.patch(os, "link", tooLate)
        self.assertEqual(loadOrCreateIdentity(self.path).peerID, other.peerID)
        self.assertEqual(os.listdir(self.folder), ["peer.key"])

    def test_manyProcesses(self) -> None:
        """
        Processes that start together end up with one identity.
        """
        code = (
            "import sys; from p2ptwist.peer.identity import loadOrCreateIdentity;"
            "print(loadOrCreateIdentity(sys.argv[1]).peerID)"
        )
        argv = [sys.executable, "-c", code, str(self.path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        processes = [
            subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) for _ in range(4)
        ]
        printed = {process.communicate()[0] for process in processes}
        self.assertEqual(printed, {loadIdentity(self.path).peerID.encode() + b"\n"})


class LoadTests(FileCase):
    """
    Identity files that cannot be used.
    """

    def test_readableByOthers(self) -> None:
        """
        A file that the group or others may touch is refused, with what to do.
        """
        data = pem(generateIdentity()._key)
        for mode in (0o640, 0o604, 0o620, 0o602, 0o601, 0o666):
            self.write(data, mode)
            self.assertUnusable("chmod 600")
        self.write(data, 0o400)
        loadIdentity(self.path)

    def test_noKey(self) -> None:
        """
        Whatever is no key is refused.
        """
        for data in (
            b"",
            b"\0" * 100,
            b"not a key",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            b"-----BEGIN PRIVATE KEY-----\n",
        ):
            self.write(data)
            self.assertUnusable("expected an unencrypted Ed25519 private key")

    def test_public(self) -> None:
        """
        A public key is no identity.
        """
        public = generateIdentity()._key.public_key()
        self.write(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        self.assertUnusable("expected an unencrypted Ed25519 private key")

    def test_otherKind(self) -> None:
        """
        A key of another kind is refused.
        """
        self.write(pem(rsa.generate_private_key(65537, 2048)))
        self.assertUnusable("expected an unencrypted Ed25519 private key")

    def test_encrypted(self) -> None:
        """
        A key with a password is refused: nobody is there to ask for it.
        """
        self.write(pem(generateIdentity()._key, BestAvailableEncryption(b"secret")))
        self.assertUnusable("expected an unencrypted Ed25519 private key")

    def test_tooLong(self) -> None:
        """
        A long file is no key, and is not read whole.
        """
        self.write(b" " * 5000 + pem(generateIdentity()._key))
        self.assertUnusable("expected an unencrypted Ed25519 private key")

    def test_folder(self) -> None:
        """
        A folder is no file.
        """
        self.path.mkdir()
        self.assertUnusable("Is a directory")

    def test_pipe(self) -> None:
        """
        A pipe that nobody writes to is refused, and not waited for.
        """
        os.mkfifo(self.path, 0o600)
        self.assertRaises(IdentityUnusable, loadIdentity, self.path)

    def test_dangling(self) -> None:
        """
        A link to nowhere is not followed to make something there.
        """
        self.path.symlink_to(self.folder / "elsewhere")
        self.assertUnusable("No such file or directory")
        self.assertFalse((self.folder / "elsewhere").exists())

    def test_absent(self) -> None:
        """
        A file that is not there is said so.
        """
        error = self.assertRaises(IdentityUnusable, loadIdentity, self.path)
        self.assertIn("No such file or directory", str(error))

    @given(st.binary(max_size=300))
    def test_anything(self, tail: bytes) -> None:
        """
        Whatever a file has in it, nothing but L{IdentityUnusable} is raised.
        """
        for data in (tail, b"-----BEGIN PRIVATE KEY-----\n" + tail):
            self.write(data)
            self.assertRaises(IdentityUnusable, loadIdentity, self.path)

    @given(st.integers(0, 118), st.integers(1, 255))
    def test_damaged(self, place: int, change: int) -> None:
        """
        A damaged file is refused, or has a key, and raises nothing else.
        """
        data = bytearray(_KEY)
        data[place] ^= change
        self.write(bytes(data))
        with contextlib.suppress(IdentityUnusable):
            loadIdentity(self.path)


_KEY = pem(generateIdentity()._key)
