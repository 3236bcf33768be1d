"""
Twisted's own transports, on simulated sockets.

Nothing of what Twisted's UDP ports and TCP connections do is imitated: only the sockets below them
are.  So buffering, producers, half-close, TLS, errors and logging are the real ones.
"""

from __future__ import annotations

import socket
from typing import cast

from twisted.internet import udp

from p2ptwist.testing.stack import Stack
from p2ptwist.testing.udp import DatagramSocket


class UDPPort(udp.Port):
    """
    A UDP port of a simulated host.
    """

    #: the stack of the host; set before it starts to listen
    stack: Stack

    def createInternetSocket(self) -> socket.socket:
        """
        Make a simulated socket.
        """
        # It has all the methods of a socket that Twisted calls.
        return cast(socket.socket, DatagramSocket(self.stack, self.addressFamily))
