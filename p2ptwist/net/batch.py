"""
Many datagrams in one system call: C{recvmmsg} and C{sendmmsg} of Linux, by the C library.

An answer goes to the very bytes that its request's source was received in: no address is turned
into text and back.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from errno import EAGAIN
from struct import Struct
from typing import Any

from p2ptwist.core.address import HostPort, canonicalHost

BATCH = 64  # datagrams a turn of the reactor: at 1.5 to 15 us each, others wait 1 ms at most

_CONTROL_HEADER = 16  # bytes of a struct cmsghdr, aligned to 8; cmsg(3)


@dataclass(frozen=True)
class _Family:
    """
    How the kernel writes the addresses of one family: ip(7), ipv6(7).

    @ivar wildcard: the host that stands for all of them.
    @ivar nameLength: bytes of a socket address.
    @ivar name: what is in there: port, host, and for IPv6 the scope.
    @ivar level: where its socket options belong.
    @ivar request: the option that asks for the local address of each datagram.
    @ivar option: the option that tells it.
    @ivar info: what that tells before the rest: the local host at C{localHost}.
    @ivar interface: at which byte of it the interface stands.
    @ivar controlLength: bytes of it with header and padding.
    """

    wildcard: str
    nameLength: int
    name: Struct
    level: int
    request: int
    option: int
    infoLength: int
    localHost: slice
    interface: int
    controlLength: int


# The socket module knows IP_PKTINFO, 8 in linux/in.h, from Python 3.14 on.
_IPV4 = _Family("0.0.0.0", 16, Struct("!2xH4s8x"), socket.IPPROTO_IP, 8, 8, 12, slice(4, 8), 0, 32)
# IPV6_RECVPKTINFO and IPV6_PKTINFO, 49 and 50 in linux/in6.h, have names on Linux alone.
_IPV6 = _Family(
    "::", 28, Struct("!2xH4x16s4s"), socket.IPPROTO_IPV6, 49, 50, 20, slice(0, 16), 16, 40
)


class _IOVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("nameLength", ctypes.c_uint32),
        ("vector", ctypes.c_void_p),
        ("vectorLength", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controlLength", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("length", ctypes.c_uint32))


_MESSAGE_LENGTH = ctypes.sizeof(_MMsgHdr)
_VECTOR_LENGTH = ctypes.sizeof(_IOVec)
_Messages = _MMsgHdr * BATCH
_Vectors = _IOVec * BATCH


def batchSupported() -> bool:
    """
    @return: whether this machine has the two calls, in the layout known here.
    """
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    library = ctypes.CDLL(None)
    return hasattr(library, "recvmmsg") and hasattr(library, "sendmmsg")


class DatagramBatch:
    """
    The buffers and calls of one UDP socket whose answers are all equally long.

    @ivar incoming: L{BATCH} received datagrams, C{slot} bytes apart.
    @ivar names: their sources as C{struct sockaddr_in}, 16 bytes apart; or as C{sockaddr_in6}, 28.
    @ivar outgoing: the answers, C{answerLength} bytes apart.
    """

    def __init__(self, sock: socket.socket, slot: int, answerLength: int) -> None:
        """
        @param sock: bound, and not closed before this object was last used.  When it is bound to
            all addresses of the host, an answer leaves from the one that its request came to.
        @param slot: bytes of the longest datagram that is received whole.
        """
        library = ctypes.CDLL(None, use_errno=True)
        self._receive, self._send = library.recvmmsg, library.sendmmsg
        self._descriptor = sock.fileno()
        self._slot = slot
        self._host, self._port = sock.getsockname()[:2]
        self._family = family = _IPV4 if sock.family == socket.AF_INET else _IPV6
        self._wildcard = self._host == family.wildcard
        if self._wildcard:
            sock.setsockopt(family.level, family.request, 1)
        self.incoming = ctypes.create_string_buffer(BATCH * slot)
        self.outgoing = ctypes.create_string_buffer(BATCH * answerLength)
        self.names = ctypes.create_string_buffer(BATCH * family.nameLength)
        self._controls = ctypes.create_string_buffer(BATCH * family.controlLength)
        self._inVectors, self._inMessages = self._lay(self.incoming, slot)
        self._outVectors, self._outMessages = self._lay(self.outgoing, answerLength)
        self._lengths = _column(self._inMessages, _MMsgHdr.length.offset, _MESSAGE_LENGTH)
        interface = _CONTROL_HEADER + family.interface
        self._interfaces = _column(self._controls, interface, family.controlLength)
        self._noInterfaces = memoryview(array("I", bytes(4 * BATCH)))
        self._inOrder = True

    def receive(self) -> list[int]:
        """
        Take what waits, at most L{BATCH} datagrams.

        @return: the length of each.
        """
        count = self._receive(self._descriptor, self._inMessages, BATCH, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return []
        if self._wildcard:
            # Let routing choose the interface of the answer; only its source is to be kept.
            self._interfaces[:count] = self._noInterfaces[:count]
        return self._lengths[:count].tolist()

    def datagram(self, index: int, length: int) -> bytes:
        """
        @return: a received datagram.
        """
        return ctypes.string_at(ctypes.addressof(self.incoming) + index * self._slot, length)

    def source(self, index: int) -> HostPort:
        """
        @return: where a received datagram came from.
        """
        host, port, *_ = self._name(index)
        return canonicalHost(host), port

    def local(self, index: int) -> HostPort:
        """
        @return: where a received datagram came to.
        """
        if not self._wildcard:
            return self._host, self._port
        packed = self._info(index)[self._family.localHost]
        return canonicalHost(self._text(packed)), self._port

    def send(self, requests: Sequence[int]) -> int:
        """
        Send the first C{len(requests)} answers.

        @param requests: for each answer the index of its request, rising.
        @return: how many the network took.
        """
        count = len(requests)
        if not count:
            return 0
        inOrder = requests[-1] == count - 1
        if not (inOrder and self._inOrder):
            for answer, request in enumerate(range(BATCH) if inOrder else requests):
                self._address(self._outMessages[answer].header, request)
            self._inOrder = inOrder
        return self._sendAll(count)

    def reply(self, sock: socket.socket, index: int, data: bytes, port: int | None = None) -> None:
        """
        Send one answer of any length.

        @param port: which port it goes to; C{None} for the one that asked.
        @raise OSError: when the network does not take it.
        """
        host, asking, *scope = self._name(index)
        name = (host, asking if port is None else port, *scope)
        if self._wildcard:
            control = (self._family.level, self._family.option, self._info(index))
            sock.sendmsg([data], [control], socket.MSG_DONTWAIT, name)
        else:
            sock.sendto(data, socket.MSG_DONTWAIT, name)

    def _name(self, index: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """
        @return: where a received datagram came from, as sockets want it.
        """
        family = self._family
        port, host, *scope = family.name.unpack_from(self.names, index * family.nameLength)
        if not scope:
            return self._text(host), port
        return self._text(host), port, 0, int.from_bytes(scope[0], sys.byteorder)

    def _info(self, index: int) -> bytes:
        """
        @return: what the kernel told about the local end of a received datagram.
        """
        start = index * self._family.controlLength + _CONTROL_HEADER
        return ctypes.string_at(ctypes.addressof(self._controls) + start, self._family.infoLength)

    def _text(self, packed: bytes) -> str:
        return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)

    def _sendAll(self, count: int) -> int:
        """
        Send the first C{count} answers, leaving out each that the network refuses.
        """
        first = ctypes.addressof(self._outMessages)
        position = sent = 0
        while position < count:
            done = self._send(
                self._descriptor,
                ctypes.c_void_p(first + position * _MESSAGE_LENGTH),
                count - position,
                socket.MSG_DONTWAIT,
            )
            if done > 0:
                position += done
                sent += done
            elif ctypes.get_errno() == EAGAIN:
                break  # its buffer is full, for the others as well
            else:
                position += 1
        return sent

    def _lay(
        self, data: ctypes.Array[Any], slot: int
    ) -> tuple[ctypes.Array[_IOVec], ctypes.Array[_MMsgHdr]]:
        """
        @return: the vectors and the message headers of one direction.
        """
        vectors, messages = _Vectors(), _Messages()
        for index in range(BATCH):
            vectors[index].base = ctypes.addressof(data) + index * slot
            vectors[index].length = slot
            header = messages[index].header
            header.nameLength = self._family.nameLength
            header.vector = ctypes.addressof(vectors) + index * _VECTOR_LENGTH
            header.vectorLength = 1
            if self._wildcard:
                header.controlLength = self._family.controlLength
            self._address(header, index)
        return vectors, messages

    def _address(self, header: _MsgHdr, index: int) -> None:
        """
        Let a message use the source, and the local address, of received datagram C{index}.
        """
        header.name = ctypes.addressof(self.names) + index * self._family.nameLength
        if self._wildcard:
            start = index * self._family.controlLength
            header.control = ctypes.addressof(self._controls) + start


def _column(table: ctypes.Array[Any], offset: int, rowLength: int) -> memoryview[int]:
    """
    @return: one 32-bit number of each row, in place.
    """
    words = memoryview(table).cast("B").cast("I")
    return words[offset // 4 :: rowLength // 4]
