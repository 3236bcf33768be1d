"""
A peer that shares nothing with C{p2ptwist.peer} but the rendezvous link: its sessions are aioquic
and what C{docs/session.md} says, written once more.
"""

from __future__ import annotations

import os
import ssl
import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256, sha512
from time import time
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.interfaces import ILinkReceiver, IWelcome
from p2ptwist.peer.identity import Identity
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.testing import Host

ADDRESS = ("192.0.2.1", 1)
CONTROL = 1  # the control stream
PURPOSE = b"p2ptwist session v1\0"
CHALLENGE, PROOF, ADMITTED, SIGNAL, GRANT = 1, 2, 3, 0x10, 0x11
FREE = 65_536  # bytes of a stream that need no grant
ENVELOPE, EARLY_ENVELOPE = 0x51, 0x53
EARLY_PURPOSE = b"p2ptwist early offer v1\0"
SEAL = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
PRIME = 2**255 - 19
DATAGRAMS = 10  # in one envelope


def settings(identity: Identity | None) -> QuicConfiguration:
    """
    @param identity: the called side's; C{None} on the caller's side.
    @return: what the page asks of QUIC.
    """
    configuration = QuicConfiguration(
        is_client=identity is None,
        alpn_protocols=["p2ptwist/1"],
        idle_timeout=3600.0,
        max_datagram_size=1200,
        max_datagram_frame_size=1200,
        max_data=1 << 24,
        max_stream_data=1 << 24,
        verify_mode=ssl.CERT_NONE if identity is None else None,
    )
    if identity is not None:
        credentials = identity.credentials()
        configuration.certificate = x509.load_pem_x509_certificate(credentials.certificate)
        configuration.private_key = load_pem_private_key(credentials.privateKey, None)
    return configuration


def joined(parts: Sequence[bytes]) -> bytes:
    """
    @return: each after two bytes of length.
    """
    return b"".join(struct.pack("!H", len(part)) + part for part in parts)


def separated(data: bytes) -> list[bytes]:
    """
    @return: the parts that L{joined} made C{data} of.
    """
    parts = []
    while data:
        (length,) = struct.unpack("!H", data[:2])
        parts.append(data[2 : 2 + length])
        data = data[2 + length :]
    return parts


def earlyText(
    caller: bytes, called: bytes, name: bytes, time: bytes, datagrams: Sequence[bytes], rest: bytes
) -> bytes:
    """
    @param time: 8 bytes.
    @param rest: the signals with their lengths.
    @return: what is signed.
    """
    bound = sha256(joined(datagrams)).digest()
    return EARLY_PURPOSE + caller + called + name + time + bound + rest


def sealed(
    identity: Identity,
    called: bytes,
    name: bytes,
    signals: Sequence[bytes],
    datagrams: Sequence[bytes],
) -> bytes:
    """
    @return: an early offer.
    """
    now, rest = struct.pack("!Q", int(time())), joined(signals)
    text = earlyText(identity.publicKey, called, name, now, datagrams, rest)
    y = int.from_bytes(called, "little") % 2**255
    u = (1 + y) * pow(1 - y, -1, PRIME) % PRIME
    key = X25519PublicKey.from_public_bytes(u.to_bytes(32, "little"))
    return SEAL.encrypt(now + identity.sign(text) + rest, key, EARLY_PURPOSE + name)


def unsealed(
    identity: Identity, caller: bytes, name: bytes, early: bytes, datagrams: Sequence[bytes]
) -> list[bytes]:
    """
    @return: the signals of an early offer, which is right in every way.
    """
    key = load_pem_private_key(identity.credentials().privateKey, None)
    assert isinstance(key, Ed25519PrivateKey)
    scalar = X25519PrivateKey.from_private_bytes(sha512(key.private_bytes_raw()).digest()[:32])
    inside = SEAL.decrypt(early, scalar, EARLY_PURPOSE + name)
    now, signature, rest = inside[:8], inside[8:72], inside[72:]
    text = earlyText(caller, identity.publicKey, name, now, datagrams, rest)
    Ed25519PublicKey.from_public_bytes(caller).verify(signature, text)
    assert abs(struct.unpack("!Q", now)[0] - time()) < 300
    return separated(rest)


class Flow:
    """
    One stream.

    @ivar granted: how much may be sent.
    @ivar data: what came, without the header.
    @ivar service: what was in the header, on a stream of the other side's.
    """

    def __init__(self) -> None:
        self.waiting = b""
        self.sent = 0
        self.granted = FREE
        self.data = b""
        self.came = 0
        self.told = FREE
        self.service = ""
        self.ended = False
        self.code: int | None = None


class AioquicSession:
    """
    One session.

    @ivar flows: its streams.
    @ivar messages: datagrams of the application that came.
    @ivar admitted: whether the caller is admitted.
    @ivar signals: the other side's signals; there is no answer to them, so no direct path.
    @ivar offered: those of them that were in its early offer.
    @ivar grants: how many came.
    @ivar end: how it ended.
    """

    def __init__(self, peer: AioquicPeer, key: bytes, name: bytes, called: bytes | None) -> None:
        """
        @param key: the other side's.
        @param called: the connection ID that the other side's first datagram goes to; C{None} to
            call.
        """
        self.flows: dict[int, Flow] = {}
        self.messages: list[bytes] = []
        self.admitted = False
        self.signals: list[bytes] = []
        self.offered: list[bytes] = []
        self.grants = 0
        self.end: events.ConnectionTerminated | None = None
        self.key = key
        self.name = name
        self.calling = called is None
        self._peer = peer
        self._challenge = os.urandom(32)
        self._control = b""
        self._timer: IDelayedCall | None = None
        if called is None:
            self.connection = QuicConnection(configuration=settings(None))
            self.connection.connect(ADDRESS, self._now())
        else:
            self.connection = QuicConnection(
                configuration=settings(peer.proves),
                original_destination_connection_id=called,
            )

    # What the test does.

    def open(self, service: str) -> int:
        """
        @return: a new stream to a service of the other side's.
        """
        stream: int = self.connection.get_next_available_stream_id()
        self.flows[stream] = Flow()
        name = service.encode()
        self.write(stream, bytes((len(name),)) + name)
        return stream

    def write(self, stream: int, data: bytes) -> None:
        """
        Send as much as is granted, and the rest when it is.
        """
        self.flows[stream].waiting += data
        self._send(stream)
        self.flush()

    def finish(self, stream: int) -> None:
        """
        End this side's direction.
        """
        self.connection.send_stream_data(stream, b"", True)
        self.flush()

    def overflow(self, stream: int, data: bytes) -> None:
        """
        Send, granted or not.
        """
        self.connection.send_stream_data(stream, data)
        self.flush()

    def sendMessage(self, data: bytes) -> None:
        """
        Send a datagram of the application.
        """
        self.connection.send_datagram_frame(data)
        self.flush()

    def close(self, code: int, reason: str) -> None:
        """
        End the session.
        """
        self.connection.close(code, None, reason)
        self.flush()

    # QUIC's side.

    def receive(self, datagrams: list[bytes]) -> None:
        """
        Take what came in an envelope.
        """
        for datagram in datagrams:
            self.connection.receive_datagram(datagram, ADDRESS, self._now())
        self._listen()
        self.flush()

    def flush(self) -> None:
        """
        Send what there is to send, and wait for what comes next.
        """
        datagrams = [data for data, _ in self.connection.datagrams_to_send(self._now())]
        if self._peer.offers and self.calling:
            signals, self._peer.offers = self._peer.offers, []
            early = sealed(self._peer.identity, self.key, self.name, signals, datagrams)
            head = bytes((EARLY_ENVELOPE,)) + self.name + joined([early])
            self._peer.link.sendRelayed(self.key, head + joined(datagrams))
            datagrams = []
        for first in range(0, len(datagrams), DATAGRAMS):
            envelope = bytes((ENVELOPE,)) + self.name
            envelope += joined(datagrams[first : first + DATAGRAMS])
            self._peer.link.sendRelayed(self.key, envelope)
        self.stopTimer()
        deadline = self.connection.get_timer()
        if deadline is not None:
            delay = max(0.0, deadline - self._now())
            self._timer = self._peer.host.callLater(delay, self._due)

    def stopTimer(self) -> None:
        """
        Wait for nothing.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        deadline = self.connection.get_timer()
        if deadline is not None:
            self.connection.handle_timer(max(deadline, self._now()))
        self._listen()
        self.flush()

    def _now(self) -> float:
        return self._peer.host.seconds()

    # What happens.

    def _listen(self) -> None:
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                if event.stream_id == CONTROL:
                    self._controlled(event.data)
                else:
                    self._received(event.stream_id, event.data, event.end_stream)
            elif isinstance(event, events.StreamReset):
                self.flows[event.stream_id].code = event.error_code
            elif isinstance(event, events.DatagramFrameReceived):
                self.messages.append(event.data)
            elif isinstance(event, events.ConnectionTerminated):
                self.end = event

    def challenge(self) -> None:
        """
        Open the control stream.
        """
        assert self.connection.get_next_available_stream_id() == CONTROL
        self._say(CHALLENGE, self._challenge)

    def _say(self, kind: int, body: bytes) -> None:
        message = struct.pack("!HB", 1 + len(body), kind) + body
        self.connection.send_stream_data(CONTROL, message)

    def _controlled(self, data: bytes) -> None:
        self._control += data
        for kind, body in self._messages():
            if kind == CHALLENGE and self.calling:
                self._prove(body)
            elif kind == PROOF and not self.calling:
                self._check(body)
            elif kind == ADMITTED and self.calling:
                self.admitted = True
            elif kind == SIGNAL:
                self.signals.append(body)
            elif kind == GRANT:
                self._granted(*struct.unpack("!QQ", body))
            else:
                self.close(3, f"a message of type {kind}")

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        while len(self._control) >= 2:
            (length,) = struct.unpack("!H", self._control[:2])
            if len(self._control) < 2 + length:
                return
            message, self._control = self._control[2 : 2 + length], self._control[2 + length :]
            yield message[0], message[1:]

    def _prove(self, challenge: bytes) -> None:
        certificate = self.connection.tls._peer_certificate
        assert certificate is not None
        key = certificate.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        if key != self.key:
            self.close(2, "another key than the one that was called")
            return
        own = self._peer.identity.publicKey
        text = PURPOSE + challenge + own + self.key
        self._say(PROOF, own + self._peer.proves.sign(text))

    def _check(self, proof: bytes) -> None:
        text = PURPOSE + self._challenge + self.key + self._peer.identity.publicKey
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(proof[32:], text)
        except InvalidSignature:
            self.close(2, "a wrong signature")
            return
        if proof[:32] != self.key:
            self.close(2, "another key than the node named")
        elif not self._peer.welcomes:
            self.close(1, "nobody is welcome")
        else:
            self.admitted = True
            self._say(ADMITTED, b"")

    def _granted(self, stream: int, offset: int) -> None:
        self.grants += 1
        if stream in self.flows:
            self.flows[stream].granted = max(offset, self.flows[stream].granted)
            self._send(stream)

    def _send(self, stream: int) -> None:
        flow = self.flows[stream]
        room = flow.granted - flow.sent
        data, flow.waiting = flow.waiting[:room], flow.waiting[room:]
        flow.sent += len(data)
        self.connection.send_stream_data(stream, data)

    def _received(self, stream: int, data: bytes, ended: bool) -> None:
        flow = self.flows.setdefault(stream, Flow())
        flow.came += len(data)
        flow.data += data
        flow.ended = flow.ended or ended
        theirs = stream % 2 == self.calling
        if theirs and not flow.service:
            length = 1 + flow.data[0]
            flow.service, flow.data = flow.data[1:length].decode(), flow.data[length:]
            data = flow.data
        if theirs and flow.service == "echo":
            self.write(stream, data)
        # All that came was read.
        if flow.came + FREE // 2 >= flow.told:
            flow.told = flow.came + FREE
            self._say(GRANT, struct.pack("!QQ", stream, flow.told))


@implementer(ILinkReceiver)
class AioquicPeer:
    """
    A peer with a real link to a real node.

    @ivar proves: the identity that it shows to others: its own, unless it is an impostor.
    @ivar welcomes: whether it admits anybody.
    @ivar heeds: whether it reads early offers.
    @ivar offers: the signals of the early offer that its next call begins with.
    @ivar sessions: those that others have begun.
    """

    def __init__(self, host: Host, identity: Identity, node: str) -> None:
        self.host = host
        self.identity = identity
        self.proves = identity
        self.welcomes = True
        self.heeds = True
        self.offers: list[bytes] = []
        self.sessions: list[AioquicSession] = []
        self.link = RendezvousLink.fromString(host, node, identity)
        self.link.receiver = self
        self._byName: dict[tuple[bytes, bytes], AioquicSession] = {}
        self.link.startService()

    def call(self, peer: bytes) -> AioquicSession:
        """
        Begin a session.
        """
        session = AioquicSession(self, peer, os.urandom(8), None)
        self._byName[(peer, session.name)] = session
        session.flush()
        return session

    def stop(self) -> Any:
        """
        @return: a Deferred that fires when nothing is left.
        """
        for session in self._byName.values():
            session.stopTimer()
        return self.link.stopService()

    # ILinkReceiver

    def linkUp(self, welcome: IWelcome) -> None:
        """
        Nothing depends on it.
        """

    def linkDown(self, reason: Failure) -> None:
        """
        Nothing depends on it.
        """

    def messageReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Sessions use none.
        """

    def peerUnreachable(self, peer: bytes) -> None:
        """
        Nothing depends on it.
        """

    def relayedReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Take an envelope.
        """
        if payload[0] not in (ENVELOPE, EARLY_ENVELOPE):
            return
        name, datagrams, early = payload[1:9], separated(payload[9:]), b""
        if payload[0] == EARLY_ENVELOPE:
            early = datagrams.pop(0)
        session = self._byName.get((sender, name))
        if session is None:
            # RFC 9000 section 17.2: the length of the connection ID, and the connection ID.
            destination = datagrams[0][6 : 6 + datagrams[0][5]]
            session = AioquicSession(self, sender, name, destination)
            self._byName[(sender, name)] = session
            self.sessions.append(session)
            if early and self.heeds:
                session.offered = unsealed(self.identity, sender, name, early, datagrams)
            session.receive(datagrams)
            session.challenge()
            session.flush()
        else:
            session.receive(datagrams)
