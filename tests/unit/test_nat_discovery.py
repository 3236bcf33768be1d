"""
Tests for L{p2ptwist.core.discovery}, against the answers of a real L{Responder}.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.discovery import (
    TIME_LIMIT,
    Discovered,
    DiscoveryEvent,
    NATDiscovery,
    ReflexiveFound,
    Unanswered,
)
from p2ptwist.core.machine import Transmit
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior, NATFiltering, NATMapping
from p2ptwist.core.stun.attributes import encodeAddress, encodeXORAddress
from p2ptwist.core.stun.binding import CHANGE_PORT
from p2ptwist.core.stun.message import AttributeType, MessageClass, encode
from p2ptwist.core.stun.server import Reply, Responder, ServerAddresses
from p2ptwist.core.stun.transaction import Answered, TimedOut

A1P1 = ("192.0.2.1", 3478)
A1P2 = ("192.0.2.1", 3479)
A2P1 = ("192.0.2.2", 3478)
A2P2 = ("192.0.2.2", 3479)
SEEN = ("203.0.113.7", 40000)

OPEN = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, NATFiltering.ENDPOINT_INDEPENDENT)


class Harness:
    """
    A discovery, a server, and whatever is between them.

    @ivar passes: whether an answer from that address comes through.
    @ivar mapped: the address that the server sees at that one of its addresses.
    @ivar asked: when which of the server's addresses was asked.
    """

    def __init__(self, alternate: HostPort | None = A2P2, **options: float) -> None:
        self.responder = Responder(ServerAddresses(A1P1, alternate))
        self.now = 100.0
        self.machine = NATDiscovery(A1P1, self.now, Random(1).randbytes, **options)
        self.passes: Callable[[HostPort], bool] = lambda origin: True
        self.mapped: Callable[[HostPort], HostPort] = lambda server: SEEN
        self.change: Callable[[Reply], Reply | None] = lambda reply: reply
        self.asked: list[tuple[float, HostPort]] = []
        self.events: list[DiscoveryEvent] = []

    def exchange(self) -> None:
        """
        Deliver everything that is to be sent, and its answers, without time passing.
        """
        while (transmit := self.machine.pollTransmit()) is not None:
            self.asked.append((round(self.now - 100.0, 6), transmit.address))
            self.answer(transmit)
        while (event := self.machine.pollEvent()) is not None:
            self.events.append(event)

    def answer(self, transmit: Transmit) -> None:
        """
        Let the server answer one request.
        """
        local = transmit.address
        if local not in self.responder.addresses.all():
            return
        reply = self.responder.answer(transmit.data, self.mapped(local), local)
        reply = reply and self.change(reply)
        if reply is not None and self.passes(reply.origin):
            assert self.machine.receiveDatagram(reply.data, reply.origin, self.now)

    def run(self) -> DiscoveryEvent:
        """
        Let time pass until the end.

        @return: the last event.
        """
        self.exchange()
        while (deadline := self.machine.deadline()) is not None:
            self.now = deadline
            self.machine.handleTimeout(self.now)
            self.exchange()
        return self.events[-1]


class DiscoveryTests(SynchronousTestCase):
    """
    L{NATDiscovery} with a server that has everything.
    """

    def test_open(self) -> None:
        """
        Where everything comes through, the result takes no time; first the address is told.
        """
        harness = Harness()
        self.assertEqual(harness.run(), Discovered(SEEN, OPEN, (SEEN,)))
        self.assertEqual(harness.events[0], ReflexiveFound(SEEN))
        self.assertEqual(harness.now, 100.0)

    def test_filteringFirst(self) -> None:
        """
        No other address of the server is asked before filtering was tested.
        """
        harness = Harness()
        harness.passes = lambda origin: origin == A1P1
        harness.run()
        others = [time for time, address in harness.asked if address != A1P1]
        self.assertEqual(min(others), 1.6)
        tests = [time for time, address in harness.asked if address == A1P1]
        self.assertEqual(max(tests), 0.8)

    def test_sessionsOfFilteringTests(self) -> None:
        """
        A NAT that sends what goes to a host that it let in out of the same port, as Linux does,
        does not pass for another mapping than it has.
        """
        for mapping, key in (
            (NATMapping.ADDRESS_DEPENDENT, lambda server: server[0]),
            (NATMapping.ADDRESS_AND_PORT_DEPENDENT, lambda server: server),
        ):
            harness = Harness()
            sessions: dict[HostPort, HostPort] = {}
            ports: dict[object, int] = {}

            def mapped(server: HostPort, key: Any = key, ports: Any = ports) -> HostPort:
                return sessions.get(server) or (  # noqa: B023
                    SEEN[0],
                    ports.setdefault(key(server), 1000 + len(ports)),
                )

            def passes(origin: HostPort) -> bool:
                sessions.setdefault(origin, mapped(A1P1))  # noqa: B023
                return True

            harness.mapped, harness.passes = mapped, passes
            event = harness.run()
            assert isinstance(event, Discovered)
            self.assertEqual(
                event.behavior, NATBehavior(mapping, NATFiltering.ENDPOINT_INDEPENDENT)
            )

    def test_headStart(self) -> None:
        """
        The other port waits for two round trips of the other host, within bounds; a round trip that
        is not known counts as a long one.
        """
        for roundTrip, headStart in ((0.0, 0.1), (0.0625, 0.125), (5.0, 0.5)):
            machine = NATDiscovery(A1P1, 0.0, Random(1).randbytes, 60.0)
            first = machine.pollTransmit()
            assert first is not None
            reply = Responder(ServerAddresses(A1P1, A2P2)).answer(first.data, SEEN, A1P1)
            assert reply is not None
            machine.handleTimeout(roundTrip)
            machine.receiveDatagram(reply.data, A1P1, roundTrip)
            now = roundTrip
            flags: set[int] = set()
            while CHANGE_PORT not in flags:
                deadline = machine.deadline()
                assert deadline is not None
                now = deadline
                machine.handleTimeout(now)
                while (transmit := machine.pollTransmit()) is not None:
                    flags.update(transmit.data[27:])
            self.assertAlmostEqual(now - roundTrip, headStart)

    def test_addressDependentFiltering(self) -> None:
        """
        The other port of the same host comes through, the other host does not.
        """
        harness = Harness()
        contacted: set[str] = set()

        def passes(origin: HostPort) -> bool:
            contacted.update(host for _, (host, _) in harness.asked)
            return origin[0] in contacted

        harness.passes = passes
        event = harness.run()
        assert isinstance(event, Discovered)
        self.assertIs(event.behavior.filtering, NATFiltering.ADDRESS_DEPENDENT)

    def test_portDependent(self) -> None:
        """
        Every address that was seen is told, the first one first.
        """
        harness = Harness()
        harness.passes = lambda origin: origin in {address for _, address in harness.asked}
        ports = {A1P1: 1001, A1P2: 1002, A2P1: 1003, A2P2: 1004}
        harness.mapped = lambda server: (SEEN[0], ports[server])
        event = harness.run()
        assert isinstance(event, Discovered)
        self.assertEqual(
            event.behavior,
            NATBehavior(
                NATMapping.ADDRESS_AND_PORT_DEPENDENT, NATFiltering.ADDRESS_AND_PORT_DEPENDENT
            ),
        )
        self.assertEqual(event.addresses[0], (SEEN[0], 1001))
        self.assertEqual({port for _, port in event.addresses}, {1001, 1002, 1003, 1004})

    def test_deadAlternate(self) -> None:
        """
        A server that never answers from its other addresses tells nothing, in bounded time.
        """
        harness = Harness()
        harness.passes = lambda origin: origin == A1P1
        self.assertEqual(harness.run(), Discovered(SEEN, UNKNOWN_BEHAVIOR, (SEEN,)))
        self.assertLessEqual(harness.now, 100.0 + TIME_LIMIT)

    def test_over(self) -> None:
        """
        After the end nothing is taken, sent or told.
        """
        harness = Harness()
        harness.run()
        events = len(harness.events)
        harness.machine.handleTimeout(200.0)
        harness.exchange()
        self.assertEqual(len(harness.events), events)
        self.assertIsNone(harness.machine.deadline())
        self.assertFalse(harness.machine.receiveDatagram(b"x" * 20, A1P1, 200.0))


class LesserServerTests(SynchronousTestCase):
    """
    L{NATDiscovery} with servers that have less, or are wrong.
    """

    def behavior(self, harness: Harness) -> NATBehavior:
        """
        @return: what is found out.
        """
        event = harness.run()
        assert isinstance(event, Discovered)
        return event.behavior

    def test_alone(self) -> None:
        """
        One address tells the reflexive address, and nothing else, after one question.
        """
        harness = Harness(alternate=None)
        self.assertEqual(harness.run(), Discovered(SEEN, UNKNOWN_BEHAVIOR, (SEEN,)))
        self.assertEqual(harness.asked, [(0.0, A1P1)])

    def test_oneHost(self) -> None:
        """
        A second port shows dependence on ports.
        """
        harness = Harness(alternate=A1P2)
        self.assertEqual(self.behavior(harness), UNKNOWN_BEHAVIOR)
        harness = Harness(alternate=A1P2)
        harness.passes = lambda origin: origin in {address for _, address in harness.asked}
        harness.mapped = lambda server: (SEEN[0], server[1])
        self.assertEqual(
            self.behavior(harness),
            NATBehavior(
                NATMapping.ADDRESS_AND_PORT_DEPENDENT, NATFiltering.ADDRESS_AND_PORT_DEPENDENT
            ),
        )

    def test_onePort(self) -> None:
        """
        A second host shows independence: of the filter, or of the mapping behind a filter.
        """
        self.assertEqual(
            self.behavior(Harness(alternate=A2P1)),
            NATBehavior(None, NATFiltering.ENDPOINT_INDEPENDENT),
        )
        harness = Harness(alternate=A2P1)
        harness.passes = lambda origin: origin in {address for _, address in harness.asked}
        self.assertEqual(self.behavior(harness), NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, None))

    def test_uselessAlternates(self) -> None:
        """
        An alternate address that nobody can have, or of the other family, is none.
        """
        for other in (
            A1P1,
            ("192.0.2.2", 0),
            ("0.0.0.0", 3479),
            ("224.0.0.1", 3479),
            ("255.255.255.255", 3479),
            ("2001:db8::1", 3479),
        ):
            harness = Harness(alternate=None)

            def change(reply: Reply, other: HostPort = other) -> Reply:
                attributes = [
                    (0x0020, encodeXORAddress(SEEN, reply.data[8:20])),
                    (int(AttributeType.OTHER_ADDRESS), encodeAddress(other)),
                ]
                data = encode(MessageClass.SUCCESS, 1, reply.data[8:20], attributes)
                return Reply(data, reply.origin)

            harness.change = change
            self.assertEqual(self.behavior(harness), UNKNOWN_BEHAVIOR)
            self.assertEqual(len(harness.asked), 1)

    def test_unwilling(self) -> None:
        """
        A server that answers from where it was asked, whatever it was asked, proves no filtering.
        """
        harness = Harness()
        real = harness.answer

        def answer(transmit: Transmit) -> None:
            if len(transmit.data) == 20:
                real(transmit)
                return
            identity = transmit.data[8:20]
            data = encode(
                MessageClass.SUCCESS, 1, identity, [(0x0020, encodeXORAddress(SEEN, identity))]
            )
            harness.machine.receiveDatagram(data, transmit.address, harness.now)

        harness.answer = answer  # type: ignore[method-assign]
        self.assertEqual(self.behavior(harness), NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, None))

    def test_refusal(self) -> None:
        """
        So does one that refuses, and the refusal is not waited out.
        """
        harness = Harness(alternate=A2P2)
        willing = harness.responder
        unable = Responder(ServerAddresses(A1P1))
        real = harness.answer

        def answer(transmit: Transmit) -> None:
            harness.responder = willing if len(transmit.data) == 20 else unable
            real(transmit)

        harness.answer = answer  # type: ignore[method-assign]
        self.assertEqual(self.behavior(harness), NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, None))
        self.assertEqual(harness.now, 100.0)


class UnansweredTests(SynchronousTestCase):
    """
    L{NATDiscovery} without a usable first answer.
    """

    def test_silence(self) -> None:
        """
        Silence ends at the time limit.
        """
        harness = Harness(timeLimit=2.0)
        harness.passes = lambda origin: False
        self.assertEqual(harness.run(), Unanswered(A1P1, TimedOut(A1P1, 5)))
        self.assertEqual(harness.now, 102.0)
        self.assertEqual([time for time, _ in harness.asked], [0.0, 0.1, 0.3, 0.7, 1.5])

    def test_noAddress(self) -> None:
        """
        A success without address, and an error, end it at once.
        """
        for messageClass in (MessageClass.SUCCESS, MessageClass.ERROR):
            harness = Harness()

            def change(reply: Reply, messageClass: MessageClass = messageClass) -> Reply:
                return Reply(encode(messageClass, 1, reply.data[8:20]), reply.origin)

            harness.change = change
            event = harness.run()
            assert isinstance(event, Unanswered) and isinstance(event.event, Answered)
            self.assertEqual(event.event.message.messageClass, messageClass)
            self.assertEqual(len(harness.events), 1)


class FuzzTests(SynchronousTestCase):
    """
    Strangers change nothing.
    """

    @given(st.binary(max_size=60), st.sampled_from([A1P1, A1P2, A2P2, ("198.51.100.9", 9)]))
    def test_anything(self, data: bytes, source: HostPort) -> None:
        """
        Random bytes, from anywhere, in any step.
        """
        harness = Harness()
        for _ in range(3):
            transmit = harness.machine.pollTransmit()
            identity = transmit.data[8:20] if transmit else bytes(12)
            for each in (data, data[:8].ljust(8, b"\0") + identity + data):
                harness.machine.receiveDatagram(each, source, harness.now)
            if transmit is not None:
                harness.answer(transmit)
        harness.run()
        self.assertLessEqual(harness.now, 100.0 + TIME_LIMIT)
