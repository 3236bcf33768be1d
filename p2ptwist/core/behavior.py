"""
What the tests of RFC 5780 tell about a NAT, and what they do not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping


class Response(enum.Enum):
    """
    What came of a request to answer from elsewhere.
    """

    PENDING = enum.auto()
    AS_ASKED = enum.auto()
    OTHERWISE = enum.auto()
    NONE = enum.auto()


@dataclass(slots=True)
class Evidence:
    """
    The results of the tests so far.

    Silence is evidence of a filter only from an address that is known to answer: one in C{seen}.

    What an address saw is evidence of a mapping only if nothing that it sent came in before: a NAT
    that let it in has a session with it since then, and sends what goes there out of the same port,
    whatever its mapping is.

    @ivar server: the server's address that the tests start from.
    @ivar other: its alternate address, with another host, another port, or both.
    @ivar responses: by the address that was to answer: what came of a filtering test.
    @ivar seen: by the address that was asked: the address that it saw this port at.
    """

    server: HostPort
    other: HostPort
    responses: dict[HostPort, Response] = field(default_factory=dict)
    seen: dict[HostPort, HostPort] = field(default_factory=dict)

    @property
    def hostsDiffer(self) -> bool:
        """
        Whether the server has two hosts.
        """
        return self.server[0] != self.other[0]

    @property
    def portsDiffer(self) -> bool:
        """
        Whether the server has two ports.
        """
        return self.server[1] != self.other[1]

    @property
    def otherPort(self) -> HostPort:
        """
        The address that differs from C{server} in nothing but the port.
        """
        return self.server[0], self.other[1]

    @property
    def otherHost(self) -> HostPort:
        """
        The address that differs from C{server} in nothing but the host.
        """
        return self.other[0], self.server[1]

    def behavior(self) -> NATBehavior:
        """
        @return: what follows, and C{None} for what does not.
        """
        return NATBehavior(self.mapping(), self.filtering())

    def mapping(self) -> NATMapping | None:
        """
        RFC 5780 section 4.3, with what servers of one host or one port can tell.
        """
        byPort = (
            self._agree(self.server, self.otherPort),
            self._agree(self.otherHost, self.other),
        )
        if self.portsDiffer and False in byPort:
            return NATMapping.ADDRESS_AND_PORT_DEPENDENT
        byHost = self._agree(self.server, self.otherHost) if self.hostsDiffer else None
        if byHost:
            return NATMapping.ENDPOINT_INDEPENDENT
        if byHost is False and self.portsDiffer and True in byPort:
            return NATMapping.ADDRESS_DEPENDENT
        return None

    def filtering(self) -> NATFiltering | None:
        """
        RFC 5780 section 4.4, with what servers of one host or one port can tell.
        """
        if self.hostsDiffer:
            if self.responses.get(self.other) is Response.AS_ASKED:
                return NATFiltering.ENDPOINT_INDEPENDENT
            if not self._silenced(self.other):
                return None
        if not self.portsDiffer:
            return None
        if self._silenced(self.otherPort):
            return NATFiltering.ADDRESS_AND_PORT_DEPENDENT
        passed = self.responses.get(self.otherPort) is Response.AS_ASKED
        return NATFiltering.ADDRESS_DEPENDENT if passed and self.hostsDiffer else None

    def _agree(self, one: HostPort, another: HostPort) -> bool | None:
        """
        @return: whether this port is seen alike by the two; C{None} when that is not known.
        """
        for address in (one, another):
            response = self.responses.get(address)
            if address not in self.seen or response in (Response.PENDING, Response.AS_ASKED):
                return None
        return self.seen[one] == self.seen[another]

    def _silenced(self, address: HostPort) -> bool:
        """
        @return: whether an answer from there was kept out.
        """
        return self.responses.get(address) is Response.NONE and address in self.seen
