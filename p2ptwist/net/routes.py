"""
How datagrams that come to one port find their session.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from p2ptwist.core.address import HostPort

# Addresses of one session that datagrams may come from: the 24 of a generation and of the one
# before it.  What was not sent to for longest is forgotten first.
ADDRESS_LIMIT = 48

SessionT = TypeVar("SessionT", bound=Hashable)


@dataclass(slots=True)
class _Entry:
    """
    What is known of one session.

    @ivar addresses: where it sends, the latest last.
    @ivar fragments: what checks for it name.
    """

    addresses: dict[HostPort, None] = field(default_factory=dict)
    fragments: set[bytes] = field(default_factory=set)


class Routes(Generic[SessionT]):
    """
    The sessions of one port: by the addresses that they send to, and by their user name fragments.
    """

    def __init__(self) -> None:
        self._entries: dict[SessionT, _Entry] = {}
        self._byAddress: dict[HostPort, dict[SessionT, None]] = {}
        self._byFragment: dict[bytes, SessionT] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def sessions(self) -> list[SessionT]:
        """
        @return: all of them, the oldest first.
        """
        return list(self._entries)

    def at(self, address: HostPort) -> list[SessionT]:
        """
        @return: the sessions that send to C{address}, those first that began to most recently.
        """
        return list(reversed(self._byAddress.get(address, {})))

    def only(self, address: HostPort) -> SessionT | None:
        """
        @return: the session that sends to C{address}, if there is exactly one.
        """
        sharing = self._byAddress.get(address, ())
        return next(iter(sharing)) if len(sharing) == 1 else None

    def named(self, fragment: bytes) -> SessionT | None:
        """
        @return: the session that checks with that fragment are for.
        """
        return self._byFragment.get(fragment)

    def add(self, session: SessionT) -> None:
        """
        There is one more session.
        """
        self._entries[session] = _Entry()

    def sends(self, session: SessionT, address: HostPort) -> None:
        """
        Something is sent to C{address}: what comes from there may be for C{session}.
        """
        entry = self._entries.get(session)
        if entry is None:
            return
        if address in entry.addresses:
            del entry.addresses[address]
            entry.addresses[address] = None
            return
        if len(entry.addresses) >= ADDRESS_LIMIT:
            oldest = next(iter(entry.addresses))
            del entry.addresses[oldest]
            self._drop(session, oldest)
        entry.addresses[address] = None
        self._byAddress.setdefault(address, {})[session] = None

    def names(self, session: SessionT, fragments: Iterable[bytes]) -> None:
        """
        Checks that name one of C{fragments}, and no other any more, are for C{session}.
        """
        entry = self._entries.get(session)
        if entry is None:
            return
        current = set(fragments)
        for fragment in entry.fragments - current:
            del self._byFragment[fragment]
        for fragment in current - entry.fragments:
            self._byFragment[fragment] = session
        entry.fragments = current

    def forget(self, session: SessionT) -> None:
        """
        The session is over.
        """
        self.names(session, ())
        for address in self._entries.pop(session).addresses:
            self._drop(session, address)

    def _drop(self, session: SessionT, address: HostPort) -> None:
        sharing = self._byAddress[address]
        del sharing[session]
        if not sharing:
            del self._byAddress[address]
