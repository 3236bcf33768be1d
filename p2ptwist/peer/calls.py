"""
Who talks with whom: the sessions of one peer, and the bounds on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2ptwist.net.puncher import Punch

# Sessions at once, open or not.  Each costs 13 KiB and, idle, four packets a minute each way.
SESSION_LIMIT = 4096
# Sessions with one other peer, so that one that may call cannot take the room of all others.
PEER_LIMIT = 8
# Sessions that one other peer opens at once: as each may send 200 checks to addresses that the
# other side names, this bounds what a peer can aim at a third party.
PENDING_LIMIT = 2


@dataclass(frozen=True, slots=True)
class _Call:
    """
    A session and who began it.
    """

    punch: Punch
    outgoing: bool

    @property
    def pending(self) -> bool:
        return self.punch.openedAfter is None


class Calls:
    """
    Sessions by peer.  A signal finds its session by the key that the node authenticated and the
    session's own name, so one peer cannot touch the session of another.
    """

    def __init__(self) -> None:
        self._byPeer: dict[bytes, dict[bytes, _Call]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, peer: bytes, session: bytes) -> Punch | None:
        """
        @return: the session of that name with that peer.
        """
        call = self._byPeer.get(peer, {}).get(session)
        return None if call is None else call.punch

    def pending(self) -> list[Punch]:
        """
        @return: the sessions that have no path yet.
        """
        every = [call for calls in self._byPeer.values() for call in calls.values()]
        return [call.punch for call in every if call.pending]

    def outgoing(self, peer: bytes) -> list[Punch]:
        """
        @return: this side's calls to C{peer} that have no path yet.
        """
        calls = self._byPeer.get(peer, {}).values()
        return [call.punch for call in calls if call.outgoing and call.pending]

    def mayAdmit(self, peer: bytes) -> bool:
        """
        @return: whether one more session that C{peer} offers stays within the bounds.
        """
        calls = self._byPeer.get(peer, {}).values()
        incoming = sum(call.pending and not call.outgoing for call in calls)
        return self._count < SESSION_LIMIT and len(calls) < PEER_LIMIT and incoming < PENDING_LIMIT

    def add(self, peer: bytes, punch: Punch, *, outgoing: bool) -> None:
        """
        Keep a session until it is over.
        """
        self._byPeer.setdefault(peer, {})[punch.session] = _Call(punch, outgoing)
        self._count += 1
        # Not whenOpen: that would wait for the path, so that giving up could not be told.
        punch.whenOver().addCallback(lambda _: self._forget(peer, punch.session))

    def _forget(self, peer: bytes, session: bytes) -> None:
        calls = self._byPeer[peer]
        del calls[session]
        self._count -= 1
        if not calls:
            del self._byPeer[peer]
