"""
What a simulated router decides about requests for port mappings, whatever protocol they came by.
"""

from __future__ import annotations

import itertools
from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.core.portmapping.pcp import ResultCode
from p2ptwist.testing.forwards import Forward
from p2ptwist.testing.nattable import NATTable
from p2ptwist.testing.packet import Protocol
from p2ptwist.testing.portmapper import PortMapper

# Those below belong to well-known services (RFC 6335), and no router gives them out.
FIRST_PORT = 1024
LAST_PORT = 65_535


class Refused(Exception):
    """
    A request for a mapping is refused.

    @ivar code: PCP's word for why.
    """

    def __init__(self, code: ResultCode) -> None:
        super().__init__(code.name)
        self.code = code


class Grants:
    """
    The explicit mappings of one table: what is granted, and to whom.
    """

    def __init__(
        self, mapper: PortMapper, table: NATTable, external: str | None, random: Random
    ) -> None:
        """
        @param mapper: what is granted.
        @param table: where mappings are made.
        @param external: the address whose ports are mapped; C{None} for pinholes in a firewall.
        @param random: chooses ports.
        """
        self._mapper = mapper
        self._table = table
        self._external = external
        self._random = random

    def grant(
        self,
        protocol: Protocol,
        inside: HostPort,
        suggested: int,
        lifetime: float,
        nonce: bytes,
        now: float,
    ) -> Forward:
        """
        Make or renew a mapping.

        @param protocol: UDP or TCP.
        @param inside: whom it is for.
        @param suggested: the external port that is asked for, or 0.
        @param lifetime: the seconds that are asked for; the mapping has as many as it may.
        @param nonce: what its owner is known by; empty by NAT-PMP.
        @param now: the time.
        @raise Refused: when it cannot be.
        """
        granted = min(max(lifetime, self._mapper.minLifetime), self._mapper.maxLifetime)
        forwards = self._table.forwards
        forward = forwards.ofInside(protocol, inside, now)
        if forward is None:
            self._checkQuota(inside[0], now)
            external = self._choose(protocol, inside, suggested, now)
            forward = Forward(protocol, inside, external, now, self._mapper.mapsOutgoing, nonce)
            forwards.add(forward)
        else:
            self._checkOwner(forward, nonce)
            forward.nonce = nonce or forward.nonce
        forward.expires = now + granted
        return forward

    def release(
        self, protocol: Protocol, host: str, port: int | None, nonce: bytes, now: float
    ) -> None:
        """
        Take back one mapping, or all that a host has for C{protocol}.  Where there is none, there
        is nothing to do.

        @param port: the inside port, or C{None} for all.
        @raise Refused: when it is somebody else's.
        """
        for forward in self._table.forwards.living(now):
            isMeant = port in (None, forward.inside[1])
            if isMeant and forward.protocol is protocol and forward.inside[0] == host:
                self._checkOwner(forward, nonce)
                self._table.forwards.remove(forward)

    def _checkOwner(self, forward: Forward, nonce: bytes) -> None:
        # A mapping that NAT-PMP made is its host's; PCP's is for who knows the nonce.
        if self._mapper.checksNonce and forward.nonce and nonce != forward.nonce:
            raise Refused(ResultCode.NOT_AUTHORIZED)

    def _checkQuota(self, host: str, now: float) -> None:
        living = self._table.forwards.living(now)
        if len(living) >= self._mapper.maxMappings:
            raise Refused(ResultCode.NO_RESOURCES)
        if sum(each.inside[0] == host for each in living) >= self._mapper.maxMappingsPerHost:
            raise Refused(ResultCode.USER_EX_QUOTA)

    def _choose(self, protocol: Protocol, inside: HostPort, suggested: int, now: float) -> HostPort:
        """
        @return: the suggested port, else that inside, else any that is free.
        """
        host = self._external
        if host is None:
            return inside
        count = LAST_PORT - FIRST_PORT + 1
        start = self._random.randrange(count)
        others = (FIRST_PORT + (start + number) % count for number in range(count))
        for port in itertools.chain((suggested, inside[1]), others):
            if port >= FIRST_PORT and self._table.mayForward(protocol, (host, port), inside, now):
                return (host, port)
        raise Refused(ResultCode.NO_RESOURCES)
