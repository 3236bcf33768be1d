"""
The data of an open path, many datagrams at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.agent import Agent
from p2ptwist.net.outlet import Outlet

# Seconds that the agent's word is taken for: a small part of the times that consent knows, the
# shortest of which is 4 s.
TRUST = 0.2


class Flow:
    """
    What an agent says of data, taken for a moment: asking it for each datagram would cost as much
    as the rest of the way.
    """

    __slots__ = (
        "_agent",
        "_aimed",
        "_hearsUntil",
        "_outlet",
        "_passesUntil",
        "_source",
        "_target",
        "_way",
    )

    def __init__(self, agent: Agent, outlet: Outlet, aimed: Callable[[HostPort], object]) -> None:
        """
        @param aimed: called when data is about to go to an address, some times a second.
        """
        self._agent = agent
        self._outlet = outlet
        self._aimed = aimed
        self._source: HostPort | None = None
        self._target: HostPort = ("", 0)
        self._way = outlet.way(self._target)
        self._hearsUntil = self._passesUntil = float("-inf")

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
            self._way(datagrams, self._target)
        except Exception as error:
            # No route, a full buffer, no socket of that family.
            self._outlet.refused(datagrams, error)
        return True

    def _ask(self, now: float) -> bool:
        target = self._agent.passMany(now)
        if target is None:
            return False
        self._aimed(target)
        self._target, self._passesUntil = target, now + TRUST
        self._way = self._outlet.way(target)
        return True
