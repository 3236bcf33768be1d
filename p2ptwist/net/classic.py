"""
The classic opinion: what kind of NAT RFC 3489 calls this one, by pystun3.

It is reported beside what L{p2ptwist.net.natdiscovery} finds out, and used for nothing else: it
knows neither transactions that somebody else answers nor IPv6.  It blocks, so it runs in a thread,
and what would make it hang is in the socket that it is given.
"""

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, isIPv6
from p2ptwist.interfaces import IHostAddresses

TIME_LIMIT = 4.5  # seconds; the two longest tests, with room for round trips
# Seconds that each of pystun3's four tries waits: a test that nobody answers takes 1.6 s.
_PATIENCE = 0.4
# Seconds in which a thread notices that nobody waits for it any more.
_SLICE = 0.05

_log = Logger()


class OutOfTime(Exception):
    """
    Nobody waits for pystun3 any more.  It is no C{OSError}, which pystun3 would take for a loss.
    """


class BoundedSocket:
    """
    As much of a socket as pystun3 uses, with an end.

    @ivar stopped: whether somebody has given it up; set by another thread.
    """

    def __init__(
        self, server: HostPort, timeLimit: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        @raise OSError: when the host has no way to the server.
        """
        self.stopped = False
        self._clock = clock
        self._end = clock() + timeLimit
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.source = _sourceFor(server)
            self._socket.bind((self.source, 0))
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(_SLICE)

    @property
    def port(self) -> int:
        """
        The local port.
        """
        return int(self._socket.getsockname()[1])

    def sendto(self, data: bytes, address: HostPort) -> int:
        """
        Send a datagram.

        @raise OutOfTime: when the time is over.
        """
        self._check()
        return self._socket.sendto(data, address)

    def recvfrom(self, size: int) -> tuple[bytes, HostPort]:
        """
        Wait for a datagram.

        @raise OutOfTime: when the time is over.
        @raise TimeoutError: when none came.
        """
        patience = self._clock() + _PATIENCE
        while True:
            if self.stopped or self._clock() >= self._end:
                # pystun3 takes whatever this raises for a loss, and asks again: see sendto().
                raise TimeoutError
            try:
                return self._socket.recvfrom(size)
            except TimeoutError:
                if self._clock() >= patience:
                    raise

    def close(self) -> None:
        """
        Close it.
        """
        self._socket.close()

    def _check(self) -> None:
        if self.stopped or self._clock() >= self._end:
            raise OutOfTime("pystun3 took too long")


def classicOpinion(
    reactor: Any, server: HostPort, timeLimit: float = TIME_LIMIT
) -> Deferred[str | None]:
    """
    Ask pystun3, in a thread of the reactor's pool.

    @param server: the literal IPv4 address of a STUN server that answers RFC 3489.
    @param timeLimit: seconds; the thread ends within C{_SLICE} of it.
    @return: a Deferred that fires with pystun3's word for the kind of NAT, or C{None} when it is
        not installed, took too long, or failed.  It can be cancelled; a program that ends waits
        for the thread no longer than C{_SLICE}.
    """
    pystun3 = _import()
    # A reactor that knows its own host's addresses has a network that is not the system's.
    ownNetwork = IHostAddresses.providedBy(reactor) or not IReactorThreads.providedBy(reactor)
    if pystun3 is None or ownNetwork or isIPv6(server[0]):
        return succeed(None)
    try:
        bounded = BoundedSocket(server, timeLimit)
    except OSError as error:
        _log.debug("pystun3 is not asked: {error}", error=error)
        return succeed(None)

    def stop(_: object = None) -> None:
        bounded.stopped = True

    # The reactor waits for its threads after that, before it ends.
    trigger = reactor.addSystemEventTrigger("before", "shutdown", stop)
    result: Deferred[str | None] = Deferred(stop)

    def ended(outcome: str | Failure) -> None:
        bounded.close()
        with suppress(ValueError, KeyError):  # while the reactor ends, it is gone
            reactor.removeSystemEventTrigger(trigger)
        if isinstance(outcome, Failure):
            _log.debug("pystun3 failed: {why}", why=outcome.getErrorMessage())
        if not result.called:
            result.callback(None if isinstance(outcome, Failure) else outcome)

    running: Deferred[str] = deferToThreadPool(
        reactor, reactor.getThreadPool(), _ask, pystun3, bounded, server
    )
    running.addBoth(ended)
    return result


def _ask(pystun3: Any, bounded: BoundedSocket, server: HostPort) -> str:
    """
    In the thread.
    """
    kind, _ = pystun3.get_nat_type(bounded, bounded.source, bounded.port, server[0], server[1])
    return str(kind)


def _import() -> Any:
    """
    @return: the module, or C{None} where it is missing or is something else of that name.
    """
    try:
        module = importlib.import_module("stun")
    except Exception:  # whatever a foreign module raises
        return None
    return module if hasattr(module, "get_nat_type") else None


def _sourceFor(server: HostPort) -> str:
    """
    @return: the address of this host that datagrams to C{server} come from.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(server)  # sends nothing
        return str(probe.getsockname()[0])
