"""
The data of an open path, many datagrams at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.agent import Agent

# Seconds that the agent's word is taken for: a small part of the times that consent knows, the
# shortest of which is 4 s.
TRUST = 0.2

WriteMany = Callable[[Sequence[bytes], HostPort], object]

_log = Logger()


class Flow:
    """
    What an agent says of data, taken for a moment: asking it for each datagram would cost as much
    as the rest of the way.

    @ivar unsent: datagrams that the socket refused, with whatever exception.
    """

    __slots__ = (
        "_agent",
        "_aim",
        "_hearsUntil",
        "_passesUntil",
        "_source",
        "_target",
        "_writeMany",
        "unsent",
    )

    def __init__(self, agent: Agent, aim: Callable[[HostPort], WriteMany]) -> None:
        """
        @param aim: called when data is about to go to an address, some times a second; returns
            what sends it there.
        """
        self.unsent = 0
        self._agent = agent
        self._aim = aim
        self._source: HostPort | None = None
        self._target: HostPort = ("", 0)
        self._hearsUntil = self._passesUntil = float("-inf")
        self._writeMany: WriteMany = _nowhere

    def forget(self) -> None:
        """
        Something happened: ask the agent again.
        """
        self._hearsUntil = self._passesUntil = float("-inf")

    def hears(self, address: HostPort, now: float) -> bool:
        """
        @return: whether data from C{address} is the other side's.
        """
        if address != self._source or now > self._hearsUntil:
            if not self._agent.hears(address, now):
                return False
            self._source, self._hearsUntil = address, now + TRUST
        return True

    def send(self, datagrams: Sequence[bytes], now: float) -> bool:
        """
        @return: whether they left; if not, they have to wait for consent, or for a path.
        """
        if now > self._passesUntil and not self._ask(now):
            return False
        try:
            self._writeMany(datagrams, self._target)
        except Exception as error:
            self.unsent += len(datagrams)
            _log.debug("datagrams not sent: {error}", error=error)
        return True

    def _ask(self, now: float) -> bool:
        target = self._agent.passMany(now)
        if target is None:
            return False
        self._writeMany = self._aim(target)
        self._target, self._passesUntil = target, now + TRUST
        return True


def _nowhere(datagrams: Sequence[bytes], address: HostPort) -> None: ...
