"""
The sessions of one peer: at most one with each other peer, and the attempts at more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.peerid import encodePeerID
from p2ptwist.core.session.admission import CalledAdmission, CallerAdmission, ownCallStands
from p2ptwist.core.session.control import CHALLENGE_LENGTH, CloseCode
from p2ptwist.core.session.envelope import (
    NAME_LENGTH,
    SMALLEST_LIMIT,
    Envelope,
    decodeEnvelope,
    decodeUnknown,
    encodeEarlyEnvelope,
    encodeEnvelopes,
    encodeUnknown,
)
from p2ptwist.core.tokenbucket import Rate, TokenBucket
from p2ptwist.errors import PeerUnreachable
from p2ptwist.interfaces import ILink
from p2ptwist.net.quic import QUIC, calledQUIC, callingQUIC, destinationOf, prepareQUIC
from p2ptwist.net.signatures import verifySignature
from p2ptwist.peer.carrier import Carrier
from p2ptwist.peer.earlyoffers import EarlyOffers
from p2ptwist.peer.identity import Identity
from p2ptwist.peer.reach import Reach
from p2ptwist.peer.session import Session
from p2ptwist.peer.sessionowner import SessionOwner

SESSION_LIMIT = 4096  # sessions at once; about 40 KiB each
# Calls that are not admitted yet: about 100 KiB each, and 256 KiB at most.
PENDING_LIMIT = 64
# Notices that this side does not know a session: enough for every session of a peer that was
# restarted, few enough to be no flood.
NOTICE_RATE = Rate(10.0, 50.0)  # a second, at once
# Bytes.  An envelope is lost whole, and holds up others: three datagrams each are nearly as cheap
# as thirteen.
ENVELOPE_LENGTH = 4096
# Seconds that a session without any path is kept: a peer's link may come back.
GRACE = 150.0


class _Held:
    """
    A session and how to reach its peer.

    What a session is to call are methods of this object, as each C{partial} takes four times as
    much memory as a bound method.
    """

    __slots__ = ("_quic", "_reach", "_sessions", "begun", "grace", "link", "session", "untold")

    def __init__(
        self, sessions: Sessions, session: Session, quic: QUIC, link: ILink, reach: Reach
    ) -> None:
        self.begun = not session.calling  # a caller's first datagrams go with an early offer
        self.session = session
        self.link = link
        self.untold = False  # whether the path changed before the peer had proved itself
        self.grace: IDelayedCall | None = None
        self._sessions = sessions
        self._quic = quic
        self._reach = reach

    def relay(self, datagrams: Sequence[bytes]) -> None:
        """
        Send datagrams through the node.
        """
        self._sessions._relay(self, datagrams)

    def changed(self) -> None:
        """
        Another path carries the session: nobody is told before the peer has proved itself.
        """
        self.untold = not self.session.ready
        if not self.untold:
            self._sessions._owner.sessionChanged(self.session)

    def doubt(self, patience: float) -> None:
        """
        See L{Sessions._doubt}.
        """
        self._sessions._doubt(self._reach, patience)

    def greeted(self) -> bool:
        """
        See L{QUIC.greeted}.
        """
        return not self.session.over and self._quic.greeted()

    def unanswered(self) -> int | None:
        """
        See L{QUIC.unanswered}.
        """
        return self._quic.unanswered(self._sessions._clock.seconds())

    def over(self, reason: object) -> None:
        """
        The session is over.
        """
        self._sessions._over(self)


class Sessions:
    """
    The sessions by peer and name.
    """

    def __init__(
        self,
        clock: Any,
        identity: Identity,
        owner: SessionOwner,
        random: Random,
        randomBytes: Callable[[int], bytes],
    ) -> None:
        """
        @param owner: decides about every session.
        @param random: spreads attempts.
        @param randomBytes: a cryptographic source.
        """
        self._clock = clock
        self._identity = identity
        self._credentials = identity.credentials()
        prepareQUIC(self._credentials)
        self._owner = owner
        self._random = random
        self._randomBytes = randomBytes
        self._held: dict[tuple[bytes, bytes], _Held] = {}
        self._current: dict[bytes, Session] = {}
        self._up: set[ILink] = set()
        self._early = EarlyOffers(identity)
        self._notices = TokenBucket(NOTICE_RATE, clock.seconds())

    # What there is.

    def current(self, peer: bytes) -> Session | None:
        """
        @return: the session with C{peer} that is ready.
        """
        session = self._current.get(peer)
        # One that is just ending tells its streams before anybody else.
        return None if session is None or session.over else session

    def find(self, peer: bytes) -> Session | None:
        """
        @return: the session with C{peer} that is ready, or else the one that will be.
        """
        ready = self.current(peer)
        if ready is not None:
            return ready
        sessions = [held.session for held in self._held.values()]
        pending = [each for each in sessions if each.peerKey == peer and not each.over]
        # This side's own call before the other side's, of which nothing is known yet.
        return max(pending, key=lambda session: session.calling, default=None)

    def busy(self) -> bool:
        """
        @return: whether something that was written has not left yet.
        """
        return any(session.unsent for session in self._current.values())

    def isUp(self, link: ILink) -> bool:
        """
        @return: whether C{link} carries messages.
        """
        return link in self._up

    # What the peer does.

    def call(self, link: ILink, reach: Reach, peer: bytes) -> Session:
        """
        Begin a session.
        """
        admission = CallerAdmission(self._identity.publicKey, self._identity.sign, peer)
        quic = callingQUIC(self._clock.seconds())
        name = self._randomBytes(NAME_LENGTH)
        session = self._hold(link, reach, quic, admission, peer, name).session
        session.carrier.call()
        session.start()
        return session

    def close(self, reason: str) -> None:
        """
        End all of them.
        """
        for held in list(self._held.values()):
            held.session.close(CloseCode.CLOSED, reason)

    def addressesChanged(self) -> None:
        """
        This side has other addresses than before.
        """
        for held in self._held.values():
            held.session.carrier.addressesChanged()

    # What comes.

    def linkUp(self, link: ILink) -> None:
        """
        A link carries messages again.
        """
        self._up.add(link)
        for held in list(self._held.values()):
            held.session.carrier.relayUp()
            held.session.nudge()

    def linkDown(self, link: ILink) -> None:
        """
        A link carries nothing for the moment.
        """
        self._up.discard(link)
        if not self._up:
            for held in self._held.values():
                held.session.carrier.relayDown()

    def envelopeReceived(self, link: ILink, reach: Reach, sender: bytes, payload: bytes) -> None:
        """
        Take a relayed message.  One that is malformed, or for no session, is dropped.
        """
        unknown = decodeUnknown(payload)
        if unknown is not None:
            self._unknownThere(sender, unknown)
            return
        try:
            envelope = decodeEnvelope(payload)
        except MalformedDatagram:
            return
        held = self._held.get((sender, envelope.session))
        fresh = held is None
        if held is None:
            held = self._called(link, reach, sender, envelope)
        if held is None:
            return
        held.link = link
        self._stopGrace(held)
        held.session.carrier.relayedReceived()
        held.session.receive(envelope.datagrams)
        if fresh:
            held.session.start(self._offered(held, envelope))

    def unreachable(self, link: ILink, peer: bytes) -> None:
        """
        C{peer} has no link to the node of C{link}.
        """
        for held in list(self._held.values()):
            if held.session.peerKey != peer or held.link is not link:
                continue
            if not held.session.ready:
                held.session.fail(
                    PeerUnreachable(
                        f"the rendezvous node knows no peer {encodePeerID(peer)}: is that program "
                        "running, and does it use the same node?"
                    )
                )
            elif held.grace is None and held.session.carrier.direct is None:
                held.grace = self._clock.callLater(GRACE, self._graceOver, held)

    # Inside.

    def _called(self, link: ILink, reach: Reach, sender: bytes, envelope: Envelope) -> _Held | None:
        """
        @return: a new session, if that is what the envelope begins and the bounds allow it.
        """
        destination = destinationOf(envelope.datagrams[0])
        if destination is None:
            self._unknownHere(link, sender, envelope.session)
            return None
        if not self._mayCall(sender):
            return None
        pending = self._undecided()
        own = self._identity.publicKey
        challenge = self._randomBytes(CHALLENGE_LENGTH)
        admission = CalledAdmission(own, sender, challenge, verifySignature)
        quic = calledQUIC(self._credentials, destination)
        held = self._hold(link, reach, quic, admission, sender, envelope.session)
        self._makeRoom(pending, sender)
        return held

    def _offered(self, held: _Held, envelope: Envelope) -> tuple[bytes, ...]:
        """
        @return: the signals of the early offer, if there is one.
        """
        # It is bound to these datagrams.  Unless they are all of the hello, somebody else could go
        # on with it, and would read the answer.
        if not held.greeted():
            return ()
        return self._early.read(held.session.peerKey, envelope, self._clock.seconds())

    def _mayCall(self, sender: bytes) -> bool:
        own = self._identity.publicKey
        crossing = any(
            held.session.calling and not held.session.admitted
            for held in self._held.values()
            if held.session.peerKey == sender
        )
        if sender == own or (crossing and ownCallStands(own, sender)):
            return False
        return len(self._held) < SESSION_LIMIT

    def _undecided(self) -> list[Session]:
        """
        @return: the calls of others that are not admitted yet, the oldest first.
        """
        sessions = [held.session for held in self._held.values()]
        return [each for each in sessions if not each.calling and not each.admitted]

    def _makeRoom(self, pending: list[Session], sender: bytes) -> None:
        """
        Of calls that are not admitted yet there is one of each caller, the newest.
        """
        for session in pending:
            if session.peerKey == sender:
                session.lose("the same peer called again", CloseCode.REPLACED.word)
        if len(pending) >= PENDING_LIMIT:
            pending[0].lose("too many peers call at once", CloseCode.OVERFLOW.word)

    def _unknownHere(self, link: ILink, sender: bytes, name: bytes) -> None:
        if self._notices.take(self._clock.seconds()):
            link.sendRelayed(sender, encodeUnknown(name))

    def _unknownThere(self, sender: bytes, name: bytes) -> None:
        held = self._held.get((sender, name))
        if held is not None:
            held.session.doubt()

    def _hold(
        self,
        link: ILink,
        reach: Reach,
        quic: QUIC,
        admission: CallerAdmission | CalledAdmission,
        peer: bytes,
        name: bytes,
    ) -> _Held:
        session = Session(
            self._clock,
            quic,
            admission,
            self._owner,
            name=name,
            ownKey=self._identity.publicKey,
            peerKey=peer,
        )
        held = self._held[(peer, name)] = _Held(self, session, quic, link, reach)
        session.carrier = Carrier(
            self._clock,
            reach.puncher,
            reach.local,
            self._random,
            held.relay,
            session.receive,
            session.receiveAll,
            session.signal,
            session.nudge,
            session.repeat,
            held.changed,
            held.doubt,
            held.unanswered,
            reach.opener,
        )
        session.whenReady().addCallbacks(self._ready, lambda _: None)
        session.tellOver(held.over)
        return held

    def _relay(self, held: _Held, datagrams: Sequence[bytes]) -> None:
        link, session = held.link, held.session
        if link not in self._up:
            link = next(iter(self._up), link)
        limit = min(link.maxPayload, ENVELOPE_LENGTH)
        if limit < SMALLEST_LIMIT:
            return  # too narrow for sessions: as good as no link
        first = None if held.begun else self._first(session, datagrams, limit)
        held.begun = True
        payloads = encodeEnvelopes(session.name, datagrams, limit) if first is None else (first,)
        for payload in payloads:
            link.sendRelayed(session.peerKey, payload)

    def _first(self, session: Session, datagrams: Sequence[bytes], limit: int) -> bytes | None:
        """
        @return: the first envelope of a session, with an early offer; C{None} where there is none.
        """
        signals = session.prelude.signals
        if not signals:
            return None
        early = self._early.make(session.peerKey, session.name, signals, datagrams)
        return early and encodeEarlyEnvelope(session.name, early, datagrams, limit)

    def _doubt(self, reach: Reach, patience: float) -> None:
        """
        A direct path is late with an answer.  Perhaps the NAT forgot it, and the link with it, and
        this side has another address now.
        """
        reach.local.refresh()
        for link in tuple(self._up):
            link.probe(patience)

    def _ready(self, session: Session) -> None:
        former = self._current.get(session.peerKey)
        self._current[session.peerKey] = session
        if former is not None:
            former.close(CloseCode.REPLACED, "a newer session with this peer took its place")
        held = self._held.get((session.peerKey, session.name))
        if held is not None and held.untold:
            held.changed()
        if not session.calling:
            self._dropCrossed(session, former)

    def _dropCrossed(self, session: Session, former: Session | None) -> None:
        """
        The other side's call stands: this side's own is over.
        """
        for held in list(self._held.values()):
            crossed = held.session
            if crossed.peerKey == session.peerKey and crossed.calling and crossed is not former:
                crossed.lose("the calls crossed, and the other one stands", CloseCode.REPLACED.word)

    def _over(self, held: _Held) -> None:
        session = held.session
        self._stopGrace(held)
        self._held.pop((session.peerKey, session.name), None)
        if self._current.get(session.peerKey) is session:
            del self._current[session.peerKey]

    def _graceOver(self, held: _Held) -> None:
        held.grace = None
        if held.session.carrier.direct is None:  # one may have come up without the relay
            held.session.lose(f"the peer has not been reachable for {GRACE:.0f} s", "unreachable")

    def _stopGrace(self, held: _Held) -> None:
        if held.grace is not None:
            held.grace.cancel()
            held.grace = None
