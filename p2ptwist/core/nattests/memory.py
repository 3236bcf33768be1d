"""
What is known of the NATs of several networks: a host that comes back to one, or measures again and
finds out less, need not begin anew.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields, replace

from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior

LIMIT = 16  # networks: more than anybody visits in the life of a process


class NATMemory:
    """
    The behaviours of the networks that were seen last.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, NATBehavior] = {}

    def recall(self, network: Hashable) -> NATBehavior:
        """
        @param network: whatever tells one network from another.
        @return: what is known of it.
        """
        return self._known.get(network, UNKNOWN_BEHAVIOR)

    def remember(self, network: Hashable, found: NATBehavior) -> NATBehavior:
        """
        @param found: what was measured just now.
        @return: that, and what was known before of whatever was not found out.
        """
        known = self._known.pop(network, UNKNOWN_BEHAVIOR)
        told = {
            field.name: getattr(found, field.name)
            for field in fields(found)
            if getattr(found, field.name) is not None
        }
        if "allocation" in told:
            told.setdefault("step", None)  # the step of another allocation
        merged = replace(known, **told)
        self._known[network] = merged
        if len(self._known) > LIMIT:
            del self._known[next(iter(self._known))]
        return merged
