"""
QUIC for sessions: the library C{qh3} behind the few verbs that a session needs.

Nothing else in the package imports the library, so that it can be replaced.  A connection here
knows one constant virtual address for the other side: paths are the session's business.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from qh3.quic import events
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection
from qh3.quic.events import StreamDataReceived
from twisted.logger import Logger

from p2ptwist.core.readable import readable
from p2ptwist.net.quicevents import (
    Answered,
    HandshakeDone,
    MessageReceived,
    QUICEvent,
    StreamAborted,
    StreamReceived,
    StreamStopped,
    Terminated,
)

__all__ = [
    "CONTROL_STREAM",
    "MESSAGE_LENGTH",
    "QUIC",
    "REASON_LIMIT",
    "Answered",
    "Credentials",
    "HandshakeDone",
    "MessageReceived",
    "QUICEvent",
    "StreamAborted",
    "StreamReceived",
    "StreamStopped",
    "Terminated",
    "calledQUIC",
    "callingQUIC",
    "destinationOf",
    "isPanic",
    "prepareQUIC",
]

ALPN = "p2ptwist/1"
DATAGRAM_LENGTH = 1200  # bytes; RFC 9000 section 14: what every path must carry
# Bytes of an application's datagram: what is left of a QUIC datagram beside header, frame and tag.
MESSAGE_LENGTH = 1150
REASON_LIMIT = 200  # bytes of the text of an end: it fits one datagram
CONTROL_STREAM = 1  # the first bidirectional stream of the called side; RFC 9000 section 2.1
VIRTUAL_ADDRESS = ("192.0.2.1", 1)  # RFC 5737: an address that is nobody's
# Seconds: ten years.  Whether the other side is there is for the paths to find out; QUIC keeps its
# state.
_IDLE_TIMEOUT = 315_360_000.0
# Bytes.  Flow control is by grants, see p2ptwist.core.session.credit.  QUIC's own limits, which the
# library moves on as bytes come in order, bound what a peer that leaves holes can make it keep.
_STREAM_WINDOW = 2 * 1024 * 1024
_CONNECTION_WINDOW = 16 * 1024 * 1024
# Bytes of the application's datagrams that wait for QUIC's congestion control: a full flight on a
# path of 10 Mbit/s and 50 ms.  The library itself has no bound.
_MESSAGES_WAITING = 64 * 1024
# Seconds between two probes for what is not acknowledged, so often; then twice as many each time,
# up to the most.  QUIC doubles from the first (RFC 9002 section 6.2.1); here a path has died.
PROBE_LEAST, PROBE_COUNT, PROBE_MOST = 1.0, 8, 15.0
# The timers that may be due before that for repetition: to pace, to acknowledge, and for a loss.
_TIMERS = 4
# Repetitions in vain, and bytes under way, above which only QUIC's own clock makes more: each makes
# it wait twice as long for the next, and two datagrams out of many help nobody.
_REPEATED = 6
_REPEAT_LIMIT = 12_000  # RFC 9002 section 7.2: the initial window
_ED25519 = 0x0807  # the signature scheme; RFC 8446 section 4.2.3

_prepared: list[bool] = []
_log = Logger()


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    What the called side proves its identity with, both in PEM form.
    """

    certificate: bytes
    privateKey: bytes = field(repr=False)


class QUIC:
    """
    One QUIC connection.

    @ivar faults: how often the library raised where it should not.
    """

    __slots__ = ("_called", "_connection", "_messagesWaiting", "_over", "_stirredAt", "faults")

    def __init__(self, connection: QuicConnection, called: bool) -> None:
        """
        Use L{callingQUIC} or L{calledQUIC}.
        """
        self.faults = 0
        self._connection = connection
        self._called = called
        self._messagesWaiting = 0
        self._over = False
        self._stirredAt = 0.0

    def receive(self, datagrams: Sequence[bytes], now: float) -> None:
        """
        Take datagrams that came, over whatever path.  What is malformed or forged has no effect.
        """
        try:
            self._connection.receive_many_datagrams(list(datagrams), VIRTUAL_ADDRESS, now)
        except BaseException as error:
            self._failed(error)
            if len(datagrams) > 1:
                # One may have kept the library from those behind it; what comes twice changes
                # nothing.
                for datagram in datagrams:
                    self._try(self._connection.receive_datagram, datagram, VIRTUAL_ADDRESS, now)

    def greeted(self) -> bool:
        """
        @return: whether the other side's hello came whole, so that nobody else can go on with it.
        """
        return self._try(self._connection.get_cipher) is not None

    def takeDatagrams(self, now: float) -> list[bytes]:
        """
        @return: everything there is to send at C{now}.
        """
        # The library reads the headers of all that it sends, for a log that it does not keep: a
        # quarter of what sending costs.  Its core does not.
        connection = self._connection
        poll = getattr(getattr(connection, "_core", None), "poll_transmit", None)
        datagrams: list[bytes] = []
        try:
            if poll is None:
                datagrams += [data for data, _ in connection.datagrams_to_send(now)]
            else:
                while (transmit := poll(now)) is not None:
                    datagrams.append(transmit[0])
        except BaseException as error:
            self._failed(error)
            return []
        if datagrams:
            self._stirredAt = now
        if self._messagesWaiting:
            # Datagrams of the application leave before streams.
            sent = sum(map(len, datagrams))
            self._messagesWaiting = max(0, self._messagesWaiting - sent)
        return datagrams

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} must be called next.
        """
        timer: float | None = self._connection.get_timer()
        stirred = self._stirredAt
        if timer is None or timer <= stirred + PROBE_LEAST or timer - stirred > self._idle() / 2:
            return timer
        doublings: int = max(0, min(self._private("pto_count"), 20) - PROBE_COUNT)
        return min(timer, stirred + min(PROBE_LEAST * 2.0**doublings, PROBE_MOST))

    def handleTimeout(self, now: float) -> None:
        """
        Do what is due.
        """
        timer: float | None = self._connection.get_timer()
        early = timer is not None and now < timer <= now + self._idle() / 2
        self._stirredAt = now  # also if there is nothing that may be sent
        self._try(self._connection.handle_timer, timer if early else now)

    def pollEvent(self) -> QUICEvent | None:
        """
        @return: the next event.
        """
        connection = self._connection
        while (event := connection.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                return StreamReceived(event.stream_id, event.data, event.end_stream)
            translated = self._translate(event)
            if translated is not None:
                return translated
        # The library tells of the other side's close only when it forgets the connection, three
        # probe timeouts later.
        closed = getattr(connection, "_close_event", None)
        return None if closed is None else self._terminated(closed)

    def openStream(self) -> int:
        """
        @return: the number of a new bidirectional stream; it exists once something is sent on it.
        """
        return int(self._connection.get_next_available_stream_id())

    def send(self, stream: int, data: bytes | memoryview, ended: bool = False) -> None:
        """
        Queue bytes on a stream; nothing when the other side has just given it up.

        @param ended: whether they are the last.
        """
        try:
            self._connection.send_stream_data(stream, data, ended)
        except BaseException as error:
            self._failed(error)

    def queued(self, stream: int | None = None) -> int:
        """
        @return: bytes of a stream, or of all, that were not sent for the first time yet.
        """
        return self._try(self._connection.get_send_buffer_size, stream) or 0

    def outstanding(self) -> int:
        """
        @return: bytes of all streams that were not acknowledged, sent or not.  What was lost and
            not sent again yet is not among them.
        """
        return self.queued() + int(self._private("bytes_in_flight"))

    def isSettled(self, now: float) -> bool:
        """
        @return: whether everything that was sent was acknowledged.
        """
        deadline = self.deadline()
        # All other timers of QUIC's, of which any means that something is under way, are short.
        return deadline is None or deadline - now > self._idle() / 2

    def unanswered(self, now: float) -> int | None:
        """
        @return: how often what was sent has been repeated, in vain so far; C{None} when everything
            was acknowledged.
        """
        if self.isSettled(now):
            return None
        return int(self._private("pto_count"))

    def repeat(self, now: float) -> None:
        """
        Send again at once what was not acknowledged, as far as QUIC's probes do: there is a way
        again.
        """
        before = self.unanswered(now)
        for _ in range(_TIMERS):
            deadline = self.deadline()
            if before is None or deadline is None or self.unanswered(now) != before:
                return
            if before >= _REPEATED or self._private("bytes_in_flight") > _REPEAT_LIMIT:
                return
            self.handleTimeout(max(now, deadline))

    def _idle(self) -> float:
        """
        @return: seconds of silence after which QUIC ends the connection: as few as either side
            wants (RFC 9000 section 10.1).
        """
        theirs = getattr(self._connection, "_applied_transport_parameters", None)
        milliseconds: int = getattr(theirs, "max_idle_timeout", 0) or 0
        return min(_IDLE_TIMEOUT, milliseconds / 1000 or _IDLE_TIMEOUT)

    def _private(self, name: str, default: Any = 0) -> Any:
        return getattr(getattr(self._connection, "_core", None), name, default)

    def abort(self, stream: int, code: int) -> None:
        """
        Give up sending on a stream.
        """
        self._try(self._connection.reset_stream, stream, code)

    def stop(self, stream: int, code: int) -> None:
        """
        Want no more of a stream.
        """
        self._try(self._connection.stop_stream, stream, code)

    def sendMessage(self, data: bytes) -> None:
        """
        Queue an application's datagram, at most L{MESSAGE_LENGTH} bytes.  It is dropped while
        64 KiB of them wait.
        """
        if self._messagesWaiting + len(data) <= _MESSAGES_WAITING:
            self._messagesWaiting += len(data)
            self._try(self._connection.send_datagram_frame, data)

    def ping(self) -> None:
        """
        Have something sent that the other side must acknowledge.
        """
        self._try(self._connection.send_ping, 0)

    def roundTrip(self) -> float | None:
        """
        @return: seconds that the latest answer took, on whatever path; C{None} before the first,
            or when the library does not tell.
        """
        latest: float | None = self._private("latest_rtt", None)
        return latest

    def close(self, code: int, reason: str) -> None:
        """
        End the connection; the last datagram is there to be taken.
        """
        self._over = True
        text = reason.encode()[:REASON_LIMIT].decode(errors="ignore")
        self._try(self._connection.close, code, None, text)

    def _try(self, call: Callable[..., Any], *arguments: object) -> Any:
        """
        Call the library.  It raises for streams that are over, and who knows what when the other
        side means it badly: what was to be done is not done, and the session goes on if it can.
        """
        try:
            return call(*arguments)
        except BaseException as error:
            self._failed(error)
            return None

    def _failed(self, error: BaseException) -> None:
        """
        Count what the library raised, and raise what did not come from it.
        """
        # What is wrong inside the library's core comes as an exception outside the usual tree.
        if not isinstance(error, Exception) and not isPanic(error):
            raise error
        self.faults += 1
        _log.debug("QUIC would not: {error!r}", error=error)

    def _terminated(self, event: events.ConnectionTerminated) -> Terminated | None:
        if self._over:
            return None
        self._over = True
        # Only CONNECTION_CLOSE of the transport names the frame that it is about.
        byApplication = event.frame_type is None
        return Terminated(event.error_code, readable(event.reason_phrase), byApplication)

    def _translate(self, event: events.QuicEvent) -> QUICEvent | None:
        if isinstance(event, events.DatagramFrameReceived):
            return MessageReceived(event.data)
        if isinstance(event, events.HandshakeCompleted):
            return HandshakeDone(None if self._called else self._peerKey())
        if isinstance(event, events.PingAcknowledged):
            return Answered()
        if isinstance(event, events.StreamReset):
            return StreamAborted(event.stream_id, event.error_code)
        if isinstance(event, events.StopSendingReceived):
            return StreamStopped(event.stream_id, event.error_code)
        if isinstance(event, events.ConnectionTerminated):
            return self._terminated(event)
        return None

    def _peerKey(self) -> bytes:
        certificate = self._connection.get_peercert()
        if certificate is None:
            return b""
        try:
            key = x509.load_der_x509_certificate(certificate.public_bytes()).public_key()
        except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
            return b""
        if not isinstance(key, Ed25519PublicKey):
            return b""
        return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def isPanic(error: BaseException) -> bool:
    """
    @return: whether C{error} is a panic of the library's compiled core.
    """
    return type(error).__name__ == "PanicException"


def prepareQUIC(credentials: Credentials) -> None:
    """
    Have done, by a handshake with oneself, what takes long only once in a process: 20 to 100 ms for
    the first key of an exchange, and some more.  Nobody's first call shall wait for it.
    """
    if _prepared:
        return
    _prepared.append(True)
    calling = callingQUIC(0.0)
    flight = calling.takeDatagrams(0.0)
    called = calledQUIC(credentials, destinationOf(flight[0]) or b"")
    for _ in range(2):
        called.receive(flight, 0.0)
        calling.receive(called.takeDatagrams(0.0), 0.0)
        flight = calling.takeDatagrams(0.0)


def callingQUIC(now: float) -> QUIC:
    """
    @return: the caller's side, with its first datagrams there to be taken.
    """
    connection = QuicConnection(configuration=_callingConfiguration())
    connection.connect(VIRTUAL_ADDRESS, now)
    return QUIC(connection, called=False)


def calledQUIC(credentials: Credentials, destination: bytes) -> QUIC:
    """
    @param destination: the connection ID that the first datagram goes to; L{destinationOf} it.
    @return: the called side, which waits for that datagram.
    """
    configuration = _calledConfiguration(credentials)
    connection = QuicConnection(
        configuration=configuration, original_destination_connection_id=destination
    )
    return QUIC(connection, called=True)


def destinationOf(datagram: bytes) -> bytes | None:
    """
    @return: the destination connection ID of a datagram that may begin a connection (RFC 9000
        section 17.2.2), 8 to 20 bytes; C{None} for any other datagram.
    """
    # Long header, fixed bit, type Initial, version 1; a first datagram has at least 1,200 bytes.
    if len(datagram) < DATAGRAM_LENGTH or datagram[0] & 0xF0 != 0xC0:
        return None
    length = datagram[5]
    if datagram[1:5] != b"\x00\x00\x00\x01" or not 8 <= length <= 20:
        return None
    return datagram[6 : 6 + length]


# The library only reads a configuration, so that connections share it: 3 KiB less for each.


@cache
def _callingConfiguration() -> QuicConfiguration:
    configuration = _configuration(isClient=True)
    # Who the other side is is checked by its key, not by certificate authorities.
    configuration.verify_mode = ssl.CERT_NONE
    configuration.signature_algorithms = [_ED25519]
    configuration.server_name = "p2ptwist"
    return configuration


@lru_cache(maxsize=16)  # identities that one process uses; more cost nothing but time
def _calledConfiguration(credentials: Credentials) -> QuicConfiguration:
    configuration = _configuration(isClient=False)
    configuration.load_cert_chain(credentials.certificate, credentials.privateKey)
    return configuration


def _configuration(isClient: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=isClient,
        alpn_protocols=[ALPN],
        idle_timeout=_IDLE_TIMEOUT,
        max_data=_CONNECTION_WINDOW,
        max_stream_data=_STREAM_WINDOW,
        max_datagram_size=DATAGRAM_LENGTH,
        max_datagram_frame_size=DATAGRAM_LENGTH,
        # What fits one path must fit every other.
        probe_datagram_size=False,
        # Nobody migrates here; more of them are kept, and sent in the handshake, for nothing.
        active_connection_id_limit=2,
    )
