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

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.jitter import Uniform
from p2ptwist.core.tcppath.signal import CANDIDATE_LIMIT

# Seconds from a failure to the next dial.  At random: two sides with equal gaps whose SYNs do not
# cross the first time never cross.  The least is a few packets of an access link.
RETRY_GAP = (0.01, 0.1)
# Seconds without an answer after which a dial is made anew.  The system repeats its SYN once or
# twice meanwhile, and the NAT in front lets the other side's in.
DIAL_TIMEOUT = 3.0
DIAL_LIMIT = 200  # of one attempt: 10 s of refusals by two addresses


class Dialing:
    """
    The dials of one attempt.  Single use.

    @ivar dials: how many were made.
    @ivar refused: how many failed before their time.
    """

    __slots__ = ("_due", "_jitter", "dials", "refused")

    def __init__(self, jitter: Uniform) -> None:
        """
        @param jitter: spreads repeated dials.
        """
        self.dials = 0
        self.refused = 0
        self._jitter = jitter
        self._due: dict[HostPort, float | None] = {}  # None: dialed, or stands

    def __len__(self) -> int:
        """
        @return: the number of addresses.
        """
        return len(self._due)

    def add(self, addresses: Iterable[HostPort], now: float) -> None:
        """
        Dial C{addresses} from C{now} on; those above the limit are left out.
        """
        for address in addresses:
            if len(self._due) < CANDIDATE_LIMIT:
                self._due.setdefault(address, now)

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
            self._due[address] = now + self._jitter.uniform(*RETRY_GAP)

    def deadline(self) -> float | None:
        """
        @return: when L{take} has something; C{None} for not before something else happens.
        """
        if self.dials >= DIAL_LIMIT:
            return None
        return min((due for due in self._due.values() if due is not None), default=None)
