"""
Two programs on a simulated Internet that punch with a channel of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import Candidate, CandidateType, makeCandidate
from p2ptwist.interfaces import IPathReceiver
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.puncher import Punch, Puncher
from p2ptwist.testing import Host, Internet, Link

LATENCY = 0.01  # seconds, of each host's link, one way
SIGNAL_DELAY = 0.05  # seconds


@implementer(IPathReceiver)
class Receiver:
    """
    Remembers what it is told.

    @ivar log: datagrams as they are, and what else happened as text.
    @ivar onData: called with each datagram.
    """

    def __init__(self) -> None:
        self.log: list[bytes | str] = []
        self.onData: Callable[[bytes], object] = lambda data: None

    def datagramReceived(self, data: bytes) -> None:
        """
        Remember it.
        """
        self.log.append(data)
        self.onData(data)

    def pathMoved(self) -> None:
        """
        Remember that.
        """
        self.log.append("moved")

    def pathLost(self, reason: Failure) -> None:
        """
        Remember why.
        """
        self.log.append(f"lost: {reason.getErrorMessage()}")


@implementer(IPathReceiver)
class FailingReceiver(Receiver):
    """
    Has a bug in every method.
    """

    def datagramReceived(self, data: bytes) -> None:
        """
        Fail.
        """
        super().datagramReceived(data)
        raise ZeroDivisionError

    def pathMoved(self) -> None:
        """
        Fail.
        """
        super().pathMoved()
        raise ZeroDivisionError

    def pathLost(self, reason: Failure) -> None:
        """
        Fail.
        """
        super().pathLost(reason)
        raise ZeroDivisionError


class Side:
    """
    One program: a host, a port, a puncher, and the sessions that others opened.

    @ivar answered: the sessions that it answered, oldest first.
    @ivar receiver: who gets the datagrams of those; C{None} to set none.
    @ivar deaf: whether signals to it are lost.
    """

    def __init__(self, internet: Internet, name: str, address: str) -> None:
        self.host: Host = internet.host(name, address, link=Link(latency=LATENCY))
        self.port = DatagramPort(self.host)
        self.port.listen()
        self.puncher = Puncher(self.host, self.port.write, Random(name).randbytes)
        self.port.addConsumer(self.puncher.datagramReceived)
        self.address: HostPort = (address, self.port.localPort)
        self.answered: list[Punch] = []
        self.receiver: Receiver | None = Receiver()
        self.deaf = False
        self._sessions: dict[bytes, Punch] = {}

    def candidates(self) -> list[Candidate]:
        """
        @return: the one that this side has.
        """
        return [makeCandidate(CandidateType.HOST, self.address)]

    def call(self, other: Side, candidates: list[Candidate] | None = None) -> Punch:
        """
        @return: a session that is offered to C{other}.
        """
        offered = self.candidates() if candidates is None else candidates
        punch = self.puncher.call(self.channelTo(other), offered)
        self._sessions[punch.session] = punch
        return punch

    def channelTo(self, other: Side) -> Callable[[bytes], object]:
        """
        @return: what carries signals to C{other}.
        """
        return lambda signal: other.host.callLater(SIGNAL_DELAY, other.signalReceived, signal, self)

    def signalReceived(self, signal: bytes, sender: Side) -> None:
        """
        A signal has come.
        """
        if self.deaf:
            return
        session = signal[2:10]
        if session in self._sessions:
            self._sessions[session].signalReceived(signal)
            return
        punch = self.puncher.answer(signal, self.channelTo(sender), self.candidates())
        self._sessions[session] = punch
        self.answered.append(punch)
        if self.receiver is not None:
            punch.receiver = self.receiver

    def stop(self) -> None:
        """
        End everything.
        """
        self.puncher.close()
        self.port.stopListening()
