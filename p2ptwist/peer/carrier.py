"""
What carries the datagrams of one session: the relay at once, and a direct path when there is one.

The caller looks for direct paths, again and again while there is none; the other side answers.
Direct means over UDP, and over TCP where UDP does not come up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.reason import explainTCP
from p2ptwist.core.ice.signal import decodeSignal
from p2ptwist.core.ladder.memory import Means
from p2ptwist.core.session.selector import PathKind, PathSelector, Route
from p2ptwist.core.tcppath.signal import isTCPSignal
from p2ptwist.interfaces import IBatchPathReceiver
from p2ptwist.net.puncher import Punch, Puncher
from p2ptwist.net.tcpopen import TCPOpener
from p2ptwist.net.tcppath import TCPPath
from p2ptwist.peer.pathwatch import LULL_PATIENCE, STALLED, PathWatch
from p2ptwist.peer.succession import Succession
from p2ptwist.peer.tcpsearch import BLOCKED_LEAD, UDP_LEAD, TCPSearch
from p2ptwist.peer.udpsearch import LocalAddresses, UDPSearch


@implementer(IBatchPathReceiver)
class Carrier:
    """
    The paths of one session.

    """

    def __init__(
        self,
        clock: IReactorTime,
        puncher: Puncher,
        local: LocalAddresses,
        random: Random,
        relay: Callable[[Sequence[bytes]], object],
        deliver: Callable[[Sequence[bytes]], object],
        deliverAll: Callable[[Sequence[bytes]], object],
        signal: Callable[[bytes], object],
        probe: Callable[[], object],
        repeat: Callable[[], object],
        changed: Callable[[], object],
        doubt: Callable[[float], object],
        unanswered: Callable[[], int | None],
        opener: TCPOpener | None = None,
    ) -> None:
        """
        @param puncher: of the port that direct paths use.
        @param local: this side's addresses.
        @param random: spreads repeated attempts.
        @param relay: sends datagrams through the rendezvous node.
        @param deliver: takes datagrams that came on a direct path.
        @param deliverAll: takes them when no more wait to be read.
        @param signal: sends a signal to the other side, inside the session.
        @param probe: has something sent that the other side answers.
        @param repeat: has that sent again that the other side has not acknowledged.
        @param changed: called when the path that carries the session is another one.
        @param doubt: called, with the seconds that an answer may take, when one on the direct path
            is late: what took away the path may have taken away the link as well.
        @param unanswered: how often what was sent has been repeated in vain; C{None} when all of it
            was acknowledged.
        @param opener: makes direct paths over TCP; C{None} for none.
        """
        self._clock = clock
        self._local = local
        self._relay = relay
        self._deliver = deliver
        self._deliverAll = deliverAll
        self._signal = signal
        self._probe = probe
        self._changed = changed
        self._doubt = doubt
        self._unanswered = unanswered
        self._selector = PathSelector(clock.seconds())
        self._watch = PathWatch(clock, self._selector, unanswered, self._check, doubt, repeat)
        self._calling = False
        self._closed = False
        self._cut = False
        self._udp = UDPSearch(clock, puncher, local, random, signal, self._openedUDP, self._mayLook)
        self._direct: Punch | TCPPath | None = None
        self._succession = Succession(clock, self._udp.renew, deliver, deliverAll)
        self._tcp = TCPSearch(clock, opener, signal, self._openedTCP, self._mayLookBeyondUDP)
        self._udp.anew = self._tcp.beginAnew

    @property
    def reason(self) -> str | None:
        """
        Why there is no direct path, over UDP and TCP, in words for a person; C{None} while nobody
        can know.
        """
        over = self._tcp.failure
        if over is not None:
            over = explainTCP(over, self._local.behavior, self._udp.remote)
        return "; ".join(each for each in (self._udp.reason, over) if each) or None

    @property
    def kind(self) -> PathKind:
        """
        What carries the session.
        """
        return self._selector.kind

    @property
    def direct(self) -> Punch | TCPPath | None:
        """
        The direct path; C{None} when there is none.
        """
        return self._direct

    @property
    def remote(self) -> HostPort | None:
        """
        Where the other side is; C{None} while it is reached through the relay.
        """
        direct = self._direct if self.kind is PathKind.DIRECT else None
        return None if direct is None else direct.remote

    @property
    def transport(self) -> str:
        """
        What carries the session over the Internet: C{"udp"} or C{"tcp"}, as the relay does.
        """
        direct = self.kind is PathKind.DIRECT and self._direct is not None
        return "udp" if direct and not isinstance(self._direct, TCPPath) else "tcp"

    def call(self) -> None:
        """
        Look for a direct path, from now on whenever there is none.
        """
        self._calling = True
        self._udp.call()
        self._lookBeyondUDP()

    def signalReceived(self, data: bytes) -> None:
        """
        Take a signal of the other side.
        """
        if isTCPSignal(data):
            self._tcp.signalReceived(data, not self._calling and not self._closed)
            return
        try:
            signal = decodeSignal(data)
        except MalformedDatagram:
            return
        direct = self._direct
        if direct is None or isinstance(direct, TCPPath) or direct.session != signal.session:
            self._udp.signalReceived(signal, not self._calling and not self._closed)
            if self._udp.means is Means.TCP:
                self._tcp.hurry()
        else:
            direct.takeSignal(signal)

    def addressesChanged(self) -> None:
        """
        Tell the other side of more addresses.
        """
        self._udp.addressesChanged()

    def send(self, datagrams: Sequence[bytes]) -> None:
        """
        Send datagrams on the path, or the paths, of this moment.
        """
        now = self._clock.seconds()
        direct = self._direct
        if direct is None or not self._selector.trusted(now):
            self._sendDoubtfully(datagrams, now)
            return
        left = direct.writeMany(datagrams)
        self._watch.sent(now)
        if not left:
            # Consent has to be renewed first, which takes a round trip.
            self._relay(datagrams)

    def _sendDoubtfully(self, datagrams: Sequence[bytes], now: float) -> None:
        """
        Send, when no direct path is trusted.
        """
        direct, route = self._direct, self._selector.route(now)
        if direct is not None and route is not Route.RELAYED:
            if not direct.writeMany(datagrams):
                route = Route.BOTH
            self._watch.sent(now)
        if route is not Route.DIRECT:
            self._relay(datagrams)

    def relayedReceived(self) -> None:
        """
        Datagrams came through the relay.
        """
        now = self._clock.seconds()
        if self._direct is not None:
            self._watch.relayed(now)
        self._selector.heardRelayed(now)
        self._pollChange()

    def lulled(self, since: float) -> None:
        """
        The other side was sending, and sends no more since then.
        """
        if self._direct is None:
            self._doubt(LULL_PATIENCE)
        else:
            self._watch.lulled(since)
            self._probe()

    def timedOut(self) -> None:
        """
        A timer of QUIC's was due.  If it repeats in vain what went through the relay, perhaps the
        link is dead.
        """
        if self.kind is PathKind.RELAYED and (self._unanswered() or 0) >= STALLED:
            self._doubt(LULL_PATIENCE)

    def relayUp(self) -> None:
        """
        The link carries messages again.
        """
        self._selector.relayUp()
        self._watch.relayUp()
        if self._cut:
            self._cut = False
            self._udp.linkChanged()

    def relayDown(self) -> None:
        """
        The link carries nothing for the moment.
        """
        self._selector.relayDown()
        self._cut = True

    def close(self, reason: str) -> None:
        """
        End the direct path and every attempt.
        """
        self._closed = True
        self._watch.stop()
        self._succession.stop()
        self._tcp.giveUp(reason)
        self._udp.close(reason)
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.close(reason)

    # IBatchPathReceiver

    def datagramReceived(self, data: bytes) -> None:
        """
        A datagram of the session came directly.
        """
        self._watch.heard(self._clock.seconds())
        self._deliver((data,))
        self._pollChange()

    def datagramsReceived(self, datagrams: Sequence[bytes]) -> None:
        """
        Datagrams of the session came directly, and no more wait.
        """
        self._watch.heard(self._clock.seconds())
        self._deliverAll(datagrams)
        self._pollChange()

    def pathConfirmed(self, answered: bool) -> None:
        """
        The other side proved that it is at the other end of the direct path.
        """
        if self._direct is not None:
            self._udp.proved(self._direct.remote)
            self._succession.seen(self._direct)
            self._watch.confirmed(answered, self._direct.roundTrip or 0.0)
            self._pollChange()

    def pathMoved(self) -> None:
        """
        The direct path goes to another address.
        """
        if self._direct is not None:
            self._succession.seen(self._direct)
            self._selector.directOpened(self._clock.seconds(), self._direct.roundTrip or 0.0)
            self._probe()
        self._changed()

    def pathLost(self, reason: Failure) -> None:
        """
        Seen by L{_over}, which covers attempts as well.
        """

    # Attempts.

    def _openedUDP(self, punch: Punch) -> None:
        punch.tellOver(partial(self._over, punch))
        if self._closed:
            return
        self._tcp.giveUp("there is a path over UDP")
        self._use(punch)

    def _openedTCP(self, path: TCPPath) -> None:
        path.tellOver(partial(self._over, path))
        trusted = self._direct is not None and self._selector.trusted(self._clock.seconds())
        if self._closed or trusted:
            path.close("there is another path")
        else:
            self._udp.remember(Means.TCP, path.remote)
            self._use(path)

    def _use(self, path: Punch | TCPPath) -> None:
        former, self._direct = self._direct, path
        if former is not None:
            self._succession.retire(former)
        self._succession.opened(path, self._calling)
        self._selector.directOpened(self._clock.seconds(), path.roundTrip or 0.0)
        path.receiver = self
        # Nothing can be heard on it, and so it is not trusted, before something is sent.
        self._probe()
        if former is not None:
            self._changed()

    def _over(self, punch: Punch | TCPPath, reason: object) -> None:
        if punch is not self._direct:
            return
        self._direct = None
        self._watch.stop()
        now, selector = self._clock.seconds(), self._selector
        self._succession.lost(selector.since if selector.kind is PathKind.RELAYED else now)
        lasted = selector.directLost(now)
        self._udp.pathLasted(lasted)
        self._probe()
        self._pollChange()
        if self._mayLook():
            self._udp.callLater()
            self._lookBeyondUDP()

    def _lookBeyondUDP(self) -> None:
        # Where no STUN server answers, UDP is blocked, as a rule.
        blocked = self._local.complete and not self._local.answered
        self._tcp.begin(BLOCKED_LEAD if blocked else UDP_LEAD)

    def _mayLook(self) -> bool:
        """
        @return: whether this side is to look for a path over UDP.
        """
        better = self._direct is None or isinstance(self._direct, TCPPath)
        return self._calling and better and not self._closed

    def _mayLookBeyondUDP(self) -> bool:
        return self._calling and self._direct is None

    def _check(self) -> None:
        if self._direct is not None:
            self._direct.probe()

    def _pollChange(self) -> None:
        if self._selector.pollChange() is not None and not self._closed:
            self._changed()
