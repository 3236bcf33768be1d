"""
What is asked of a router and what it can answer, in the words that PCP and NAT-PMP share.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Protocol, TypeAlias

from p2ptwist.core.address import HostPort, parseHost

# Seconds; RFC 6887 section 15: a server should not grant more.  One that does is renewed as if it
# had not, so that nothing is kept for longer than a day by a router that forgot its clock.
MAX_LIFETIME = 86400
# Seconds; RFC 6887 section 11.2.1 allows a renewal each 4 s and no more, so that what is granted
# for less than two of them could not be kept.
MIN_LIFETIME = 8
# Seconds that an error lasts, at most: what RFC 6887 section 7.4 recommends for those that do not
# pass by themselves.  No router can turn a port away for longer.
MAX_REFUSAL = 1800.0

# Addresses that mean different machines in different networks, or none.
_INNER = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # RFC 791: this network
        "10.0.0.0/8",  # RFC 1918: private
        "100.64.0.0/10",  # RFC 6598: shared between a carrier's NAT and its customers
        "127.0.0.0/8",  # RFC 1122: loopback
        "169.254.0.0/16",  # RFC 3927: link-local
        "172.16.0.0/12",  # RFC 1918
        "192.0.0.0/24",  # RFC 6890 and RFC 6333: within a provider's translators
        "192.168.0.0/16",  # RFC 1918
        "224.0.0.0/3",  # RFC 1112: groups, and what is reserved
        "::/8",  # RFC 4291: unspecified, loopback, and forms of IPv4 addresses
        "fc00::/7",  # RFC 4193: private
        "fe80::/10",  # RFC 4291: link-local
        "ff00::/8",  # RFC 4291: groups
    )
)


@dataclass(frozen=True, slots=True)
class Mapped:
    """
    A mapping was made or renewed.

    @ivar host: the external address; C{None} where the protocol tells it elsewhere.
    @ivar port: the external port, 1..65535.
    @ivar lifetime: seconds, L{MIN_LIFETIME}..L{MAX_LIFETIME}.
    """

    host: str | None
    port: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Address:
    """
    The router told its external address.

    @ivar host: in canonical text.
    """

    host: str


@dataclass(frozen=True, slots=True)
class Released:
    """
    A mapping was taken back.
    """


@dataclass(frozen=True, slots=True)
class Alive:
    """
    The router is there, and that was all that was asked.
    """


@dataclass(frozen=True, slots=True)
class Refused:
    """
    The router will not.

    @ivar code: of the protocol.
    @ivar why: the standard's name for it.
    @ivar lasting: seconds for which it is of no use to ask again.
    """

    code: int
    why: str
    lasting: float


Result: TypeAlias = Mapped | Address | Released | Alive | Refused


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One answer to one question.

    @ivar epoch: seconds since the router lost its mappings; C{None} when it does not speak the
        protocol, and so does not say.
    @ivar result: what it says.
    """

    epoch: int | None
    result: Result


class Question(Protocol):
    """
    One request, and how to know its answer.
    """

    @property
    def datagram(self) -> bytes:
        """
        The request.
        """

    def read(self, data: bytes) -> Answer:
        """
        @param data: a datagram from the router.
        @raise MalformedDatagram: when it is not the answer to this question.
        """


@dataclass(frozen=True, slots=True)
class Announcement:
    """
    What a router tells everybody.

    @ivar epoch: seconds since it lost its mappings.
    @ivar host: its external address; C{None} where the protocol does not tell.
    """

    epoch: int
    host: str | None = None


class Dialect(Protocol):
    """
    What the client of a router has to know about its protocol beside the questions.
    """

    def announced(self, data: bytes) -> Announcement:
        """
        @param data: a datagram that came to everybody.
        @raise MalformedDatagram: when it is no announcement.
        """

    def continues(self, previous: int, epoch: int, elapsed: float) -> bool:
        """
        @param previous: the epoch that the router told C{elapsed} seconds ago.
        @return: whether a router that now tells C{epoch} has kept its mappings in between.
        """


def isExternal(address: HostPort) -> bool:
    """
    @return: whether C{address} can be one that a router was given: not nothing, this host, or a
        group.
    """
    parsed = parseHost(address[0])
    usable = not (parsed.is_unspecified or parsed.is_loopback or parsed.is_multicast)
    return usable and address[1] != 0


def isPublic(host: str) -> bool:
    """
    @param host: a literal address.
    @return: whether it can be one of the Internet's, as far as the address alone tells.
    """
    parsed = parseHost(host)
    return not any(parsed in network for network in _INNER if network.version == parsed.version)
