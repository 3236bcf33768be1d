"""
What made two networks meet, and what did not.

Whoever comes back to a pair of networks tries first what worked there, and does not try again soon
what came to nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Set
from dataclasses import dataclass
from typing import TypeAlias

from p2ptwist.core.address import HostPort
from p2ptwist.core.ladder.posture import Rung

# Pairs of networks: more than a program has sessions with in a day, in some 50 kB.
LIMIT = 256
# Seconds of ordinary checks only, after everything else was tried in vain: what is not to look like
# a scan must not come back every minute, nor with every session.
CLIMB_PAUSE = 1800.0

# The external host of this side's network, and that of the other side's.
Networks: TypeAlias = tuple[str, str]


def networksOf(address: HostPort | None, remoteHosts: Set[str]) -> Networks | None:
    """
    @param address: an external address of this side; C{None} for unknown.
    @param remoteHosts: the hosts of the other side's.
    @return: the pair of networks; C{None} while one is not known.
    """
    return None if address is None or not remoteHosts else (address[0], min(remoteHosts))


class Means(enum.Enum):
    """
    What made two sides meet.
    """

    ORDINARY = "ordinary checks"
    FRESH = "fresh ports"
    PREDICTION = Rung.PREDICTION.value
    SPRAYING = Rung.SPRAYING.value
    TCP = "TCP"


def meansOf(rung: Rung | None, fresh: bool) -> Means:
    """
    @param rung: the one that was climbed when a path over UDP opened; C{None} when none was.
    @param fresh: whether it was from fresh ports.
    @return: what made the two sides meet.
    """
    if rung is not None:
        return Means(rung.value)
    return Means.FRESH if fresh else Means.ORDINARY


@dataclass(slots=True)
class _Entry:
    means: Means | None = None
    pausedUntil: float = 0.0


class PairMemory:
    """
    The pairs of networks that one process has seen last.  C{None} in place of a pair is one that is
    not known yet: nothing is remembered of it.
    """

    def __init__(self) -> None:
        self._entries: dict[Networks, _Entry] = {}
        self._lives: dict[Networks, float] = {}

    def worked(self, networks: Networks | None, means: Means) -> None:
        """
        A path was opened.
        """
        if networks is not None:
            self._keep(networks, _Entry(means))

    def failed(self, networks: Networks | None, now: float) -> None:
        """
        All was tried that the two networks allow.
        """
        if networks is not None:
            self._keep(networks, _Entry(None, now + CLIMB_PAUSE))

    def missed(self, networks: Networks | None, means: Means) -> None:
        """
        What had worked before does not any more.
        """
        if self.recall(networks) is means:
            assert networks is not None
            del self._entries[networks]

    def recall(self, networks: Networks | None) -> Means | None:
        """
        @return: what to try first; C{None} when there is nothing to prefer.
        """
        entry = None if networks is None else self._entries.get(networks)
        return None if entry is None else entry.means

    def lasts(self, networks: Networks | None, life: float | None) -> None:
        """
        @param life: seconds after which a NAT forgets every mapping, however much it is used;
            C{None} changes nothing.
        """
        if networks is not None and life is not None:
            self._lives.pop(networks, None)
            self._lives[networks] = life
            if len(self._lives) > LIMIT:
                del self._lives[next(iter(self._lives))]

    def life(self, networks: Networks | None) -> float | None:
        """
        @return: the same.
        """
        return None if networks is None else self._lives.get(networks)

    def mayClimb(self, networks: Networks | None, now: float) -> bool:
        """
        @return: whether more than ordinary checks may be tried.
        """
        entry = None if networks is None else self._entries.get(networks)
        return entry is None or entry.pausedUntil <= now

    def _keep(self, networks: Networks, entry: _Entry) -> None:
        self._entries.pop(networks, None)
        self._entries[networks] = entry
        if len(self._entries) > LIMIT:
            del self._entries[next(iter(self._entries))]
