"""
Who talks with whom: the sessions of one peer, and the bounds on them.
"""

from __future__ import annotations

from p2ptwist.net.puncher import Punch

# Sessions at once, open or not.  Each costs a few KiB and, idle, eight packets a minute.
SESSION_LIMIT = 4096
# Sessions that one other peer opens at once: as each may send 200 checks to addresses that the
# other side names, this bounds what a peer can aim at a third party.
PENDING_LIMIT = 2


class Calls:
    """
    Sessions by peer.  A signal finds its session by the key that the node authenticated and the
    session's own name, so one peer cannot touch the session of another.
    """

    def __init__(self) -> None:
        self._sessions: dict[tuple[bytes, bytes], Punch] = {}
        self._outgoing: dict[bytes, list[Punch]] = {}
        self._incoming: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, peer: bytes, session: bytes) -> Punch | None:
        """
        @return: the session of that name with that peer.
        """
        return self._sessions.get((peer, session))

    def pending(self) -> list[Punch]:
        """
        @return: the sessions that have no path yet.
        """
        return [punch for punch in self._sessions.values() if punch.openedAfter is None]

    def mayAdmit(self, peer: bytes) -> bool:
        """
        @return: whether one more session that C{peer} offers stays within the bounds.
        """
        return len(self._sessions) < SESSION_LIMIT and self._incoming.get(peer, 0) < PENDING_LIMIT

    def add(self, peer: bytes, punch: Punch, *, outgoing: bool) -> None:
        """
        Keep a session until it is over.
        """
        key = (peer, punch.session)
        self._sessions[key] = punch
        if outgoing:
            self._outgoing.setdefault(peer, []).append(punch)
            settled = self._outgoingSettled
        else:
            self._incoming[peer] = self._incoming.get(peer, 0) + 1
            settled = self._incomingSettled
        # Either way it no longer counts as pending.
        punch.whenSettled().addCallback(lambda _: settled(peer, punch))
        punch.whenOver().addCallback(lambda _: self._sessions.pop(key, None))

    def outgoing(self, peer: bytes) -> list[Punch]:
        """
        @return: this side's calls to C{peer} that have no path yet.
        """
        return list(self._outgoing.get(peer, ()))

    def _outgoingSettled(self, peer: bytes, punch: Punch) -> None:
        calls = self._outgoing[peer]
        calls.remove(punch)
        if not calls:
            del self._outgoing[peer]

    def _incomingSettled(self, peer: bytes, punch: Punch) -> None:
        left = self._incoming[peer] - 1
        if left:
            self._incoming[peer] = left
        else:
            del self._incoming[peer]
