"""
When the node has to look at which link: one queue for all of them.
"""

from __future__ import annotations

import heapq

from p2ptwist.core.link.nodelink import NodeLink

# Entries that may be stale before the queue is made anew; below this it is not worth the work.
_STALE_AT_LEAST = 1024


class Deadlines:
    """
    A heap with at most one entry in force for each link: the one that equals its C{wakeAt}.

    Putting a look off costs nothing: the entry stays, and who is woken too early schedules again.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, NodeLink]] = []
        self._serial = 0  # breaks ties, so that links are never compared
        self._stale = 0

    def __len__(self) -> int:
        """
        @return: entries, stale ones included.
        """
        return len(self._heap)

    def schedule(self, link: NodeLink, when: float) -> None:
        """
        Have C{link} looked at no later than C{when}.
        """
        if link.wakeAt is not None:
            if link.wakeAt <= when:
                return
            self._forget()
        link.wakeAt = when
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, link))

    def discard(self, link: NodeLink) -> None:
        """
        Never look at C{link} again.
        """
        if link.wakeAt is not None:
            link.wakeAt = None
            self._forget()

    def next(self) -> float | None:
        """
        @return: when the next link is to be looked at, or C{None} when none is.
        """
        heap = self._heap
        while heap and heap[0][2].wakeAt != heap[0][0]:
            heapq.heappop(heap)
            self._stale -= 1
        return heap[0][0] if heap else None

    def pop(self, now: float) -> NodeLink | None:
        """
        @return: a link whose time has come, no longer scheduled, or C{None}.
        """
        when = self.next()
        if when is None or when > now:
            return None
        link = heapq.heappop(self._heap)[2]
        link.wakeAt = None
        return link

    def _forget(self) -> None:
        """
        Count one more stale entry, and drop all of them when they are the most.
        """
        self._stale += 1
        if self._stale > max(_STALE_AT_LEAST, len(self._heap) // 2):
            self._heap = [entry for entry in self._heap if entry[2].wakeAt == entry[0]]
            heapq.heapify(self._heap)
            self._stale = 0
