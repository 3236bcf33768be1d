"""
A STUN client on a UDP port that the application already uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from p2ptwist.core.address import HostPort, canonicalHost, formatAddress
from p2ptwist.core.readable import readable
from p2ptwist.core.stun.binding import bindingRequest, errorOf, reflexiveAddress
from p2ptwist.core.stun.message import (
    TRANSACTION_ID_LENGTH,
    Message,
    MessageClass,
    isSTUN,
)
from p2ptwist.core.stun.transaction import (
    ClientTransaction,
    TimedOut,
    TransactionEvent,
)
from p2ptwist.errors import LocalUsageError, MalformedDatagram, STUNRefused, STUNTimeout
from p2ptwist.net.pump import Pump

# Requests that may wait for an answer at once: a few for each server and network that one port
# can have, and far fewer than a program that forgot to wait would make.
MAX_OUTSTANDING = 64
DEFAULT_RTO = 0.5  # seconds; RFC 8489 section 6.2.1
DEFAULT_TIMEOUT = 39.5  # seconds; all of RFC 8489 section 6.2.1


class STUNClient:
    """
    Asks STUN servers for the address that they see this port at.

    It owns no socket: it is given a way to send, and is offered each datagram that comes.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Callable[[bytes, HostPort], object],
        randomBytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param clock: a reactor.
        @param send: called with a datagram and where it goes, such as C{transport.write}.
        @param randomBytes: makes transaction IDs, which nobody must be able to guess.
        """
        self._clock = clock
        self._send = send
        self._randomBytes = randomBytes
        self._bindings: dict[bytes, _Binding] = {}

    def datagramReceived(self, data: bytes, address: HostPort) -> bool:
        """
        Take the answer to an outstanding request, and nothing else.

        @param address: where C{data} came from.
        @return: whether it was one.
        """
        if not isSTUN(data):
            return False
        binding = self._bindings.get(data[8:20])
        return binding is not None and binding.datagramReceived(data, address)

    def bind(
        self, server: HostPort, timeout: float = DEFAULT_TIMEOUT, rto: float = DEFAULT_RTO
    ) -> Deferred[HostPort]:
        """
        Ask C{server} once; the request is sent again until it is answered.

        @param server: its literal address; see L{p2ptwist.net.names.resolveAddress} for names.
        @param timeout: seconds.
        @param rto: seconds from the first request to the second; each wait is twice the one before.
        @return: a Deferred that fires with the address that the server sees this port at; fails
            with L{p2ptwist.errors.STUNTimeout} or L{p2ptwist.errors.STUNRefused}.  It can be
            cancelled.
        @raise LocalUsageError: when the address is not literal, or too many requests wait.
        @raise ValueError: when the port cannot send to such an address.
        """
        if len(self._bindings) >= MAX_OUTSTANDING:
            raise LocalUsageError(f"{MAX_OUTSTANDING} STUN requests are waiting already")
        destination = (canonicalHost(server[0]), server[1])
        transactionID = self._randomBytes(TRANSACTION_ID_LENGTH)
        transaction = ClientTransaction(
            bindingRequest(transactionID),
            transactionID,
            destination,
            self._clock.seconds(),
            rto=rto,
            timeLimit=timeout,
        )
        binding = _Binding(self._clock, self._send, transaction, timeout, self._forget)
        self._bindings[transactionID] = binding
        try:
            binding.start()
        except Exception:
            binding.end()  # the transport does not take such an address: the caller's mistake
            raise
        return binding.result

    def stop(self) -> None:
        """
        Cancel whatever is outstanding.
        """
        for binding in tuple(self._bindings.values()):
            binding.result.cancel()

    def _forget(self, binding: _Binding) -> None:
        del self._bindings[binding.transaction.transactionID]


class _Binding:
    """
    One request and the Deferred that waits for its answer.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Callable[[bytes, HostPort], object],
        transaction: ClientTransaction,
        timeout: float,
        ended: Callable[[_Binding], None],
    ) -> None:
        self.transaction = transaction
        self.result: Deferred[HostPort] = Deferred(lambda _: self.end())
        self._timeout = timeout
        self._ended = ended
        self._transmit = send
        self._pump = Pump[TransactionEvent](clock, transaction, self._send, self._deliver)

    def start(self) -> None:
        """
        Send the request.
        """
        self._pump.drain()

    def datagramReceived(self, data: bytes, address: HostPort) -> bool:
        """
        @return: whether that was the answer.
        """
        return self._pump.receiveDatagram(data, (canonicalHost(address[0]), address[1]))

    def _send(self, data: bytes, address: HostPort) -> None:
        # No route, or a full buffer: it is sent again, and times out at last.
        with suppress(OSError):
            self._transmit(data, address)

    def end(self) -> None:
        """
        Free everything, without a result.
        """
        self._pump.stop()
        self._ended(self)

    def _deliver(self, event: TransactionEvent) -> None:
        self.end()
        try:
            address = readAddress(self.transaction.destination, event, self._timeout)
        except (STUNTimeout, STUNRefused) as error:
            self.result.errback(error)
        else:
            self.result.callback(address)


def readAddress(destination: HostPort, event: TransactionEvent, timeout: float) -> HostPort:
    """
    Turn the end of a Binding transaction into its result.

    @param destination: the server that was asked.
    @param timeout: the seconds that it was given.
    @return: the reflexive address.
    @raise STUNTimeout: for no answer.
    @raise STUNRefused: for an answer that tells no address.
    """
    server = formatAddress(destination)
    if isinstance(event, TimedOut):
        raise STUNTimeout(
            f"no answer from the STUN server {server} to {event.sends} requests in {timeout:g} s: "
            "check the address, whether UDP gets out of this network, or use another server"
        )
    message = event.message
    try:
        if message.messageClass is MessageClass.SUCCESS:
            return reflexiveAddress(message)
        raise _refusal(message, server)
    except MalformedDatagram as error:
        # 500 is "the server has a temporary error": RFC 8489 section 14.8.
        raise STUNRefused(
            f"the STUN server {server} answered, but {error}: use another server", 500
        ) from error


def _refusal(message: Message, server: str) -> STUNRefused:
    """
    @raise MalformedDatagram: when the server did not say why.
    """
    code, reason = errorOf(message)
    words = f" ({readable(reason)})" if reason else ""
    return STUNRefused(
        f"the STUN server {server} refused with error {code}{words}: use another server, or one "
        "that needs no account",
        code,
    )
