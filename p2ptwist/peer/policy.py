"""
Who may connect: what an application says about a peer that has proved itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from p2ptwist.core.peerid import decodePeerID, encodePeerID

Policy = Callable[[str], bool]

_log = Logger()


def everyone(peerID: str) -> bool:
    """
    The policy that admits every peer.
    """
    return True


def allowing(peerIDs: Sequence[str]) -> Policy:
    """
    @return: the policy that admits these peers, and no others.
    @raise LocalUsageError: when one of them is not a peer ID.
    """
    allowed = frozenset(encodePeerID(decodePeerID(each)) for each in peerIDs)
    return lambda peerID: peerID in allowed


def admitted(policy: Policy, peerID: str) -> bool:
    """
    @return: what C{policy} says.  A peer is refused, with a line in the log, when the policy fails,
        or says anything but C{True} and C{False}: a Deferred, or a coroutine, would else be taken
        for consent.
    """
    try:
        decision = policy(peerID)
        if not isinstance(decision, bool):
            raise TypeError(f"a policy says True or False, at once, not {decision!r}")
    except Exception:
        _log.failure("the application failed to decide about {peer}, which is refused", peer=peerID)
        return False
    return decision
