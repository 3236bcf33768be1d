"""
What ends a session because the other side broke its rules.
"""

from __future__ import annotations

from p2ptwist.core.errors import P2PError
from p2ptwist.core.session.control import CloseCode


class SessionViolation(P2PError):
    """
    The other side broke a rule of the session, which is to be closed.

    @ivar code: what the other side is told.
    @ivar reason: one sentence for a log.
    """

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"{code.word}: {reason}")
        self.code = code
        self.reason = reason
