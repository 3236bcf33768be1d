"""
Many datagrams in one system call, by the segmentation offload of Linux: udp(7), C{UDP_SEGMENT} and
C{UDP_GRO}.

What one call sends crosses the kernel, and on loopback the whole way, as one packet: 54 datagrams
of 1,200 bytes cost what three cost otherwise.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from errno import EAGAIN, ENOBUFS
from typing import Any

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort

_LEVEL = 17  # SOL_UDP; linux/socket.h
_SEGMENT, _GRO = 103, 104  # linux/udp.h; the socket module has no names for them
_SIZE = struct.Struct("=H")  # of UDP_SEGMENT's value
_RECEIVED_SIZE = struct.Struct("=i")  # of UDP_GRO's value
_SEGMENTS = 64  # datagrams in one call: UDP_MAX_SEGMENTS of Linux before 6.9
_LONGEST = 65_000  # bytes in one call: with any headers less than an IP packet may have
_BUFFER = 65_535  # bytes; what is cut off would be lost without a word
_CONTROLS = 32  # bytes of control messages: there is one, of 20
_FULL = 1000  # bytes; bulk data comes in datagrams of 1,200 to 1,500
# Bytes that a call counts as beyond those it brought: a turn of the reactor has 65 calls at most,
# whose datagrams take 20 us each.
_EACH = 1000

Source = tuple[Any, ...]  # a host, a port, and what IPv6 has beyond that
# Bytes.  The kernel counts up to 68 kB for a call's worth of datagrams: this is as much as comes
# in while the reactor is busy with something else for 10 ms, at 200 MB/s.
_RECEIVE_BUFFER = 2 * 1024 * 1024

_log = Logger()


def offloadSupported(sock: socket.socket) -> bool:
    """
    Ask the kernel, by switching the receiving half on.

    @return: whether it knows segmentation offload.
    """
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(_LEVEL, _GRO, 1)
        sock.getsockopt(_LEVEL, _SEGMENT)
    except OSError:
        return False
    return True


class SegmentSender:
    """
    Sends from one UDP socket.

    @ivar offloading: whether the kernel is given many datagrams at once.  Some cards and tunnels
        refuse that; from then on each goes by itself.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.offloading = True
        self._socket = sock

    def send(self, datagrams: Sequence[bytes], address: HostPort) -> int:
        """
        Send datagrams to one address, in their order.

        @return: how many the operating system took.
        """
        if len(datagrams) == 1:
            return self._sendOne(datagrams[0], address)
        return sum(self._sendRun(run, address) for run in _runs(datagrams))

    def _sendRun(self, run: Sequence[bytes], address: HostPort) -> int:
        if len(run) == 1 or not self.offloading:
            return self._sendEach(run, address)
        size = _SIZE.pack(len(run[0]))
        try:
            self._socket.sendmsg(run, [(_LEVEL, _SEGMENT, size)], 0, address)
        except OSError as error:
            if error.errno in (EAGAIN, ENOBUFS):
                return 0  # its buffer is full, for each of them as well
            sent = self._sendEach(run, address)
            if sent:
                # Not the address was wrong, but the offload.
                self.offloading = False
                _log.info("datagrams are sent one by one from now on: {error}", error=error)
            return sent
        return len(run)

    def _sendEach(self, datagrams: Sequence[bytes], address: HostPort) -> int:
        return sum(self._sendOne(datagram, address) for datagram in datagrams)

    def _sendOne(self, datagram: bytes, address: HostPort) -> int:
        try:
            self._socket.sendto(datagram, address)
        except OSError as error:
            _log.debug("datagram to {address} not sent: {error}", address=address, error=error)
            return 0
        return 1


def _runs(datagrams: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """
    @return: pieces that one call can send: all as long as the first, but the last may be shorter.
    """
    start, count = 0, len(datagrams)
    while start < count:
        size = len(datagrams[start])
        limit = min(count, start + min(_SEGMENTS, max(1, _LONGEST // max(1, size))))
        end = start + 1
        while end < limit and len(datagrams[end]) == size:
            end += 1
        if end < limit and 0 < len(datagrams[end]) < size:
            end += 1
        yield datagrams[start:end]
        start = end


@implementer(IReadDescriptor)
class SegmentReader:
    """
    Reads the socket of a port of Twisted's in that port's place.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        port: Any,
        throughput: int,
        deliver: Callable[[list[bytes], Source], object],
    ) -> None:
        """
        @param port: a C{twisted.internet.udp.Port} that listens, on a socket that
            L{offloadSupported} found able.
        @param throughput: bytes after which other sockets and timers get their turn.
        @param deliver: called with the datagrams that came in a row from one address; must not
            raise.
        """
        self._reactor = reactor
        self._port = port
        self._socket: socket.socket = port.socket
        self._throughput = throughput
        self._deliver = deliver
        self._logPrefix = str(port.logPrefix())  # the reactor asks for it at each turn
        self._reading = True
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        port.stopReading()
        reactor.addReader(self)

    def stop(self) -> None:
        """
        Read no more.  The port is its owner's to close.
        """
        self._reading = False
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        """
        @return: the socket's descriptor.
        """
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """
        @return: how the reactor names this in its log.
        """
        return self._logPrefix

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor gave up this reader, or itself.
        """
        self._reading = False
        self._port.connectionLost(reason)

    def doRead(self) -> None:
        """
        Deliver what waits, as much as one turn of the reactor may have.

        Datagrams go in the order in which they came, those together that came in a row from one
        address.  One that does not fill its path ends a burst: so it is delivered before the next
        one is read, which may be the answer to its answer.
        """
        receive = self._socket.recvmsg
        left = self._throughput
        burst: list[bytes] = []
        source: Source = ()
        while left > 0 and self._reading:
            try:
                data, controls, _, address = receive(_BUFFER, _CONTROLS)
            except OSError:
                # Nothing is left; or an error of an earlier datagram that was sent.
                break
            left -= len(data) + _EACH
            if burst and address != source:
                self._deliver(burst, source)
                burst = []
                if not self._reading:
                    return
            source = address
            if controls:
                burst += _cut(data, controls)
            else:
                burst.append(data)
            if len(burst[-1]) < _FULL:
                self._deliver(burst, source)
                burst = []
        if burst and self._reading:
            self._deliver(burst, source)


def _cut(data: bytes, controls: list[tuple[int, int, bytes]]) -> Sequence[bytes]:
    """
    @return: the datagrams that the kernel joined.
    """
    for level, kind, value in controls:
        if level == _LEVEL and kind == _GRO:
            size = _RECEIVED_SIZE.unpack(value)[0]
            return [data[start : start + size] for start in range(0, len(data), size)]
    return (data,)
