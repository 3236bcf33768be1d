"""
Tests for L{p2ptwist.net.gateways}.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2ptwist.net import gateways
from p2ptwist.net.gateways import (
    LinuxGateways,
    defaultGateways,
    netstatGateways,
    netstatProgram,
    parseIPv4Routes,
    parseIPv6Routes,
    parseNetstat,
)
from p2ptwist.testing import Internet

HEADING = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
# Two uplinks, a network of the host's own, a route that rejects, and one by an interface alone.
IPV4 = HEADING + (
    "wlan0\t00000000\t0109A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
    "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
    "*\t00000000\t0105A8C0\t0203\t0\t0\t0\t00000000\t0\t0\t0\n"
    "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n"
    "eth0\t0000000A\t0201A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n"
    "eth0\t00000000\tFFFFFFFFFF\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
)
ABSENT = "/nonexistent/netstat"
NOTHING = "0" * 32
IPV6 = (
    f"2a110007000000000000000000000000 40 {NOTHING} 00 {NOTHING} 00000100 1 0 00000001 eth0\n"
    f"{NOTHING} 00 {NOTHING} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth0\n"
    f"{NOTHING} 00 {NOTHING} 00 2a110007000000000000000000000001 00000100 1 0 00000003 eth0\n"
    f"{NOTHING} 00 {NOTHING} 00 {NOTHING} ffffffff 00000001 00000000 00200200       lo\n"
    f"{NOTHING} 00 {NOTHING} 00 {'f' * 40} ffffffff 00000001 00000000 00000003       lo\n"
    "nonsense\n"
)
NETSTAT = """Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.1.1        UGScg                 en0
default            link#20            UCSIg               utun4
127                127.0.0.1          UCS                   lo0

Internet6:
Destination                             Gateway                         Flags               Netif
default                                 fe80::1%en0                     UGcg                  en0
::1                                     ::1                             UHL                   lo0
"""


class LinuxTests(SynchronousTestCase):
    """
    The kernel's tables.
    """

    def test_ipv4(self) -> None:
        """
        The gateways of the default routes, by metric; the words are in the order of the machine.
        """
        if sys.byteorder == "little":
            self.assertEqual(parseIPv4Routes(IPV4), ["192.168.1.1", "192.168.9.1"])
        else:
            self.assertEqual(len(parseIPv4Routes(IPV4)), 2)

    def test_ipv6(self) -> None:
        """
        Those that are link-local have a scope.
        """
        self.assertEqual(parseIPv6Routes(IPV6), ["2a11:7::1", "fe80::1%eth0"])

    def test_files(self) -> None:
        """
        Both tables are read; one that is not there has none.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "route").write_text(IPV4)
        found = LinuxGateways(folder / "route", folder / "missing").defaultGateways()
        self.assertEqual(list(found), parseIPv4Routes(IPV4))
        self.assertEqual(list(LinuxGateways(folder / "no", folder / "no").defaultGateways()), [])

    def test_long(self) -> None:
        """
        A table of the Internet's core is not read to its end.
        """
        self.assertEqual(parseIPv4Routes(HEADING * 5000 + IPV4), [])


class ChoiceTests(SynchronousTestCase):
    """
    Who is asked.
    """

    def test_simulated(self) -> None:
        """
        A reactor that knows its routers is asked.
        """
        host = Internet(seed=1).router("home", "203.0.113.7").host("host")
        self.assertEqual(self.successResultOf(defaultGateways(host)), ["192.168.1.1"])

    def test_linux(self) -> None:
        """
        On Linux, the kernel is.
        """
        self.patch(sys, "platform", "linux")
        expected = LinuxGateways().defaultGateways()
        self.assertEqual(self.successResultOf(defaultGateways(Clock())), expected)

    def test_unknown(self) -> None:
        """
        Elsewhere none are known.
        """
        self.patch(sys, "platform", "win32")
        self.assertEqual(self.successResultOf(defaultGateways(Clock())), [])


class NetstatTests(TestCase):
    """
    The program of macOS and BSD, played by a script.
    """

    def script(self, text: str) -> str:
        """
        @return: the path of a program that runs that.
        """
        path: str = os.path.abspath(self.mktemp())
        Path(path).write_text(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)
        return path

    def ask(self, text: str) -> Deferred[Any]:
        """
        @return: what comes of a program that runs C{text}.
        """
        return netstatGateways(reactor, self.script(text))

    def test_parse(self) -> None:
        """
        The gateways of the default routes, but not of tunnels that have none.
        """
        self.assertEqual(parseNetstat(NETSTAT), ["192.168.1.1", "fe80::1%en0"])

    async def test_platform(self) -> None:
        """
        That is what is asked there.
        """
        program = self.script(f'test "$1" = -rn && cat <<END\n{NETSTAT}END')
        self.patch(sys, "platform", "darwin")
        self.patch(gateways, "NETSTAT", (ABSENT, program))
        self.assertEqual(netstatProgram(), program)
        self.assertEqual(await defaultGateways(reactor), ["192.168.1.1", "fe80::1%en0"])

    async def test_failing(self) -> None:
        """
        A program that fails, is not there, or prints without end tells none.
        """
        self.assertEqual(await self.ask(f"echo '{NETSTAT}'; exit 1"), [])
        self.assertEqual(await self.ask("exec yes default 10.0.0.1"), [])
        self.assertEqual(await netstatGateways(reactor, ABSENT), [])
        self.patch(gateways, "NETSTAT", (ABSENT,))
        self.assertEqual(netstatProgram(), ABSENT)

    async def test_slow(self) -> None:
        """
        One that says nothing has a deadline.
        """
        self.patch(gateways, "_CHILD_DEADLINE", 0.05)
        self.assertEqual(await self.ask("exec sleep 60"), [])

    def test_cancel(self) -> None:
        """
        Who does not want to know any more ends it.
        """
        fake = Fake()
        asked = netstatGateways(fake, "netstat")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(fake.done, ["lost", "KILL"])
        self.assertEqual(fake.getDelayedCalls(), [])
        assert fake.child is not None
        fake.child.processEnded(Failure(ProcessTerminated()))
        fake.pid = None
        cast(Any, fake.child).end()
        self.assertEqual(fake.done, ["lost", "KILL"])

    async def test_noProcesses(self) -> None:
        """
        A system that has no more processes tells none.
        """
        fake = Fake()
        fake.full = True
        self.assertEqual(await netstatGateways(fake, "netstat"), [])
        self.assertEqual(fake.getDelayedCalls(), [])


class Fake(Clock):
    """
    A reactor whose child never ends, and that child's transport.
    """

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.pid: int | None = 7
        self.child: ProcessProtocol | None = None
        self.done: list[str] = []

    def spawnProcess(self, child: ProcessProtocol, *arguments: object, **options: object) -> None:
        """
        Say that there is one.
        """
        if self.full:
            raise OSError("no more processes")
        self.child = child
        child.transport = cast(Any, self)

    def loseConnection(self) -> None:
        """
        Remember it.
        """
        self.done.append("lost")

    def signalProcess(self, signal: str) -> None:
        """
        Remember it.
        """
        self.done.append(signal)
