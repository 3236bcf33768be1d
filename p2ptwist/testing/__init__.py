"""
A simulated Internet for tests, examples and applications: hosts that are Twisted reactors, routers
with every NAT behaviour of RFC 4787, and links that delay, lose and reorder, all in virtual time.

Start with L{Internet}::

    internet = Internet(seed=7)
    node = internet.host("node", "192.0.2.1")
    home = internet.router("home", "203.0.113.7", nat=NAT(mapping=Mapping.ADDRESS_DEPENDENT))
    alice = home.host("alice")
    alice.listenUDP(0, protocol)
    internet.advance(5.0)
"""

from p2ptwist.testing.clock import TimeStandsStill
from p2ptwist.testing.counters import Counters
from p2ptwist.testing.host import Host
from p2ptwist.testing.internet import Internet
from p2ptwist.testing.link import Link, Wire
from p2ptwist.testing.nat import (
    NAT,
    Filtering,
    Firewall,
    Hairpinning,
    Mapping,
    Pooling,
    PortAllocation,
    Uninvited,
    WhenFull,
)
from p2ptwist.testing.portmapper import PortMapper, Trouble
from p2ptwist.testing.report import StillPending
from p2ptwist.testing.router import Router
from p2ptwist.testing.trace import Trace, TraceEntry

__all__ = [
    "NAT",
    "Counters",
    "Filtering",
    "Firewall",
    "Hairpinning",
    "Host",
    "Internet",
    "Link",
    "Mapping",
    "Pooling",
    "PortAllocation",
    "PortMapper",
    "Router",
    "StillPending",
    "TimeStandsStill",
    "Trace",
    "TraceEntry",
    "Trouble",
    "Uninvited",
    "WhenFull",
    "Wire",
]
