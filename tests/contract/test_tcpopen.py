"""
L{p2ptwist.net.tcpopen} on the real reactor and on simulated hosts.
"""

from __future__ import annotations

# Modules, not their classes: trial would run a class that it finds here as a test.
from tests.contract import settings, tcpopencases


class RealTests(settings.RealReactor, tcpopencases.TCPOpenCases):
    """
    On the real reactor.
    """


class HostTests(settings.SimulatedHost, tcpopencases.TCPOpenCases):
    """
    On one simulated host.
    """


class HostsTests(settings.SimulatedHosts, tcpopencases.TCPOpenCases):
    """
    Between two simulated hosts.
    """


class NATTests(settings.SimulatedNAT, tcpopencases.TCPOpenCases):
    """
    Through two NATs.
    """
