"""
How one direct path of a session follows another: a new one in time, where NATs forget every mapping
after a while, and the old one not before what is under way on it has come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.session.rotation import Rotation
from p2ptwist.interfaces import IBatchPathReceiver
from p2ptwist.net.climb import memoryOf
from p2ptwist.net.puncher import Punch
from p2ptwist.net.tcppath import TCPPath

# Seconds that an old path is read from: until the other side has moved as well, which takes it a
# round trip and some repetitions.
DRAIN = 3.0
OPEN_LIMIT = 10.0  # seconds for a new path; as long as ordinary checks take to give up

Deliver = Callable[[Sequence[bytes]], object]


@implementer(IBatchPathReceiver)
class _Drain:
    """
    Takes what still comes on an old path.
    """

    __slots__ = ("_deliver", "_deliverAll")

    def __init__(self, deliver: Deliver, deliverAll: Deliver) -> None:
        self._deliver = deliver
        self._deliverAll = deliverAll

    def datagramReceived(self, data: bytes) -> None:
        """
        Deliver it.
        """
        self._deliver((data,))

    def datagramsReceived(self, datagrams: Sequence[bytes]) -> None:
        """
        Deliver them.
        """
        self._deliverAll(datagrams)

    def pathConfirmed(self, answered: bool) -> None:
        """
        It is not used any more.
        """

    def pathMoved(self) -> None:
        """
        Nor does it matter where to.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        Nor whether it is there.
        """


class Succession:
    """
    The direct paths of one session.
    """

    __slots__ = (
        "_clock",
        "_deliver",
        "_deliverAll",
        "_old",
        "_opening",
        "_renew",
        "_retiring",
        "_rotation",
        "_timer",
    )

    def __init__(
        self,
        clock: IReactorTime,
        renew: Callable[[], object],
        deliver: Deliver,
        deliverAll: Deliver,
    ) -> None:
        """
        @param renew: called to open another path over UDP beside the one in use.
        @param deliver: takes datagrams that came on an old path.
        @param deliverAll: takes them when no more wait to be read.
        """
        self._clock = clock
        self._renew = renew
        self._deliver = deliver
        self._deliverAll = deliverAll
        self._rotation: Rotation | None = None
        self._opening = False
        self._timer: IDelayedCall | None = None
        self._old: Punch | TCPPath | None = None
        self._retiring: IDelayedCall | None = None

    def opened(self, path: Punch | TCPPath, calling: bool) -> None:
        """
        There is a path, which is used from now on.

        @param calling: whether this side looks for paths.
        """
        self._opening = False
        if not calling or not isinstance(path, Punch) or path.remote is None:
            self._disarm()
            return
        rotation = self._rotation = self._rotation or Rotation()
        if rotation.life is None:
            rotation.life = memoryOf(self._clock).life(path.survey.networks)
        ends = (path.mapped, path.remote)
        climbed = path.survey.rung is not None
        rotation.opened(ends, path.outlet.fresh, self._clock.seconds(), climbed=climbed)
        self._learned(path)

    def seen(self, path: Punch | TCPPath) -> None:
        """
        Its addresses may be others by now.
        """
        if self._rotation is None or not isinstance(path, Punch) or path.remote is None:
            return
        before = self._rotation.deadline(), self._rotation.life
        self._rotation.seen((path.mapped, path.remote), self._clock.seconds())
        if (self._rotation.deadline(), self._rotation.life) != before:
            self._learned(path)

    def lost(self, since: float) -> None:
        """
        There is none any more.

        @param since: when it died, as far as anybody knows.
        """
        if self._rotation is not None:
            self._opening = False
            self._rotation.lost(since)
            self._disarm()

    def retire(self, path: Punch | TCPPath) -> None:
        """
        Send nothing more on a path, and close it soon.
        """
        self._close()
        self._old = path
        path.receiver = _Drain(self._deliver, self._deliverAll)
        self._retiring = self._clock.callLater(DRAIN, self._close)

    def stop(self) -> None:
        """
        Close what is left.
        """
        self._rotation = None
        self._disarm()
        self._close()

    def _learned(self, path: Punch) -> None:
        assert self._rotation is not None
        networks, remote = path.survey.networks, path.remote
        # Not of a network that the other side only says it is in.
        if networks is not None and remote is not None and remote[0] == networks[1]:
            memoryOf(self._clock).lasts(networks, self._rotation.life)
        self._arm()

    def _arm(self) -> None:
        self._disarm()
        now = self._clock.seconds()
        due = None if self._rotation is None else self._rotation.deadline()
        if self._opening:
            due = now + OPEN_LIMIT
        if due is not None:
            self._timer = self._clock.callLater(max(0.0, due - now), self._due)

    def _due(self) -> None:
        self._timer = None
        rotation = self._rotation
        assert rotation is not None  # or nothing would have been due
        self._opening = not self._opening
        if self._opening:
            rotation.begun()
            self._arm()
            self._renew()
        else:
            rotation.failed(self._clock.seconds())
            self._arm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        if self._retiring is not None and self._retiring.active():
            self._retiring.cancel()
        old, self._old, self._retiring = self._old, None, None
        if old is not None:
            old.close("a newer path")
