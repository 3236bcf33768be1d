"""
All connections of one node: what is to be sent on each, what is to be done with each, and how each
ends.
"""

from __future__ import annotations

import enum
from collections import deque

from p2ptwist.core.link.admission import Unproven
from p2ptwist.core.link.deadlines import Deadlines
from p2ptwist.core.link.limits import Counters, Limits
from p2ptwist.core.link.messages import Goodbye
from p2ptwist.core.link.nodelink import LinkState, NodeLink
from p2ptwist.core.link.reasons import Reason
from p2ptwist.core.link.registry import Registry


class Action(enum.Enum):
    """
    What the owner of a link's connection has to do, after it has sent what there is to send.
    """

    PAUSE = "stop reading"
    RESUME = "read again"
    CLOSE = "close when everything is sent"
    ABORT = "close at once"


class Links:
    """
    The connections of one node, in any state.

    @ivar counters: what the node has done.
    @ivar registry: who is on which link.
    @ivar unproven: who has not proved a key.
    @ivar deadlines: when to look at which link.
    """

    def __init__(self, limits: Limits) -> None:
        self.counters = Counters()
        self.registry = Registry(limits)
        self.unproven = Unproven(limits)
        self.deadlines = Deadlines()
        self._limits = limits
        self._all: set[NodeLink] = set()
        self._dirty: deque[NodeLink] = deque()  # links with something to send
        self._actions: deque[tuple[NodeLink, Action]] = deque()

    def __len__(self) -> int:
        """
        @return: how many there are.
        """
        return len(self._all)

    def all(self) -> list[NodeLink]:
        """
        @return: each of them.
        """
        return list(self._all)

    def add(self, link: NodeLink) -> None:
        """
        Take on a connection.
        """
        self._all.add(link)

    def discard(self, link: NodeLink) -> None:
        """
        Forget a connection that is gone.
        """
        self._leave(link)
        self.deadlines.discard(link)
        self._all.discard(link)
        self.counters.relayLost += link.outbox.clear()

    # What goes out.

    def queue(self, link: NodeLink, frame: bytes, now: float) -> None:
        """
        Send a frame that must not be lost; C{link} ends if its reader is too slow for that.
        """
        outbox = link.outbox
        if not outbox.blocked:
            if not outbox.frames:
                self._dirty.append(link)
            outbox.frames.append(frame)
            return
        limits = self._limits
        most = limits.maxQueuedBytes
        self.counters.relayLost += outbox.makeRoom(most - len(frame))
        if not outbox.addMessage(frame, limits.maxQueuedMessages, most):
            self.counters.tooSlow += 1
            self.end(link, Reason.TOO_SLOW, now)

    def queueRelayed(self, link: NodeLink, frame: bytes) -> None:
        """
        Send a frame that may be lost.
        """
        outbox = link.outbox
        if not outbox.blocked:
            if not outbox.frames:
                self._dirty.append(link)
            outbox.frames.append(frame)
        elif not outbox.addRelayed(frame, self._limits.maxQueuedBytes):
            self.counters.relayLost += 1

    def setBlocked(self, link: NodeLink, blocked: bool) -> None:
        """
        The transport of C{link} takes no more for now, or takes more again.
        """
        link.outbox.setBlocked(blocked)
        if not blocked and link.outbox:
            self._dirty.append(link)

    def act(self, link: NodeLink, action: Action) -> None:
        """
        Have something done with the connection of C{link}.
        """
        self._actions.append((link, action))

    def pollTransmit(self) -> tuple[NodeLink, bytes] | None:
        """
        @return: a link and what to send on it, or C{None}.
        """
        dirty = self._dirty
        while dirty:
            link = dirty.popleft()
            outbox = link.outbox
            if outbox and not outbox.blocked:
                data = outbox.take()
                if outbox:
                    dirty.append(link)
                return link, data
        return None

    def pollAction(self) -> tuple[NodeLink, Action] | None:
        """
        @return: a link and what to do with its connection, or C{None}.  Poll what there is to
            send first.
        """
        return self._actions.popleft() if self._actions else None

    # How it ends.

    def refuse(self, link: NodeLink, reason: Reason, now: float) -> None:
        """
        End a link that never came up, and count it.
        """
        self.counters.refused += 1
        self.end(link, reason, now)

    def end(self, link: NodeLink, reason: Reason, now: float, retryAfter: int = 0) -> None:
        """
        Say goodbye and close; a reader that takes nothing is cut off at once.
        """
        self._leave(link)
        link.state = LinkState.ENDED
        link.since = now
        if link.outbox.blocked:
            self.counters.relayLost += link.outbox.clear()
            self.act(link, Action.ABORT)
            return
        self.queue(link, Goodbye(reason, reason.text, retryAfter).encode(), now)
        self.act(link, Action.CLOSE)
        self.deadlines.schedule(link, now + self._limits.closeDelay)

    def wakeEnded(self, link: NodeLink, now: float) -> None:
        """
        Cut off a reader that has not read its goodbye in time.
        """
        until = link.since + self._limits.closeDelay
        if until <= now:
            self.act(link, Action.ABORT)
        else:
            self.deadlines.schedule(link, until)

    def _leave(self, link: NodeLink) -> None:
        """
        Take C{link} out of every table that others find it by, and forget what it said.
        """
        self.unproven.discard(link)
        self.registry.release(link)
        link.decoder.clear()
        link.held = None
        link.hello = None
