"""
The address that a NAT gives connections of a local TCP port, as a STUN server sees it (RFC 8489
section 6.2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.stun.binding import bindingRequest, otherAddress, reflexiveAddress
from p2ptwist.core.stun.message import (
    HEADER_LENGTH,
    MAX_MESSAGE_LENGTH,
    TRANSACTION_ID_LENGTH,
    Message,
    MessageClass,
    decode,
)
from p2ptwist.errors import STUNTimeout
from p2ptwist.net.latch import Latch
from p2ptwist.net.tcpport import TCPPort

# Seconds: two packets may be lost and repeated; the rest of the 10 s of an attempt is for dialing.
OBSERVATION_TIMEOUT = 4.0


class Observation:
    """
    One connection to a STUN server.  It stays open until it is closed, so that a NAT keeps the
    mapping.

    @ivar other: what the server says its alternate address is, when it has answered.
    """

    other: HostPort | None = None

    def __init__(
        self, reactor: Any, port: TCPPort, server: HostPort, randomBytes: Callable[[int], bytes]
    ) -> None:
        """
        Connect and ask.

        @param reactor: provides C{IReactorTime}.
        @param port: where it is made from.
        @param server: a literal address.
        """
        self._server = server
        self._seen: Latch[HostPort] = Latch()
        self._protocol: _Asking | None = None
        self._randomBytes = randomBytes
        self._timer = reactor.callLater(OBSERVATION_TIMEOUT, self._failed)
        self._connector: IConnector | None = port.dial(
            server, self._build, self._failed, OBSERVATION_TIMEOUT
        )

    def whenSeen(self) -> Deferred[HostPort]:
        """
        @return: a Deferred that fires with the address, or fails with L{STUNTimeout}.
        """
        return self._seen.when()

    def close(self) -> None:
        """
        Close the connection.
        """
        self._failed()
        connector, self._connector = self._connector, None
        if self._protocol is not None:
            self._protocol.transport.abortConnection()
        elif connector is not None:
            connector.stopConnecting()

    def _build(self) -> Protocol:
        self._protocol = _Asking(
            self._randomBytes(TRANSACTION_ID_LENGTH), self._answered, self._gone
        )
        return self._protocol

    def _answered(self, address: HostPort, other: HostPort | None) -> None:
        self.other = other
        self._stopTimer()
        self._seen.settle(address)

    def _gone(self) -> None:
        self._protocol = self._connector = None
        self._failed()

    def _failed(self, reason: Failure | None = None) -> None:
        if reason is not None:
            self._connector = None
        self._stopTimer()
        server = formatAddress(self._server)
        self._seen.settle(Failure(STUNTimeout(f"{server} did not answer STUN over TCP")))

    def _stopTimer(self) -> None:
        if self._timer.active():
            self._timer.cancel()


class _Asking(Protocol):
    """
    Ask once.
    """

    transport: Any

    def __init__(
        self,
        transactionID: bytes,
        answered: Callable[[HostPort, HostPort | None], object],
        gone: Callable[[], object],
    ) -> None:
        self._transactionID = transactionID
        self._answered = answered
        self._gone = gone
        self._buffer = b""
        self._done = False

    def connectionMade(self) -> None:
        """
        Ask.
        """
        self.transport.write(bindingRequest(self._transactionID))

    def dataReceived(self, data: bytes) -> None:
        """
        Wait until the answer is whole.  What comes after it is not read.
        """
        if self._done:
            return
        self._buffer += data
        if len(self._buffer) < HEADER_LENGTH:
            return
        length = HEADER_LENGTH + int.from_bytes(self._buffer[2:4], "big")
        if length > MAX_MESSAGE_LENGTH:
            self._finish(None)
        elif len(self._buffer) >= length:
            self._finish(self._buffer[:length])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The server closed it.
        """
        self._gone()

    def _finish(self, answer: bytes | None) -> None:
        self._done, self._buffer = True, b""
        try:
            if answer is None:
                raise MalformedDatagram("an answer that is too long")
            address, other = _read(decode(answer), self._transactionID)
        except MalformedDatagram:
            self.transport.abortConnection()
        else:
            self._answered(address, other)


def _read(message: Message, transactionID: bytes) -> tuple[HostPort, HostPort | None]:
    if message.messageClass is not MessageClass.SUCCESS or message.transactionID != transactionID:
        raise MalformedDatagram("not an answer to this request")
    return reflexiveAddress(message), otherAddress(message)
