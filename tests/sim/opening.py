"""
Two programs on a simulated Internet that open TCP from both sides, with a channel of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from p2ptwist.core.stun.attributes import encodeXORAddress
from p2ptwist.core.stun.message import AttributeType, MessageClass, Method, decode, encode
from p2ptwist.net.tcpopen import TCPOpener, TCPOpening
from p2ptwist.net.tcppath import TCPPath
from p2ptwist.testing import NAT, Host, Internet, Link
from tests.sim.punching import Receiver

SERVER = ("192.0.2.1", 3478)
LATENCY = 0.02  # seconds, one way, of each site's link
SERVER_LATENCY = 0.005  # seconds, one way
SIGNAL_DELAY = 0.05  # seconds, one way: through the server


class STUNOverTCP(Protocol):
    """
    Answers Binding requests, and keeps connections open.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        request = decode(data)
        assert self.transport is not None
        peer: Any = self.transport.getPeer()
        value = encodeXORAddress((peer.host, peer.port), request.transactionID)
        attributes = [(AttributeType.XOR_MAPPED_ADDRESS, value)]
        transactionID = request.transactionID
        answer = encode(MessageClass.SUCCESS, Method.BINDING, transactionID, attributes)
        self.transport.write(answer)


class Side:
    """
    One program.

    @ivar host: where it runs.
    @ivar opener: what makes its attempts.
    @ivar openings: its attempts, oldest first.
    @ivar receiver: gets the datagrams of its path.
    @ivar results: how its attempts ended: paths and failures.
    @ivar lag: seconds later than they come that it takes signals.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        random = Random(host.name)
        self.opener = TCPOpener(host, [SERVER], randomBytes=random.randbytes)
        self.openings: list[TCPOpening] = []
        self.receiver = Receiver()
        self.results: list[TCPPath | Failure] = []
        self.lag = 0.0

    def call(self, other: Side) -> Deferred[TCPPath]:
        """
        @return: fires with this side's end of a path to C{other}.
        """
        opening = self.opener.call(self.channelTo(other))
        self._watch(opening)
        return opening.whenOpen()

    def channelTo(self, other: Side) -> Callable[[bytes], object]:
        """
        @return: what carries signals to C{other}.
        """

        def send(signal: bytes) -> None:
            self.host.callLater(SIGNAL_DELAY + other.lag, other.signalReceived, signal, self)

        return send

    def signalReceived(self, signal: bytes, sender: Side) -> None:
        """
        A signal has come.
        """
        for opening in self.openings:
            if opening.session == signal[2:10]:
                opening.signalReceived(signal)
                return
        if signal[1] == 1:
            self._watch(self.opener.answer(signal, self.channelTo(sender)))

    @property
    def path(self) -> TCPPath:
        """
        The path of its latest attempt.
        """
        result = self.results[-1]
        assert isinstance(result, TCPPath), result
        return result

    def _watch(self, opening: TCPOpening) -> None:
        self.openings.append(opening)
        opening.whenOpen().addBoth(self._done)

    def _done(self, result: TCPPath | Failure) -> None:
        self.results.append(result)
        if isinstance(result, TCPPath):
            result.receiver = self.receiver


class World:
    """
    The Internet, a STUN server, and two sides behind routers.

    @ivar internet: the simulated Internet.
    @ivar alice: who calls.
    @ivar bob: who answers.
    """

    def __init__(self, alice: NAT | None, bob: NAT | None, seed: int = 1, loss: float = 0) -> None:
        """
        @param alice: the router in front of her; C{None} for none.
        @param bob: the router in front of him.
        @param loss: of each site's link.
        """
        self.internet = Internet(seed=seed)
        self.server = self.internet.host("server", SERVER[0], link=Link(latency=SERVER_LATENCY))
        answering: Any = Factory.forProtocol(STUNOverTCP)
        self.server.listenTCP(SERVER[1], answering)
        self.alice = Side(self._host("alice", alice, "203.0.113.1", loss))
        self.bob = Side(self._host("bob", bob, "203.0.113.2", loss))

    def _host(self, name: str, nat: NAT | None, address: str, loss: float) -> Host:
        link = Link(latency=LATENCY, loss=loss)
        if nat is None:
            return self.internet.host(name, address, link=link)
        return self.internet.router(f"{name}'s router", address, nat=nat, link=link).host(name)

    def close(self) -> None:
        """
        Stop everything and say if anything was left behind.

        @raise AssertionError: when something was.
        """
        for side in (self.alice, self.bob):
            self.internet.runUntil(side.opener.close(), timeout=30.0)
        self.internet.advance(1.0)
        for side in (self.alice, self.bob):
            left = side.host.getDelayedCalls()
            assert not left, f"left behind on {side.host.name}: {left}"
            assert not len(side.opener), f"{side.host.name} has something left"
            assert not side.host.getReaders(), side.host.getReaders()
