"""
A stream joined to standard input and output, byte for byte, each direction ending on its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

# Connects a protocol to a transport that is standard input and output.
Attach = Callable[[Any], Any]

_OUTPUT = 1  # the descriptor of standard output


class Console(StandardIO):
    """
    Standard input and output of this process.
    """

    def closeOutput(self) -> None:
        """
        Close standard output, which Twisted leaves open: whoever reads it sees its end.
        """
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, _OUTPUT)
        os.close(nothing)


@implementer(IPushProducer)
class _Input:
    """
    Standard input as a producer, whose end is not that of standard output, as Twisted has it.
    """

    def __init__(self, console: Any) -> None:
        self.pauseProducing = console.pauseProducing
        self.resumeProducing = console.resumeProducing
        self.stopProducing = console.pauseProducing


@implementer(IHalfCloseableProtocol)
class _Terminal(Protocol):
    """
    The side of standard input and output.
    """

    transport: Any

    def __init__(self, joint: Joint) -> None:
        self._joint = joint

    def dataReceived(self, data: bytes) -> None:
        self._joint.transport.write(data)

    def readConnectionLost(self) -> None:
        self._joint.inputEnded()

    def writeConnectionLost(self) -> None:
        self._joint.outputEnded()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._joint.outputEnded()


@implementer(IHalfCloseableProtocol)
class Joint(Protocol):
    """
    The side of the stream.  What one side cannot take yet, the other does not read.

    @ivar done: fires with C{None} when both directions have ended and everything was written, and
        fails with the reason when the stream was lost, or standard output closed.
    """

    transport: Any

    def __init__(self, attach: Attach) -> None:
        """
        @param attach: joins a protocol to standard input and output.
        """
        self.done: Deferred[None] = Deferred()
        self._attach = attach
        self._console: Any = None
        self._reason: Failure | None = None
        self._outputEnding = False
        self._outputEnded = False

    def connectionMade(self) -> None:
        """
        Begin to read standard input.
        """
        self._console = self._attach(_Terminal(self))
        self._console.registerProducer(self.transport, True)
        self.transport.registerProducer(_Input(self._console), True)

    def dataReceived(self, data: bytes) -> None:
        """
        Write it to standard output.
        """
        self._console.write(data)

    def readConnectionLost(self) -> None:
        """
        The other side has ended its direction: close standard output once all is written.
        """
        if not self._outputEnding:
            self._outputEnding = True
            self._console.unregisterProducer()
            self._console.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """
        This side's direction is over; the other one may go on.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The stream is over: write what came, and end.
        """
        self._reason = self._reason or reason
        if self._outputEnded or self._console is None:
            self._finish()
        else:
            self._outputEnding = True
            self._console.unregisterProducer()
            self._console.loseConnection()

    def inputEnded(self) -> None:
        """
        Standard input has ended.
        """
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def outputEnded(self) -> None:
        """
        Standard output is closed: because everything was written, or because nobody reads it.
        """
        if self._outputEnded:
            return
        self._outputEnded = True
        if self._reason is not None:
            self._finish()
        elif self._outputEnding:
            self._console.closeOutput()
        else:
            self._reason = Failure(BrokenPipeError("nobody reads standard output any more"))
            self.transport.abortConnection()

    def _finish(self) -> None:
        reason = self._reason
        if self.done.called:
            return
        if reason is None or reason.check(ConnectionDone):
            self.done.callback(None)
        else:
            self.done.errback(reason)
