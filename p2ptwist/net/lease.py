"""
One local port and one router: asked for in every protocol, the best answer kept, renewed and, when
it is lost, asked for anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import formatAddress
from p2ptwist.core.portmapping.answers import isPublic
from p2ptwist.core.portmapping.grant import LOWEST_PORT, Grant, MappingRequest
from p2ptwist.errors import PortMapperSilent, PortMappingError, PortMappingRefused
from p2ptwist.interfaces import IPortMapper
from p2ptwist.net.alarm import Alarm
from p2ptwist.net.held import Held

# Seconds that a protocol has before the next one is tried as well, unless it fails sooner.  Routers
# answer in some milliseconds, and one that is asked in several protocols may confuse whose the
# mapping is.
STAGGER = 0.1
LIMIT = 3.0  # seconds that all of them have, whatever a router does
RENEWAL = 0.5  # of the lease; RFC 6887 section 11.2.1 and RFC 6886 section 3.3
RENEWAL_SPACING = 4.0  # seconds between two tries; RFC 6887 section 11.2.1
RETRY = 30.0  # seconds until the second try where there is no mapping; four times that, and so on
# Seconds between tries at last: what a refusal lasts at most (RFC 6887 section 7.4).
RETRY_LIMIT = 1800.0
# Seconds within which hosts ask anew after a restart, so that they do not all at once.  RFC 6887
# section 14.1.3 has 5; a mapping that is missed is to be back in 2.
REDO_SPREAD = 1.0
REDO_SPACING = 10.0  # seconds between two restarts that are believed
# Seconds that what is under way has when the port is released: a router that is there answers in
# some milliseconds, and may have made a mapping that nobody would take back.
GRACE = 0.1
# How the protocols are written.
_SPELLED = {"pcp": "PCP", "nat-pmp": "NAT-PMP", "upnp": "UPnP"}

_log = Logger()


@dataclass(slots=True, eq=False)
class _Asked:
    """
    A request that is under way.

    @ivar result: fires when it is over.
    """

    result: Deferred[Any] | None = None


class Lease:
    """
    A port towards a router.

    @ivar held: the mapping; C{None} while there is none.
    @ivar asking: whether the router is being asked in all protocols.
    @ivar failure: why there is no mapping, of the last time that all were asked.
    """

    def __init__(
        self,
        clock: IReactorTime,
        mappers: Sequence[IPortMapper],
        wanted: MappingRequest,
        random: Random,
        changed: Callable[[], object],
        answered: Callable[[IPortMapper, Grant | Failure], object],
    ) -> None:
        """
        @param mappers: all of one router, the best protocol first.
        @param random: for the spread of new tries.
        @param changed: called when there is a mapping, another or none, and when all mappers have
            answered or were given up.
        @param answered: called with each answer.
        """
        self.held: Held | None = None
        self.asking = False
        self.failure: Failure | None = None
        self._clock = clock
        self._mappers = mappers
        self._wanted = wanted
        self._random = random
        self._changed = changed
        self._answered = answered
        self._pending: dict[IPortMapper, _Asked | None] = {}
        self._releasing: set[Deferred[None]] = set()
        self._stale = False  # all are being asked: the first that is granted replaces what there is
        self._gone = False  # the router says so
        self._late = Alarm(clock)
        self._redoing = Alarm(clock)
        self._retry = RETRY
        self._timer = Alarm(clock)
        self._redone = -REDO_SPACING
        self._released = False

    def ask(self) -> None:
        """
        Ask in all protocols now, whatever there is.
        """
        if self._released:
            return
        self._timer.clear()
        self._late.clear()
        self._forget(self._mappers)
        self._stale = True
        self.asking = True
        self.failure = None
        # All wait, so that one that fails at once is not the last.
        self._pending = dict.fromkeys(self._mappers)
        self._late.set(LIMIT, self._giveUp)
        self._askNext()
        self._settle()

    def _askNext(self) -> None:
        """
        Ask the next best protocol, and soon the one after it.
        """
        waiting = [mapper for mapper, asked in self._pending.items() if asked is None]
        if waiting and not self._released:
            self._timer.set(STAGGER, self._askNext)
            self._request(waiting[0], self._answeredOne)

    def _giveUp(self) -> None:
        """
        Those who have not answered yet will not.
        """
        for mapper in tuple(self._pending):
            self._forget([mapper])
            name = _SPELLED.get(mapper.name, mapper.name)
            silent = Failure(
                PortMapperSilent(f"the router {mapper.gateway} does not answer to {name}")
            )
            self._answered(mapper, silent)
            self._refused(mapper, silent)
        self._settle()

    def redo(self) -> None:
        """
        The router has lost the mapping, by its own word: ask anew, in a moment.
        """
        now = self._clock.seconds()
        if self._released or now < self._redone + REDO_SPACING:
            return
        self._redone = now

        def due() -> None:
            self._gone = True
            self.ask()

        self._redoing.set(self._random.uniform(0, REDO_SPREAD), due)

    def release(self) -> Deferred[None]:
        """
        Take back the mapping, if there is one, and ask no more.

        @return: a Deferred that fires when the router has answered or was given up.  It takes as
            long as the mapper's C{release} and L{GRACE}, and can be cancelled.
        """
        self._released = True
        self._timer.clear()
        self._redoing.clear()
        self._late.clear()
        return Deferred.fromCoroutine(self._release())

    async def _release(self) -> None:
        late = self._clock.callLater(GRACE, self._forget, self._mappers)
        asked = [each.result for each in self._pending.values() if each and each.result]
        with suppress(CancelledError):  # whoever cancels waits for no answer, but all is released
            await DeferredList(asked)
        if late.active():
            late.cancel()
        self._forget(self._mappers)
        held, self.held = self.held, None
        if held is not None:
            self._releaseOne(held)
        await DeferredList(list(self._releasing))

    def _request(
        self, mapper: IPortMapper, receive: Callable[[IPortMapper, Grant | Failure], None]
    ) -> None:
        """
        Ask one mapper, for the external address that there was before, if any.
        """
        wanted = self._wanted
        if self.held is not None and self.held.grant.external[1] >= LOWEST_PORT:
            host, port = self.held.grant.external
            wanted = replace(wanted, externalHost=host, externalPort=port)

        asked = self._pending[mapper] = _Asked()

        def done(result: Grant | Failure) -> None:
            if self._pending.get(mapper) is asked:
                del self._pending[mapper]
                # One that was cancelled says nothing: whoever did that does not wait for it.
                if isinstance(result, Grant) or not result.check(CancelledError):
                    receive(mapper, result)

        asked.result = mapper.request(wanted)
        asked.result.addBoth(done).addErrback(self._broken)

    def _answeredOne(self, mapper: IPortMapper, result: Grant | Failure) -> None:
        """
        One of all has answered.
        """
        self._answered(mapper, result)
        if isinstance(result, Grant):
            self._granted(mapper, result)
        else:
            self._refused(mapper, result)
            self._askNext()
        self._settle()

    def _renewed(self, mapper: IPortMapper, result: Grant | Failure) -> None:
        """
        The one that made the mapping has answered.
        """
        if isinstance(result, Grant):
            self._answered(mapper, result)
            self._granted(mapper, result)
            self._settle()
        else:
            self.ask()

    def _granted(self, mapper: IPortMapper, grant: Grant) -> None:
        now = self._clock.seconds()
        new = Held(
            grant,
            mapper,
            self._mappers.index(mapper),
            now + grant.lifetime * RENEWAL,
            now + grant.lifetime,
        )
        old, stale = self.held, self._stale
        if old is None or stale or old.mapper is mapper or new.isBetterThan(old):
            self._hold(new)
            if old is not None and not stale and old.mapper is not mapper:
                self._dismiss(old, new)
        else:
            self._dismiss(new, old)

    def _hold(self, new: Held) -> None:
        old, self.held = self.held, new
        self._stale = self._gone = False
        self._retry = RETRY
        grant = new.grant
        if isPublic(grant.external[0]):
            # Nothing that the others could grant is better.
            self._forget(self._mappers[new.rank + 1 :])
        if old is None or old.grant.external != grant.external:
            _log.info(
                "{transport} port {port} is reached at {external}, by {mapper}, for {lifetime} s",
                transport=grant.request.transport,
                port=grant.request.internalPort,
                external=formatAddress(grant.external),
                mapper=grant.mapper,
                lifetime=grant.lifetime,
            )
            self._changed()

    def _dismiss(self, loser: Held, winner: Held) -> None:
        """
        Release what is not needed.  What has the same external address is the same mapping.
        """
        if loser.grant.external != winner.grant.external:
            # A router that keeps one table for all its protocols may delete both: the other is
            # asked for again.
            self._releaseOne(loser).addCallback(lambda _: self._renew())

    def _refused(self, mapper: IPortMapper, failure: Failure) -> None:
        """
        One mapper has none.  The reason that is told at last is the one that says most.
        """
        if not failure.check(PortMappingError):
            self._broken(failure)
        refused = failure.check(PortMappingRefused) is not None
        if refused:
            self.failure = failure
        elif self.failure is None:
            self.failure = Failure(self._silence())
        if refused and self.held is not None and self.held.mapper is mapper:
            self._gone = True

    def _silence(self) -> PortMapperSilent:
        """
        @return: what to say when nobody has refused.
        """
        gateway = self._mappers[0].gateway
        names = ", ".join(_SPELLED.get(each.name, each.name) for each in self._mappers)
        return PortMapperSilent(
            f"the router {gateway} does not answer to {names}: it has no port mapping, or that is "
            "switched off in its settings"
        )

    def _settle(self) -> None:
        """
        See what is to be done next, once nobody is asked any more.
        """
        if self._pending or self._released:
            return
        self._late.clear()
        if self._stale:
            self._miss()
        elif self.held is not None:
            self._timer.set(self.held.renewal - self._clock.seconds(), self._renew)
        if self.asking:
            self.asking = False
            self._changed()

    def _miss(self) -> None:
        """
        All have been asked, and nothing was granted: wait, shorter while there may be a mapping.
        """
        held = self.held
        if held is not None and not self._gone:
            left = held.expiry - self._clock.seconds()
            if left > 0:
                self._timer.set(min(left, max(RENEWAL_SPACING, left / 2)), self.ask)
                return
        self._stale = self._gone = False
        if held is not None:
            _log.info("the router {router} has no mapping any more", router=held.grant.gateway)
            self.held = None
            self._changed()
        reason = None if self.failure is None else self.failure.value
        lasting = reason.lasting if isinstance(reason, PortMappingRefused) else 0.0
        self._timer.set(max(self._retry, min(lasting, RETRY_LIMIT)), self.ask)
        self._retry = min(self._retry * 4, RETRY_LIMIT)

    def _renew(self) -> None:
        """
        Ask the mapper that made the mapping.
        """
        held = self.held
        if not self._released and held is not None and held.mapper not in self._pending:
            self._timer.clear()
            self._request(held.mapper, self._renewed)

    def _releaseOne(self, held: Held) -> Deferred[None]:
        def over(_: object) -> None:
            self._releasing.discard(releasing)

        releasing: Deferred[None] = Deferred.fromCoroutine(self._releaseByAny(held))
        self._releasing.add(releasing)
        return releasing.addErrback(self._broken).addCallback(over)

    async def _releaseByAny(self, held: Held) -> None:
        """
        A router that keeps one table for all its protocols may take a mapping for that of the
        protocol which asked last: miniupnpd does, and refuses the others.  So each is tried.
        """
        others = [mapper for mapper in self._mappers if mapper is not held.mapper]
        for mapper in (held.mapper, *others):
            try:
                await mapper.release(held.grant)
            except PortMappingRefused as error:
                _log.debug("a mapping was not released: {why}", why=error)
            except (PortMappingError, CancelledError) as error:
                _log.debug("a mapping was not released: {why}", why=error)
                return
            else:
                return

    def _broken(self, failure: Failure) -> None:
        _log.failure("a port mapper failed", failure)

    def _forget(self, mappers: Sequence[IPortMapper]) -> None:
        """
        Cancel what is under way with some.
        """
        pending = [self._pending.pop(each, None) for each in mappers]
        for each in pending:
            if each is not None and each.result is not None:
                each.result.cancel()
