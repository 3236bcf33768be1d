"""
The default routers of this host: the only machines that are asked for port mappings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.interfaces import IDefaultGateways
from p2ptwist.net.alarm import Alarm

IPV4_ROUTES = Path("/proc/net/route")
IPV6_ROUTES = Path("/proc/net/ipv6_route")
# Flags of a route, both families; linux/route.h.
_UP = 0x0001
_GATEWAY = 0x0002
_REJECT = 0x0200

# Lines of a table that are looked at: a router of the Internet's core has more, and no need of
# this.
_LARGEST_TABLE = 4096
_CHILD_DEADLINE = 2.0  # seconds; the program prints a table of the kernel's
_CHILD_OUTPUT = 256 * 1024  # bytes; some thousand routes
NETSTAT = ("/usr/sbin/netstat", "/usr/bin/netstat", "/bin/netstat")

_log = Logger()


def defaultGateways(reactor: Any) -> Deferred[Sequence[str]]:
    """
    @param reactor: a reactor; one that knows its own host's routers is asked, and otherwise the
        operating system: the kernel's tables on Linux, C{netstat} on macOS and BSD.  On others
        none are known.
    @return: a Deferred that fires with literal addresses, the best first, IPv4 and IPv6;
        link-local ones with their scope.  It never fails, takes two seconds at most, and can be
        cancelled.
    """
    if IDefaultGateways.providedBy(reactor):
        return succeed(IDefaultGateways(reactor).defaultGateways())
    if sys.platform.startswith("linux"):
        return succeed(LinuxGateways().defaultGateways())
    if sys.platform == "darwin" or "bsd" in sys.platform:
        return netstatGateways(reactor, netstatProgram())
    _log.info("the default routers are not known on {platform}", platform=sys.platform)
    return succeed([])


@implementer(IDefaultGateways)
class LinuxGateways:
    """
    The routing tables of a Linux kernel.
    """

    def __init__(self, ipv4: Path = IPV4_ROUTES, ipv6: Path = IPV6_ROUTES) -> None:
        """
        @param ipv4: a file such as C{/proc/net/route}.
        @param ipv6: a file such as C{/proc/net/ipv6_route}.
        """
        self._ipv4 = ipv4
        self._ipv6 = ipv6

    def defaultGateways(self) -> Sequence[str]:
        """
        @return: the gateways of the default routes, those of the lowest metric first; none of a
            table that cannot be read.
        """
        return [*parseIPv4Routes(_read(self._ipv4)), *parseIPv6Routes(_read(self._ipv6))]


def parseIPv4Routes(table: str) -> list[str]:
    """
    @param table: the text of C{/proc/net/route}.
    @return: the gateways of its default routes, the best first.
    """
    found = []
    for words in _rows(table, 8):
        try:
            destination, gateway, flags, mask = (int(words[i], 16) for i in (1, 2, 3, 7))
            metric = int(words[6])
        except ValueError:
            continue  # the heading
        if destination == mask == 0 and _leadsOn(flags) and gateway < 2**32:
            # The kernel prints the word as it lies in memory.
            address = IPv4Address(gateway.to_bytes(4, sys.byteorder))
            found.append((metric, str(address)))
    return _best(found)


def parseIPv6Routes(table: str) -> list[str]:
    """
    @param table: the text of C{/proc/net/ipv6_route}.
    @return: the gateways of its default routes, the best first, link-local ones with their scope.
    """
    found = []
    for words in _rows(table, 10):
        try:
            destination, length, gateway = (int(words[i], 16) for i in (0, 1, 4))
            metric, flags = int(words[5], 16), int(words[8], 16)
            address = IPv6Address(gateway)
        except ValueError:
            continue
        if destination == length == 0 and _leadsOn(flags) and gateway:
            scope = f"%{words[9]}" if address.is_link_local else ""
            found.append((metric, f"{address}{scope}"))
    return _best(found)


def parseNetstat(output: str) -> list[str]:
    """
    @param output: what C{netstat -rn} prints on macOS and BSD.
    @return: the gateways of the default routes, in its order.
    """
    found = []
    for words in _rows(output, 2):
        if words[0] not in ("default", "0.0.0.0/0", "::/0"):
            continue
        try:
            address = ip_address(words[1])
        except ValueError:
            continue  # an interface, as of a tunnel
        found.append(str(address))
    return list(dict.fromkeys(found))


def netstatProgram() -> str:
    """
    @return: where it is, as far as is known.
    """
    return next((path for path in NETSTAT if Path(path).exists()), NETSTAT[0])


def netstatGateways(reactor: Any, program: str) -> Deferred[Sequence[str]]:
    """
    Ask C{netstat -rn}, in a child process.

    @param reactor: one that spawns processes.
    @param program: the path of it.
    @return: as L{defaultGateways}; nothing of a child that fails, prints too much or takes too
        long.
    """
    child = _Child(reactor)
    try:
        reactor.spawnProcess(child, program, [program, "-rn"], env={"LC_ALL": "C"})
    except OSError:  # there is no process, or no memory, for it
        child.processEnded(Failure())
    return child.result.addCallback(parseNetstat)


class _Child(ProcessProtocol):
    """
    A child whose output is wanted.

    @ivar result: fires with it when the child has ended; with nothing when it failed.
    """

    def __init__(self, reactor: Any) -> None:
        self.result: Deferred[str] = Deferred(lambda _: self.end())
        self._output = bytearray()
        self._timer = Alarm(reactor)
        self._timer.set(_CHILD_DEADLINE, self.end)

    def outReceived(self, data: bytes) -> None:
        """
        Some output.
        """
        self._output += data
        if len(self._output) > _CHILD_OUTPUT:
            self.end()

    def processEnded(self, reason: Failure) -> None:
        """
        The child is gone.
        """
        self._timer.clear()
        if not reason.check(ProcessDone):
            _log.info("the default routers are not known: {why}", why=reason.getErrorMessage())
            self._output.clear()
        if not self.result.called:
            self.result.callback(self._output.decode("ascii", "replace"))

    def end(self) -> None:
        """
        End the child, which takes too long or prints too much.
        """
        self._timer.clear()
        transport: Any = self.transport
        if transport is not None and transport.pid is not None:
            transport.loseConnection()
            transport.signalProcess("KILL")


def _rows(table: str, columns: int) -> Iterator[list[str]]:
    """
    @return: the words of each line that has at least so many.
    """
    for line in table.splitlines()[:_LARGEST_TABLE]:
        words = line.split()
        if len(words) >= columns:
            yield words


def _leadsOn(flags: int) -> bool:
    return flags & (_UP | _GATEWAY | _REJECT) == _UP | _GATEWAY


def _best(found: list[tuple[int, str]]) -> list[str]:
    """
    @param found: metrics and addresses.
    @return: each address once.
    """
    return list(dict.fromkeys(address for _, address in sorted(found, key=lambda each: each[0])))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""  # no such family, or not allowed
