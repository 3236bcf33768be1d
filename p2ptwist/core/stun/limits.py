"""
How much each part of the Internet may ask of a STUN server: token buckets by source prefix.

There is no state to exhaust and none to evict.  All sources share two tables of a fixed size, at
places that a secret decides; a flood from forged sources spreads evenly over them and costs
everybody the same small part, instead of pushing the buckets of real sources out.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

from p2ptwist.core.address import parseHost
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.tokenbucket import Rate

# Buckets a table.  8 bytes each: 512 KiB.  A forged flood that reaches the burst of one host in
# all of them is 1.3 million datagrams a second, which saturates the processor long before.
_BUCKETS = 1 << 16
_MASK = _BUCKETS - 1
_SHIFT = 40  # where a product of a 32-bit key and a 64-bit secret depends on all bits of both


# A site behind one address restarts all its programs at once; a campus has a /24 of such sites.
_PER_HOST = Rate(20, 60)
_PER_NETWORK = Rate(200, 600)


@dataclass(frozen=True, slots=True)
class STUNLimits:
    """
    Datagrams that a STUN server takes.

    @ivar perHost: from one IPv4 address or IPv6 /64; C{None} for no limit.
    @ivar perNetwork: from one IPv4 /24 or IPv6 /48; C{None} for no limit.
    """

    perHost: Rate | None = _PER_HOST
    perNetwork: Rate | None = _PER_NETWORK


UNLIMITED = STUNLimits(None, None)


class _Table:
    """
    Token buckets of one rate, as the time at which each will be full again (the "generic cell
    rate algorithm"): one number a bucket, and nothing to refill.
    """

    __slots__ = ("cost", "fullAt", "tolerance")

    def __init__(self, rate: Rate | None) -> None:
        self.fullAt = array("d", bytes(8 * _BUCKETS))
        # Seconds that one token takes to come back, and how far ahead a bucket may be owed them.
        self.cost, self.tolerance = 0.0, math.inf
        if rate is not None and rate.perSecond < math.inf:
            if rate.perSecond <= 0:
                raise LocalUsageError("a rate of nothing: stop the server instead")
            self.cost = 1 / rate.perSecond
            # A full burst leaves it (burst - 1) costs ahead; half a cost absorbs rounding.
            self.tolerance = (rate.burst - 0.5) * self.cost


class SourceLimits:
    """
    The buckets of one server.
    """

    __slots__ = ("_hosts", "_networks", "_secret")

    def __init__(self, limits: STUNLimits, secret: int) -> None:
        """
        @param secret: 64 random bits, so that nobody can aim at somebody else's bucket.
        """
        self._hosts = _Table(limits.perHost)
        self._networks = _Table(limits.perNetwork)
        self._secret = secret | 1  # an odd factor loses no bit of a key

    def admit(self, host: int, network: int, now: float) -> bool:
        """
        Take one token for a host and one for its network, or nothing.

        @param host: the bits of a source that one host has for itself.
        @param network: the bits that it shares with its site.
        @return: whether both had one.
        """
        hosts, networks, secret = self._hosts, self._networks, self._secret
        hostIndex = host * secret >> _SHIFT & _MASK
        hostFull = hosts.fullAt[hostIndex]
        if hostFull < now:
            hostFull = now
        elif hostFull - now > hosts.tolerance:
            return False
        networkIndex = network * secret >> _SHIFT & _MASK
        networkFull = networks.fullAt[networkIndex]
        if networkFull < now:
            networkFull = now
        elif networkFull - now > networks.tolerance:
            return False
        hosts.fullAt[hostIndex] = hostFull + hosts.cost
        networks.fullAt[networkIndex] = networkFull + networks.cost
        return True

    def admitHost(self, host: str, now: float) -> bool:
        """
        L{admit} for a source in text.
        """
        address = parseHost(host)
        bits = int(address)
        if address.version == 4:
            return self.admit(bits, bits >> 8, now)
        return self.admit(bits >> 64, bits >> 80, now)
