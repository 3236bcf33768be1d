"""
The addresses of a STUN server that tests can be made with.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2ptwist.core.address import HostPort, parseHost


@dataclass(frozen=True, slots=True)
class TestServer:
    """
    A STUN server and its alternate address (RFC 5780 section 7.4).

    @ivar primary: the address that was asked first.
    @ivar other: the alternate address: another host, another port, or both; C{primary} where there
        is none.
    """

    primary: HostPort
    other: HostPort

    @property
    def hostsDiffer(self) -> bool:
        """
        Whether the server has two hosts.
        """
        return self.primary[0] != self.other[0]

    @property
    def portsDiffer(self) -> bool:
        """
        Whether the server has two ports.
        """
        return self.primary[1] != self.other[1]

    @property
    def otherPort(self) -> HostPort:
        """
        The address that differs from C{primary} in nothing but the port.
        """
        return self.primary[0], self.other[1]

    @property
    def otherHost(self) -> HostPort:
        """
        The address that differs from C{primary} in nothing but the host.
        """
        return self.other[0], self.primary[1]

    @property
    def hasAlternate(self) -> bool:
        """
        Whether there is any other address.
        """
        return self.primary != self.other

    def alternates(self) -> tuple[HostPort, ...]:
        """
        @return: every other address of the server.
        """
        combinations = (self.otherHost, self.otherPort, self.other)
        return tuple(each for each in dict.fromkeys(combinations) if each != self.primary)


def testServer(primary: HostPort, other: HostPort | None) -> TestServer:
    """
    @param other: what the server says its alternate address is.  It is used only when it may be one
        of a host, of the same family, on a port that a STUN server may have: whoever lies must not
        aim requests at other services.
    """
    return TestServer(primary, other if other and _usable(other, primary) else primary)


def _usable(other: HostPort, primary: HostPort) -> bool:
    host, asked = parseHost(other[0]), parseHost(primary[0])
    return (
        other[1] >= _FIRST_PORT
        and host.version == asked.version
        and not (host.is_multicast or host.is_unspecified)
        and host.is_loopback == asked.is_loopback
        and host.is_link_local == asked.is_link_local
        and other[0] != "255.255.255.255"
    )


_FIRST_PORT = 1024  # below are the services that every host may have
