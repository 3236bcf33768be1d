"""
How long a UDP mapping survives silence (RFC 5780 section 4.6).

Each trial has a port of its own, which asks a STUN server once and then says nothing.  After the
delay another port has the server answer to the external address of the first: what is heard there
came through a mapping that was still alive.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.nattests.lifetime import HIGH, LOW, LifetimeSearch
from p2ptwist.core.stun.binding import bindingRequest
from p2ptwist.core.stun.message import TRANSACTION_ID_LENGTH
from p2ptwist.core.stun.transaction import Answered, ClientTransaction
from p2ptwist.net.closing import thenClose
from p2ptwist.net.probe import RTO, OpenPort, Probe, Probes
from p2ptwist.net.together import together

_ASKING = 2.0  # seconds for one answer: five requests
_SENDS = 5


def measureLifetime(
    clock: IReactorTime,
    openPort: OpenPort,
    server: HostPort,
    *,
    low: float = LOW,
    high: float = HIGH,
    randomBytes: Callable[[int], bytes] = os.urandom,
) -> Deferred[float | None]:
    """
    Find out how long a mapping lives.  It takes up to three times as long as that, and not much
    longer than C{high} where mappings live longer.

    @param openPort: makes a UDP port on any free number, not yet open.
    @param server: the literal address of a STUN server that knows RESPONSE-PORT.
    @param low: the shortest delay to try, in seconds.
    @param high: the longest one.
    @return: a Deferred that fires with the longest silence that a mapping was seen to survive, in
        seconds; C{None} when not even the shortest is known, or the server cannot help.  It can be
        cancelled.
    """
    probes = Probes(clock, openPort, randomBytes)
    address = (canonicalHost(server[0]), server[1])
    return thenClose(_Measurement(clock, probes, address).run(low, high), probes.close)


class _Measurement:
    """
    One run.
    """

    def __init__(self, clock: IReactorTime, probes: Probes, server: HostPort) -> None:
        self._clock = clock
        self._probes = probes
        self._server = server

    async def run(self, low: float, high: float) -> float | None:
        """
        @return: the lifetime.
        """
        self._asker = self._probes.open()
        if not await self._try(0.0):
            return None
        search = LifetimeSearch(low, high)
        while delays := search.delays():
            search.report(await self._round(delays))
        return search.alive

    async def _round(self, delays: tuple[float, ...]) -> dict[float, bool | None]:
        """
        @return: by delay: whether the mapping survived.  What is longer than one that was fatal is
            left out.
        """
        outcomes: dict[float, bool | None] = {}
        trials: list[Deferred[bool | None]] = []
        needless: set[float] = set()

        def ended(outcome: bool | Failure | None, delay: float) -> None:
            if isinstance(outcome, Failure):
                if delay not in needless:
                    outcome.raiseException()
                return
            outcomes[delay] = outcome
            if outcome is False:
                index = delays.index(delay) + 1
                needless.update(delays[index:])
                for longer in trials[index:]:
                    longer.cancel()

        for delay in delays:
            trials.append(Deferred.fromCoroutine(self._try(delay)))
        waiting = [trial.addBoth(ended, delay) for trial, delay in zip(trials, delays, strict=True)]
        await together(waiting)
        return outcomes

    async def _try(self, delay: float) -> bool | None:
        """
        @return: whether a new mapping survives such a silence; C{None} when that was not to be
            seen.
        """
        silent = self._probes.open()
        sighting = await silent.ask(self._server, _ASKING)
        if sighting is None:
            return None
        await deferLater(self._clock, delay)
        if await self._reaches(silent, sighting.seen[1]):
            return True
        # Somebody must be there to be heard.
        control = await self._asker.ask(self._server, _ASKING)
        return None if control is None or control.seen[0] != sighting.seen[0] else False

    async def _reaches(self, silent: Probe, port: int) -> bool:
        transactionID = silent.randomBytes(TRANSACTION_ID_LENGTH)
        transaction = ClientTransaction(
            bindingRequest(transactionID, responsePort=port),
            transactionID,
            self._server,
            self._clock.seconds(),
            rto=RTO,
            requestCount=_SENDS,
            timeLimit=_ASKING,
        )
        return isinstance(await silent.run(transaction, through=self._asker), Answered)
