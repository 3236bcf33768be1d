"""
Which addresses are dialed, and when.

======== ===================================== ==================
an address  what is next                        when
======== ===================================== ==================
waits    it is dialed                          its time comes
dialed   nothing: one dial at a time           it fails or stands
stands   nothing, unless the connection fails  it is lost
======== ===================================== ==================
"""

from __future__ import annotations

from collections.abc import Iterable

from p2ptwist.core.address import HostPort, isIPv6
from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.ice.jitter import Uniform
from p2ptwist.core.tcppath.signal import CANDIDATE_LIMIT, TCPCandidate

# Seconds from a failure to the next dial.  At random: two sides with equal gaps whose SYNs do not
# cross the first time never cross.  The least is a few packets of an access link.
RETRY_GAP = (0.01, 0.1)
# Seconds without an answer after which a dial is made anew.  The system repeats its SYN once or
# twice meanwhile, and the NAT in front lets the other side's in.
DIAL_TIMEOUT = 3.0
# An IPv4 address of the other host itself that refuses is somebody else's in this network, as a
# rule: from the second time on the gap doubles.  (IPv6 hosts are behind firewalls, which open.)
HOST_GAP = 0.1  # seconds
DIAL_LIMIT = 200  # of one attempt: 10 s of refusals by two addresses


class Dialing:
    """
    The dials of one attempt.  Single use.

    @ivar dials: how many were made.
    @ivar refused: how many failed before their time.
    """

    __slots__ = ("_due", "_gaps", "_jitter", "dials", "refused")

    def __init__(self, jitter: Uniform) -> None:
        """
        @param jitter: spreads repeated dials.
        """
        self.dials = 0
        self.refused = 0
        self._jitter = jitter
        self._due: dict[HostPort, float | None] = {}  # None: dialed, or stands
        self._gaps: dict[HostPort, float] = {}  # of addresses that are dialed less and less often

    def __len__(self) -> int:
        """
        @return: the number of addresses.
        """
        return len(self._due)

    def add(self, candidates: Iterable[TCPCandidate], now: float) -> None:
        """
        Dial C{candidates} from C{now} on; those above the limit are left out.
        """
        for candidate in candidates:
            address = candidate.address
            if len(self._due) < CANDIDATE_LIMIT and address not in self._due:
                self._due[address] = now
                if candidate.type is CandidateType.HOST and not isIPv6(address[0]):
                    self._gaps[address] = HOST_GAP

    def take(self, now: float) -> list[HostPort]:
        """
        @return: the addresses to dial at once.  Each is to be followed by L{failed} or L{stands}.
        """
        found = [each for each, due in self._due.items() if due is not None and due <= now]
        found = found[: max(0, DIAL_LIMIT - self.dials)]
        for address in found:
            self._due[address] = None
        self.dials += len(found)
        return found

    def stands(self, address: HostPort) -> None:
        """
        There is a connection with C{address}, whoever dialed.
        """
        if address in self._due:
            self._due[address] = None

    def failed(self, address: HostPort, now: float, *, early: bool = True) -> None:
        """
        A dial, or the connection with C{address}, has come to nothing.

        @param early: whether it was refused, and not only without an answer.
        """
        if self._due.get(address, now) is None:
            self.refused += early
            self._due[address] = now + self._gap(address)

    def deadline(self) -> float | None:
        """
        @return: when L{take} has something; C{None} for not before something else happens.
        """
        if self.dials >= DIAL_LIMIT:
            return None
        return min((due for due in self._due.values() if due is not None), default=None)

    def _gap(self, address: HostPort) -> float:
        gap = self._gaps.get(address)
        if gap is None:
            return self._jitter.uniform(*RETRY_GAP)
        self._gaps[address] = 2 * gap
        return self._jitter.uniform(gap / 2, gap)
