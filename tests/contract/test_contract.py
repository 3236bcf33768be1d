"""
The same cases on the real reactor and on simulated hosts: what keeps the simulation honest.
"""

from __future__ import annotations

# Modules, not their classes: trial would run a class that it finds here as a test.
from tests.contract import (
    ipv6cases,
    namecases,
    settings,
    socketcases,
    tcpcases,
    timecases,
    udpcases,
)


class RealUDPTests(settings.RealReactor, udpcases.UDPCases):
    """
    UDP on the real reactor.
    """


class RealIPv6Tests(settings.RealReactor, ipv6cases.IPv6Cases):
    """
    IPv6 on the real reactor.
    """


class RealTCPTests(settings.RealReactor, tcpcases.TCPCases):
    """
    TCP on the real reactor.
    """


class RealPortTests(settings.RealReactor, tcpcases.PortCases):
    """
    TCP ports on the real reactor.
    """


class RealTimeTests(settings.RealReactor, timecases.TimeCases):
    """
    Time on the real reactor.
    """


class RealNameTests(settings.RealReactor, namecases.NameCases):
    """
    Names on the real reactor.
    """


class RealSocketTests(settings.RealReactor, socketcases.SocketCases):
    """
    Sockets of the operating system.
    """


class HostSocketTests(settings.SimulatedHost, socketcases.SocketCases):
    """
    Simulated sockets.
    """


class HostUDPTests(settings.SimulatedHost, udpcases.UDPCases):
    """
    UDP on one simulated host.
    """


class HostIPv6Tests(settings.SimulatedHost, ipv6cases.IPv6Cases):
    """
    IPv6 on one simulated host.
    """


class HostTCPTests(settings.SimulatedHost, tcpcases.TCPCases):
    """
    TCP on one simulated host.
    """


class HostPortTests(settings.SimulatedHost, tcpcases.PortCases):
    """
    TCP ports on one simulated host.
    """


class HostTimeTests(settings.SimulatedHost, timecases.TimeCases):
    """
    Time on one simulated host.
    """


class HostNameTests(settings.SimulatedHost, namecases.NameCases):
    """
    Names on one simulated host.
    """


class NetworkUDPTests(settings.SimulatedHosts, udpcases.UDPCases):
    """
    UDP between two simulated hosts.
    """


class NetworkTCPTests(settings.SimulatedHosts, tcpcases.TCPCases):
    """
    TCP between two simulated hosts.
    """


class NetworkPortTests(settings.SimulatedHosts, tcpcases.PortCases):
    """
    TCP ports between two simulated hosts.
    """


class NetworkNameTests(settings.SimulatedHosts, namecases.NameCases):
    """
    Names between two simulated hosts.
    """


class NATUDPTests(settings.SimulatedNAT, udpcases.UDPCases):
    """
    UDP through two simulated NATs.
    """


class NATTCPTests(settings.SimulatedNAT, tcpcases.TCPCases):
    """
    TCP through two simulated NATs.
    """


class NATPortTests(settings.SimulatedNAT, tcpcases.PortCases):
    """
    TCP ports through two simulated NATs.
    """
