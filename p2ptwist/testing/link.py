"""
Links: what is between a host or a router and the network that it is attached to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.clock import Clock
from p2ptwist.testing.counters import Counters
from p2ptwist.testing.packet import Packet, Protocol
from p2ptwist.testing.trace import Trace


@dataclass(frozen=True, slots=True)
class Link:
    """
    How a link treats packets; the same in both directions.

    @ivar latency: seconds that every packet takes, one way.
    @ivar jitter: seconds; a packet takes up to this much longer.  Packets do not overtake each
        other because of it.
    @ivar loss: probability that a packet is lost, 0..1.
    @ivar duplication: probability that a packet arrives twice, 0..1.
    @ivar reordering: probability that a packet is held back, so that later ones overtake it, 0..1.
    @ivar reorderDelay: seconds; a packet that is held back is held for up to this long.
    @ivar corruption: probability that one bit of a UDP payload is flipped, 0..1.  Stands for what
        the UDP checksum misses.
    @ivar bandwidth: octets a second, or C{None} for no limit.
    @ivar queue: octets that wait for their turn, at most; what comes then is lost.  Counts only
        with a C{bandwidth}.
    @ivar mtu: octets of the longest packet that passes, or C{None} for no limit.  Longer ones are
        lost without a word, as where ICMP is filtered.
    """

    latency: float = 0.010
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reorderDelay: float = 0.050
    corruption: float = 0.0
    bandwidth: float | None = None
    queue: int = 262_144
    mtu: int | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "duplication", "reordering", "corruption"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise LocalUsageError(f"{name} of a link is a probability, 0..1")
        if min(self.latency, self.jitter, self.reorderDelay) < 0.0:
            raise LocalUsageError("a link cannot deliver packets before they are sent")
        if self.bandwidth is not None and self.bandwidth <= 0.0:
            raise LocalUsageError("a link's bandwidth is more than 0, or None for no limit")

    def isPlain(self) -> bool:
        """
        @return: whether all that this link does to packets is to take its time.
        """
        return (
            not (self.jitter or self.loss or self.duplication or self.reordering)
            and not self.corruption
            and self.bandwidth is None
            and self.mtu is None
        )


class Wire:
    """
    A L{Link} at work: carries packets both ways between what is attached (below) and a network
    (above).

    @ivar name: how it is called in a trace.
    @ivar counters: what it carried, both ways.
    """

    def __init__(
        self,
        name: str,
        link: Link,
        clock: Clock,
        random: Random,
        trace: Trace,
        below: Callable[[Packet], None],
        above: Callable[[Packet], None],
    ) -> None:
        """
        @param name: how it is called in a trace.
        @param link: how it treats packets.
        @param clock: the clock of the Internet.
        @param random: decides the fate of packets; nobody else draws from it.
        @param trace: told of what is lost.
        @param below: takes packets that come down from the network.
        @param above: takes packets that go up to the network.
        """
        self.name = name
        self.counters = Counters()
        self._clock = clock
        self._random = random
        self._trace = trace
        self._intact = True
        self._up = _Direction(above)
        self._down = _Direction(below)
        self.config = link

    @property
    def config(self) -> Link:
        """
        How this wire treats packets.  May be changed at any time; packets that are under way
        arrive as they would have.
        """
        return self._link

    @config.setter
    def config(self, link: Link) -> None:
        self._link = link
        self._plain = link.isPlain()

    @property
    def intact(self) -> bool:
        """
        Whether packets pass: not so between L{cut} and L{restore}.
        """
        return self._intact

    def cut(self) -> None:
        """
        Lose every packet from now on, those under way included, without telling anybody.
        """
        self._intact = False

    def restore(self) -> None:
        """
        Carry packets again.
        """
        self._intact = True

    def sendUp(self, packet: Packet) -> None:
        """
        Carry C{packet} to the network.
        """
        self._send(packet, self._up)

    def sendDown(self, packet: Packet) -> None:
        """
        Carry C{packet} from the network.
        """
        self._send(packet, self._down)

    def _send(self, packet: Packet, direction: _Direction) -> None:
        if not self._intact:
            self._lose(packet, "the link is cut")
        elif self._plain:
            clock = self._clock
            clock.callAt(clock.now + self._link.latency, self._arrive, packet, direction)
        else:
            self._sendAtRisk(packet, direction)

    def _sendAtRisk(self, packet: Packet, direction: _Direction) -> None:
        link, random = self._link, self._random
        if link.mtu is not None and packet.size > link.mtu:
            self._lose(packet, f"longer than the MTU of {link.mtu}")
            return
        queued = self._queueingDelay(packet, direction)
        if queued is None:
            self._lose(packet, "the queue is full")
            return
        if random.random() < link.loss:
            self._lose(packet, "lost")
            return
        if link.corruption and random.random() < link.corruption:
            packet = self._corrupt(packet)
        self._schedule(packet, direction, queued)
        if link.duplication and random.random() < link.duplication:
            self._trace.note(self.name, "duplicated", packet)
            self._schedule(packet, direction, queued)

    def _queueingDelay(self, packet: Packet, direction: _Direction) -> float | None:
        """
        @return: seconds until the last bit of C{packet} has left, or C{None} for a full queue.
        """
        bandwidth = self._link.bandwidth
        if bandwidth is None:
            return 0.0
        now = self._clock.now
        start = max(now, direction.busyUntil)
        if (start - now) * bandwidth > self._link.queue:
            return None
        direction.busyUntil = start + packet.size / bandwidth
        return direction.busyUntil - now

    def _schedule(self, packet: Packet, direction: _Direction, queued: float) -> None:
        link, random = self._link, self._random
        arrival = self._clock.now + queued + link.latency
        if link.reordering and random.random() < link.reordering:
            arrival += random.random() * link.reorderDelay
        else:
            if link.jitter:
                arrival += random.random() * link.jitter
            # Packets of one queue stay in order, whatever their jitter.
            direction.lastArrival = arrival = max(arrival, direction.lastArrival)
        self._clock.callAt(arrival, self._arrive, packet, direction)

    def _corrupt(self, packet: Packet) -> Packet:
        payload = packet.payload
        if packet.protocol is not Protocol.UDP or not isinstance(payload, bytes) or not payload:
            return packet
        octets = bytearray(payload)
        octets[self._random.randrange(len(octets))] ^= 1 << self._random.randrange(8)
        self._trace.note(self.name, "corrupted", packet)
        return packet.forwarded(payload=bytes(octets), hops=0)

    def _arrive(self, packet: Packet, direction: _Direction) -> None:
        if not self._intact:
            self._lose(packet, "the link was cut")
            return
        if direction is self._up:
            self.counters.countSent(packet)
        else:
            self.counters.countReceived(packet)
        direction.receive(packet)

    def _lose(self, packet: Packet, reason: str) -> None:
        self.counters.countDropped(reason)
        self._trace.note(self.name, "dropped", packet, reason)


class _Direction:
    """
    One direction of a L{Wire}.

    @ivar receive: takes what arrives.
    @ivar busyUntil: when the last queued packet has left.
    @ivar lastArrival: when the latest packet arrives that keeps its order.
    """

    __slots__ = ("busyUntil", "lastArrival", "receive")

    def __init__(self, receive: Callable[[Packet], None]) -> None:
        self.receive = receive
        self.busyUntil = 0.0
        self.lastArrival = 0.0
