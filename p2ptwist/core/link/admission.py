"""
Who may connect: accept rates, and the table of connections that have proved nothing yet.
"""

from __future__ import annotations

import enum

from p2ptwist.core.address import HostPort
from p2ptwist.core.link.limits import Limits
from p2ptwist.core.link.nodelink import NodeLink, regionOf, siteOf
from p2ptwist.core.tokenbucket import KeyedBuckets, TokenBucket

# Sites whose accept rate is remembered.  A burst of 20 has refilled after 4 s, in which the global
# rate lets 1,200 connections in; the rest is room for sites that are refused.
_REMEMBERED_SITES = 8192


class Verdict(enum.Enum):
    """
    What to do with a new connection.
    """

    ADMIT = "admit"
    REFUSE = "refuse"
    IGNORE = "ignore"


class Admission:
    """
    The accept rates.  A site's own allowance is asked first, so that a site that is over it takes
    nothing from everybody's.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._all = TokenBucket(limits.acceptRate, now)
        self._refusals = TokenBucket(limits.refusalRate, now)
        self._sites = KeyedBuckets(limits.siteAcceptRate, _REMEMBERED_SITES)
        self._regions = KeyedBuckets(limits.regionAcceptRate, _REMEMBERED_SITES)

    def judge(self, address: HostPort, now: float) -> Verdict:
        """
        Judge one new connection, and count it.
        """
        if (
            self._sites.take(siteOf(address), now)
            and self._regions.take(regionOf(address), now)
            and self._all.take(now)
        ):
            return Verdict.ADMIT
        return Verdict.REFUSE if self._refusals.take(now) else Verdict.IGNORE


class Unproven:
    """
    Connections that have proved no key, oldest first, with a bound for each prefix.

    A newcomer always gets in; where there is no room the oldest of the fullest prefix goes, so
    that who stalls many connections loses their own.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0
        # Insertion-ordered sets: the first link of each is the oldest.
        self._sites: dict[str, dict[NodeLink, None]] = {}
        self._regions: dict[str, dict[NodeLink, None]] = {}

    def __len__(self) -> int:
        """
        @return: how many connections wait for their proof.
        """
        return self._count

    def add(self, link: NodeLink) -> NodeLink | None:
        """
        Take in C{link}.

        @return: the link that has to go for it, already discarded here.
        """
        victim = self._victim(link)
        if victim is not None:
            self.discard(victim)
        self._sites.setdefault(siteOf(link.address), {})[link] = None
        self._regions.setdefault(regionOf(link.address), {})[link] = None
        self._count += 1
        return victim

    def discard(self, link: NodeLink) -> None:
        """
        Forget C{link}, if it is here.
        """
        site = siteOf(link.address)
        if link not in self._sites.get(site, ()):
            return
        self._count -= 1
        for table, prefix in ((self._sites, site), (self._regions, regionOf(link.address))):
            del table[prefix][link]
            if not table[prefix]:
                del table[prefix]

    def _victim(self, link: NodeLink) -> NodeLink | None:
        site = self._sites.get(siteOf(link.address), {})
        region = self._regions.get(regionOf(link.address), {})
        if len(site) >= self._limits.maxSiteUnproven:
            return next(iter(site))
        if len(region) >= self._limits.maxRegionUnproven:
            return next(iter(region))
        if self._count >= self._limits.maxUnproven:
            fattest = max(self._regions, key=lambda prefix: len(self._regions[prefix]))
            return next(iter(self._regions[fattest]))
        return None
