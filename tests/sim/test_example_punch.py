"""
C{examples/punch.py} on the simulated Internet: the same program, behind two NATs.
"""

from __future__ import annotations

import io
import re
import runpy
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.net.stunserver import STUNService
from p2ptwist.testing import NAT, Host, Internet, Link

PROGRAM = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "punch.py"))


class PunchExampleTests(SynchronousTestCase):
    """
    Two programs in two homes, which signal through a host in public.
    """

    def setUp(self) -> None:
        """
        Make the homes, and a STUN server.
        """
        self.internet = Internet(seed=31)
        self.internet.showOnFailure(self)
        node = self.internet.host("node", "192.0.2.1")
        self.internet.name("stun.example", "192.0.2.1")
        self.stun = STUNService(node, ("192.0.2.1", 3478))
        self.stun.startService()
        self.output = io.StringIO()

    def home(self, number: int) -> Host:
        """
        @return: a host behind a NAT that lets TCP connections in, for the signaling.
        """
        link = Link(latency=0.02)
        external = f"203.0.113.{number}"
        router = self.internet.router(f"home{number}", external, nat=NAT(), link=link)
        return router.host(f"host{number}")

    def start(self, host: Host, *arguments: str) -> Deferred[None]:
        """
        Run the program.
        """
        options = PROGRAM["parseOptions"](list(arguments))
        options.output = self.output
        run: Any = PROGRAM["run"]
        return Deferred.fromCoroutine(run(host, options))

    def test_behindNAT(self) -> None:
        """
        A program behind a NAT meets one in public that is behind another for UDP: each learns its
        address from the STUN server, and the path is direct.
        """
        listener = self.internet.host("listener", "198.51.100.1")
        stun = ("--stun", "stun.example:3478")
        listening = self.start(listener, "--listen", "tcp:9000", *stun)
        calling = self.start(self.home(1), "--connect", "tcp:198.51.100.1:9000", *stun)
        self.internet.runUntil(listening)
        self.internet.runUntil(calling)
        said = self.output.getvalue()
        self.assertRegex(said, r"listener: 'hello from caller', directly from 203\.0\.113\.1:\d+")
        self.assertRegex(said, r"caller: 'hello from listener', directly from 198\.51\.100\.1:\d+")
        self.internet.runUntil(self.stun.stopService())
        self.assertEqual(self.internet.delayedCalls(), [])

    def test_bothBehindNAT(self) -> None:
        """
        Two programs behind NATs meet, when their signaling goes through a third host.
        """
        hosts = [self.home(1), self.home(2)]
        exchange = self.internet.host("exchange", "198.51.100.7")
        ends = _relayed(self.internet, exchange, hosts)
        meetings = []
        for host, signaling, offers in zip(hosts, ends, (True, False), strict=True):
            options = PROGRAM["parseOptions"](["--stun", "192.0.2.1:3478"])
            options.output = self.output
            meet: Any = PROGRAM["meet"]
            meeting = meet(host, signaling, options, host.name, offers=offers)
            meetings.append(Deferred.fromCoroutine(meeting))
        for each in meetings:
            self.internet.runUntil(each)
        found = re.findall(r"(\w+): 'hello from (\w+)'.* (203\.\S+):", self.output.getvalue())
        expected = [("host1", "host2", "203.0.113.2"), ("host2", "host1", "203.0.113.1")]
        self.assertEqual(sorted(found), expected)

    def test_silentServer(self) -> None:
        """
        A STUN server that does not answer ends the program with one line, and nothing is left.
        """
        listener = self.internet.host("listener", "198.51.100.1")
        stun = ("--stun", "192.0.2.99:3478")
        listening = self.start(listener, "--listen", "tcp:9000", *stun)
        calling = self.start(self.home(1), "--connect", "tcp:198.51.100.1:9000", *stun)
        for ending in (listening, calling):
            ended = self.assertRaises(SystemExit, self.internet.runUntil, ending)
            self.assertIn("no answer from the STUN server 192.0.2.99:3478", str(ended.code))


def _relayed(internet: Internet, exchange: Host, hosts: list[Host]) -> list[Any]:
    """
    Connect both hosts to C{exchange}, which passes on what each says.

    @return: the signaling protocol of each.
    """

    class Relay(Protocol):
        def connectionMade(self) -> None:
            joined.append(self)

        def dataReceived(self, data: bytes) -> None:
            for other in joined:
                if other is not self and other.transport is not None:
                    other.transport.write(data)

    joined: list[Relay] = []
    listening = TCP4ServerEndpoint(exchange, 9000).listen(Factory.forProtocol(Relay))
    internet.runUntil(listening)
    ends = []
    for host in hosts:
        endpoint: Any = TCP4ClientEndpoint(host, exchange.address, 9000)
        ends.append(internet.runUntil(connectProtocol(endpoint, PROGRAM["Signaling"]())))
    internet.advance(1.0)
    return ends
