"""
Hole punching on a UDP port that the application already has.

A L{Puncher} belongs to one port.  Each L{Punch} is one session with one other program: it sends
signals over a channel of the application's choice, opens a direct path, keeps it open, and says
when it died.  C{docs/punching.md} has it all in twenty lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from os import urandom

from twisted.internet.interfaces import IReactorTime

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.agent import Agent
from p2ptwist.core.ice.candidate import Candidate
from p2ptwist.core.ice.check import userNameFragments
from p2ptwist.core.ice.signal import (
    Description,
    Goodbye,
    Signal,
    SignalType,
    decodeSignal,
    encodeSignal,
)
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.stun.message import Message, MessageClass, anySTUN, decode, isSTUN
from p2ptwist.net.attempts import AttemptBegun, Observer, SignalSent, tell, tellOver
from p2ptwist.net.climb import Gear
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.outlet import WriteMany
from p2ptwist.net.punch import Punch
from p2ptwist.net.routes import Routes

__all__ = ["Punch", "Puncher", "isOffer"]

# Of a signal's delay, for how long checks die on the way: the direct way takes longer than the
# rest, but between close neighbors.
PRIMING = 0.6
# Seconds of the same where it must not fail again: the other side is heard before, as a rule.
FRESH_PRIMING = 2.0


class Puncher:
    """
    The sessions of one UDP port.

    @ivar unknown: STUN messages that were for no session.
    @ivar gear: what sessions need that climb the ladder; C{None} when none of them may.
    @ivar signalDelay: about how many seconds a signal takes; 0.0 for unknown.
    """

    def __init__(
        self,
        clock: IReactorTime,
        write: Callable[[bytes, HostPort], object],
        randomBytes: Callable[[int], bytes] = urandom,
        writeMany: WriteMany | None = None,
    ) -> None:
        """
        @param write: sends one datagram from the port, such as C{transport.write} or
            L{p2ptwist.net.datagramport.DatagramPort.write}.  What it raises is counted: the
            datagram is lost, as datagrams are.
        @param randomBytes: a cryptographic source; tests on a simulated Internet pass a seeded one.
        @param writeMany: sends many datagrams to one address, such as
            L{p2ptwist.net.datagramport.DatagramPort.writeMany}; C{None} to send each by C{write}.
        """
        self.unknown = 0
        self._clock = clock
        self._write = write
        self._writeMany = self._writeEach if writeMany is None else writeMany
        self._randomBytes = randomBytes
        self._routes: Routes[Punch] = Routes()
        self.gear: Gear | None = None
        self.signalDelay = 0.0

    def __len__(self) -> int:
        return len(self._routes)

    def mapped(self) -> list[HostPort | None]:
        """
        @return: for each session, where its other side sees this one (L{Punch.mapped}).
        """
        return [session.mapped for session in self._routes.sessions()]

    @property
    def observer(self) -> Observer | None:
        """
        Who is told of all that attempts do (L{p2ptwist.net.attempts}); C{None} for nobody.
        """
        return self._routes.observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._routes.observer = observer

    def call(
        self,
        sendSignal: Callable[[bytes], object],
        candidates: Iterable[Candidate],
        *,
        complete: bool = True,
        behavior: NATBehavior | None = None,
        climbs: bool = False,
        port: DatagramPort | None = None,
    ) -> Punch:
        """
        Offer a session to another program.

        @param sendSignal: called with each signal, at most 1,024 bytes, for the other program to
            pass to L{answer} and L{Punch.signalReceived}.  The first call comes before this method
            returns.
        @param candidates: this side's addresses known so far.
        @param complete: whether no more will come.
        @param behavior: what this side's NAT was measured to do, for the reason of a failure.
        @param climbs: whether the ladder may be climbed (C{docs/ladder.md}).  Only over a channel
            that authenticates the other program, and that nobody else can read.
        @param port: a fresh port, which the session uses and closes at its end; the other side is
            asked to use one as well.  C{None} for the port of this object.
        """
        agent = Agent(True, self._randomBytes, self._clock.seconds())
        punch = self._register(agent, sendSignal, climbs, port)
        punch.addCandidates(candidates, complete, behavior)
        punch.start()
        return punch

    def answer(
        self,
        offer: bytes | Signal,
        sendSignal: Callable[[bytes], object],
        candidates: Iterable[Candidate],
        *,
        complete: bool = True,
        behavior: NATBehavior | None = None,
        climbs: bool = False,
        port: DatagramPort | None = None,
    ) -> Punch:
        """
        Take a session that another program offers.

        @param offer: the first signal of the session, as it came or decoded.
        @param port: a fresh port, as in L{call}.
        @raise MalformedDatagram: when it is not an offer.
        """
        signal = _requireOffer(offer)
        agent = Agent(False, self._randomBytes, self._clock.seconds(), signal.session)
        punch = self._register(agent, sendSignal, climbs, port)
        punch.addCandidates(candidates, complete, behavior)
        # When the answer comes, the other side opens its NATs.  A datagram that is sent a bit
        # earlier arrives a bit later, as signals take the longer way.
        priming = PRIMING * self.signalDelay if port is None else FRESH_PRIMING
        if self.gear is not None and priming:
            punch.outlet.prime(self.gear, self._clock.seconds() + priming)
        punch.takeSignal(signal)
        return punch

    def refuse(
        self, offer: bytes | Signal, sendSignal: Callable[[bytes], object], reason: str
    ) -> None:
        """
        Turn down a session that another program offers, which is told so at once.

        @param reason: what the other side's user reads.
        @raise MalformedDatagram: when it is not an offer.
        """
        sendSignal(encodeSignal(Goodbye(_requireOffer(offer).session, reason)))

    def datagramReceived(self, data: bytes, address: HostPort) -> bool:
        """
        Take a datagram that came to the port.

        @param address: its source.
        @return: whether it was for one of the sessions; if not, it is the application's own.
        """
        address = (canonicalHost(address[0]), address[1])
        if isSTUN(data):
            return self._receiveSTUN(data, address)
        # Data says nothing of its session: it is for the surest, and among those for the newest.
        claims = self._routes.at(address)
        if len(claims) > 1:
            claims.sort(key=lambda punch: -punch.claim(address))
        return any(punch.receiveData(data, address) for punch in claims)

    def datagramsReceived(self, datagrams: Sequence[bytes], address: HostPort) -> Sequence[bytes]:
        """
        Take datagrams that came to the port together, from one source.

        @param address: with the host in canonical text, as
            L{p2ptwist.net.datagramport.DatagramPort} gives it.
        @return: those that are the application's own.
        """
        claims = self._routes.byAddress.get(address, ())
        plain = len(claims) == 1 and not anySTUN(datagrams)
        if plain and claims[0].receiveMany(datagrams, address):
            return ()
        return [data for data in datagrams if not self.datagramReceived(data, address)]

    def behaviorKnown(self, behavior: NATBehavior) -> None:
        """
        More is known of this side's NAT: tell the other side of every session, open ones included,
        whose keepalive it decides.
        """
        for punch in self._routes.sessions():
            punch.addCandidates((), False, behavior)

    def close(self, reason: str = "closed") -> None:
        """
        End every session.
        """
        for punch in self._routes.sessions():
            punch.close(reason)

    def _writeEach(self, datagrams: Sequence[bytes], address: HostPort) -> None:
        for data in datagrams:
            self._write(data, address)

    def _register(
        self,
        agent: Agent,
        sendSignal: Callable[[bytes], object],
        climbs: bool,
        port: DatagramPort | None,
    ) -> Punch:
        if self.observer is not None:
            sendSignal = _observed(self.observer, agent, sendSignal)
        punch = Punch(
            self._routes,
            agent,
            self._clock,
            self._write,
            sendSignal,
            self._writeMany,
            self._adopted,
        )
        if self.observer is not None:
            punch.whenOver().addCallback(partial(tellOver, self.observer, agent.session))
        if port is not None:
            self._adopted(port)
            punch.outlet.useFresh(port)
        if climbs and self.gear is not None:
            punch.climb(self.gear if port is None else replace(self.gear, port=port))
        self._routes.add(punch)
        self._routes.names(punch, agent.fragments)
        return punch

    def _adopted(self, port: DatagramPort) -> None:
        """
        One more socket belongs to a session, which closes it at its end.
        """
        port.addConsumer(self.datagramReceived, self.datagramsReceived)

    def _receiveSTUN(self, data: bytes, address: HostPort) -> bool:
        try:
            message = decode(data, requireFingerprint=True)
        except MalformedDatagram:
            # A STUN server's answer may come without FINGERPRINT: somebody else's, perhaps.
            return False
        punch = self._owner(message, address)
        if punch is None:
            self.unknown += 1
            return False
        return punch.receiveMessage(message, len(data), address)

    def _owner(self, message: Message, address: HostPort) -> Punch | None:
        if message.messageClass in (MessageClass.SUCCESS, MessageClass.ERROR):
            for punch in self._routes.at(address):
                if punch.awaits(message.transactionID):
                    return punch
            return None
        fragments = userNameFragments(message)
        return None if fragments is None else self._routes.named(fragments[0])


def _observed(
    observer: Observer, agent: Agent, sendSignal: Callable[[bytes], object]
) -> Callable[[bytes], object]:
    """
    Tell that an attempt begins.

    @return: what sends its signals, and tells of them.
    """
    tell(observer, AttemptBegun(agent.session, "udp", agent.controlling))

    def send(data: bytes) -> None:
        tell(observer, SignalSent(agent.session, decodeSignal(data)))
        sendSignal(data)

    return send


def _requireOffer(offer: bytes | Signal) -> Signal:
    signal = decodeSignal(offer) if isinstance(offer, bytes) else offer
    if not isOffer(signal):
        raise MalformedDatagram("the first signal of a session is not an offer")
    return signal


def isOffer(signal: Signal) -> bool:
    """
    @return: whether C{signal} begins a session.
    """
    return (
        isinstance(signal, Description)
        and signal.type is SignalType.OFFER
        and signal.generation == 0
    )
