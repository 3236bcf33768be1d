"""
Keep a path open, and notice when it dies, with an application's own datagrams.

C{python examples/consent.py} runs on a simulated Internet, in virtual time: one program is behind a
NAT that forgets after 20 s, another in public.  They idle for ten minutes, talk, and are cut off.

L{Keeper} is all that an application needs.  It asks with datagrams of its own, which fits where the
channel is authenticated anyway; otherwise use L{p2ptwist.net.puncher.Puncher}, which has all this
built in, with authenticated checks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from random import Random
from typing import Any, TextIO

from twisted.internet.protocol import DatagramProtocol

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.consent import Consent
from p2ptwist.testing import NAT, Internet, Link

ASK, YES = b"?", b"!"


class Keeper(DatagramProtocol):
    """
    One end of a path.

    @ivar dead: called with the seconds of silence when the path is dead.
    """

    noisy = False
    transport: Any

    def __init__(self, reactor: Any, other: HostPort | None, first: bool) -> None:
        """
        @param other: the other end; C{None} for whoever speaks first.
        @param first: whether this end does the keepalive of an idle path.
        """
        self.reactor, self.other = reactor, other
        self.consent = Consent(Random(1), first, reactor.seconds())
        self.askedAt = 0.0
        self.received: list[bytes] = []
        self.dead: Callable[[float], object] = lambda seconds: None
        self.timer = reactor.callLater(0, self.tick)

    def write(self, data: bytes) -> bool:
        """
        Send application data.

        @return: whether there was consent; without, a check is sent, and it may be tried again.
        """
        mayPass = self.consent.mayPass(self.reactor.seconds())
        if mayPass:
            self.transport.write(data, self.other)
        self.tick()
        return mayPass

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        A question, an answer, or data.
        """
        now = self.reactor.seconds()
        self.other = self.other or addr
        if addr != self.other:
            return
        if datagram == ASK:
            self.transport.write(YES, addr)
            self.consent.answered(now)
        elif datagram == YES:
            self.consent.granted(now, now - self.askedAt)
        else:
            self.consent.heard(now)
            self.received.append(datagram)
        self.tick()

    def tick(self) -> None:
        """
        Do what is due, and come back when more is.
        """
        now = self.reactor.seconds()
        silence = self.consent.silentFor(now)
        if self.timer.active():
            self.timer.cancel()
        if silence is not None:
            self.dead(silence)
            return
        if self.other is not None and self.consent.due(now):
            self.consent.checkSent(now)
            self.askedAt = now
            self.transport.write(ASK, self.other)
        self.timer = self.reactor.callLater(max(0.001, self.consent.deadline() - now), self.tick)


def demonstrate(output: TextIO) -> None:
    """
    Idle, talk, and be cut off.
    """
    internet = Internet(seed=1)
    home = internet.router("home", "203.0.113.7", nat=NAT(udpTimeout=20.0), link=Link(latency=0.02))
    inside, outside = home.host("inside"), internet.host("outside", "192.0.2.1")
    answering = Keeper(outside, None, first=False)
    outside.listenUDP(4000, answering)
    asking = Keeper(inside, ("192.0.2.1", 4000), first=True)
    inside.listenUDP(0, asking)

    def say(text: str) -> None:
        print(f"{internet.seconds():8.3f} s  {text}", file=output)

    asking.dead = lambda seconds: say(f"inside: dead, nothing came for {seconds:.3f} s")
    answering.dead = lambda seconds: say(f"outside: dead, nothing came for {seconds:.3f} s")
    asking.transport.write(b"hello", asking.other)
    internet.advance(600.0)
    say(f"idle until now; inside sent {inside.counters.packetsSent} packets")
    say(f"outside may send at once: {answering.write(b'first try')}")
    internet.advance(0.1)
    say(f"and a round trip later: {answering.write(b'second try')}")
    internet.advance(0.1)
    say(f"inside received {asking.received}")
    internet.routers["home"].link.cut()
    say("the line is cut")
    internet.advance(30.0)


def main(arguments: list[str]) -> None:
    """
    The program.
    """
    description = "Keep a path open, and notice when it dies, on a simulated Internet."
    argparse.ArgumentParser(description=description).parse_args(arguments)
    demonstrate(sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
