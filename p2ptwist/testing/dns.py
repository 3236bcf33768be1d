"""
Name resolution: one table of names for the whole Internet, and the resolver of each host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from p2ptwist.core.address import canonicalHost
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.clock import Clock

# What a lookup takes; a resolver at an Internet provider is about as far away.
LOOKUP_DELAY = 0.020  # seconds


class NameTable:
    """
    Which names have which addresses.
    """

    def __init__(self) -> None:
        self._addresses: dict[str, tuple[str, ...]] = {"localhost": ("127.0.0.1", "::1")}

    def set(self, name: str, addresses: Sequence[str]) -> None:
        """
        Give C{name} these addresses and no others; none at all removes it.
        """
        self._addresses[name.lower()] = tuple(map(canonicalHost, addresses))

    def lookUp(self, name: str) -> tuple[str, ...]:
        """
        @return: the addresses of C{name}; none for an unknown name.  A literal address is its own.
        """
        try:
            return (canonicalHost(name),)
        except LocalUsageError:
            return self._addresses.get(name.lower().rstrip("."), ())


@implementer(IHostResolution)
class _Resolution:
    """
    One lookup that is under way.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """
        Do nothing, like the resolution of a real reactor's resolver in its thread.
        """


@implementer(IHostnameResolver)
class Resolver:
    """
    A host's resolver.  It answers after L{LOOKUP_DELAY}.
    """

    def __init__(self, clock: Clock, names: NameTable) -> None:
        """
        @param clock: takes the time of a lookup.
        @param names: knows the answers.
        """
        self._clock = clock
        self._names = names

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        Look up C{hostName}.  See C{IHostnameResolver}.
        """
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        wanted = (IPv4Address, IPv6Address) if addressTypes is None else tuple(addressTypes)
        semantics: Literal["TCP", "UDP"] = "UDP" if transportSemantics == "UDP" else "TCP"

        def answer() -> None:
            for host in self._names.lookUp(hostName):
                kind = IPv6Address if ":" in host else IPv4Address
                if kind in wanted:
                    resolutionReceiver.addressResolved(kind(semantics, host, portNumber))
            resolutionReceiver.resolutionComplete()

        self._clock.callAt(self._clock.seconds() + LOOKUP_DELAY, answer)
        return resolution


@implementer(IResolutionReceiver)
class FirstAddress:
    """
    Makes one lookup with a Deferred of the many calls of an C{IHostnameResolver}.

    @ivar result: fires with the first address as text, or fails with C{DNSLookupError}.
    """

    def __init__(self, name: str) -> None:
        """
        @param name: what is looked up, for the error.
        """
        self.result: Deferred[str] = Deferred()
        self._name = name
        self._first: str | None = None

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """
        The lookup has begun.
        """

    def addressResolved(self, address: IAddress) -> None:
        """
        The name has this address, maybe among others.
        """
        assert isinstance(address, IPv4Address | IPv6Address)
        self._first = self._first or address.host

    def resolutionComplete(self) -> None:
        """
        There are no more addresses.
        """
        if self.result.called:  # cancelled
            return
        if self._first is None:
            self.result.errback(DNSLookupError(f"no address for {self._name!r}"))
        else:
            self.result.callback(self._first)
