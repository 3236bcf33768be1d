"""
Sessions' QUIC against aioquic, on either side of the connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.session.admission import AdmissionState, CalledAdmission, CallerAdmission
from p2ptwist.core.session.control import (
    Admitted,
    Challenge,
    ControlDecoder,
    ControlMessage,
    Proof,
    encodeControl,
)
from p2ptwist.net.quic import (
    ALPN,
    CONTROL_STREAM,
    DATAGRAM_LENGTH,
    QUIC,
    VIRTUAL_ADDRESS,
    HandshakeDone,
    MessageReceived,
    StreamReceived,
    Terminated,
    calledQUIC,
    callingQUIC,
    destinationOf,
)
from p2ptwist.net.signatures import verifySignature
from p2ptwist.peer.identity import generateIdentity

HERE, THERE = generateIdentity(), generateIdentity()
CHALLENGE = bytes(range(32))
LARGE = bytes(range(256)) * 2000
_OPEN_WINDOW = 1 << 24


class Other:
    """
    aioquic, with the few verbs that the tests need.

    @ivar data: what came, by stream.
    @ivar messages: datagrams of the application that came.
    @ivar ends: why the connection ended.
    """

    def __init__(self, connection: QuicConnection) -> None:
        self.connection = connection
        self.data: dict[int, bytes] = {}
        self.messages: list[bytes] = []
        self.ends: list[events.ConnectionTerminated] = []

    def receive(self, datagrams: list[bytes], now: float) -> None:
        """
        Take datagrams, and keep what they bring.
        """
        for datagram in datagrams:
            self.connection.receive_datagram(datagram, VIRTUAL_ADDRESS, now)
        timer = self.connection.get_timer()
        if timer is not None and timer <= now:
            self.connection.handle_timer(now)
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                kept = self.data.get(event.stream_id, b"")
                self.data[event.stream_id] = kept + event.data
            elif isinstance(event, events.DatagramFrameReceived):
                self.messages.append(event.data)
            elif isinstance(event, events.ConnectionTerminated):
                self.ends.append(event)

    def take(self, now: float) -> list[bytes]:
        """
        @return: what it sends.
        """
        return [data for data, _ in self.connection.datagrams_to_send(now)]


def configuration(isClient: bool) -> QuicConfiguration:
    """
    @return: what docs/session.md asks of QUIC.
    """
    return QuicConfiguration(
        is_client=isClient,
        alpn_protocols=[ALPN],
        max_datagram_size=DATAGRAM_LENGTH,
        max_datagram_frame_size=DATAGRAM_LENGTH,
        max_data=_OPEN_WINDOW,
        max_stream_data=_OPEN_WINDOW,
        verify_mode=ssl.CERT_NONE if isClient else None,
    )


class AioquicTests(SynchronousTestCase):
    """
    The same session, with aioquic playing one side.
    """

    now = 100.0
    done: HandshakeDone | None = None
    end: Terminated | None = None

    def pump(self, here: QUIC, there: Other) -> None:
        """
        Carry everything to and fro.
        """
        for _ in range(300):
            self.now += 0.02
            sent = here.takeDatagrams(self.now)
            there.receive(sent, self.now)
            answers = there.take(self.now)
            here.receive(answers, self.now)
            deadline = here.deadline()
            if deadline is not None and deadline <= self.now:
                here.handleTimeout(self.now)
            self.listen(here)
            if not sent and not answers and here.isSettled(self.now):
                break

    def listen(self, here: QUIC) -> None:
        """
        Keep what happened here.
        """
        while (event := here.pollEvent()) is not None:
            if isinstance(event, HandshakeDone):
                self.done = event
            elif isinstance(event, StreamReceived):
                kept = self.data.get(event.stream, b"")
                self.data[event.stream] = kept + event.data
            elif isinstance(event, MessageReceived):
                self.messages.append(event.data)
            elif isinstance(event, Terminated):
                self.end = event

    def setUp(self) -> None:
        """
        Begin with nothing.
        """
        self.data: dict[int, bytes] = {}
        self.messages: list[bytes] = []

    def exchange(
        self, here: QUIC, there: Other, stream: int, send: Callable[[bytes], None]
    ) -> None:
        """
        Move bytes both ways on a stream, and datagrams, and end the connection.
        """
        send(LARGE)
        self.pump(here, there)
        self.assertEqual(self.data[stream], LARGE)
        here.send(stream, LARGE, True)
        here.sendMessage(b"ping")
        self.pump(here, there)
        self.assertEqual(there.data[stream], LARGE)
        self.assertEqual(there.messages, [b"ping"])
        there.connection.send_datagram_frame(b"pong")
        self.pump(here, there)
        self.assertEqual(self.messages, [b"pong"])
        here.close(4, "a newer session")
        self.pump(here, there)
        self.now += 10.0
        there.receive([], self.now)
        self.assertEqual(there.ends[0].error_code, 4)
        self.assertEqual(there.ends[0].reason_phrase, "a newer session")

    def said(self, data: bytes) -> list[ControlMessage]:
        """
        @return: the control messages in C{data}.
        """
        return list(ControlDecoder().receive(data))

    def test_calling(self) -> None:
        """
        This side calls aioquic, which proves its key by its certificate and admits this side.
        """
        here = callingQUIC(self.now)
        flight = here.takeDatagrams(self.now)
        settings = configuration(isClient=False)
        credentials = THERE.credentials()
        settings.certificate = x509.load_pem_x509_certificate(credentials.certificate)
        key = load_pem_private_key(credentials.privateKey, None)
        settings.private_key = key
        there = Other(
            QuicConnection(
                configuration=settings,
                original_destination_connection_id=destinationOf(flight[0]),
            )
        )
        there.receive(flight, self.now)
        self.pump(here, there)
        self.assertEqual(self.done, HandshakeDone(THERE.publicKey))
        admission = CallerAdmission(HERE.publicKey, HERE.sign, THERE.publicKey)
        admission.certified(THERE.publicKey)
        called = CalledAdmission(THERE.publicKey, HERE.publicKey, CHALLENGE, verifySignature)
        there.connection.send_stream_data(CONTROL_STREAM, encodeControl(Challenge(CHALLENGE)))
        self.pump(here, there)
        for message in self.said(self.data[CONTROL_STREAM]):
            admission.receive(message)
        proof = admission.pollTransmit()
        assert isinstance(proof, Proof)
        here.send(CONTROL_STREAM, encodeControl(proof))
        self.pump(here, there)
        for message in self.said(there.data[CONTROL_STREAM]):
            called.receive(message)
        self.assertIs(called.state, AdmissionState.UNDECIDED)
        stream = here.openStream()
        here.send(stream, b"\x04echo")
        self.pump(here, there)
        self.assertEqual(there.data.pop(stream), b"\x04echo")
        self.exchange(
            here, there, stream, lambda data: there.connection.send_stream_data(stream, data)
        )

    def test_called(self) -> None:
        """
        aioquic calls this side, checks its certificate's key, and proves its own.
        """
        connection = QuicConnection(configuration=configuration(isClient=True))
        connection.connect(VIRTUAL_ADDRESS, self.now)
        there = Other(connection)
        flight = there.take(self.now)
        here = calledQUIC(HERE.credentials(), destinationOf(flight[0]) or b"")
        here.receive(flight, self.now)
        admission = CalledAdmission(HERE.publicKey, THERE.publicKey, CHALLENGE, verifySignature)
        challenge = admission.pollTransmit()
        assert challenge is not None
        here.send(CONTROL_STREAM, encodeControl(challenge))
        self.pump(here, there)
        self.assertEqual(self.done, HandshakeDone(None))
        certificate = connection.tls._peer_certificate
        assert certificate is not None
        key = certificate.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.assertEqual(key, HERE.publicKey)
        caller = CallerAdmission(THERE.publicKey, THERE.sign, HERE.publicKey)
        caller.certified(key)
        for message in self.said(there.data[CONTROL_STREAM]):
            caller.receive(message)
        proof = caller.pollTransmit()
        assert proof is not None
        connection.send_stream_data(CONTROL_STREAM, encodeControl(proof))
        self.pump(here, there)
        for message in self.said(self.data[CONTROL_STREAM]):
            admission.receive(message)
        admission.admit()
        admitted = admission.pollTransmit()
        self.assertEqual(admitted, Admitted())
        stream = connection.get_next_available_stream_id()
        self.exchange(here, there, stream, lambda data: connection.send_stream_data(stream, data))
