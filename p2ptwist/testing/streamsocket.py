"""
Simulated TCP sockets.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor

from p2ptwist.core.address import HostPort
from p2ptwist.testing.sendqueue import SEND_BUFFER
from p2ptwist.testing.sockets import SocketAddress, SocketState, osError
from p2ptwist.testing.tcp import TCPConnection, TCPState

if TYPE_CHECKING:
    from p2ptwist.testing.stack import Stack

# A third of the buffer, as in Linux, so that a sender is not woken for every few octets.
_WRITABLE_ROOM = SEND_BUFFER // 3


class StreamSocket:
    """
    A TCP socket that never blocks: one end of a connection, or a listener.

    @ivar state: its addresses and options.
    @ivar reader: told when there is something to read, if anybody wants to know.
    @ivar writer: told when there is room to write, if anybody wants to know.
    @ivar connection: the connection, once there is one.
    @ivar opening: connections to this listener whose handshake is not done.
    """

    def __init__(self, stack: Stack, family: socket.AddressFamily) -> None:
        """
        @param stack: the host's.
        @param family: C{AF_INET} or C{AF_INET6}.
        """
        self.state = state = SocketState(family, socket.SOCK_STREAM, stack.poller.open(self))
        self.reader: IReadDescriptor | None = None
        self.writer: IWriteDescriptor | None = None
        self._stack = stack
        # What is the same for every socket.
        self.setblocking = state.setblocking
        self.fileno = state.fileno
        self.getsockname = state.getsockname
        self.getpeername = state.getpeername
        self.connection: TCPConnection | None = None
        self.opening = 0
        self._backlog = 0
        self._accepted: deque[StreamSocket] = deque()
        self._readingEnded = False
        self._resetOnClose = False
        self._toldOpen = False

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """
        Set an option; C{SO_LINGER} of 0 seconds makes L{close} reset the connection.
        """
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER) and isinstance(value, bytes):
            isOn, seconds = struct.unpack("ii", value)
            self._resetOnClose = bool(isOn) and seconds == 0
        self.state.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int) -> int:
        """
        @return: what was set, or 0; for C{SO_ERROR} what went wrong, once.
        """
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self._takeError()
        return self.state.getsockopt(level, option)

    def bind(self, address: SocketAddress) -> None:
        """
        Take a local address.  Host C{""} is all addresses, port 0 any free one.

        @raise OSError: C{EADDRINUSE}, C{EADDRNOTAVAIL} or C{EINVAL}.
        """
        self._stack.ports.bind(self, *self.state.bindable(address))

    # Listening

    @property
    def hasRoom(self) -> bool:
        """
        Whether one more connection may wait to be accepted.
        """
        # As in Linux, one more than asked for.
        return len(self._accepted) + self.opening <= self._backlog

    def listen(self, backlog: int) -> None:
        """
        Wait for connections, of which C{backlog} may wait to be accepted.

        @raise OSError: C{EADDRINUSE} when another socket listens there.
        """
        self._ensureBound()
        self._stack.ports.requireListenable(self)
        self._backlog = backlog
        self.state.isListening = True

    def accept(self) -> tuple[StreamSocket, SocketAddress]:
        """
        @return: the socket of a connection, and where it comes from.
        @raise OSError: C{EAGAIN} when there is none.
        """
        if not self._accepted:
            raise osError(errno.EAGAIN)
        child = self._accepted.popleft()
        return child, child.getpeername()

    def offer(self, child: StreamSocket) -> None:
        """
        A connection to this listener is open.
        """
        self._accepted.append(child)
        self._stack.poller.wake(self)

    # Connecting

    def connect_ex(self, address: SocketAddress) -> int:
        """
        Start to connect.

        @return: C{EINPROGRESS} the first time, then C{EALREADY}, once 0 and then C{EISCONN}; or
            what went wrong.
        """
        if self.connection is None:
            remote = self.state.inward(address)
            try:
                self._stack.tcp.connect(self, remote)
            except OSError as error:
                return error.errno or errno.EINVAL
            return errno.EINPROGRESS
        if self.connection.state in (TCPState.SYN_SENT, TCPState.SYN_RECEIVED):
            return errno.EALREADY
        number = self._takeError()
        if number or self._toldOpen:
            return number or errno.EISCONN
        self._toldOpen = True
        return 0

    def bindForConnecting(self, remote: HostPort) -> HostPort:
        """
        Complete the local address for a connection to C{remote}.

        @raise OSError: when there is no free port or no route.
        """
        bound, port = self._ensureBound()
        return (self._stack.sourceFor(remote[0], bound), port)

    def changed(self) -> None:
        """
        The connection may have become ready, or ended.
        """
        self._stack.poller.wake(self)

    # Transferring

    def send(self, data: bytes | memoryview) -> int:
        """
        @return: how many octets of C{data} were taken.
        @raise OSError: C{EAGAIN} when there is no room; C{EPIPE} without a connection, or what
            ended it.
        """
        connection = self.connection
        self._raiseError()
        if connection is None or connection.finished:
            raise osError(errno.EPIPE)
        if connection.state in (TCPState.SYN_SENT, TCPState.SYN_RECEIVED):
            raise osError(errno.EAGAIN)
        if not connection.isOpen:
            raise osError(errno.EPIPE)
        taken = connection.write(bytes(data))
        if data and not taken:
            raise osError(errno.EAGAIN)
        return taken

    def recv(self, size: int) -> bytes:
        """
        @return: up to C{size} octets; none once the peer has sent all, or reading was shut down.
        @raise OSError: C{EAGAIN} when there is nothing yet; C{ENOTCONN}, or what ended the
            connection.
        """
        connection = self._requireConnection()
        if connection.unread and not self._readingEnded:
            return connection.read(size)
        if connection.peerFinished:
            return b""  # even if a RST followed
        self._raiseError()
        if self._isAtEnd(connection):
            return b""
        raise osError(errno.EAGAIN)

    def shutdown(self, how: int) -> None:
        """
        End reading, writing or both.

        @param how: C{SHUT_RD}, C{SHUT_WR} or C{SHUT_RDWR}.
        @raise OSError: C{ENOTCONN}.
        """
        if self.state.isListening:
            return
        connection = self._requireConnection()
        if how != socket.SHUT_WR:
            self._readingEnded = True
        if how != socket.SHUT_RD:
            connection.shutdownWrite()

    def close(self) -> None:
        """
        Free everything.  What was written is still sent, in the background, and the port is taken
        for as long as that lasts, TIME-WAIT included.
        """
        self._stack.poller.close(self.state.number)
        self.state.number = -1
        self.state.isListening = False
        for child in self._accepted:
            child.reset()
        self._accepted.clear()
        if self.connection is not None:
            if self._resetOnClose:
                self.connection.abort()
            else:
                self.connection.close()
        if self.connection is None or self.connection.state is TCPState.CLOSED:
            self._stack.ports.release(self)

    def reset(self) -> None:
        """
        Close, and reset the connection.
        """
        self._resetOnClose = True
        self.close()

    def isReadable(self) -> bool:
        """
        @return: whether L{recv} or L{accept} would tell something.
        """
        connection = self.connection
        if connection is None:
            return bool(self._accepted)
        return bool(connection.unread) or self._isAtEnd(connection)

    def isWritable(self) -> bool:
        """
        @return: whether L{send} would take much, or fail.
        """
        connection = self.connection
        if connection is None:
            return False
        if connection.state in (TCPState.SYN_SENT, TCPState.SYN_RECEIVED):
            return False
        return connection.finished or not connection.isOpen or connection.room >= _WRITABLE_ROOM

    def isHungUp(self) -> bool:
        """
        @return: C{False}: reading tells what ended a connection.
        """
        return False

    def _ensureBound(self) -> HostPort:
        """
        @return: the local address, with an empty host for all addresses.
        """
        if self.state.local is None:
            self._stack.ports.bind(self, "", 0)
        assert self.state.local is not None
        return self.state.local

    def _isAtEnd(self, connection: TCPConnection) -> bool:
        return (
            self._readingEnded
            or connection.peerFinished
            or connection.state in (TCPState.CLOSED, TCPState.TIME_WAIT)
        )

    def _requireConnection(self) -> TCPConnection:
        if self.connection is None:
            raise osError(errno.ENOTCONN)
        return self.connection

    def _raiseError(self) -> None:
        number = self._takeError()
        if number:
            raise osError(number)

    def _takeError(self) -> int:
        connection = self.connection
        if connection is None:
            return 0
        number, connection.error = connection.error, 0
        return number
