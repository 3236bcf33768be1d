"""
L{p2ptwist.net.datagramport} on the real reactor and on simulated hosts.
"""

from __future__ import annotations

from p2ptwist.net.datagramport import MAX_THROUGHPUT

# Modules, not their classes: trial would run a class that it finds here as a test.
from tests.contract import portcases, settings


class RealTests(settings.RealReactor, portcases.DatagramPortCases):
    """
    On the real reactor.
    """

    async def test_turns(self) -> None:
        """
        A burst of datagrams leaves room for timers.
        """
        port = self.port(self.server, self.serverAddress)
        self.assertEqual(getattr(port._listening, "maxThroughput", None), MAX_THROUGHPUT)


class RealIPv6Tests(settings.RealReactor, portcases.DatagramPortIPv6Cases):
    """
    IPv6 on the real reactor.
    """


class HostTests(settings.SimulatedHost, portcases.DatagramPortCases):
    """
    On one simulated host.
    """


class HostIPv6Tests(settings.SimulatedHost, portcases.DatagramPortIPv6Cases):
    """
    IPv6 on one simulated host.
    """


class HostsTests(settings.SimulatedHosts, portcases.DatagramPortCases):
    """
    Between two simulated hosts.
    """


class NATTests(settings.SimulatedNAT, portcases.DatagramPortCases):
    """
    Through two NATs.
    """
