"""
The way out of one session: its socket, as a rule the peer's own; another one to an address that a
ladder found; and datagrams that die on the way while the other side is not ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.survey import Survey
from p2ptwist.net.climb import Gear
from p2ptwist.net.datagramport import DatagramPort

WriteMany = Callable[[Sequence[bytes], HostPort], object]

_log = Logger()


class Outlet:
    """
    Sends the datagrams of one session.  What a socket refuses is lost, as datagrams are.

    @ivar unsent: how many were refused, with whatever exception.
    @ivar fresh: whether the session has a port of its own.
    """

    __slots__ = ("_clock", "_port", "_primer", "_survey", "_ways", "_write", "_writeMany", "unsent")

    def __init__(
        self,
        clock: IReactorTime,
        survey: Survey,
        write: Callable[[bytes, HostPort], object],
        writeMany: WriteMany,
    ) -> None:
        """
        @param survey: of the session's agent.
        @param write: sends from the peer's own port.
        @param writeMany: the same for many datagrams.
        """
        self.unsent = 0
        self._clock = clock
        self._survey = survey
        self._write = write
        self._writeMany = writeMany
        self._port: DatagramPort | None = None
        self._primer: Gear | None = None
        self._ways: dict[HostPort, DatagramPort] | None = None

    @property
    def fresh(self) -> bool:
        """
        Whether the session has a port of its own.
        """
        return self._port is not None

    def useFresh(self, port: DatagramPort) -> None:
        """
        Send from that port, which is the session's.
        """
        self._write, self._writeMany, self._port = port.write, port.writeMany, port
        self._survey.markFresh()

    def prime(self, gear: Gear, until: float) -> None:
        """
        Let checks die on the way until that time; see L{p2ptwist.core.ice.survey.Survey.prime}.
        """
        self._primer = gear
        self._survey.prime(until)

    def redirect(self, address: HostPort, port: DatagramPort | None) -> DatagramPort | None:
        """
        Send what goes to C{address} from that port, which is the session's; C{None} takes that
        back.

        @return: the port before.
        """
        ways = self._ways = self._ways or {}
        former = ways.pop(address, None)
        if port is not None:
            ways[address] = port
        return former

    def send(self, data: bytes, address: HostPort) -> None:
        """
        Send one datagram.
        """
        try:
            if self._primer is not None and self._primes(address):
                self._primer.writeNear(data, address, self._port)
            elif self._ways is not None and address in self._ways:
                self._ways[address].write(data, address)
            else:
                self._write(data, address)
        except Exception as error:
            # No route, a full buffer, no socket of that family.
            self.unsent += 1
            _log.debug("datagram to {address} not sent: {error}", address=address, error=error)

    def way(self, address: HostPort) -> WriteMany:
        """
        @return: what sends datagrams to an address that the other side has proved to be at, until
            the next L{redirect}.  L{refused} is to be told what it raises.
        """
        port = None if self._ways is None else self._ways.get(address)
        return self._writeMany if port is None else port.writeMany

    def refused(self, datagrams: Sequence[bytes], error: Exception) -> None:
        """
        Datagrams were not sent.
        """
        self.unsent += len(datagrams)
        _log.debug("datagrams not sent: {error}", error=error)

    def close(self) -> None:
        """
        Close the ports that are the session's.
        """
        for port in (self._port, *(self._ways or {}).values()):
            if port is not None:
                port.stopListening()

    def _primes(self, address: HostPort) -> bool:
        return self._survey.primes(address, self._clock.seconds())
