"""
Readiness: what C{select()} and the main loop are to a real reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.testing.clock import Clock

_log = Logger()


class Pollable(Protocol):
    """
    A socket, as far as readiness is concerned.

    @ivar reader: told when there is something to read, if anybody wants to know.
    @ivar writer: told when there is room to write, if anybody wants to know.
    """

    reader: IReadDescriptor | None
    writer: IWriteDescriptor | None

    def isReadable(self) -> bool:
        """
        @return: whether reading tells something.
        """

    def isWritable(self) -> bool:
        """
        @return: whether there is room to write, or writing fails.
        """

    def isHungUp(self) -> bool:
        """
        @return: whether there is an error, and nothing to read before it.
        """

    def close(self) -> None:
        """
        Free everything.
        """


class Poller:
    """
    Tells readers and writers when their sockets are ready, each time in an event of its own.
    """

    def __init__(self, clock: Clock) -> None:
        """
        @param clock: where its turns are queued.
        """
        self._clock = clock
        self._numbers = count(3)  # as if after the standard streams
        self._sockets: dict[int, Pollable] = {}
        self._readers: dict[IReadDescriptor, Pollable] = {}
        self._writers: dict[IWriteDescriptor, Pollable] = {}
        self._ready: dict[Pollable, None] = {}

    def open(self, sock: Pollable) -> int:
        """
        Number a new socket.
        """
        number = next(self._numbers)
        self._sockets[number] = sock
        return number

    def close(self, number: int) -> None:
        """
        Forget the socket with C{number}.
        """
        sock = self._sockets.pop(number, None)
        if sock is None:
            return
        if sock.reader is not None:
            self.removeReader(sock.reader)
        if sock.writer is not None:
            self.removeWriter(sock.writer)

    def closeAll(self) -> None:
        """
        Close every socket.
        """
        for sock in list(self._sockets.values()):
            sock.close()

    def addReader(self, reader: IReadDescriptor) -> None:
        """
        Call C{doRead} whenever the reader's socket is readable.
        """
        sock = self._sockets.get(reader.fileno())
        if sock is None:
            return  # the host was killed, and its sockets with it
        sock.reader = reader
        self._readers[reader] = sock
        self.wake(sock)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """
        No longer call C{doRead}.
        """
        sock = self._readers.pop(reader, None)
        if sock is not None:
            sock.reader = None

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """
        Call C{doWrite} whenever the writer's socket is writable.
        """
        sock = self._sockets.get(writer.fileno())
        if sock is None:
            return  # the host was killed, and its sockets with it
        sock.writer = writer
        self._writers[writer] = sock
        self.wake(sock)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """
        No longer call C{doWrite}.
        """
        sock = self._writers.pop(writer, None)
        if sock is not None:
            sock.writer = None

    def readers(self) -> list[IReadDescriptor]:
        """
        @return: all that wait to read.
        """
        return list(self._readers)

    def writers(self) -> list[IWriteDescriptor]:
        """
        @return: all that wait to write.
        """
        return list(self._writers)

    def wake(self, sock: Pollable) -> None:
        """
        Look at C{sock} in the next turn: it may have become ready.
        """
        if not self._ready:
            self._clock.callAt(self._clock.now, self._turn)
        self._ready[sock] = None

    def _turn(self) -> None:
        ready, self._ready = self._ready, {}
        for sock in ready:
            reader = sock.reader
            if reader is not None and sock.isHungUp():
                # As poll() and epoll() tell it, and as Twisted's reactors take it.
                self._disconnect(reader, ConnectionDone(), True)
            elif reader is not None and sock.isReadable():
                self._call(reader, reader.doRead, True)
            writer = sock.writer
            if writer is not None and sock.isWritable():
                self._call(writer, writer.doWrite, False)
            # As with select(), what is still ready is told again.
            if (sock.reader is not None and sock.isReadable()) or (
                sock.writer is not None and sock.isWritable()
            ):
                self.wake(sock)

    def _call(
        self,
        descriptor: IReadDescriptor | IWriteDescriptor,
        method: Callable[[], object],
        isRead: bool,
    ) -> None:
        try:
            why = method()
        except Exception as error:
            _log.failure("while a socket was ready")
            why = error
        if isinstance(why, BaseException):
            self._disconnect(descriptor, why, isRead)

    def _disconnect(
        self, descriptor: IReadDescriptor | IWriteDescriptor, why: BaseException, isRead: bool
    ) -> None:
        """
        Do as a real reactor does when C{doRead} or C{doWrite} returned a reason to disconnect.
        """
        self.removeReader(descriptor)  # type: ignore[arg-type]
        if isinstance(why, ConnectionDone) and isRead:
            # All of Twisted's descriptors are half-closeable; their protocols may not be.
            IHalfCloseableDescriptor(descriptor).readConnectionLost(Failure(ConnectionDone()))
            return
        self.removeWriter(descriptor)  # type: ignore[arg-type]
        if isinstance(why, ConnectionDone | ConnectionLost):
            why = type(why)()  # Twisted returns one and the same instance each time
        descriptor.connectionLost(Failure(why))
