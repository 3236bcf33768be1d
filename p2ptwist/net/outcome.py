"""
What an application is told of the end of a session with another program.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from p2ptwist.core.ice.events import EndKind, SessionEnded
from p2ptwist.errors import PathLost, PeerUnreachable, PunchFailed


def asFailure(event: SessionEnded, opened: bool) -> Failure:
    """
    @param opened: whether there was a path.
    """
    if opened:
        return Failure(PathLost(event.reason))
    if event.kind is EndKind.LEFT:
        return Failure(PeerUnreachable(event.reason))
    return Failure(PunchFailed(event.reason, event.elapsed, event.checks))
