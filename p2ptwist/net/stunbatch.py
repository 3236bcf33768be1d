"""
A STUN server's socket on Linux: read, limited and answered many datagrams at a time.

It answers the commonest request, a Binding without attributes, where it lies.  Everything else goes
the way that it goes on every other system, through L{Responder.answer}.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import count
from struct import Struct

from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, formatAddress, isIPv6
from p2ptwist.core.stun.limits import SourceLimits
from p2ptwist.core.stun.message import HEADER_LENGTH, MAGIC_COOKIE, MAX_MESSAGE_LENGTH
from p2ptwist.core.stun.server import PLAIN_REQUEST, Reply, Responder
from p2ptwist.net.batch import DatagramBatch

_SLOT = MAX_MESSAGE_LENGTH + 4  # a longer datagram must look too long; a multiple of 4
_PLAIN = Struct(f"8s12s{_SLOT - HEADER_LENGTH}x")  # header up to the cookie; transaction ID
_IPV4_SOURCE = Struct("!2xHI8x")  # struct sockaddr_in: family; port, host
_IPV6_SOURCE = Struct("!2xH4xQQ4x")  # struct sockaddr_in6: family; port; flow; host; scope
_IDENTITY = Struct("!IQ")  # a transaction ID as two numbers
# Bytes.  The kernel counts about 800 for a request: this is what comes in while the reactor is busy
# with something else for 20 ms and 60,000 a second arrive.
_RECEIVE_BUFFER = 1 << 20
_PORT_XOR = MAGIC_COOKIE >> 16  # RFC 8489 section 14.2


class _FDSetReactor(IReactorTime, IReactorFDSet):
    """
    What a batch port needs of a reactor.
    """


@implementer(IReadDescriptor)
class BatchPort:
    """
    One address of a STUN server.

    @ivar address: where it listens.
    """

    def __init__(
        self,
        reactor: _FDSetReactor,
        address: HostPort,
        limits: SourceLimits,
    ) -> None:
        """
        @raise OSError: when the address cannot be used.
        """
        self._reactor = reactor
        self._limits = limits
        self._isIPv6 = isIPv6(address[0])
        family = socket.AF_INET6 if self._isIPv6 else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            if self._isIPv6:
                # One family a socket, so that every answer has the same length.
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise
        host, port = self._socket.getsockname()[:2]
        self.address: HostPort = (host, port)

    def start(self, responder: Responder, forward: Callable[[Reply, HostPort], None]) -> None:
        """
        Serve.

        @param forward: called with an answer that must leave from another port, and where it goes.
        """
        head, middle, tail = responder.plainAnswer(self.address)
        self._responder = responder
        self._forward = forward
        self._constants = head, middle, tail
        # Head, transaction ID, middle, XORed port, XORed host, tail.
        host = "QQ" if self._isIPv6 else "I"
        self._answer = Struct(f"!8s12s{len(middle)}sH{host}{len(tail)}s")
        self._answerPlain = self._answerIPv6 if self._isIPv6 else self._answerIPv4
        self._batch = DatagramBatch(self._socket, _SLOT, self._answer.size)
        self._reactor.addReader(self)

    def stop(self) -> None:
        """
        Close the socket.
        """
        self._reactor.removeReader(self)
        self._socket.close()

    def send(self, data: bytes, address: HostPort) -> None:
        """
        Send an answer to a request that came to another port.

        @raise OSError: when the network does not take it.
        """
        self._socket.sendto(data, socket.MSG_DONTWAIT, address)

    def fileno(self) -> int:
        """
        @return: the socket's descriptor.
        """
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """
        @return: how the reactor names this port in its log.
        """
        return f"STUN {formatAddress(self.address)}"

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor gave up this port, or itself.
        """
        self._socket.close()

    def doRead(self) -> None:
        """
        Answer what waits, as much as one batch holds.
        """
        batch = self._batch
        lengths = batch.receive()
        plain, others = self._answerPlain(lengths, self._reactor.seconds())
        sent = batch.send(plain)
        counters = self._responder.counters
        counters.received += len(lengths)
        counters.limited += len(lengths) - len(plain) - len(others)
        counters.answered += sent
        counters.unsent += len(plain) - sent
        for index in others:
            self._answerOne(index, lengths[index])

    # The two methods that follow are where a busy server's time goes: one loop each, which calls
    # nothing of ours but the limits.

    def _answerIPv4(self, lengths: list[int], now: float) -> tuple[list[int], list[int]]:
        """
        Write the answers to plain requests.

        @return: these requests, and those that are to be answered one by one.
        """
        batch, admit = self._batch, self._limits.admit
        head, middle, tail = self._constants
        write, step, outgoing = self._answer.pack_into, self._answer.size, batch.outgoing
        plain: list[int] = []
        others: list[int] = []
        position = 0
        requests = _PLAIN.iter_unpack(batch.incoming)
        sources = _IPV4_SOURCE.iter_unpack(batch.names)
        for index, length, (start, transactionID), (port, host) in zip(
            count(), lengths, requests, sources, strict=False
        ):
            if not admit(host, host >> 8, now):
                continue
            if length != HEADER_LENGTH or start != PLAIN_REQUEST:
                others.append(index)
                continue
            xorPort, xorHost = port ^ _PORT_XOR, host ^ MAGIC_COOKIE
            write(outgoing, position, head, transactionID, middle, xorPort, xorHost, tail)
            position += step
            plain.append(index)
        return plain, others

    def _answerIPv6(self, lengths: list[int], now: float) -> tuple[list[int], list[int]]:
        """
        The same for IPv6, where the transaction ID is part of the mask (RFC 8489 section 14.2).
        """
        batch, admit = self._batch, self._limits.admit
        head, middle, tail = self._constants
        write, step, outgoing = self._answer.pack_into, self._answer.size, batch.outgoing
        plain: list[int] = []
        others: list[int] = []
        position = 0
        requests = _PLAIN.iter_unpack(batch.incoming)
        sources = _IPV6_SOURCE.iter_unpack(batch.names)
        for index, length, (start, transactionID), (port, network, host) in zip(
            count(), lengths, requests, sources, strict=False
        ):
            if not admit(network, network >> 16, now):
                continue
            if length != HEADER_LENGTH or start != PLAIN_REQUEST:
                others.append(index)
                continue
            high, low = _IDENTITY.unpack(transactionID)
            one, two = network ^ (MAGIC_COOKIE << 32 | high), host ^ low
            write(outgoing, position, head, transactionID, middle, port ^ _PORT_XOR, one, two, tail)
            position += step
            plain.append(index)
        return plain, others

    def _answerOne(self, index: int, length: int) -> None:
        batch = self._batch
        local, source = batch.local(index), batch.source(index)
        reply = self._responder.answer(batch.datagram(index, length), source, local)
        if reply is None:
            return
        if reply.origin != local:
            self._forward(reply, (source[0], reply.port or source[1]))
            return
        counters = self._responder.counters
        try:
            batch.reply(self._socket, index, reply.data, reply.port)
        except OSError:
            counters.unsent += 1
        else:
            counters.answered += 1
