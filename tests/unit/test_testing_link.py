"""
Simulated links: what they do to packets, and how it follows from the seed.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.errors import LocalUsageError
from p2ptwist.testing.clock import Clock
from p2ptwist.testing.link import Link, Wire
from p2ptwist.testing.packet import Packet, Protocol, Segment, TCPFlag
from p2ptwist.testing.trace import Trace


class WireTests(SynchronousTestCase):
    """
    L{Wire} with each option of L{Link}.
    """

    def wire(self, link: Link, seed: int = 1) -> Wire:
        """
        @return: a wire that notes what arrives above, with the time.
        """
        self.clock = Clock(self.fail)
        self.arrived: list[tuple[float, Packet]] = []
        self.trace = Trace(self.clock)
        return Wire(
            "wire",
            link,
            self.clock,
            Random(seed),
            self.trace,
            below=lambda packet: None,
            above=lambda packet: self.arrived.append((self.clock.seconds(), packet)),
        )

    def packet(self, number: int, payload: bytes = b"x") -> Packet:
        """
        @return: a packet with C{number}.
        """
        return Packet(number, Protocol.UDP, ("192.0.2.1", 1), ("192.0.2.2", 2), payload)

    def carry(self, wire: Wire, count: int, payload: bytes = b"x") -> list[int]:
        """
        @return: the numbers of C{count} packets that were sent at once, as they arrived.
        """
        for number in range(count):
            wire.sendUp(self.packet(number, payload))
        self.clock.runUntil(self.clock.seconds() + 100.0)
        return [packet.number for _, packet in self.arrived]

    def test_latency(self) -> None:
        """
        Every packet takes its time, both ways.
        """
        wire = self.wire(Link(latency=0.25))
        self.assertTrue(Link(latency=0.25).isPlain())
        wire.sendDown(self.packet(9))
        self.assertEqual(self.carry(wire, 3), [0, 1, 2])
        self.assertEqual({time for time, _ in self.arrived}, {0.25})
        self.assertEqual((wire.counters.packetsSent, wire.counters.packetsReceived), (3, 1))
        self.assertEqual(wire.counters.packets, 4)
        self.assertEqual(wire.counters.octetsReceived, 20 + 8 + 1)

    def test_jitter(self) -> None:
        """
        Jitter delays, and does not reorder.
        """
        wire = self.wire(Link(latency=0.1, jitter=0.05))
        self.assertEqual(self.carry(wire, 50), list(range(50)))
        times = [time for time, _ in self.arrived]
        self.assertTrue(all(0.1 <= time <= 0.15 for time in times))
        self.assertGreater(len(set(times)), 1)

    def test_loss(self) -> None:
        """
        A share of the packets is lost, the same ones with the same seed.
        """
        link = Link(loss=0.3)
        first = self.carry(self.wire(link, 7), 1000)
        self.assertTrue(600 < len(first) < 800)
        self.assertEqual(self.carry(self.wire(link, 7), 1000), first)
        self.assertNotEqual(self.carry(self.wire(link, 8), 1000), first)
        wire = self.wire(Link(loss=1.0))
        self.assertEqual(self.carry(wire, 5), [])
        self.assertEqual(wire.counters.dropped["lost"], 5)

    def test_duplication(self) -> None:
        """
        A share of the packets arrives twice, and not more often.
        """
        numbers = self.carry(self.wire(Link(duplication=0.2)), 1000)
        self.assertEqual(set(numbers), set(range(1000)))
        self.assertTrue(1100 < len(numbers) < 1300)
        self.assertLessEqual(max(numbers.count(n) for n in numbers[:50]), 2)

    def test_reordering(self) -> None:
        """
        A share of the packets is overtaken, and none is lost.
        """
        numbers = self.carry(self.wire(Link(reordering=0.1, reorderDelay=0.02)), 500)
        self.assertEqual(sorted(numbers), list(range(500)))
        self.assertNotEqual(numbers, list(range(500)))

    def test_corruption(self) -> None:
        """
        One bit of a UDP payload is flipped; TCP and empty payloads stay whole.
        """
        wire = self.wire(Link(corruption=1.0))
        self.carry(wire, 1, b"\0" * 100)
        payload = self.arrived[0][1].payload
        assert isinstance(payload, bytes)
        self.assertEqual(bin(int.from_bytes(payload, "big")).count("1"), 1)
        self.arrived.clear()
        wire.sendUp(self.packet(1, b""))
        segment = Segment(TCPFlag.ACK, 0, 0, 0, b"data")
        wire.sendUp(Packet(2, Protocol.TCP, ("192.0.2.1", 1), ("192.0.2.2", 2), segment))
        self.clock.runUntil(200.0)
        self.assertEqual([packet.payload for _, packet in self.arrived], [b"", segment])

    def test_bandwidth(self) -> None:
        """
        Packets wait for each other, and are lost when the queue is full.
        """
        wire = self.wire(Link(latency=0.0, bandwidth=1000.0, queue=400))
        numbers = self.carry(wire, 10, b"x" * 72)
        self.assertEqual(numbers, [0, 1, 2, 3, 4])
        for (time, _), expected in zip(self.arrived, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True):
            self.assertAlmostEqual(time, expected)
        self.assertEqual(wire.counters.dropped["the queue is full"], 5)

    def test_mtu(self) -> None:
        """
        Packets longer than the MTU are lost.
        """
        wire = self.wire(Link(mtu=1500))
        self.assertEqual(self.carry(wire, 1, b"x" * 1472), [0])
        self.assertEqual(self.carry(wire, 1, b"x" * 1473), [0])

    def test_cut(self) -> None:
        """
        A link that was cut loses all, what was under way included, until it is restored.
        """
        wire = self.wire(Link(latency=1.0))
        wire.sendUp(self.packet(1))
        wire.cut()
        self.assertFalse(wire.intact)
        wire.sendUp(self.packet(2))
        self.clock.runUntil(2.0)
        wire.restore()
        wire.sendUp(self.packet(3))
        self.clock.runUntil(4.0)
        self.assertEqual([packet.number for _, packet in self.arrived], [3])
        self.assertEqual(dict(wire.counters.dropped), {"the link is cut": 1, "the link was cut": 1})

    def test_changed(self) -> None:
        """
        A link may get better or worse at any time.
        """
        wire = self.wire(Link(latency=1.0))
        wire.config = Link(loss=1.0)
        self.assertEqual(wire.config.loss, 1.0)
        self.assertEqual(self.carry(wire, 1), [])
        wire.config = Link()
        self.assertEqual(self.carry(wire, 1), [0])

    def test_badConfigurations(self) -> None:
        """
        Probabilities, times and bandwidths that mean nothing are refused.
        """
        for link in (
            {"loss": 1.5},
            {"duplication": -0.1},
            {"latency": -1.0},
            {"jitter": -1.0},
            {"bandwidth": 0.0},
        ):
            with self.assertRaises(LocalUsageError):
                Link(**link)  # type: ignore[arg-type]
