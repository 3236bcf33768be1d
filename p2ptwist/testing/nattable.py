"""
The table of a NAT or a stateful firewall: which flows there are, and what they let in.

It is pure: it is told the time, and is asked about addresses.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.testing.allocation import IdentityAllocator, Key, PortAllocator
from p2ptwist.testing.forwards import Forward, Forwards
from p2ptwist.testing.mappingentry import MappingEntry, Session, singleFlow
from p2ptwist.testing.nat import NAT, OWN_STACK_TIMEOUT, WhenFull
from p2ptwist.testing.packet import Payload, Protocol, Segment, TCPFlag

# One mapping may be used to spray every port of a peer; the oldest destinations make room.
MAX_SESSIONS = 65_536
# The ports that Linux gives to the source of a flow that clashes with another one (nf_nat_core).
FIRST_ALIAS, LAST_ALIAS = 1024, 65_535


class NATTable:
    """
    The mappings of one router.

    Some flows have a mapping to themselves, whatever the NAT's kind: those that clash with one of
    the router's own, and those of explicit mappings.  It lives for as long as the flow does.

    @ivar nat: how it maps and filters.
    @ivar forwards: the explicit mappings.
    @ivar blocksUDP: whether some UDP is dropped in any case: see L{isBlocked}.
    """

    def __init__(
        self, nat: NAT, allocator: PortAllocator | IdentityAllocator, random: Random
    ) -> None:
        """
        @param nat: how to map and to filter.
        @param allocator: chooses external addresses.
        @param random: decides how long mappings live that end by themselves.
        """
        self.nat = nat
        self.forwards = Forwards()
        self.blocksUDP = nat.udpPorts is not None
        self._allocator = allocator
        self._random = random
        self._byHost: dict[str, dict[MappingEntry, None]] = {}
        self._singleFlows = 0
        self._byInside: dict[tuple[Protocol, HostPort, Key], MappingEntry] = {}
        self._byExternal: dict[tuple[Protocol, HostPort], dict[Key, MappingEntry]] = {}
        # Flows of the router's own stack (Uninvited.ACCEPT), and when each is forgotten.
        self._ownFlows: dict[tuple[Protocol, HostPort, HostPort], float] = {}
        # The part of a remote address that counts: that many of its host and port.
        self._mappingKey = {
            Protocol.UDP: nat.mapping.keyLength,
            Protocol.TCP: (nat.tcpMapping or nat.mapping).keyLength,
        }
        self._filteringKey = {
            Protocol.UDP: nat.filtering.keyLength,
            Protocol.TCP: (nat.tcpFiltering or nat.filtering).keyLength,
        }

    def entries(self, now: float) -> list[MappingEntry]:
        """
        @return: the mappings that live at C{now}.
        """
        return [entry for entry in self._byInside.values() if entry.expires > now]

    def outbound(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, payload: Payload, now: float
    ) -> MappingEntry | None:
        """
        A packet goes out.

        @return: the mapping that it uses, or C{None} when it is to be dropped: a TCP segment of no
            known connection, or no port is free.
        """
        entry = self._find(protocol, inside, remote, now)
        if entry is not None and entry.remote is not None:
            remote = entry.remote
        key = remote[: self._filteringKey[protocol]]
        session = entry.sessions.get(key) if entry else None
        if session is not None and session.expires <= now:
            session = None
        if session is None and self.forwards:
            entry = self._forwardOutbound(protocol, inside, remote, now) or entry
        if entry is None:
            if isinstance(payload, Segment) and not payload.flags & TCPFlag.SYN:
                return None
            entry = self._create(protocol, inside, remote, now)
            if entry is None:
                return None
        if session is None:
            session = self._newSession(entry, key, now, isInbound=False)
        self._touch(entry, session, payload, now, outbound=True)
        return entry

    def inbound(
        self, protocol: Protocol, external: HostPort, remote: HostPort, payload: Payload, now: float
    ) -> MappingEntry | None:
        """
        A packet comes from outside.

        @return: the mapping that it uses, or C{None} when it is uninvited.
        """
        if self._ownFlows and self._isOwnFlow(protocol, external, remote, now):
            return None
        found = self._findInbound(protocol, external, remote, now)
        if found is None and self.forwards:
            found = self._forwardInbound(protocol, external, remote, now)
        if found is None:
            return None
        entry, session = found
        self._touch(entry, session, payload, now, outbound=False)
        return entry

    def isBlocked(self, protocol: Protocol, remote: HostPort) -> bool:
        """
        @return: whether packets to and from C{remote} are dropped in any case.
        """
        ports = self.nat.udpPorts
        return ports is not None and protocol is Protocol.UDP and remote[1] not in ports

    def mayForward(
        self, protocol: Protocol, external: HostPort, inside: HostPort, now: float
    ) -> bool:
        """
        @return: whether C{external} is nobody else's, so that it may be mapped to C{inside}.
        """
        forward = self.forwards.ofExternal(protocol, external, now)
        if forward is not None and forward.inside != inside:
            return False
        sharing = self._byExternal.get((protocol, external), {}).values()
        return all(each.inside == inside or each.expires <= now for each in sharing)

    def errorFor(
        self, protocol: Protocol, external: HostPort, remote: HostPort, now: float
    ) -> MappingEntry | None:
        """
        @return: the mapping that an ICMP error about a packet from C{external} to C{remote}
            belongs to, if any.
        """
        found = self._findInbound(protocol, external, remote, now)
        return found[0] if found else None

    def mappingOf(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, now: float
    ) -> MappingEntry | None:
        """
        @return: the mapping of C{inside} towards C{remote}, if there is one.
        """
        return self._find(protocol, inside, remote, now)

    def acceptUninvited(
        self, protocol: Protocol, external: HostPort, remote: HostPort, now: float
    ) -> None:
        """
        Remember that the router's own stack took a packet.
        """
        if len(self._ownFlows) >= self.nat.maxMappings:
            self._ownFlows = {k: end for k, end in self._ownFlows.items() if end > now}
        self._ownFlows[protocol, external, remote] = now + OWN_STACK_TIMEOUT

    def _isOwnFlow(
        self, protocol: Protocol, external: HostPort, remote: HostPort, now: float
    ) -> bool:
        return self._ownFlows.get((protocol, external, remote), 0.0) > now

    def _newSession(self, entry: MappingEntry, key: Key, now: float, isInbound: bool) -> Session:
        if len(entry.sessions) >= MAX_SESSIONS:
            entry.sessions = {k: each for k, each in entry.sessions.items() if each.expires > now}
            if len(entry.sessions) >= MAX_SESSIONS:
                entry.sessions.pop(next(iter(entry.sessions)))
        session = entry.sessions[key] = Session(isInbound)
        return session

    def _find(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, now: float
    ) -> MappingEntry | None:
        """
        @return: the living mapping for packets from C{inside} to C{remote}.
        """
        if self._singleFlows:
            single = self._live((protocol, inside, singleFlow(remote)), now)
            if single is not None:
                return single
        entry = self._live((protocol, inside, remote[: self._mappingKey[protocol]]), now)
        if entry and self._ownFlows and self._isOwnFlow(protocol, entry.external, remote, now):
            return None
        return entry

    def _live(self, key: tuple[Protocol, HostPort, Key], now: float) -> MappingEntry | None:
        entry = self._byInside.get(key)
        return entry if entry is not None and self._isAlive(entry, now) else None

    def _create(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, now: float
    ) -> MappingEntry | None:
        if not self._makeRoom(inside[0], now):
            return None
        key: Key = remote[: self._mappingKey[protocol]]
        if (protocol, inside, key) in self._byInside:
            key = singleFlow(remote)  # one of the router's own flows is in its way

        def isFree(external: HostPort) -> bool:
            return self._isFree(protocol, inside, external, key, remote, now)

        external = self._allocator.allocate(inside, key, isFree, now)
        if external is None:
            return None
        return self._remember(protocol, inside, external, key, now)

    def _remember(
        self,
        protocol: Protocol,
        inside: HostPort,
        external: HostPort,
        key: Key,
        now: float,
        aliased: HostPort | None = None,
    ) -> MappingEntry:
        life = self.nat.udpLife
        limited = life is not None and protocol is Protocol.UDP
        end = now + self._random.uniform(*life) if life and limited else math.inf
        entry = MappingEntry(protocol, inside, external, key, end)
        entry.remote = aliased
        self._clear(self._byInside.get((protocol, inside, key)))
        self._clear(self._byExternal.get((protocol, external), {}).get(entry.slot))
        self._byInside[protocol, inside, key] = entry
        self._byExternal.setdefault((protocol, external), {})[entry.slot] = entry
        self._byHost.setdefault(inside[0], {})[entry] = None
        self._singleFlows += entry.isSingleFlow()
        return entry

    def _makeRoom(self, host: str, now: float) -> bool:
        """
        @return: whether there may be one more mapping for an inside host.
        """
        perHost = self.nat.maxMappingsPerHost
        if perHost is not None and not self._shrink(self._byHost.get(host, {}), perHost, now):
            return False
        return self._shrink(self._byInside.values(), self.nat.maxMappings, now)

    def _shrink(self, entries: Collection[MappingEntry], limit: int, now: float) -> bool:
        """
        Make C{entries}, oldest first, fewer than C{limit}.

        @return: whether they are.
        """
        if len(entries) < limit:
            return True
        for stale in [entry for entry in entries if entry.expires <= now]:
            self._forget(stale)
        if len(entries) >= limit and self.nat.whenFull is WhenFull.EVICT:
            self._forget(next(iter(entries)))
        return len(entries) < limit

    def _isFree(
        self,
        protocol: Protocol,
        inside: HostPort,
        external: HostPort,
        key: Key,
        remote: HostPort,
        now: float,
    ) -> bool:
        if self._isOwnFlow(protocol, external, remote, now):
            return False
        forward = self.forwards.ofExternal(protocol, external, now) if self.forwards else None
        if forward is not None and forward.inside != inside:
            return False
        sharing = self._byExternal.get((protocol, external))
        if sharing is None:
            return True
        if not self.nat.portOverloading:
            # The flows of the explicit mapping of one inside address may share its port.
            rivals = [e for e in sharing.values() if e.inside != inside or not e.isSingleFlow()]
        elif self._singleFlows and self._mappingKey[protocol] < len(remote):
            # This mapping is for more than the flow that another one may be for.
            keys = (key, remote[: self._mappingKey[protocol]])
            rivals = [e for e in sharing.values() if e.key in keys or e.isSingleFlow()]
        else:
            # Only whole flows exclude each other.
            places = (remote[: self._mappingKey[protocol]], singleFlow(remote))
            rivals = [sharing[place] for place in places if place in sharing]
        return not any([self._isAlive(entry, now) for entry in rivals])

    def _isAlive(self, entry: MappingEntry, now: float) -> bool:
        if entry.expires <= now:
            self._forget(entry)
            return False
        return True

    def _clear(self, stale: MappingEntry | None) -> None:
        """
        Make room for a new mapping where an old one, that is over, was not forgotten yet.
        """
        if stale is not None:
            self._forget(stale)

    def _forget(self, entry: MappingEntry) -> None:
        del self._byInside[entry.protocol, entry.inside, entry.key]
        del self._byHost[entry.inside[0]][entry]
        self._singleFlows -= entry.isSingleFlow()
        sharing = self._byExternal[entry.protocol, entry.external]
        del sharing[entry.slot]
        if not sharing:
            del self._byExternal[entry.protocol, entry.external]

    # Explicit mappings

    def _forwardOutbound(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, now: float
    ) -> MappingEntry | None:
        forward = self.forwards.ofInside(protocol, inside, now)
        if forward is None or not forward.mapsOutgoing or not self._makeRoom(inside[0], now):
            return None
        return self._forwardFlow(forward, remote, now)

    def _forwardInbound(
        self, protocol: Protocol, external: HostPort, remote: HostPort, now: float
    ) -> tuple[MappingEntry, Session] | None:
        forward = self.forwards.ofExternal(protocol, external, now)
        if forward is None:
            return None
        key = remote[: self._filteringKey[protocol]]
        other = self._find(protocol, forward.inside, remote, now)
        session = other.sessions.get(key) if other else None
        alias = None
        if other is not None and session is not None and session.expires > now:
            if key != remote:
                return other, session
            # One pair of addresses has one flow, and that has another port.  Linux then lets the
            # packet in from another one.
            alias = (remote[0], self._random.randint(FIRST_ALIAS, LAST_ALIAS))
        if not self._makeRoom(forward.inside[0], now):
            return None
        entry = self._forwardFlow(forward, remote, now, alias)
        return entry, self._newSession(entry, key, now, isInbound=True)

    def _forwardFlow(
        self, forward: Forward, remote: HostPort, now: float, alias: HostPort | None = None
    ) -> MappingEntry:
        protocol, inside, key = forward.protocol, forward.inside, singleFlow(alias or remote)
        aliased = remote if alias else None
        return self._remember(protocol, inside, forward.external, key, now, aliased)

    def _findInbound(
        self, protocol: Protocol, external: HostPort, remote: HostPort, now: float
    ) -> tuple[MappingEntry, Session] | None:
        sharing = self._byExternal.get((protocol, external))
        if sharing is None:
            return None
        key, mappingKey = remote[: self._filteringKey[protocol]], self._mappingKey[protocol]
        entries: Iterable[MappingEntry | None] = sharing.values()
        if len(sharing) > 1 and len(key) >= mappingKey:
            # No other mapping can have been used towards this one.
            entries = (sharing.get(remote[:mappingKey]), sharing.get(singleFlow(remote)))
        for entry in entries:
            session = entry.sessions.get(key) if entry else None
            if entry and entry.expires > now and session and session.expires > now:
                return entry, session
        return None

    def _touch(
        self, entry: MappingEntry, session: Session, payload: Payload, now: float, outbound: bool
    ) -> None:
        """
        A packet uses a mapping: extend its life.
        """
        if isinstance(payload, Segment):
            self._touchConnection(session, payload, now, outbound)
            entry.expires = max(each.expires for each in entry.sessions.values())
        elif outbound or session.isInbound or self.nat.refreshInbound:
            session.expires = now + self.nat.udpTimeout
            entry.expires = min(session.expires, entry.end)

    def _touchConnection(
        self, session: Session, segment: Segment, now: float, outbound: bool
    ) -> None:
        if segment.flags & TCPFlag.SYN and outbound:
            session.closing = False
        if segment.flags & (TCPFlag.FIN | TCPFlag.RST):
            session.closing = True
        if outbound == session.isInbound:
            session.replied = True
        established = session.replied and not session.closing
        session.expires = now + (
            self.nat.tcpTimeout if established else self.nat.tcpTransitoryTimeout
        )
