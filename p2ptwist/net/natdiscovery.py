"""
NAT behaviour discovery over UDP (RFC 5780): a small sequence of tests, each on ports of its own.

 1. The mapping port asks every server at once.  The first one with an alternate address is the one
    that tests are made with; without any, the first one that answers.
 2. At the same time: the mapping port asks the server's other addresses; the filtering port, which
    never sends there, asks to be answered from them; six fresh ports ask the server, for port
    allocation; and the first two of these that are answered then send to each other's external
    address, for hairpinning.

The mapping port hears from nobody whom it has not asked, and the filtering port asks nobody else:
so what came in uninvited does not change the mapping that is measured (as on a router that takes
such packets itself), and no mapping opens the filter that is measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from p2ptwist.core.address import HostPort, canonicalHost, isIPv6
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior, NATMapping
from p2ptwist.core.nattests.allocation import Flow, inferAllocation
from p2ptwist.core.nattests.filtering import FilteringEvidence, FilteringTest
from p2ptwist.core.nattests.hairpinning import inferHairpinning
from p2ptwist.core.nattests.mapping import inferMapping
from p2ptwist.core.nattests.servers import TestServer, testServer
from p2ptwist.core.stun.binding import CHANGE_HOST, CHANGE_PORT
from p2ptwist.net.closing import thenClose
from p2ptwist.net.hairpin import HairpinTest
from p2ptwist.net.latch import Latch
from p2ptwist.net.probe import OpenPort, Probe, Probes, Sighting
from p2ptwist.net.together import together

SERVER_LIMIT = 4  # servers asked; as many as a node may announce
_FIRST = 1.2  # seconds for the first answer; requests at 0, 0.1, 0.3 and 0.7 s
_GRACE = 0.3  # seconds that a server with an alternate address may answer later than another
_MAPPING = 1.5  # seconds; one request more
_HONOURING = 0.8  # seconds; four requests
_FRESH_PORTS = 6  # five pairs of neighbours, of which three must be known

Progress = Callable[[str], object]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class NATFindings:
    """
    What discovery over UDP has found out, for one family of addresses.

    @ivar behavior: C{None} for each fact that could not be found out.
    @ivar addresses: every address that the mapping port was seen at, the first one first; more than
        one where mapping depends on the destination, none where no server answered.
    @ivar roundTrips: by server that answered: seconds; C{None} where its first datagram was lost.
    @ivar server: the one that tests were made with.
    """

    behavior: NATBehavior = UNKNOWN_BEHAVIOR
    addresses: tuple[HostPort, ...] = ()
    roundTrips: dict[HostPort, float | None] = field(default_factory=dict)
    server: TestServer | None = None


def discoverNAT(
    clock: IReactorTime,
    openPort: OpenPort,
    servers: Sequence[HostPort],
    *,
    progress: Progress = lambda _: None,
    found: Callable[[TestServer | None], object] = lambda _: None,
    randomBytes: Callable[[int], bytes] = os.urandom,
) -> Deferred[NATFindings]:
    """
    Find out how the NATs before this host behave.  It takes a few round trips where everybody is
    let in, 1.5 s more where not, and less than 3 s in all.

    @param clock: a reactor.
    @param openPort: makes a UDP port on any free number, not yet open.
    @param servers: the literal addresses of STUN servers, all of one family; the first four are
        asked.
    @param progress: called with a few words whenever a fact is found out.
    @param found: called once, soon, with the server that tests are made with, if any answers.
    @param randomBytes: makes transaction IDs, which nobody must be able to guess.
    @return: a Deferred that fires with the findings.  It can be cancelled.
    @raise LocalUsageError: for no servers, or addresses that are not literal or of two families.
    """
    canonical = tuple(dict.fromkeys((canonicalHost(host), port) for host, port in servers))
    if len({isIPv6(host) for host, _ in canonical}) != 1:
        raise LocalUsageError("discovery needs servers, and all of one address family")
    probes = Probes(clock, openPort, randomBytes)
    discovery = _Discovery(clock, probes, canonical[:SERVER_LIMIT], progress, found)
    return thenClose(discovery.run(), probes.close)


class _Discovery:
    """
    One run.
    """

    def __init__(
        self,
        clock: IReactorTime,
        probes: Probes,
        servers: Sequence[HostPort],
        progress: Progress,
        found: Callable[[TestServer | None], object],
    ) -> None:
        self._clock = clock
        self._probes = probes
        self._servers = servers
        self._progress = progress
        self._found = found
        self._sightings: dict[HostPort, Sighting] = {}

    async def run(self) -> NATFindings:
        """
        @return: the findings.
        """
        mappingPort = self._probes.open(odd=True)
        filteringPort = self._probes.open(odd=False)
        fresh = [self._probes.open() for _ in range(_FRESH_PORTS)]
        server, asked = await self._findServer(mappingPort)
        self._found(server)
        if server is None:
            return NATFindings()
        self._progress(f"seen at {self._sightings[server.primary].seen[0]}")
        # In this order: flows that are sent in one turn get neighbouring ports.
        mapping = _start(self._testMapping(mappingPort, server, asked))
        flows = [probe.ask(server.primary, _MAPPING) for probe in fresh]
        hairpinning = _start(self._testHairpinning(fresh, flows))
        filtering = _start(self._testFiltering(filteringPort, server))
        parts: Any = [mapping, _start(together(flows)), hairpinning, filtering]
        honoured, seen, heard, evidence = await together(parts)
        behavior = self._infer(server, honoured, heard, evidence)
        volley = [_flow(probe, sighting) for probe, sighting in zip(fresh, seen, strict=True)]
        return self._findings(server, behavior, volley, mappingPort)

    def _infer(
        self,
        server: TestServer,
        honoured: bool | None,
        heard: bool | None,
        evidence: FilteringEvidence | None,
    ) -> NATBehavior:
        mapping = self._mapping()
        filtering = None
        if evidence is not None:
            filtering = evidence.infer(self._sightings, honoured)
        self._progress(f"{mapping or 'unknown'} mapping")
        self._progress(f"{filtering or 'unknown'} filtering")
        hairpinning = None
        if heard is not None:
            hairpinning = inferHairpinning(heard, mapping, filtering)
        return NATBehavior(mapping, filtering, hairpinning=hairpinning)

    def _findings(
        self, server: TestServer, behavior: NATBehavior, volley: list[Flow], port: Probe
    ) -> NATFindings:
        first = self._sightings[server.primary]
        further: list[Flow] = []
        if behavior.mapping is NATMapping.ADDRESS_AND_PORT_DEPENDENT:
            asked = [self._sightings.get(each) for each in server.alternates()]
            further = [_flow(port, each) for each in asked]
        allocation, step = inferAllocation(volley, further)
        self._progress(f"{allocation or 'unknown'} ports")
        behavior = NATBehavior(
            behavior.mapping, behavior.filtering, allocation, step, behavior.hairpinning
        )
        seen = [each.seen for each in self._sightings.values()]
        roundTrips = {
            each.server: each.roundTrip
            for each in self._sightings.values()
            if each.server in self._servers
        }
        addresses = tuple(dict.fromkeys([first.seen, *seen]))
        return NATFindings(behavior, addresses, roundTrips, server)

    def _mapping(self) -> NATMapping | None:
        return inferMapping({each.server: each.seen for each in self._sightings.values()})

    def _note(self, sighting: Sighting | None) -> Sighting | None:
        if sighting is not None:
            self._sightings[sighting.server] = sighting
        return sighting

    # Step 1

    async def _findServer(
        self, port: Probe
    ) -> tuple[TestServer | None, list[Deferred[Sighting | None]]]:
        """
        Ask every server.

        @return: the one to make tests with, if any answers; and what still waits for the others.
        """
        found: Latch[None] = Latch()
        waiting = len(self._servers)

        def answered(sighting: Sighting | None) -> Sighting | None:
            nonlocal waiting
            waiting -= 1
            self._note(sighting)
            if sighting is not None:
                if testServer(sighting.server, sighting.other).hasAlternate:
                    found.settle(None)
                elif not timers:
                    timers.append(self._clock.callLater(_GRACE, found.settle, None))
            if not waiting:
                found.settle(None)
            return sighting

        timers: list[Any] = []
        asked = [port.ask(each, _FIRST).addCallback(answered) for each in self._servers]
        try:
            await found.when()
        finally:
            for timer in timers:
                if timer.active():
                    timer.cancel()
        known = [testServer(each.server, each.other) for each in self._sightings.values()]
        # A stable sort: of those with as many addresses, the first to answer.
        known.sort(key=lambda each: -len(each.alternates()))
        return (known[0] if known else None), asked

    # Step 2

    async def _testMapping(
        self, port: Probe, server: TestServer, asked: list[Deferred[Sighting | None]]
    ) -> bool | None:
        """
        @return: whether the server answers from elsewhere when it is asked to: seen by a port that
            is open to all its addresses; C{None} where no port can be.
        """
        further = [port.ask(each, _MAPPING).addCallback(self._note) for each in server.alternates()]
        await together([*asked, *further])
        alive = all(each in self._sightings for each in server.alternates())
        if not (further and alive and self._mapping() is NATMapping.ENDPOINT_INDEPENDENT):
            return None
        flags = CHANGE_HOST * server.hostsDiffer | CHANGE_PORT * server.portsDiffer
        changed = await port.ask(server.primary, _HONOURING, flags, server.other)
        return changed is not None and changed.source == server.other

    async def _testFiltering(self, port: Probe, server: TestServer) -> FilteringEvidence | None:
        if not server.hasAlternate:
            return None
        return await port.run(FilteringTest(server, self._clock.seconds(), port.randomBytes))

    async def _testHairpinning(
        self, fresh: Sequence[Probe], asked: Sequence[Deferred[Sighting | None]]
    ) -> bool | None:
        """
        @param asked: what each of the fresh ports waits for.  A flow may get nowhere though others
            do, so that no port has to be among the two.
        @return: whether one hears of the other; C{None} where no two are answered.
        """
        ready: Latch[None] = Latch()
        seen: list[tuple[Probe, HostPort]] = []
        waiting = len(asked)

        def answered(sighting: Sighting | None, probe: Probe) -> Sighting | None:
            nonlocal waiting
            waiting -= 1
            if sighting is not None:
                seen.append((probe, sighting.seen))
            if len(seen) == 2 or not waiting:
                ready.settle(None)
            return sighting

        for probe, each in zip(fresh, asked, strict=True):
            each.addCallback(answered, probe)
        await ready.when()
        if len(seen) < 2:
            return None
        (one, oneSeen), (another, anotherSeen) = seen[:2]
        heard = await HairpinTest(self._clock, (one, another)).start((oneSeen, anotherSeen))
        self._progress("hairpinning" if heard else "no hairpinning seen")
        return heard


def _start(test: Coroutine[Deferred[Any], Any, ResultT]) -> Deferred[ResultT]:
    return Deferred.fromCoroutine(test)


def _flow(probe: Probe, sighting: Sighting | None) -> Flow:
    if sighting is None:
        return Flow(probe.port.localPort, None)
    return Flow(probe.port.localPort, sighting.seen[1], sighting.roundTrip is not None)
