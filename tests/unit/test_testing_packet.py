"""
Simulated packets, how they read, and what they look like to other tools.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.testing.clock import Clock
from p2ptwist.testing.counters import Counters
from p2ptwist.testing.packet import (
    ICMPError,
    Packet,
    Payload,
    Protocol,
    Segment,
    TCPFlag,
    resetAbout,
)
from p2ptwist.testing.pcap import capture, encode
from p2ptwist.testing.trace import Trace

HERE, THERE = ("192.0.2.1", 1000), ("198.51.100.2", 53)
HERE6, THERE6 = ("2001:db8::1", 1000), ("2001:db8::2", 53)
SEGMENT = Segment(TCPFlag.SYN | TCPFlag.ACK, 2**32 + 5, 7, 100_000, b"hello")


def udp(payload: bytes, sixth: bool = False) -> Packet:
    """
    @return: a UDP packet.
    """
    source, destination = (HERE6, THERE6) if sixth else (HERE, THERE)
    return Packet(1, Protocol.UDP, source, destination, payload)


def sumsUp(data: bytes) -> bool:
    """
    @return: whether an Internet checksum is right: all 16-bit words with it make 0xFFFF.
    """
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


class PacketTests(SynchronousTestCase):
    """
    L{Packet} and its text.
    """

    def test_sizes(self) -> None:
        """
        The size counts the headers of the version and the transport.
        """
        error = ICMPError(Protocol.UDP, HERE, THERE)
        self.assertEqual(udp(b"12345").size, 20 + 8 + 5)
        self.assertEqual(udp(b"12345", True).size, 40 + 8 + 5)
        self.assertEqual(Packet(1, Protocol.TCP, HERE, THERE, SEGMENT).size, 20 + 20 + 5)
        self.assertEqual(Packet(1, Protocol.ICMP, HERE, THERE, error).size, 20 + 8 + 28)

    def test_text(self) -> None:
        """
        A packet reads as what it is.
        """
        self.assertEqual(str(udp(b"x")), "#1 UDP 192.0.2.1:1000 > 198.51.100.2:53 1 B")
        self.assertIn("[SYN+ACK] seq", str(Packet(1, Protocol.TCP, HERE, THERE, SEGMENT)))
        error = Packet(1, Protocol.ICMP, HERE, THERE, ICMPError(Protocol.UDP, HERE6, THERE6))
        self.assertIn("port unreachable: UDP [2001:db8::1]:1000", repr(error))

    def test_forwarded(self) -> None:
        """
        Forwarding makes a new packet with the same number and a shorter life.
        """
        packet = udp(b"x")
        after = packet.forwarded(source=THERE, payload=b"y")
        self.assertEqual((after.number, after.source, after.destination), (1, THERE, THERE))
        self.assertEqual((after.payload, after.ttl, packet.ttl), (b"y", 63, 64))

    def test_errorsAboutErrors(self) -> None:
        """
        No error is sent about an error or a RST.
        """
        reset = Segment(TCPFlag.RST, 0, 0, 0)
        about: list[tuple[Payload, bool]] = [
            (b"x", False),
            (SEGMENT, False),
            (reset, True),
            (ICMPError(Protocol.UDP, HERE, THERE), True),
        ]
        for payload, expected in about:
            packet = Packet(1, Protocol.UDP, HERE, THERE, payload)
            self.assertIs(packet.isError(), expected)

    def test_resets(self) -> None:
        """
        A RST has the sequence number that the other side expects.
        """
        answer = resetAbout(Packet(1, Protocol.TCP, HERE, THERE, SEGMENT))
        self.assertEqual(answer, Segment(TCPFlag.RST, 7, 0, 0))
        opening = Segment(TCPFlag.SYN, 10, 0, 0)
        answer = resetAbout(Packet(1, Protocol.TCP, HERE, THERE, opening))
        self.assertEqual(answer, Segment(TCPFlag.RST | TCPFlag.ACK, 0, 11, 0))

    def test_counters(self) -> None:
        """
        Counters read well.
        """
        counters = Counters()
        counters.countSent(udp(b"x"))
        counters.countDropped("lost")
        self.assertEqual(
            repr(counters), "<Counters sent 1 (29 B), received 0 (0 B), dropped {'lost': 1}>"
        )


class TraceTests(SynchronousTestCase):
    """
    L{Trace}.
    """

    def test_bounded(self) -> None:
        """
        A trace keeps its last entries, and tells how many it has forgotten.
        """
        trace = Trace(Clock(self.fail), 3)
        for number in range(5):
            trace.note("here", "dropped", Packet(number, Protocol.UDP, HERE, THERE, b""), "why")
        self.assertEqual((len(trace), trace.forgotten), (3, 2))
        self.assertEqual([entry.packet.number for entry in trace], [2, 3, 4])
        lines = trace.text(last=2).splitlines()
        self.assertEqual(lines[0], "... 3 earlier entries left out")
        self.assertEqual(len(lines), 3)
        self.assertTrue(lines[1].endswith("0 B  (why)"))
        self.assertEqual(len(trace.text().splitlines()), 4)


class CaptureTests(SynchronousTestCase):
    """
    Capture files.
    """

    def test_file(self) -> None:
        """
        A file has a header, and each packet its time and length.
        """
        clock = Clock(self.fail)
        trace = Trace(clock)
        clock.runUntil(1.5)
        trace.note("here", "sent", udp(b"payload"))
        data = capture(trace)
        self.assertEqual(struct.unpack_from("<IHH", data), (0xA1B2C3D4, 2, 4))
        self.assertEqual(struct.unpack_from("<I", data, 20), (101,))
        self.assertEqual(struct.unpack_from("<IIII", data, 24), (1, 500_000, 35, 35))
        self.assertEqual(data[40:], encode(udp(b"payload")))

    def test_ipv4(self) -> None:
        """
        An IPv4 header has the right length, addresses and checksum.
        """
        data = encode(udp(b"abc"))
        self.assertEqual(struct.unpack_from("!BxHxxxxBB", data), (0x45, 31, 64, 17))
        self.assertTrue(sumsUp(data[:20]))
        self.assertEqual(data[12:20], bytes([192, 0, 2, 1, 198, 51, 100, 2]))

    def test_checksums(self) -> None:
        """
        The checksums of all transports are right over both versions.
        """
        for sixth in (False, True):
            here, there = (HERE6, THERE6) if sixth else (HERE, THERE)
            payloads: list[tuple[int, Payload]] = [
                (17, b"abc"),
                (6, SEGMENT),
                (58, ICMPError(Protocol.TCP, here, there)),
            ]
            for number, payload in payloads:
                packet = Packet(1, Protocol.UDP, here, there, payload)
                body = encode(packet)[40 if sixth else 20 :]
                hosts = ip_address(here[0]).packed + ip_address(there[0]).packed
                pseudo = hosts + struct.pack("!II", len(body), number)
                if isinstance(payload, ICMPError) and not sixth:
                    pseudo = b""
                self.assertTrue(sumsUp(pseudo + body), (sixth, number))

    def test_tcp(self) -> None:
        """
        Sequence numbers wrap and windows are cut to what the header holds.
        """
        data = encode(Packet(1, Protocol.TCP, HERE, THERE, SEGMENT))[20:]
        self.assertEqual(struct.unpack_from("!HHIIBBH", data), (1000, 53, 5, 7, 0x50, 0x12, 0xFFFF))
        self.assertEqual(data[20:], b"hello")

    def test_unreachable(self) -> None:
        """
        An ICMP error has the type and code of its version, and quotes the packet.
        """
        error = ICMPError(Protocol.UDP, HERE, THERE)
        data = encode(Packet(1, Protocol.ICMP, (THERE[0], 0), (HERE[0], 0), error))
        self.assertEqual((data[9], data[20], data[21]), (1, 3, 3))
        self.assertEqual(struct.unpack_from("!HH", data, 48), (1000, 53))
        error = ICMPError(Protocol.UDP, HERE6, THERE6)
        data = encode(Packet(1, Protocol.ICMP, (THERE6[0], 0), (HERE6[0], 0), error))
        self.assertEqual((data[6], data[40], data[41]), (58, 1, 4))
