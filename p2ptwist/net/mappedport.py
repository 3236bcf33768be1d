"""
One local port that is mapped, as an application sees it, and what each protocol had to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort
from p2ptwist.errors import NoGateway, PortMappingError, PortMappingRefused
from p2ptwist.interfaces import IPortMapping
from p2ptwist.net.held import Held
from p2ptwist.net.latch import Latch
from p2ptwist.net.lease import Lease
from p2ptwist.net.uplink import Uplink


@dataclass(frozen=True, slots=True)
class MapperReport:
    """
    What one protocol made of one router, the last time.

    @ivar mapper: the protocol: C{"pcp"}, C{"nat-pmp"} or C{"upnp"}.
    @ivar gateway: the router.
    @ivar external: the address that it granted; C{None} when it did not.
    @ivar lifetime: seconds that it granted.
    @ivar router: what it calls itself, if it says so.
    @ivar doubleNAT: whether another NAT is in front of it, by what it granted.
    @ivar problem: why there is no mapping, in words for people.
    @ivar error: the same.
    """

    mapper: str
    gateway: str
    external: HostPort | None = None
    lifetime: float | None = None
    router: str | None = None
    doubleNAT: bool = False
    problem: str | None = None
    error: PortMappingError | None = None


@implementer(IPortMapping)
class PortMapping:
    """
    One local port and what it has at each router.
    """

    def __init__(
        self,
        transport: str,
        port: int,
        isBehindAnother: Callable[[str], bool],
        release: Callable[[], Deferred[None]],
    ) -> None:
        """
        @param isBehindAnother: whether an external address cannot be how the Internet sees it.
        @param release: called to have the port mapped no more.
        """
        self.transport = transport
        self.port = port
        self.leases: dict[Uplink, Lease] = {}
        self._isBehindAnother = isBehindAnother
        self._release = release
        self._outcome: Latch[IPortMapping] = Latch(self._abandoned)

    @property
    def externals(self) -> tuple[HostPort, ...]:
        """
        See L{IPortMapping}.
        """
        return tuple(held.grant.external for held in self._held())

    @property
    def external(self) -> HostPort:
        """
        See L{IPortMapping}.

        @raise PortMappingError: while there is no mapping.
        """
        return self._best().grant.external

    @property
    def mapper(self) -> str:
        """
        See L{IPortMapping}.

        @raise PortMappingError: while there is no mapping.
        """
        return self._best().grant.mapper

    @property
    def renewal(self) -> float:
        """
        See L{IPortMapping}.

        @raise PortMappingError: while there is no mapping.
        """
        return self._best().renewal

    @property
    def expiry(self) -> float:
        """
        See L{IPortMapping}.

        @raise PortMappingError: while there is no mapping.
        """
        return self._best().expiry

    @property
    def doubleNAT(self) -> bool:
        """
        See L{IPortMapping}.
        """
        return any(self._isBehindAnother(external[0]) for external in self.externals)

    def release(self) -> Deferred[None]:
        """
        See L{IPortMapping.release}.
        """
        return self._release()

    @property
    def asking(self) -> bool:
        """
        Whether some router may still answer.
        """
        return any(lease.asking for lease in self.leases.values())

    def when(self) -> Deferred[IPortMapping]:
        """
        @return: a Deferred that fires with this as soon as there is a mapping; fails when all
            routers have been asked and there is none.  When nobody waits any more, and there is no
            mapping, it is wanted no more.
        """
        return succeed(self) if self.externals else self._outcome.when()

    def settle(self, result: PortMapping | Failure) -> None:
        """
        Tell those who wait how it went.
        """
        outcome, self._outcome = self._outcome, Latch(self._abandoned)
        outcome.settle(result)

    def failure(self) -> Failure:
        """
        @return: why there is none, of all routers: a refusal says more than silence.
        """
        failures = [each.failure for each in self.leases.values() if each.failure is not None]
        if not failures:
            return Failure(NoGateway("this host has no default router to ask for a port mapping"))
        return max(failures, key=lambda each: each.check(PortMappingRefused) is not None)

    def _held(self) -> list[Held]:
        return [each.held for each in self.leases.values() if each.held is not None]

    def _best(self) -> Held:
        held = self._held()
        if not held:
            raise PortMappingError(f"{self.transport} port {self.port} is not mapped at the moment")
        return held[0]

    def _abandoned(self) -> None:
        if not self.externals:
            self._release()
