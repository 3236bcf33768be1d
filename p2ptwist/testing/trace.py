"""
A trace of what became of packets, for people to read when a test has failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.testing.clock import Clock
from p2ptwist.testing.packet import Packet

# Enough for the whole of a punch between two double NATs with its registration, and two screens
# of pages to scroll; some 600 KB when full.
TRACE_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """
    What happened to one packet at one place.

    @ivar time: seconds of virtual time.
    @ivar where: name of the host, router, link or network.
    @ivar what: C{"sent"}, C{"received"}, C{"forwarded"}, C{"translated"}, C{"dropped"},
        C{"duplicated"} or C{"corrupted"}.
    @ivar packet: the packet, as it was afterwards.
    @ivar detail: why it was dropped, or how it was translated.
    """

    time: float
    where: str
    what: str
    packet: Packet
    detail: str = ""

    def __str__(self) -> str:
        detail = f"  ({self.detail})" if self.detail else ""
        return f"{self.time:12.6f}  {self.where:<16} {self.what:<10} {self.packet}{detail}"


class Trace:
    """
    The last L{TRACE_LENGTH} things that happened to packets.

    @ivar forgotten: how many entries have made room for later ones.
    """

    def __init__(self, clock: Clock, length: int = TRACE_LENGTH) -> None:
        """
        @param clock: tells the times of the entries.
        @param length: entries to keep; 0 keeps none and is a little faster.
        """
        self._clock = clock
        self._entries: deque[tuple[float, str, str, Packet, str, HostPort | None]] = deque(
            maxlen=length
        )
        self._noted = 0

    @property
    def forgotten(self) -> int:
        """
        Entries that made room for later ones.
        """
        return self._noted - len(self._entries)

    def note(
        self,
        where: str,
        what: str,
        packet: Packet,
        detail: str = "",
        address: HostPort | None = None,
    ) -> None:
        """
        Append an entry.  See L{TraceEntry} for the arguments.

        @param address: what C{detail} ends with, written only when somebody reads it.
        """
        self._noted += 1
        self._entries.append((self._clock.now, where, what, packet, detail, address))

    def __iter__(self) -> Iterator[TraceEntry]:
        for time, where, what, packet, detail, address in list(self._entries):
            end = "" if address is None else formatAddress(address)
            yield TraceEntry(time, where, what, packet, detail + end)

    def __len__(self) -> int:
        return len(self._entries)

    def text(self, last: int | None = None) -> str:
        """
        @param last: how many entries to show; all by default.
        @return: one line an entry, oldest first, and a line on what is left out.
        """
        entries = list(self)
        shown = entries if last is None else entries[max(0, len(entries) - last) :]
        left = self._noted - len(shown)
        lines = [f"... {left} earlier entries left out"] if left else []
        return "\n".join(lines + [str(entry) for entry in shown])
