"""
The table of a NAT or a stateful firewall: which flows there are, and what they let in.

It is pure: it is told the time, and is asked about addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from p2ptwist.core.address import HostPort
from p2ptwist.testing.nat import NAT, OWN_STACK_TIMEOUT, PortAllocation
from p2ptwist.testing.packet import Payload, Protocol, Segment, TCPFlag

# One mapping may be used to spray every port of a peer; the oldest destinations make room.
MAX_SESSIONS = 65_536

_Key: TypeAlias = tuple[str | int, ...]
_Free: TypeAlias = Callable[[HostPort], bool]


class _Session:
    """
    What a mapping knows of the remote addresses of one filtering key.
    """

    __slots__ = ("closing", "expires", "replied")

    def __init__(self) -> None:
        self.expires = 0.0
        self.replied = False
        self.closing = False


class MappingEntry:
    """
    One mapping.

    @ivar protocol: UDP or TCP.
    @ivar inside: the inside address.
    @ivar external: the external address that stands for it.
    @ivar key: the mapping key of the remote addresses that it is for.
    @ivar expires: when it is forgotten unless it is used.
    """

    __slots__ = ("expires", "external", "inside", "key", "protocol", "sessions")

    def __init__(self, protocol: Protocol, inside: HostPort, external: HostPort, key: _Key) -> None:
        self.protocol = protocol
        self.inside = inside
        self.external = external
        self.key = key
        self.expires = 0.0
        self.sessions: dict[_Key, _Session] = {}


class PortAllocator:
    """
    Chooses the external address of new mappings.
    """

    def __init__(self, nat: NAT, externalHost: str, random: Random) -> None:
        """
        @param nat: how to choose.
        @param externalHost: the address whose ports are given out.
        @param random: where randomness comes from.
        """
        self._nat = nat
        self._host = externalHost
        self._random = random
        self._next = random.randint(nat.firstPort, nat.lastPort)

    def allocate(self, inside: HostPort, isFree: _Free) -> HostPort | None:
        """
        @param inside: whom it is for.
        @param isFree: tells whether an external address may be taken.
        @return: an external address, or C{None} when none is free.
        """
        allocation = self._nat.allocation
        if allocation is PortAllocation.SEQUENTIAL:
            return self._allocateFrom(self._next, self._nat.portStep, isFree)
        if allocation is PortAllocation.PRESERVING:
            preserved = (self._host, inside[1])
            if isFree(preserved):
                return preserved
        start = self._random.randint(self._nat.firstPort, self._nat.lastPort)
        return self._allocateFrom(start, 1, isFree)

    def _allocateFrom(self, start: int, step: int, isFree: _Free) -> HostPort | None:
        first, count = self._nat.firstPort, self._nat.lastPort - self._nat.firstPort + 1
        for attempt in range(count):
            port = first + (start - first + attempt * step) % count
            if isFree((self._host, port)):
                self._next = first + (port - first + step) % count
                return (self._host, port)
        return None


class IdentityAllocator:
    """
    Translates nothing: what a firewall allocates.
    """

    def allocate(self, inside: HostPort, isFree: _Free) -> HostPort | None:
        """
        @return: C{inside} itself.
        """
        return inside


class NATTable:
    """
    The mappings of one router.
    """

    def __init__(self, nat: NAT, allocator: PortAllocator | IdentityAllocator) -> None:
        """
        @param nat: how to map and to filter.
        @param allocator: chooses external addresses.
        """
        self.nat = nat
        self._allocator = allocator
        self._byInside: dict[tuple[Protocol, HostPort, _Key], MappingEntry] = {}
        self._byExternal: dict[tuple[Protocol, HostPort], list[MappingEntry]] = {}
        # Flows of the router's own stack (Uninvited.ACCEPT), and when each is forgotten.
        self._ownFlows: dict[tuple[Protocol, HostPort, HostPort], float] = {}
        self._mappingOf = {
            Protocol.UDP: nat.mapping,
            Protocol.TCP: nat.tcpMapping or nat.mapping,
        }
        self._filteringOf = {
            Protocol.UDP: nat.filtering,
            Protocol.TCP: nat.tcpFiltering or nat.filtering,
        }

    def entries(self, now: float) -> list[MappingEntry]:
        """
        @return: the mappings that live at C{now}.
        """
        return [entry for entry in self._byInside.values() if entry.expires > now]

    def outbound(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, payload: Payload, now: float
    ) -> HostPort | None:
        """
        A packet goes out.

        @return: the external address that it comes from, or C{None} when it is to be dropped: a
            TCP segment of no known connection, or no port is free.
        """
        entry = self._find(protocol, inside, remote, now)
        if entry is None:
            if isinstance(payload, Segment) and not payload.flags & TCPFlag.SYN:
                return None
            entry = self._create(protocol, inside, remote, now)
            if entry is None:
                return None
        key = self._filteringOf[protocol].key(remote)
        session = entry.sessions.get(key)
        if session is None or session.expires <= now:
            session = self._newSession(entry, key, now)
        self._touch(entry, session, payload, now, outbound=True)
        return entry.external

    def inbound(
        self, protocol: Protocol, external: HostPort, remote: HostPort, payload: Payload, now: float
    ) -> HostPort | None:
        """
        A packet comes from outside.

        @return: the inside address that it is for, or C{None} when it is uninvited.
        """
        if self._isOwnFlow(protocol, external, remote, now):
            return None
        found = self._findInbound(protocol, external, remote, now)
        if found is None:
            return None
        entry, session = found
        self._touch(entry, session, payload, now, outbound=False)
        return entry.inside

    def errorFor(
        self, protocol: Protocol, external: HostPort, remote: HostPort, now: float
    ) -> HostPort | None:
        """
        @return: the inside address that an ICMP error about a packet from C{external} to
            C{remote} is for, if any.
        """
        found = self._findInbound(protocol, external, remote, now)
        return found[0].inside if found else None

    def externalOf(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, now: float
    ) -> HostPort | None:
        """
        @return: the external address that stands for C{inside} towards C{remote}, if there is one.
        """
        entry = self._find(protocol, inside, remote, now)
        return entry.external if entry else None

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
        return bool(self._ownFlows) and self._ownFlows.get((protocol, external, remote), 0.0) > now

    def _newSession(self, entry: MappingEntry, key: _Key, now: float) -> _Session:
        if len(entry.sessions) >= MAX_SESSIONS:
            entry.sessions = {k: each for k, each in entry.sessions.items() if each.expires > now}
            if len(entry.sessions) >= MAX_SESSIONS:
                entry.sessions.pop(next(iter(entry.sessions)))
        session = entry.sessions[key] = _Session()
        return session

    def _find(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, now: float
    ) -> MappingEntry | None:
        """
        @return: the living mapping for packets from C{inside} to C{remote}.
        """
        entry = self._live((protocol, inside, self._mappingOf[protocol].key(remote)), now)
        if entry is not None and self._isOwnFlow(protocol, entry.external, remote, now):
            # The flow clashes with one of the router's own, so it has a mapping to itself.
            return self._live((protocol, inside, ("clash", *remote)), now)
        return entry

    def _live(self, key: tuple[Protocol, HostPort, _Key], now: float) -> MappingEntry | None:
        entry = self._byInside.get(key)
        if entry is not None and entry.expires <= now:
            self._forget(entry)
            return None
        return entry

    def _create(
        self, protocol: Protocol, inside: HostPort, remote: HostPort, now: float
    ) -> MappingEntry | None:
        if len(self._byInside) >= self.nat.maxMappings:
            for stale in [e for e in self._byInside.values() if e.expires <= now]:
                self._forget(stale)
            if len(self._byInside) >= self.nat.maxMappings:
                return None
        key: _Key = self._mappingOf[protocol].key(remote)
        if (protocol, inside, key) in self._byInside:
            key = ("clash", *remote)

        def isFree(external: HostPort) -> bool:
            return self._isFree(protocol, external, key, remote, now)

        external = self._allocator.allocate(inside, isFree)
        if external is None:
            return None
        entry = MappingEntry(protocol, inside, external, key)
        self._byInside[protocol, inside, key] = entry
        self._byExternal.setdefault((protocol, external), []).append(entry)
        return entry

    def _isFree(
        self, protocol: Protocol, external: HostPort, key: _Key, remote: HostPort, now: float
    ) -> bool:
        if self._isOwnFlow(protocol, external, remote, now):
            return False
        for entry in list(self._byExternal.get((protocol, external), ())):
            if entry.expires <= now:
                self._forget(entry)
            elif not self.nat.portOverloading or entry.key == key:
                return False
        return True

    def _forget(self, entry: MappingEntry) -> None:
        del self._byInside[entry.protocol, entry.inside, entry.key]
        sharing = self._byExternal[entry.protocol, entry.external]
        sharing.remove(entry)
        if not sharing:
            del self._byExternal[entry.protocol, entry.external]

    def _findInbound(
        self, protocol: Protocol, external: HostPort, remote: HostPort, now: float
    ) -> tuple[MappingEntry, _Session] | None:
        key = self._filteringOf[protocol].key(remote)
        for entry in self._byExternal.get((protocol, external), ()):
            session = entry.sessions.get(key)
            if entry.expires > now and session is not None and session.expires > now:
                return entry, session
        return None

    def _touch(
        self, entry: MappingEntry, session: _Session, payload: Payload, now: float, outbound: bool
    ) -> None:
        """
        A packet uses a mapping: extend its life.
        """
        if isinstance(payload, Segment):
            self._touchConnection(session, payload, now, outbound)
        elif outbound or self.nat.refreshInbound:
            session.expires = now + self.nat.udpTimeout
        else:
            return
        if entry.expires < session.expires or entry.protocol is Protocol.TCP:
            entry.expires = max(each.expires for each in entry.sessions.values())

    def _touchConnection(
        self, session: _Session, segment: Segment, now: float, outbound: bool
    ) -> None:
        if segment.flags & TCPFlag.SYN and outbound:
            session.closing = False
        if segment.flags & (TCPFlag.FIN | TCPFlag.RST):
            session.closing = True
        if not outbound:
            session.replied = True
        established = session.replied and not session.closing
        session.expires = now + (
            self.nat.tcpTimeout if established else self.nat.tcpTransitoryTimeout
        )
