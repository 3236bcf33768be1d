"""
How datagrams that come to one port find their session.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from p2ptwist.core.address import HostPort
from p2ptwist.net.attempts import Observer

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

    addresses: list[HostPort] = field(default_factory=list)
    fragments: tuple[bytes, ...] = ()


class Routes(Generic[SessionT]):
    """
    The sessions of one port: by the addresses that they send to, and by their user name fragments.

    @ivar observer: whom they tell of all that they do; C{None} for nobody.
    @ivar byAddress: the sessions that send to each address, those first that began to most
        recently.
    """

    observer: Observer | None = None

    def __init__(self) -> None:
        self._entries: dict[SessionT, _Entry] = {}
        # As a rule there is one, so that a tuple is smallest and quickest.
        self.byAddress: dict[HostPort, tuple[SessionT, ...]] = {}
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
        return list(self.byAddress.get(address, ()))

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
            entry.addresses.remove(address)
            entry.addresses.append(address)
            return
        if len(entry.addresses) >= ADDRESS_LIMIT:
            self._drop(session, entry.addresses.pop(0))
        entry.addresses.append(address)
        self.byAddress[address] = (session, *self.byAddress.get(address, ()))

    def names(self, session: SessionT, fragments: Iterable[bytes]) -> None:
        """
        Checks that name one of C{fragments}, and no other any more, are for C{session}.
        """
        entry = self._entries.get(session)
        if entry is None:
            return
        for fragment in entry.fragments:
            del self._byFragment[fragment]
        entry.fragments = tuple(dict.fromkeys(fragments))
        for fragment in entry.fragments:
            self._byFragment[fragment] = session

    def forget(self, session: SessionT) -> None:
        """
        The session is over.
        """
        self.names(session, ())
        for address in self._entries.pop(session).addresses:
            self._drop(session, address)

    def _drop(self, session: SessionT, address: HostPort) -> None:
        sharing = tuple(each for each in self.byAddress[address] if each != session)
        if sharing:
            self.byAddress[address] = sharing
        else:
            del self.byAddress[address]
