"""
Port mapping by UPnP: the Internet Gateway Device protocol, spoken by miniupnpc.

UPnP is HTTP and XML from a device that anybody in the LAN can pretend to be, and miniupnpc is C
code that blocks.  So nothing of it is in this process.  Each request starts a child process
(L{p2ptwist.net.upnpchild}) with limits on its memory, time and files, asks it one question, reads
one line, and ends it after three seconds at the latest.  The child has nothing to remember: a lease
is renewed by asking again.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.process import reapAllProcesses
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import canonicalHost, isIPv6
from p2ptwist.core.portmapping.grant import LOWEST_PORT, Grant, MappingRequest
from p2ptwist.core.portmapping.ssdp import SSDP_PORT
from p2ptwist.errors import PortMapperSilent, PortMappingError, PortMappingRefused
from p2ptwist.interfaces import IPortMapper

_log = Logger()
_T = TypeVar("_T")

_DEADLINE = 3.0  # seconds for everything, from the start of the child to its answer
_REAPING = 0.1  # seconds that a process which was killed takes to end
_LEASE = 3600.0  # seconds that are asked for at most: a killed program leaves nothing for long
_CHECK_INTERVAL = 300.0  # seconds; a check takes 0.1 s of processor time
# Seconds for which it is of no use to ask again; a router that knows permanent leases only will not
# learn it.
_REFUSED, _LASTING = 30.0, 86400.0
_ONLY_PERMANENT = 725  # WANIPConnection:1
_MAX_OUTPUT = 4096  # bytes that a child may write; an answer has some 100
_MAX_CHILDREN = 8  # requests at once: each is some 20 MB for a moment
# What PCP and NAT-PMP call it when a router has no address of the Internet (RFC 6887 section 7.4).
NETWORK_FAILURE = "NETWORK_FAILURE"
_NONSENSE = "UPnP: the child process says nothing that makes sense"
# -P: modules come from where this program has them, not from the current directory.
_CHILD = ("-P", "-m", "p2ptwist.net.upnpchild")


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """
    What a router says of itself.

    @ivar router: its name; C{None} if it has none.
    @ivar external: the address of its WAN connection, which may be a private one.
    @ivar status: C{"Connected"}, or the standard's word for why not.
    @ivar uptime: seconds since then.
    """

    router: str | None
    external: str
    status: str
    uptime: int


class _Child(ProcessProtocol):
    """
    One child process.

    @ivar answered: fires with its answer; fails with a L{PortMappingError}.
    @ivar ended: fires when the process is no more.
    """

    def __init__(self, question: dict[str, Any], reactor: Any) -> None:
        self.answered: Deferred[dict[str, Any]] = Deferred(lambda _: self.kill())
        self.ended: Deferred[None] = Deferred()
        self._question = question
        self._output = b""
        self._complaints = b""
        self._reactor = reactor
        self._deadline: IDelayedCall = reactor.callLater(_DEADLINE, self._late)

    def connectionMade(self) -> None:
        """
        The process runs: ask.
        """
        transport: Any = self.transport
        transport.write(json.dumps(self._question).encode() + b"\n")
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """
        A piece of the answer.  Its end is the end of the child's, who needs nobody to tell it.
        """
        self._output += data
        if len(self._output) > _MAX_OUTPUT:
            self._giveUp(PortMappingError("UPnP: the child process says too much"))
        elif b"\n" in self._output:
            self._finish(_read(self._output.partition(b"\n")[0]))

    def errReceived(self, data: bytes) -> None:
        """
        A complaint, of which the end is kept.
        """
        self._complaints = (self._complaints + data)[-_MAX_OUTPUT:]

    def processEnded(self, reason: Failure) -> None:
        """
        The process is no more.
        """
        if self._deadline.active():
            self._deadline.cancel()
        if not self.answered.called:
            _log.debug(
                "a UPnP child process ended without an answer: {reason} {complaints}",
                reason=reason.getErrorMessage(),
                complaints=self._complaints.decode(errors="replace"),
            )
            self._finish(Failure(PortMappingError("UPnP: the child process failed")))
        self.ended.callback(None)

    def kill(self) -> None:
        """
        End the process, without a word.
        """
        transport: Any = self.transport
        if transport is not None:
            with suppress(ProcessExitedAlready):
                transport.signalProcess("KILL")

    def _late(self) -> None:
        self._giveUp(PortMapperSilent("UPnP: the router did not answer in time"))
        # Where a reactor has no signal handlers nobody else notices that a process has ended.
        self._deadline = self._reactor.callLater(_REAPING, reapAllProcesses)

    def _giveUp(self, error: PortMappingError) -> None:
        self.kill()
        self._finish(Failure(error))

    def _finish(self, result: dict[str, Any] | Failure) -> None:
        if not self.answered.called:
            self.answered.callback(result)


@implementer(IPortMapper)
class UPnPMapper:
    """
    Asks one default gateway for port mappings by UPnP.

    @ivar name: C{"upnp"}.
    @ivar gateway: its literal IPv4 address.
    @ivar restarted: called by L{check} when a mapping is gone before its time.  UPnP's own word for
        it are events, which need a listening port.
    """

    name = "upnp"

    def __init__(self, reactor: Any, gateway: str, port: int = SSDP_PORT) -> None:
        """
        @param reactor: one that provides C{IReactorProcess} and C{IReactorTime}.
        @param gateway: the literal address of the default gateway.
        @param port: the UDP port that it is searched on.
        """
        self.gateway = gateway
        self.restarted: Callable[[], object] | None = None
        self._reactor = reactor
        self._port = port
        self._children: set[_Child] = set()
        # What was granted, and when that ends; by transport and internal port.
        self._granted: dict[tuple[str, int], tuple[Grant, float]] = {}
        self._checked = 0.0  # when a check was last worth its while

    def request(self, wanted: MappingRequest) -> Deferred[Grant]:
        """
        Make a mapping, or renew it: for an hour at most, and never one without an end.

        @return: a Deferred that fires with the grant, or fails with a L{PortMappingError} after 3 s
            at most.  It can be cancelled.
        """
        lifetime = max(1, int(min(wanted.lifetime, _LEASE)))
        external = wanted.externalPort or wanted.internalPort
        mapping = _mapping(wanted, external)
        asked = self._ask("add", wanted.internalHost, mapping, lifetime=lifetime)
        return _convert(asked, lambda answer: self._grant(answer, wanted, lifetime))

    def release(self, grant: Grant) -> Deferred[None]:
        """
        Take a mapping back.  One that is gone, or somebody else's by now, is left alone.

        @return: a Deferred that fires when the router has answered; fails with a
            L{PortMappingError} after 3 s at most.  It can be cancelled.
        """
        wanted = grant.request
        self._granted.pop((wanted.transport, wanted.internalPort), None)
        mapping = _mapping(wanted, grant.external[1])
        return self._ask("delete", wanted.internalHost, mapping).addCallback(lambda _: None)

    def check(self) -> Deferred[None]:
        """
        See whether the router still has the last mapping that it granted; at most every five
        minutes, as that takes a child process.

        @return: a Deferred that fires when that is known, 3 s from now at the latest.
        """
        now = self._reactor.seconds()
        current = [grant for grant, expiry in self._granted.values() if now < expiry]
        if not current or now < self._checked + _CHECK_INTERVAL:
            return succeed(None)
        self._checked = now
        wanted = current[-1].request
        mapping = _mapping(wanted, current[-1].external[1])
        asked = self._ask("check", wanted.internalHost, mapping)
        return asked.addCallbacks(self._looked, lambda _: None)

    def status(self, internalHost: str) -> Deferred[RouterStatus]:
        """
        Ask the router what it is, and whether it is connected.

        @param internalHost: this host's address towards the router.
        @return: a Deferred that fires with the status; fails with a L{PortMappingError} after 3 s
            at most.  It can be cancelled.
        """
        return _convert(self._ask("status", internalHost, {}), _status)

    def stop(self) -> Deferred[None]:
        """
        Give up what is under way.

        @return: a Deferred that fires when every child process has ended.
        """
        children = list(self._children)
        for child in children:
            child.answered.cancel()
            child.kill()
        return DeferredList([child.ended for child in children]).addCallback(lambda _: None)

    def _ask(
        self, verb: str, source: str, mapping: dict[str, object], lifetime: int = 0
    ) -> Deferred[dict[str, Any]]:
        refusal = self._refusal(source)
        if refusal is not None:
            return fail(PortMappingError(f"UPnP: {refusal}"))
        question = {"verb": verb, "gateway": self.gateway, "source": source, "port": self._port}
        child = _Child({**question, **mapping, "lifetime": lifetime}, self._reactor)
        self._children.add(child)
        child.ended.addCallback(lambda _: self._children.discard(child))
        # The path of this program is the child's, wherever the package was imported from.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {**os.environ, "PYTHONPATH": path}
        command = [sys.executable, *_CHILD]
        try:
            self._reactor.spawnProcess(child, sys.executable, command, environment)
        except OSError as error:  # there is no memory, or no process, for it
            child.processEnded(Failure(error))
        return child.answered

    def _refusal(self, source: str) -> str | None:
        """
        @return: why there is nothing to ask; C{None} if there is.
        """
        if importlib.util.find_spec("miniupnpc") is None:
            return "miniupnpc is not installed"
        if isIPv6(canonicalHost(source)) or ":" in self.gateway:
            return "it maps IPv4 addresses only"
        if len(self._children) >= _MAX_CHILDREN:
            return "too many requests at once"
        return None

    def _grant(self, answer: dict[str, Any], wanted: MappingRequest, lifetime: int) -> Grant:
        """
        @raise ValueError: when it is not a mapping that may be used.
        """
        external = (canonicalHost(answer["external"]), int(answer["port"]))
        granted = min(float(answer["lifetime"]), lifetime)
        if not LOWEST_PORT <= external[1] <= 65535 or granted < 1:
            raise ValueError("no such mapping was asked for")
        grant = Grant(self.name, wanted, external, granted, self.gateway, answer["router"])
        self._checked = now = self._reactor.seconds()
        self._granted[wanted.transport, wanted.internalPort] = grant, now + granted
        return grant

    def _looked(self, answer: dict[str, Any]) -> None:
        if answer.get("gone") is True and self.restarted is not None:
            self.restarted()


def _mapping(wanted: MappingRequest, external: int) -> dict[str, object]:
    transport = wanted.transport.upper()
    return {"transport": transport, "internal": wanted.internalPort, "external": external}


def _status(answer: dict[str, Any]) -> RouterStatus:
    external = canonicalHost(answer["external"])
    return RouterStatus(answer["router"], external, answer["status"], answer["uptime"])


def _convert(
    asked: Deferred[dict[str, Any]], convert: Callable[[dict[str, Any]], _T]
) -> Deferred[_T]:
    """
    Make something of an answer: one that says the wrong things is the child's failure.
    """

    def attempt(answer: dict[str, Any]) -> _T:
        try:
            return convert(answer)
        except (KeyError, TypeError, ValueError):
            raise PortMappingError(_NONSENSE) from None

    return asked.addCallback(attempt)


def _read(line: bytes) -> dict[str, Any] | Failure:
    """
    @return: the answer that a child gave; a L{PortMappingError} when that is what it says.
    """
    try:
        answer: dict[str, Any] = json.loads(line)
        failure, why, code = (answer.get(name) for name in ("failure", "why", "code"))
    except (ValueError, AttributeError):
        return Failure(PortMappingError(_NONSENSE))
    if failure is None:
        return answer
    if failure == "refused":
        message = f"UPnP: the router refused with error {code}: {why}"
        lasting = _LASTING if code == _ONLY_PERMANENT else _REFUSED
        return Failure(PortMappingRefused(message, int(code or 0), str(why), lasting))
    if failure == "offline":
        return Failure(PortMappingRefused(f"UPnP: {why}", 0, NETWORK_FAILURE, _REFUSED))
    return Failure((PortMapperSilent if failure == "silent" else PortMappingError)(f"UPnP: {why}"))
