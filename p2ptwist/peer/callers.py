"""
Who waits for a session with another peer, and for being admitted to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from p2ptwist.core.session.control import CloseCode
from p2ptwist.errors import SessionLost, SessionRefused
from p2ptwist.net.latch import Latch
from p2ptwist.peer.session import Session


class Callers:
    """
    Those within this program who wait.  Of several who call the same peer only the first begins a
    session, and only the last one who gives up ends it.
    """

    def __init__(
        self,
        find: Callable[[bytes], Session | None],
        begin: Callable[[bytes], Awaitable[Session]],
    ) -> None:
        """
        @param find: tells the session with a peer that there is, or will be.
        @param begin: begins one, unless there is one by the time that it can.
        """
        self._find = find
        self._begin = begin
        self._waiting: Counter[Session] = Counter()
        self._admissions: dict[Session, Latch[None]] = {}

    async def ready(self, peer: bytes) -> Session:
        """
        @return: the session with C{peer}, which has proved itself; one is made if there is none.
        """
        while True:
            session = self._find(peer) or await self._begin(peer)
            try:
                return await self._wait(session)
            except SessionRefused as refusal:
                # The other side's call came at the same time and is the one that stands.
                if refusal.word != CloseCode.REPLACED.word:
                    raise

    async def admitted(self, peer: bytes) -> Session:
        """
        @return: the session with C{peer}, which has admitted this side.
        """
        while True:
            session = await self.ready(peer)
            try:
                if not session.admitted:
                    await self._admission(session).when()
                return session
            except SessionRefused as refusal:
                if refusal.word != CloseCode.REPLACED.word:
                    raise

    def sessionAdmitted(self, session: Session) -> None:
        """
        The other side has admitted this one.
        """
        admission = self._admissions.pop(session, None)
        if admission is not None:
            admission.settle(None)

    async def _wait(self, session: Session) -> Session:
        self._waiting[session] += 1
        try:
            return await session.whenReady()
        except CancelledError:
            if self._waiting[session] == 1 and session.calling:
                session.close(CloseCode.CLOSED, "the caller gave up")
            raise
        finally:
            self._waiting[session] -= 1
            self._waiting += Counter()  # without those at zero

    def _admission(self, session: Session) -> Latch[None]:
        admission = self._admissions.get(session)
        if admission is None:
            admission = self._admissions[session] = Latch()
            session.whenOver().addCallback(self._over, session)
        return admission

    def _over(self, reason: Exception, session: Session) -> None:
        admission = self._admissions.pop(session, None)
        if admission is not None:
            word = reason.word if isinstance(reason, SessionLost) else "lost"
            admission.settle(Failure(SessionRefused(str(reason), word)))
