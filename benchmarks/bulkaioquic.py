"""
C{aioquic} driven by Twisted, as C{benchmarks/bulkpeers.py} measures it: its documented calls, one
datagram at a time, one flush after each.
"""

from __future__ import annotations

import datetime
import ssl
import tempfile
from pathlib import Path
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet import reactor as globalReactor
from twisted.internet.protocol import DatagramProtocol

from benchmarks.bulkpeers import ECHO, HOST, Echoes, Meter, say

reactor: Any = globalReactor
_WINDOW = 16 * 1024 * 1024  # bytes; as large as a session's
_QUEUED = 256 * 1024  # bytes of bulk that wait in the library
_PIECE = bytes(64 * 1024)


class Connection(DatagramProtocol):
    """
    One connection on one port.
    """

    noisy = False

    def __init__(self, configuration: QuicConfiguration) -> None:
        self.quic: QuicConnection | None = None
        self._configuration = configuration
        self._timer: Any = None
        self._flushing = False

    def flush(self) -> None:
        """
        Send what there is to send, and arm the timer.
        """
        assert self.quic is not None and self.transport is not None
        for data, address in self.quic.datagrams_to_send(now=reactor.seconds()):
            self.transport.write(data, address)
        deadline = self.quic.get_timer()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if deadline is not None:
            delay = max(0.0, deadline - reactor.seconds())
            self._timer = reactor.callLater(delay, self._due)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Feed the library.
        """
        if self.quic is None:
            destination = datagram[6 : 6 + datagram[5]]
            self.quic = QuicConnection(
                configuration=self._configuration,
                original_destination_connection_id=destination,
            )
        self.quic.receive_datagram(datagram, addr, now=reactor.seconds())
        self._process()

    def handle(self, event: Any) -> None:
        """
        Take an event.
        """

    def _due(self) -> None:
        assert self.quic is not None
        self.quic.handle_timer(now=reactor.seconds())
        self._process()

    def _process(self) -> None:
        assert self.quic is not None
        while (event := self.quic.next_event()) is not None:
            self.handle(event)
        self.flush()


class Taker(Connection):
    """
    Echoes what comes on stream 0, and counts what comes on stream 4.
    """

    def __init__(self, configuration: QuicConfiguration) -> None:
        super().__init__(configuration)
        self._meter: Meter | None = None
        self._octets = 0

    def startProtocol(self) -> None:
        """
        Say where.
        """
        transport: Any = self.transport
        say(address=str(transport.getHost().port))

    def handle(self, event: Any) -> None:
        """
        Take bytes.
        """
        assert self.quic is not None
        if not isinstance(event, events.StreamDataReceived):
            return
        if event.stream_id == 0:
            self.quic.send_stream_data(0, event.data)
            return
        if self._meter is None:
            self._meter = Meter()
        self._octets += len(event.data)
        if event.end_stream:
            self._meter.tell(self._octets)
            self.quic.send_stream_data(4, b".", True)


class Giver(Connection):
    """
    Echoes first, then bulk.
    """

    def __init__(self, configuration: QuicConfiguration, port: int, octets: int, echoes: int):
        super().__init__(configuration)
        self._there = (HOST, port)
        self._octets = self._left = octets
        self._meter: Meter | None = None
        self._echoes = Echoes(self._ping, echoes)
        self._echoes.done.addCallback(self._bulk)
        self._came = 0

    def startProtocol(self) -> None:
        """
        Connect.
        """
        self.quic = QuicConnection(configuration=self._configuration)
        self.quic.connect(self._there, now=reactor.seconds())
        self.flush()

    def flush(self) -> None:
        """
        Keep the library supplied.
        """
        assert self.quic is not None
        while self._meter is not None and self._left and self._queued() < _QUEUED:
            piece = _PIECE[: self._left]
            self._left -= len(piece)
            self.quic.send_stream_data(4, piece, not self._left)
        super().flush()

    def handle(self, event: Any) -> None:
        """
        Go on.
        """
        if isinstance(event, events.HandshakeCompleted):
            self._echoes.start()
        elif isinstance(event, events.StreamDataReceived) and event.stream_id == 0:
            self._came += len(event.data)
            if self._came == len(ECHO):
                self._came = 0
                self._echoes.returned()
        elif isinstance(event, events.StreamDataReceived) and self._meter is not None:
            self._meter.tell(self._octets)
            reactor.callLater(0, reactor.stop)

    def _queued(self) -> int:
        # Not documented; what is documented has no way to ask.
        assert self.quic is not None
        stream = self.quic._streams.get(4)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    def _ping(self, data: bytes) -> None:
        assert self.quic is not None
        self.quic.send_stream_data(0, data)
        reactor.callLater(0, self.flush)

    def _bulk(self, _: object) -> None:
        self._meter = Meter()
        reactor.callLater(0, self.flush)


def take(node: str) -> None:
    """
    Be the server.
    """
    configuration = _configuration(isClient=False)
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = (Path(directory) / name for name in ("certificate", "key"))
        _makeCertificate(certificate, key)
        configuration.load_cert_chain(certificate, key)
    reactor.listenUDP(0, Taker(configuration), HOST)


def give(node: str, address: str, octets: int, echoes: int) -> None:
    """
    Be the client.
    """
    configuration = _configuration(isClient=True)
    configuration.verify_mode = ssl.CERT_NONE
    reactor.listenUDP(0, Giver(configuration, int(address), octets, echoes), HOST)


def _configuration(isClient: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=isClient, alpn_protocols=["bulk"], max_data=_WINDOW, max_stream_data=_WINDOW
    )


def _makeCertificate(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bulk")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), 1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    form = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(form)
