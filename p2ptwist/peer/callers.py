"""
Who waits for a session with another peer, and for being admitted to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from p2ptwist.core.session.control import CloseCode
from p2ptwist.errors import SessionLost, SessionRefused
from p2ptwist.net.latch import Latch
from p2ptwist.peer.session import Session

# Seconds for a call of the other side's, which may have died with the program that made it: one
# round trip, and repetitions.  Then it is ended, and this side calls.
PATIENCE = 5.0
# Times that a session may be replaced by another one: calls cross once, and one to spare.  Who is
# called could say so for ever.
_CROSSINGS = 2


class Callers:
    """
    Those within this program who wait.  Of several who call the same peer only the first begins a
    session, and only the last one who gives up ends it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        find: Callable[[bytes], Session | None],
        begin: Callable[[bytes], Awaitable[Session]],
    ) -> None:
        """
        @param find: tells the session with a peer that there is, or will be.
        @param begin: begins one, unless there is one by the time that it can.
        """
        self._clock = clock
        self._find = find
        self._begin = begin
        self._waiting: Counter[Session] = Counter()
        self._admissions: dict[Session, Latch[None]] = {}

    async def ready(self, peer: bytes) -> Session:
        """
        @return: the session with C{peer}, which has proved itself; one is made if there is none.
        """
        return await _repeatCrossed(partial(self._ready, peer))

    async def admitted(self, peer: bytes) -> Session:
        """
        @return: the session with C{peer}, which has admitted this side.
        """
        return await _repeatCrossed(partial(self._admitted, peer))

    def sessionAdmitted(self, session: Session) -> None:
        """
        The other side has admitted this one.
        """
        admission = self._admissions.pop(session, None)
        if admission is not None:
            admission.settle(None)

    async def _ready(self, peer: bytes) -> Session:
        for _ in range(_CROSSINGS):
            await self._awaitTheirs(peer)
        return await self._wait(self._find(peer) or await self._begin(peer))

    async def _admitted(self, peer: bytes) -> Session:
        session = await self._ready(peer)
        if not session.admitted:
            await self._admission(session).when()
        return session

    async def _awaitTheirs(self, peer: bytes) -> None:
        """
        Wait until a call of the other side's is ready, or over.  While there is one this side must
        not call: only of calls that cross on the way both sides know which one stands.
        """
        session = self._find(peer)
        if session is None or session.ready or session.calling:
            return
        try:
            await session.whenReady().addTimeout(PATIENCE, self._clock)
        except DeferredTimeoutError:
            session.close(CloseCode.REPLACED, "this side calls instead")
        except ConnectError:
            pass  # of whoever called, and says nothing about being called

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


async def _repeatCrossed(attempt: Callable[[], Awaitable[Session]]) -> Session:
    """
    Do it again when the other side's call came at the same time and is the one that stands.
    """
    for _ in range(_CROSSINGS):
        try:
            return await attempt()
        except SessionRefused as refusal:
            if refusal.word != CloseCode.REPLACED.word:
                raise
    return await attempt()
