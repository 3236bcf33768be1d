"""
Pairs of NATs that are hard to connect through: what is tried in both worlds, the simulated Internet
and the kernel laboratory, and what is asked of it.

@see: C{benchmarks/matrix.py}, which makes a table of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

from p2ptwist.testing.nat import NAT, Filtering, Mapping, PortAllocation, Uninvited
from p2ptwist.testing.portmapper import PortMapper

TIME_LIMIT = 20.0  # seconds, after which a path is too late to count

_APD = Mapping.ADDRESS_AND_PORT_DEPENDENT
_AD = Mapping.ADDRESS_DEPENDENT

HOME = NAT()
# A symmetric NAT is one for TCP as well: otherwise a path over TCP comes first.
SEQUENTIAL = NAT(mapping=_APD, tcpMapping=_APD, allocation=PortAllocation.SEQUENTIAL)
# Others behind the same NAT open five flows a second: a browser that loads a page.
BUSY = replace(SEQUENTIAL, backgroundFlows=5.0)
HASHED = NAT(mapping=_APD, tcpMapping=_APD, allocation=PortAllocation.HASHED)
BY_ADDRESS = NAT(mapping=_AD, tcpMapping=_AD, allocation=PortAllocation.RANDOM)
RANDOM = NAT(mapping=_APD, tcpMapping=_APD, allocation=PortAllocation.RANDOM)
STEADY_TCP = NAT(
    mapping=_APD,
    tcpMapping=Mapping.ENDPOINT_INDEPENDENT,
    allocation=PortAllocation.RANDOM,
)
NO_UDP = NAT(udpPorts=frozenset())
NO_UDP_SYMMETRIC = replace(NO_UDP, mapping=_APD, tcpMapping=_APD, allocation=PortAllocation.RANDOM)
MAPPING_HOME = NAT(portMapping=PortMapper())
# Endpoint-independent ones.
ORDINARY = tuple(
    NAT(filtering=filtering, allocation=allocation)
    for filtering, allocation in product(
        Filtering, (PortAllocation.PRESERVING, PortAllocation.RANDOM)
    )
)


@dataclass(frozen=True, slots=True)
class Pair:
    """
    Two peers behind routers.

    @ivar name: of the pair in its row.
    @ivar near: the NATs in front of the caller, from the outermost to the innermost; in the
        laboratory none of them is a stateful firewall before an address of the Internet's.
    @ivar far: the same for the other side.
    @ivar shared: whether the outermost of C{near} is in front of both.
    """

    name: str
    near: tuple[NAT, ...]
    far: tuple[NAT, ...]
    shared: bool = False

    @property
    def nats(self) -> tuple[NAT, ...]:
        """
        All of them.
        """
        return (*self.near, *self.far)


@dataclass(frozen=True, slots=True)
class Row:
    """
    Pairs of one kind.

    @ivar name: mapping and filtering of both sides.
    @ivar known: the best that was known of other programs.
    @ivar share: how many of a hundred sessions are to be direct, at least; 0 when all stay relayed.
    @ivar transport: what the direct path goes over.
    @ivar limit: the seconds that the median may be, or C{None}.
    @ivar units: the units that the median may be, or C{None}.
    """

    name: str
    known: str
    pairs: tuple[Pair, ...]
    share: int
    transport: str = "udp"
    limit: float | None = None
    units: float | None = None

    def isMet(self, times: Sequence[float], unit: float) -> bool:
        """
        @param times: seconds until sessions of the pairs were direct; infinite when they were not.
        @param unit: seconds.
        @return: whether that is as good as it is to be.  What little is missing in a few tries may
            be one of them.
        """
        direct = sum(time <= TIME_LIMIT for time in times)
        if self.share == 0:
            return direct == 0
        wanted = math.floor(self.share * len(times) / 100)
        bound = min(self.limit or math.inf, (self.units or math.inf) * unit)
        return direct >= wanted and median(times) <= bound

    def accepting(self) -> Row:
        """
        @return: the same, where all routers take uninvited packets for their own.
        """
        pairs = tuple(
            replace(
                pair,
                name=f"{pair.name}, accepting",
                near=tuple(map(_accepting, pair.near)),
                far=tuple(map(_accepting, pair.far)),
            )
            for pair in self.pairs
        )
        name = f"{self.name}, routers accept uninvited packets"
        return replace(self, name=name, known="fails forever", pairs=pairs)


def _accepting(nat: NAT) -> NAT:
    # Linux gives out a port twice as long as whole flows do not clash.
    return replace(nat, uninvited=Uninvited.ACCEPT, portOverloading=True)


def _both(name: str, one: NAT, other: NAT) -> Iterator[Pair]:
    """
    @return: either side calls.
    """
    yield Pair(f"{name}, steady calls", (one,), (other,))
    yield Pair(f"{name}, steady is called", (other,), (one,))


def _describe(nat: NAT) -> str:
    return f"{nat.filtering.value} filtering, {nat.allocation.value} ports"


_UDP_ROWS = (
    Row(
        "endpoint-independent, any filtering x the same",
        "all direct",
        tuple(Pair(_describe(nat), (nat,), (nat,)) for nat in ORDINARY),
        100,
        units=2.2,
    ),
    Row(
        "endpoint-independent x sequential symmetric",
        "HyperDHT direct in 1 to 10 s",
        (*_both("sequential", HOME, SEQUENTIAL), *_both("busy sequential", HOME, BUSY)),
        95,
        limit=1.5,
    ),
    Row(
        "endpoint-independent x address-dependent or hashed",
        "HyperDHT direct in 0.05 to 11 s",
        (*_both("by address", HOME, BY_ADDRESS), *_both("hashed", HOME, HASHED)),
        95,
        limit=5.0,
    ),
    Row(
        "endpoint-independent x random symmetric",
        "HyperDHT direct in 0.6 to 17 s; iroh and aioice relay or fail",
        tuple(_both("random", HOME, RANDOM)),
        95,
        limit=20.0,
    ),
    Row(
        "sequential symmetric x sequential symmetric",
        "none",
        (
            Pair("two sequential", (SEQUENTIAL,), (SEQUENTIAL,)),
            Pair("two busy sequential", (BUSY,), (BUSY,)),
        ),
        90,
    ),
    Row(
        "random symmetric x random symmetric",
        "none",
        (Pair("two random", (RANDOM,), (RANDOM,)),),
        0,
    ),
    Row(
        "the same, but that TCP keeps its ports",
        "none",
        (Pair("two random, steady TCP", (STEADY_TCP,), (STEADY_TCP,)),),
        100,
        "tcp",
    ),
    Row(
        "double NAT x double NAT",
        "direct",
        (Pair("two double", (HOME, HOME), (HOME, HOME)),),
        100,
    ),
)
_MAPPED = Row(
    "one outer NAT, no hairpin, port mapping on the inner ones",
    "relayed or failed",
    (Pair("inner mapping", (HOME, MAPPING_HOME), (MAPPING_HOME,), shared=True),),
    100,
)
_BLOCKED = (
    Row(
        "UDP blocked on one side or both, TCP allowed",
        "py-libp2p direct by TCP in 1.2 to 1.6 s; iroh relays; the others fail",
        (
            Pair("the caller's side has no UDP", (NO_UDP,), (HOME,)),
            Pair("the other side has no UDP", (HOME,), (NO_UDP,)),
            Pair("no UDP at all", (NO_UDP,), (NO_UDP,)),
        ),
        100,
        "tcp",
    ),
    Row(
        "the same, but that TCP has random ports",
        "none",
        (Pair("no UDP, random TCP", (NO_UDP_SYMMETRIC,), (NO_UDP_SYMMETRIC,)),),
        0,
    ),
)

ROWS = (
    *_UDP_ROWS,
    _MAPPED,
    *_BLOCKED,
    *(row.accepting() for row in (*_UDP_ROWS, _BLOCKED[0])),
)
