"""
L{p2ptwist.net.puncher} against programs that mean harm, and against anything at all.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.core.ice.check import Check, Credentials, encodeCheck
from p2ptwist.core.ice.signal import Description, decodeSignal
from p2ptwist.net.puncher import Punch
from p2ptwist.net.routes import ADDRESS_LIMIT
from p2ptwist.testing import Internet
from tests.sim.punching import Receiver, Side


class Intruder:
    """
    A program that the victim answers, and that never sends what it should.

    @ivar punch: the victim's session with it.
    """

    def __init__(self, victim: Side, helper: Side, address: HostPort) -> None:
        """
        @param helper: makes the offer.
        @param address: the only candidate that is offered.
        """
        offers: list[bytes] = []
        candidate = makeCandidate(CandidateType.HOST, address)
        helper.puncher.call(offers.append, [candidate]).close()
        answers: list[bytes] = []
        self.punch: Punch = victim.puncher.answer(offers[0], answers.append, victim.candidates())
        self._offer, self._answer = decodeSignal(offers[0]), decodeSignal(answers[0])
        self._victim = victim
        self._count = 0

    def forge(self, source: HostPort) -> bool:
        """
        Send an authentic check under a forged source address.

        @return: whether the victim took it.
        """
        assert isinstance(self._offer, Description) and isinstance(self._answer, Description)
        self._count += 1
        data = encodeCheck(
            self._count.to_bytes(12, "big"),
            Check(1, True, 1),
            Credentials(self._offer.fragment, self._offer.password),
            Credentials(self._answer.fragment, self._answer.password),
        )
        return self._victim.puncher.datagramReceived(data, source)


class ThreeCase(SynchronousTestCase):
    """
    Two programs with a path, and a third one.
    """

    def setUp(self) -> None:
        """
        Connect the two.
        """
        self.internet = Internet(seed=6)
        self.internet.showOnFailure(self)
        self.a = Side(self.internet, "a", "198.51.100.1")
        self.b = Side(self.internet, "b", "198.51.100.2")
        self.h = Side(self.internet, "h", "198.51.100.66")
        self.punch = self.a.call(self.b)
        self.punch.receiver = self.receiver = Receiver()
        self.internet.runUntil(self.punch.whenOpen())
        self.internet.advance(1.0)

    def stop(self) -> None:
        """
        End everything, and see that nothing is left.
        """
        for side in (self.a, self.b, self.h):
            side.stop()
        self.internet.advance(1.0)
        self.assertEqual(self.internet.delayedCalls(), [])

    def assertDataArrives(self) -> None:
        """
        What b sends reaches the session with b.
        """
        for number in range(5):
            self.b.answered[0].write(b"%d" % number)
            self.internet.advance(0.1)
        self.assertEqual(self.receiver.log, [b"%d" % number for number in range(5)])


class TheftTests(ThreeCase):
    """
    A peer cannot take the data of another peer's session.
    """

    def test_nameAddress(self) -> None:
        """
        By offering the other peer's address as its own candidate.
        """
        intruder = Intruder(self.a, self.h, self.b.address)
        intruder.punch.receiver = stolen = Receiver()
        self.internet.advance(0.5)
        self.assertDataArrives()
        self.assertEqual(stolen.log, [])
        self.stop()

    def test_forgeSource(self) -> None:
        """
        By sending its checks under the other peer's address.
        """
        intruder = Intruder(self.a, self.h, self.b.address)
        intruder.punch.receiver = stolen = Receiver()
        self.assertTrue(intruder.forge(self.b.address))
        self.internet.advance(0.5)
        self.assertDataArrives()
        self.assertEqual(stolen.log, [])
        self.stop()

    def test_newestIsRight(self) -> None:
        """
        Between two sessions that have proved the same address, data is for the newer one: the
        other program began anew.
        """
        second = self.a.call(self.b)
        second.receiver = receiver = Receiver()
        self.internet.runUntil(second.whenOpen())
        self.internet.advance(1.0)
        self.b.answered[1].write(b"new")
        self.internet.advance(0.1)
        self.assertEqual((self.receiver.log, receiver.log), ([], [b"new"]))
        self.stop()


class MemoryTests(ThreeCase):
    """
    A peer cannot make this one remember ever more.
    """

    def test_manySources(self) -> None:
        """
        Checks from thousands of forged addresses leave a bounded number of routes.
        """
        intruder = Intruder(self.a, self.h, self.h.address)
        for port in range(2000, 4000):
            self.assertTrue(intruder.forge(("203.0.113.9", port)) or port >= 2000 + 20)
        entry = self.a.puncher._routes._entries[intruder.punch]
        self.assertLessEqual(len(entry.addresses), ADDRESS_LIMIT)
        self.assertDataArrives()
        self.stop()

    def test_manyDatagrams(self) -> None:
        """
        Data from an address that has proved nothing is not kept beyond a few datagrams, and the
        session that waits for it does not deliver it.
        """
        intruder = Intruder(self.a, self.h, self.h.address)
        intruder.punch.receiver = stolen = Receiver()
        for number in range(1000):
            self.a.puncher.datagramReceived(b"%d" % number, self.h.address)
        self.assertEqual(stolen.log, [])
        self.assertLessEqual(len(intruder.punch._agent._path._parked), 16)
        self.stop()


def mutations(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    """
    @return: samples with some bytes changed, inserted, or cut off.
    """
    edits = st.lists(
        st.tuples(st.integers(0, 1023), st.integers(0, 255), st.sampled_from("xid")), max_size=6
    )

    def mutate(sample: bytes, changes: list[tuple[int, int, str]]) -> bytes:
        data = bytearray(sample)
        for place, value, kind in changes:
            where = place % (len(data) + 1)
            if kind == "i":
                data.insert(where, value)
            elif kind == "d":
                del data[where:]
            elif where < len(data):
                data[where] ^= value
        return bytes(data)

    return st.builds(mutate, st.sampled_from(samples), edits)


def _samples() -> tuple[list[bytes], list[bytes]]:
    """
    @return: real signals, and real datagrams, of one session with a restart.
    """
    internet = Internet(seed=1)
    a, b = Side(internet, "a", "198.51.100.1"), Side(internet, "b", "198.51.100.2")
    signals: list[bytes] = []
    datagrams: list[bytes] = []
    for side in (a, b):
        channel, write = side.channelTo, side.puncher._write

        def sending(other: Side, channel: object = channel) -> object:
            carry = channel(other)  # type: ignore[operator]

            def carrying(signal: bytes) -> None:
                signals.append(signal)
                carry(signal)

            return carrying

        def writing(data: bytes, address: HostPort, write: object = write) -> None:
            datagrams.append(data)
            write(data, address)  # type: ignore[operator]

        side.channelTo = sending  # type: ignore[assignment, method-assign]
        side.puncher._write = writing
    punch = a.call(b)
    internet.runUntil(punch.whenOpen())
    internet.advance(1.0)
    punch.write(b"data")
    punch.addCandidates([makeCandidate(CandidateType.HOST, ("2001:db8::1", 5000))], True)
    punch.restart()
    internet.advance(1.0)
    punch.close("bye")
    internet.advance(1.0)
    return list(dict.fromkeys(signals)), list(dict.fromkeys(datagrams))


SIGNALS, DATAGRAMS = _samples()
SOURCES = st.sampled_from(
    [("198.51.100.2", 43353), ("198.51.100.2", 1), ("203.0.113.1", 53), ("2001:db8::1", 5000)]
)


class AnythingTests(SynchronousTestCase):
    """
    Nothing that comes from outside raises, hangs, or leaves anything behind.
    """

    def world(self) -> tuple[Internet, Side, Side]:
        """
        @return: two programs with the keys that the samples were made with.
        """
        internet = Internet(seed=1)
        return (
            internet,
            Side(internet, "a", "198.51.100.1"),
            Side(internet, "b", "198.51.100.2"),
        )

    def assertEnds(self, internet: Internet, *sides: Side) -> None:
        """
        When all is stopped nothing is left.
        """
        for side in sides:
            side.stop()
        internet.advance(1.0)
        self.assertEqual(internet.delayedCalls(), [])

    @settings(max_examples=60)
    @given(st.lists(st.tuples(mutations(DATAGRAMS) | st.binary(max_size=80), SOURCES)))
    def test_datagrams(self, datagrams: list[tuple[bytes, HostPort]]) -> None:
        """
        Any datagrams, before, while and after a path opens: real ones of the same session among
        them, repeated and changed.
        """
        internet, a, b = self.world()
        punch = a.call(b)
        for data, source in datagrams:
            a.puncher.datagramReceived(data, (source[0], b.address[1]))
            a.puncher.datagramReceived(data, source)
            b.puncher.datagramReceived(data, a.address)
            internet.advance(0.02)
        internet.advance(1.0)
        self.assertIsNotNone(punch.remote)
        self.assertEqual(punch.remote, b.address)
        self.assertEnds(internet, a, b)

    @settings(max_examples=60)
    @given(st.lists(mutations(SIGNALS) | st.binary(max_size=80)))
    def test_signals(self, signals: list[bytes]) -> None:
        """
        Any signals over the channel, real ones of the same session among them.
        """
        internet, a, b = self.world()
        punch = a.call(b)
        for signal in signals:
            internet.advance(0.02)
            punch.signalReceived(signal)
            for answered in b.answered:
                answered.signalReceived(signal)
        internet.advance(30.0)
        self.assertTrue(punch.openedAfter is not None or punch.whenOver().called)
        self.assertEnds(internet, a, b)
