"""
Ports that TCP sockets share, on the real reactor and on simulated hosts.
"""

from __future__ import annotations

# Modules, not their classes: trial would run a class that it finds here as a test.
from tests.contract import bindingcases, settings


class RealSharingTests(settings.RealReactor, bindingcases.SharingCases):
    """
    Sockets of the operating system.
    """


class HostSharingTests(settings.SimulatedHost, bindingcases.SharingCases):
    """
    Simulated sockets.
    """


class RealBindingTests(settings.RealReactor, bindingcases.BindingCases):
    """
    Twisted's bindings on the real reactor.
    """


class HostBindingTests(settings.SimulatedHost, bindingcases.BindingCases):
    """
    Twisted's bindings on one simulated host.
    """


class NetworkBindingTests(settings.SimulatedHosts, bindingcases.BindingCases):
    """
    Twisted's bindings between two simulated hosts.
    """


class NATBindingTests(settings.SimulatedNAT, bindingcases.BindingCases):
    """
    Twisted's bindings through two simulated NATs.
    """
