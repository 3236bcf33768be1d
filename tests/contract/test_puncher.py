"""
L{p2ptwist.net.puncher} on the real reactor and on simulated hosts.
"""

from __future__ import annotations

# Modules, not their classes: trial would run a class that it finds here as a test.
from tests.contract import punchcases, settings


class RealTests(settings.RealReactor, punchcases.PuncherCases):
    """
    On the real reactor.
    """


class HostTests(settings.SimulatedHost, punchcases.PuncherCases):
    """
    On one simulated host.
    """


class HostsTests(settings.SimulatedHosts, punchcases.PuncherCases):
    """
    Between two simulated hosts.
    """


class NATTests(settings.SimulatedNAT, punchcases.PuncherCases):
    """
    Through two NATs.
    """
