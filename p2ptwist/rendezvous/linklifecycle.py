"""
The life of a link that comes back: connect, handshake, up, wait, again.

::

    Stopped --start--> Connecting --connected--> Handshaking --welcomed--> Up
                         ^    |                       |                    |
                         |    +--failed--+            +--lost--+-----------+
                         |               v                     |
                         +----retry--- Waiting <---------------+

From everywhere, C{stop} leads to Stopped: at once, or through Stopping while a connection or an
attempt is on its way out; C{start} in Stopping leads through Restarting to Connecting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from p2ptwist.rendezvous.linkconnection import LinkConnection

CLOSE_DELAY = 2.0  # seconds that a last message may take to leave


class Lifecycle(Protocol):
    """
    What happens to a link.
    """

    def start(self) -> None:
        """
        The service starts.
        """

    def stop(self) -> None:
        """
        The service stops.
        """

    def connected(self, connection: LinkConnection) -> None:
        """
        An attempt has made its connection.
        """

    def failed(self, failure: Failure) -> None:
        """
        An attempt has failed.
        """

    def welcomed(self) -> None:
        """
        The node has welcomed the peer.
        """

    def lost(self, failure: Failure) -> None:
        """
        The connection is gone.
        """

    def retry(self) -> None:
        """
        The wait is over.
        """


@dataclass
class LifecycleCore:
    """
    What the states share.

    @ivar clock: where time comes from.
    @ivar connect: makes an attempt.
    @ivar settled: called when an attempt has succeeded or failed.
    @ivar nextDelay: seconds to wait before the next one.
    @ivar stopped: called when nothing is left of what was stopped.
    @ivar connection: the connection, while there is one.
    @ivar closing: cuts a connection that takes too long to close.
    """

    clock: IReactorTime
    connect: Callable[[], Deferred[LinkConnection]]
    settled: Callable[[], None]
    nextDelay: Callable[[], float]
    stopped: Callable[[], None]
    connection: LinkConnection | None = None
    closing: IDelayedCall | None = None

    def forgetConnection(self) -> None:
        """
        The connection is gone, and so is the need to cut it.
        """
        self.connection = None
        if self.closing is not None and self.closing.active():
            self.closing.cancel()
        self.closing = None

    def close(self, connection: LinkConnection) -> None:
        """
        Close politely, but not for long.
        """
        self.closing = self.clock.callLater(CLOSE_DELAY, connection.abort)
        connection.close()


def _attempt(
    life: Lifecycle, core: LifecycleCore, failure: Failure | None = None
) -> Deferred[LinkConnection]:
    core.forgetConnection()
    attempt = core.connect()
    attempt.addCallbacks(life.connected, life.failed)
    attempt.addBoth(lambda _: core.settled())
    return attempt


def _wait(life: Lifecycle, core: LifecycleCore, failure: Failure) -> IDelayedCall:
    core.forgetConnection()
    return core.clock.callLater(core.nextDelay(), life.retry)


def _buildLifecycle() -> Callable[[LifecycleCore], Lifecycle]:
    builder = TypeMachineBuilder(Lifecycle, LifecycleCore)
    stopped = builder.state("Stopped")
    connecting = builder.state("Connecting", _attempt)
    handshaking = builder.state("Handshaking")
    up = builder.state("Up")
    waiting = builder.state("Waiting", _wait)
    stopping = builder.state("Stopping")
    restarting = builder.state("Restarting")

    # Transitions without behaviour.
    stopped.upon(Lifecycle.start).to(connecting).returns(None)
    connecting.upon(Lifecycle.start).loop().returns(None)
    handshaking.upon(Lifecycle.start).loop().returns(None)
    up.upon(Lifecycle.start).loop().returns(None)
    waiting.upon(Lifecycle.start).loop().returns(None)
    stopping.upon(Lifecycle.start).to(restarting).returns(None)
    restarting.upon(Lifecycle.start).loop().returns(None)
    handshaking.upon(Lifecycle.welcomed).to(up).returns(None)
    connecting.upon(Lifecycle.failed).to(waiting).returns(None)
    handshaking.upon(Lifecycle.lost).to(waiting).returns(None)
    up.upon(Lifecycle.lost).to(waiting).returns(None)
    waiting.upon(Lifecycle.retry).to(connecting).returns(None)
    stopping.upon(Lifecycle.stop).loop().returns(None)
    restarting.upon(Lifecycle.stop).to(stopping).returns(None)

    # Transitions with behaviour.
    @connecting.upon(Lifecycle.connected).to(handshaking)
    def rememberConnection(
        life: Lifecycle,
        core: LifecycleCore,
        attempt: Deferred[LinkConnection],
        connection: LinkConnection,
    ) -> None:
        core.connection = connection

    @stopped.upon(Lifecycle.stop).loop()
    def nothingToStop(life: Lifecycle, core: LifecycleCore) -> None:
        core.stopped()

    @connecting.upon(Lifecycle.stop).to(stopping)
    def cancelAttempt(
        life: Lifecycle, core: LifecycleCore, attempt: Deferred[LinkConnection]
    ) -> None:
        attempt.cancel()

    @waiting.upon(Lifecycle.stop).to(stopped)
    def cancelWait(life: Lifecycle, core: LifecycleCore, wait: IDelayedCall) -> None:
        wait.cancel()
        core.stopped()

    @handshaking.upon(Lifecycle.stop).to(stopping)
    @up.upon(Lifecycle.stop).to(stopping)
    def closeConnection(life: Lifecycle, core: LifecycleCore) -> None:
        assert core.connection is not None
        core.close(core.connection)

    @stopping.upon(Lifecycle.failed).to(stopped)
    @stopping.upon(Lifecycle.lost).to(stopped)
    def finishStopping(life: Lifecycle, core: LifecycleCore, failure: Failure) -> None:
        core.forgetConnection()
        core.stopped()

    @restarting.upon(Lifecycle.failed).to(connecting)
    @restarting.upon(Lifecycle.lost).to(connecting)
    def finishRestarting(life: Lifecycle, core: LifecycleCore, failure: Failure) -> None:
        core.stopped()

    return builder.build()


makeLifecycle = _buildLifecycle()
