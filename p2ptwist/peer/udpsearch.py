"""
The search of one session for a direct path over UDP.

The caller looks, again and again while there is no such path; the other side answers.  An attempt
that is silent although both sides described themselves is followed by one from fresh ports: perhaps
a router took a datagram that came too early for its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import Candidate
from p2ptwist.core.ice.signal import Description, MoreCandidates, Signal, encodeSignal
from p2ptwist.core.ice.survey import Survey
from p2ptwist.core.ladder.memory import Means, Networks, meansOf
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior
from p2ptwist.core.session.selector import Backoff
from p2ptwist.core.tokenbucket import Rate, TokenBucket
from p2ptwist.errors import PortUnusable, PunchFailed
from p2ptwist.net.climb import memoryOf
from p2ptwist.net.freshport import FreshPort, openFresh
from p2ptwist.net.puncher import Punch, Puncher, isOffer

# Offers that are answered: as many as a caller makes whose row of waits starts anew now and then.
OFFER_RATE = Rate(0.2, 6.0)  # a second, at once
# Seconds without a word before an attempt from fresh ports: several round trips, also by satellite.
FRESH_AFTER = 2.0
# Attempts at once because something changed: some NATs give other addresses every minute.
CHANGE_RATE = Rate(1 / 60, 3.0)  # a second, at once

# What begins from fresh ports when a path is looked for again.
_FROM_FRESH = (Means.FRESH, Means.PREDICTION, Means.SPRAYING)


class LocalAddresses(Protocol):
    """
    Where this side can be reached: L{p2ptwist.net.localcandidates.LocalCandidates}.
    """

    complete: bool
    behavior: NATBehavior

    @property
    def answered(self) -> bool:
        """
        Whether a STUN server has told an address.
        """

    def candidates(self) -> tuple[Candidate, ...]:
        """
        @return: the addresses known at this moment.
        """


class UDPSearch:
    """
    The attempts of one session.

    @ivar failure: why the attempts failed, so far; C{None} before one did.  Of those between the
        same networks it is the one that tried most.
    @ivar remote: what the other side says of its NATs.
    @ivar anew: called when attempts begin anew because something changed.
    """

    __slots__ = (
        "_answered",
        "_attempt",
        "_backoff",
        "_changes",
        "_clock",
        "_closed",
        "_known",
        "_latest",
        "_local",
        "_memory",
        "_networks",
        "_offers",
        "_opened",
        "_opening",
        "_puncher",
        "_session",
        "_signal",
        "_since",
        "_timer",
        "_vain",
        "_wanted",
        "anew",
        "failure",
        "remote",
    )

    def __init__(
        self,
        clock: IReactorTime,
        puncher: Puncher,
        local: LocalAddresses,
        random: Random,
        signal: Callable[[bytes], object],
        opened: Callable[[Punch], object],
        wanted: Callable[[], bool],
    ) -> None:
        """
        @param puncher: of the port that direct paths use.
        @param local: this side's addresses.
        @param random: spreads repeated attempts.
        @param signal: sends a signal to the other side, inside the session.
        @param opened: called with each path.
        @param wanted: whether this side, the caller, looks for one.
        """
        self.failure: PunchFailed | None = None
        self.remote = UNKNOWN_BEHAVIOR
        self.anew: Callable[[], object] = lambda: None
        self._clock = clock
        self._puncher = puncher
        self._local = local
        self._signal = signal
        self._opened = opened
        self._wanted = wanted
        self._backoff = Backoff(random)
        self._offers = TokenBucket(OFFER_RATE, clock.seconds())
        self._memory = memoryOf(clock)
        self._networks: Networks | None = None
        self._latest: Punch | None = None
        self._closed = False
        self._attempt: Punch | None = None
        self._opening: Deferred[FreshPort] | None = None
        self._timer: IDelayedCall | None = None
        self._since: float | None = None  # when the search began that has found nothing yet
        self._vain: Networks | None = None  # between which a ladder was climbed in vain
        self._session: bytes | None = None  # of the latest attempt
        self._answered = False  # whether the other side offered that
        self._known: int | None = None  # what it knew of this side: a digest
        self._changes: TokenBucket | None = None  # made when it is needed: sessions are many

    @property
    def reason(self) -> str | None:
        """
        Why there is no path over UDP, in words for a person; C{None} while nobody can know.
        """
        if self.failure is not None:
            return str(self.failure)
        climb = None if self._attempt is None else self._attempt.survey.tellClimb()
        return None if climb is None else f"no direct path yet; {climb}"

    def call(self) -> None:
        """
        Make an attempt, if none is under way and one is wanted.
        """
        self._stopTimer()
        if self._attempt is not None or self._opening is not None or not self._wanted():
            return
        self._seek()
        # For a ladder as well: the other side must not miss because this side's NAT has forgotten
        # the mapping that its servers told of.
        if self.means in _FROM_FRESH and self._openFresh(self._callFresh):
            return
        self._try(
            self._puncher.call(
                self._signal,
                self._local.candidates(),
                complete=self._local.complete,
                behavior=self._local.behavior,
                climbs=True,
            )
        )
        self._timer = self._clock.callLater(FRESH_AFTER, self._silent)

    def renew(self) -> None:
        """
        Open another path beside the one in use, from fresh ports.
        """
        if self._attempt is None and self._opening is None and not self._closed:
            self._openFresh(self._callFresh)

    def callLater(self) -> None:
        """
        Make an attempt after a while: there is no path any more.
        """
        if self._timer is None and self._attempt is None and not self._closed:
            self._timer = self._clock.callLater(self._backoff.next(self._seek()), self._again)

    def pathLasted(self, seconds: float) -> None:
        """
        A path has ended that was open for so long.
        """
        self._backoff.pathLasted(seconds)

    def signalReceived(self, signal: Signal, mayAnswer: bool) -> None:
        """
        Take a signal of the other side.

        @param mayAnswer: whether this side answers offers.
        """
        if self._attempt is not None and self._attempt.session == signal.session:
            self._attempt.takeSignal(signal)
            if self._attempt is not None:
                self._learn(self._attempt)
        elif isOffer(signal) and mayAnswer and self._mayOffer():
            assert isinstance(signal, Description)
            self._answer(signal)
        elif isinstance(signal, MoreCandidates) and signal.session == self._session:
            self._begin()  # the other side has other addresses than in the attempt that failed

    def addressesChanged(self) -> None:
        """
        Tell the other side of more addresses.
        """
        local = self._local
        if self._attempt is not None and not self._attempt.outlet.fresh:
            self._attempt.addCandidates(local.candidates(), local.complete, local.behavior)
        known, self._known = self._known, _essenceOf(local)
        if known is not None and known != self._known and not self._closed:
            self._ownChange()

    def linkChanged(self) -> None:
        """
        The link has come back: this side is in another network, perhaps.
        """
        if not self._closed:
            self._ownChange()

    def close(self, reason: str) -> None:
        """
        End the attempt, and make no other.
        """
        self._closed = True
        self._stopTimer()
        self._replace(reason)

    def _mayOffer(self) -> bool:
        """
        @return: whether the other side may offer once more.  One that does more often than any
            honest one may be aiming this side's checks at somebody else.
        """
        return self._offers.take(self._clock.seconds())

    def _answer(self, offer: Description) -> None:
        self._answered = True
        self._replace("a newer attempt")
        if offer.fresh and self._openFresh(lambda fresh: self._answerFresh(offer, fresh)):
            return
        self._try(
            self._puncher.answer(
                offer,
                self._signal,
                self._local.candidates(),
                complete=self._local.complete,
                behavior=self._local.behavior,
                climbs=True,
            )
        )

    # What changes.

    def _seek(self) -> float:
        """
        @return: seconds for which a path has been looked for.
        """
        now = self._clock.seconds()
        if self._since is None:
            self._since = now
        return now - self._since

    def _begin(self) -> None:
        """
        Something is different than when attempts came to nothing: make one at once, and then as
        often as at first.
        """
        if self._closed or self._since is None or not self._wanted():
            return
        now = self._clock.seconds()
        if self._changes is None:
            self._changes = TokenBucket(CHANGE_RATE, now)
        if self._changes.take(now):
            self._backoff.restart()
            self._since = now
            if self._attempt is None:
                self.call()
                self.anew()

    def _ownChange(self) -> None:
        """
        This side has other addresses than in the latest attempt, perhaps, or NATs.  Only the caller
        makes attempts: the other side tells it by more candidates of one that is over.
        """
        if not self._answered:
            self._begin()
        elif self._attempt is None and self._latest is None and self._session is not None:
            local = self._local
            more = MoreCandidates(
                self._session, 0, local.candidates(), local.complete, local.behavior
            )
            self._signal(encodeSignal(more))

    # What is remembered of the two networks.

    @property
    def means(self) -> Means | None:
        """
        What made the networks of the two sides meet before; C{None} for nothing, or unknown.
        """
        return self._memory.recall(self._networks)

    def remember(self, means: Means, remote: HostPort | None) -> None:
        """
        A path was opened.

        @param remote: where it goes: what the other side only says of its network counts for
            nothing, as it may be somebody else's.
        """
        networks = self._networks
        if networks is not None and remote is not None and remote[0] == networks[1]:
            self._memory.worked(networks, means)

    def proved(self, remote: HostPort | None) -> None:
        """
        A check that was sent there was answered, on the path: whoever is there takes part in it,
        and what a ladder sent there does not count any more.
        """
        gear = self._puncher.gear
        if gear is not None and remote is not None:
            gear.budget.answered(remote[0])

    def _learn(self, attempt: Punch) -> None:
        """
        The other side has said something of itself: begin with what worked before.
        """
        if self._networks is None:
            self._networks = attempt.survey.networks
            if self.means is Means.FRESH and self._wanted() and not attempt.outlet.fresh:
                self._stopTimer()
                self._openFresh(self._callFresh)

    # Fresh ports.

    def _silent(self) -> None:
        self._timer = None
        attempt = self._attempt
        if attempt is not None and attempt.answered and attempt.survey.ordinary:
            self._openFresh(self._callFresh)

    def _openFresh(self, use: Callable[[FreshPort], None]) -> bool:
        """
        Open a fresh port, and begin an attempt from it.

        @return: whether that is under way; if not, there is only the port that all use.
        """
        if self._puncher.gear is None:
            return False
        try:
            self._opening = openFresh(self._puncher.gear, self._local.candidates())
        except PortUnusable:
            return False

        def opened(fresh: FreshPort) -> None:
            self._opening = None
            self._replace("a newer attempt")
            use(fresh)

        self._opening.addCallbacks(opened, lambda _: None)  # else it was canceled
        return True

    def _callFresh(self, fresh: FreshPort) -> None:
        self._try(
            self._puncher.call(
                self._signal,
                fresh.candidates,
                behavior=self._local.behavior,
                climbs=True,
                port=fresh.port,
            )
        )

    def _answerFresh(self, offer: Description, fresh: FreshPort) -> None:
        self._try(
            self._puncher.answer(
                offer,
                self._signal,
                fresh.candidates,
                behavior=self._local.behavior,
                climbs=True,
                port=fresh.port,
            )
        )

    # What becomes of an attempt.

    def _try(self, punch: Punch) -> None:
        self._attempt = punch
        self._session = punch.session
        self._known = _essenceOf(self._local)
        punch.whenOpen().addCallbacks(self._open, lambda _: None)
        punch.tellOver(partial(self._over, punch))

    def _open(self, punch: Punch) -> None:
        if punch is self._attempt:
            self._attempt = None
            self._replace("there is a path")
            self._stopTimer()
            self.failure = self._since = self._vain = None
            self._networks = punch.survey.networks
            if self._latest is None:
                self.remember(meansOf(punch.survey.rung, punch.outlet.fresh), punch.remote)
            self._latest = punch
            self._opened(punch)

    def _over(self, punch: Punch, reason: object) -> None:
        if punch is self._latest:
            self._latest = None
        if punch is not self._attempt:
            return
        self._attempt = None
        self._networks = punch.survey.networks
        self.remote = punch.survey.remote
        if self._latest is None:  # what renews a path in vain says nothing of searches
            self._note(reason, punch.survey)
        if punch.exhausted and self._latest is None:
            self._memory.failed(self._networks, self._clock.seconds())
        elif punch.outlet.fresh:
            self._memory.missed(self._networks, Means.FRESH)
        self._stopTimer()
        if self._wanted():
            self.callLater()

    def _note(self, reason: object, survey: Survey) -> None:
        """
        An attempt has failed.  What a ladder found between two networks is not forgotten for an
        attempt without one.
        """
        climbed, first = survey.fired > 0, self.failure is None
        if survey.putOff and first:
            self._since = self._clock.seconds()  # it was not all tried yet
        tells = climbed or not (survey.putOff or self._vain == self._networks)
        # Other ends, such as by a newer attempt, say nothing of networks.
        if (first or tells) and isinstance(reason, PunchFailed):
            self.failure = reason
            self._vain = self._networks if climbed else None

    def _again(self) -> None:
        self._timer = None
        self.call()

    def _replace(self, reason: str) -> None:
        """
        Give up the attempt under way.
        """
        attempt, self._attempt = self._attempt, None
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        if attempt is not None:
            attempt.close(reason)

    def _stopTimer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _essenceOf(local: LocalAddresses) -> int:
    """
    @return: a digest of what makes a difference to whether this side is reached: a number, as
        sessions are many.
    """
    behavior = local.behavior
    nats = (behavior.mapping, behavior.filtering, behavior.allocation)
    return hash((frozenset(each.address for each in local.candidates()), nats))
