"""
The life of a direct path: idle, interrupted, dead, moved.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.errors import PathLost
from p2ptwist.interfaces import IPathReceiver
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.localcandidates import LocalCandidates
from p2ptwist.net.puncher import Punch, Puncher
from p2ptwist.testing import NAT, Host
from tests.sim.neighborhood import NODE, STUN_PORT, Recorder
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL, PairCase, Pairs

SIGNAL_DELAY = 0.05  # seconds

SHORT_NAT = NAT(udpTimeout=20.0)


@implementer(IPathReceiver)
class End:
    """
    One end of a session whose signals go over a channel that is always there.
    """

    punch: Punch

    def __init__(self, host: Host) -> None:
        self.received: list[bytes] = []
        self.host = host
        self.port = DatagramPort(host)
        self.port.listen()
        self.local = LocalCandidates(host, self.port, host.hostAddresses, Random(1))
        self.puncher = Puncher(host, self.port.write, Random(host.name).randbytes)
        self.port.addConsumer(self.puncher.datagramReceived)

    def gather(self) -> Deferred[list[Failure]]:
        """
        Find out this end's addresses.
        """
        return self.local.gather([(NODE, STUN_PORT)])

    def call(self, other: End) -> None:
        """
        Open a session with another end.
        """
        self.punch = self.puncher.call(other.signaled(self), self.local.candidates())
        self.punch.receiver = self

    def signaled(self, sender: End) -> Callable[[bytes], object]:
        """
        @return: what the signals of C{sender} go into.
        """

        def arrived(signal: bytes) -> None:
            if hasattr(self, "punch"):
                self.punch.signalReceived(signal)
                return
            self.punch = self.puncher.answer(signal, sender.signaled(self), self.local.candidates())
            self.punch.receiver = self

        return lambda signal: self.host.callLater(SIGNAL_DELAY, arrived, signal)

    def datagramReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.received.append(data)

    def pathMoved(self) -> None:
        """
        As it should.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        Seen by what is not received.
        """

    def close(self) -> None:
        """
        Free everything.
        """
        self.punch.close()
        self.local.stop()
        self.port.stopListening()


class IdleTests(PairCase):
    """
    A path on which nobody says anything.
    """

    def test_tenMinutes(self) -> None:
        """
        Peers behind NATs are still connected after ten idle minutes, with at most eight packets a
        minute and side, their links included, and then talk at once: also where mappings were seen
        to live for 20 s, and are kept by a check at half of that.  What a peer asks its own router
        stays in the LAN, and ends.
        """
        sent: list[int] = []
        for nat in (NAT(), SHORT_NAT):
            pairs = self.neighborhood()
            a, b = pairs.pair(nat, nat)
            recorder, _ = self.exchange(pairs, a, b)
            pairs.internet.advance(200.0)
            before = [self.leaving(pairs, name) for name in ("a", "b")]
            pairs.internet.advance(600.0)
            after = [self.leaving(pairs, name) for name in ("a", "b")]
            for count, start in zip(after, before, strict=True):
                self.assertLessEqual(count - start, 80)
                sent.append(count - start)
            self.assertTalks(pairs, recorder, b.paths[0])
            pairs.close()
        self.assertGreater(min(sent[2:]), max(sent[:2]) + 15)

    def leaving(self, pairs: Pairs, name: str) -> int:
        """
        @return: the packets that have left the site of a peer so far.
        """
        return pairs.internet.routers[f"{name}-router"].counters.packetsSent

    def test_pause(self) -> None:
        """
        After a pause data waits for one round trip of renewed consent, and is not lost.
        """
        pairs = self.neighborhood()
        a, b = pairs.pair(NAT(), NAT())
        recorder, _ = self.exchange(pairs, a, b)
        pairs.internet.advance(40.0)
        began = pairs.internet.seconds()
        recorder.path.write(b"again")
        pairs.internet.advance(1.0)
        arrived, data = b.paths[0].received[-1]
        self.assertEqual(data, b"again")
        oneWay = (recorder.path.roundTrip or 0.0) / 2
        self.assertAlmostEqual(arrived - began, 3 * oneWay, delta=0.005)
        pairs.close()

    def assertTalks(self, pairs: Pairs, caller: Recorder, callee: Recorder) -> None:
        """
        Data crosses in both directions.
        """
        caller.path.write(b"ping")
        callee.path.write(b"pong")
        pairs.internet.advance(2.0)
        self.assertEqual(callee.received[-1][1], b"ping")
        self.assertIn(b"pong", [data for _, data in caller.received])
        self.assertIsNone(caller.lost)
        self.assertIsNone(callee.lost)


class DeathTests(PairCase):
    """
    A path that stops working is reported within seconds, with the reason, on both sides.
    """

    def connected(self) -> tuple[Pairs, Recorder, Recorder]:
        """
        @return: both ends of a path between two peers.
        """
        pairs = self.neighborhood()
        a, b = pairs.pair(SHORT_NAT, SHORT_NAT)
        recorder, _ = self.exchange(pairs, a, b)
        return pairs, recorder, b.paths[0]

    def assertDies(self, pairs: Pairs, ends: tuple[Recorder, ...], within: float) -> None:
        """
        Each end is told in time, and says that nothing came.
        """
        began = pairs.internet.seconds()
        pairs.internet.advance(within)
        for end in ends:
            assert end.lost is not None, "nobody said that the path died"
            self.assertIsInstance(end.lost.value, PathLost)
            self.assertIn("nothing came from the other side for", str(end.lost.value))
            self.assertLessEqual((end.lostAt or 0.0) - began, within)

    def talk(self, pairs: Pairs, ends: tuple[Recorder, ...], seconds: int) -> None:
        """
        Both ends send, ten times a second.
        """
        for _ in range(seconds * 10):
            for end in ends:
                end.path.write(b"tick")
            pairs.internet.advance(0.1)

    def test_cutWhileTalking(self) -> None:
        """
        While data flows a cut line is noticed within 11 s: a renewal is due in 6, and nothing comes
        for 5 more.
        """
        pairs, *ends = self.connected()
        self.talk(pairs, tuple(ends), 5)
        pairs.internet.routers["b-router"].link.cut()
        began = pairs.internet.seconds()
        self.talk(pairs, tuple(ends), 12)
        for end in ends:
            assert end.lostAt is not None
            self.assertLessEqual(end.lostAt - began, 11.5)
        pairs.internet.routers["b-router"].link.restore()
        pairs.close()

    def test_cutWhileIdle(self) -> None:
        """
        On an idle path it is noticed at the next keepalive.
        """
        pairs, *ends = self.connected()
        pairs.internet.advance(30.0)
        pairs.internet.routers["b-router"].link.cut()
        self.assertDies(pairs, tuple(ends), within=23.0)
        pairs.internet.routers["b-router"].link.restore()
        pairs.close()

    def test_shortCut(self) -> None:
        """
        A line that comes back within 4 s costs nothing but what was sent meanwhile.
        """
        pairs, first, second = self.connected()
        self.talk(pairs, (first, second), 5)
        wire = pairs.internet.routers["a-router"].link
        wire.cut()
        self.talk(pairs, (first, second), 4)
        wire.restore()
        self.talk(pairs, (first, second), 5)
        self.assertIsNone(first.lost)
        self.assertIsNone(second.lost)
        pairs.close()

    def test_peerGone(self) -> None:
        """
        A peer that ends says goodbye, and the other side hears it at once.
        """
        pairs, first, _ = self.connected()
        pairs.internet.runUntil(pairs.parties[1].peer.stopService(), timeout=10.0)
        pairs.internet.advance(1.0)
        assert first.lost is not None
        self.assertIn("the program stopped", str(first.lost.value))
        pairs.close()

    def test_peerKilled(self) -> None:
        """
        A peer whose host vanishes is noticed within seconds.
        """
        pairs, first, _ = self.connected()
        pairs.internet.advance(30.0)
        pairs.internet.routers["b-router"].link.cut()
        self.assertDies(pairs, (first,), within=22.0)
        pairs.close()

    def test_nodeGone(self) -> None:
        """
        A direct path does not need the node.
        """
        pairs, first, second = self.connected()
        pairs.internet.runUntil(pairs.service.stopService(), timeout=10.0)
        pairs.internet.runUntil(pairs.stun.stopService(), timeout=10.0)
        self.talk(pairs, (first, second), 60)
        self.assertIsNone(first.lost)
        self.assertIsNone(second.lost)
        pairs.close()


class MoveTests(PairCase):
    """
    A session that looks for a path anew.
    """

    def test_newAddress(self) -> None:
        """
        When a NAT's public address changed, a restart over a channel that still works moves the
        path there before it dies.
        """
        pairs = self.neighborhood()
        ends = [
            End(pairs.site(f"{name}-router", external, NAT()).host(name))
            for name, external in (("a", A_EXTERNAL), ("b", B_EXTERNAL))
        ]
        a, b = ends
        for end in ends:
            pairs.internet.runUntil(end.gather(), timeout=10.0)
        a.call(b)
        pairs.internet.advance(10.0)
        pairs.internet.routers["a-router"].changeExternal("203.0.113.77")
        pairs.internet.runUntil(a.gather(), timeout=10.0)
        a.punch.restart(a.local.candidates())
        pairs.internet.advance(3.0)
        for number in range(20):
            a.punch.write(b"%d" % number)
            pairs.internet.advance(1.0)
        self.assertEqual(len(b.received), 20)
        remote = b.punch.remote
        assert remote is not None
        self.assertEqual(remote[0], "203.0.113.77")
        for end in ends:
            end.close()
        pairs.internet.advance(1.0)

    def test_restart(self) -> None:
        """
        A restart on a healthy path changes nothing for the data.
        """
        for turned in (False, True):
            pairs = self.neighborhood()
            a, b = pairs.pair(NAT(), NAT())
            recorder, _ = self.exchange(pairs, a, b)
            (b.paths[0] if turned else recorder).path.restart()
            for number in range(50):
                recorder.path.write(b"%d" % number)
                pairs.internet.advance(0.1)
            echoes = [data for _, data in recorder.received[1:]]
            self.assertEqual(echoes, [b"%d" % number for number in range(50)])
            pairs.close()


class CancelTests(PairCase):
    """
    A call that is given up.
    """

    def test_stopsAtOnce(self) -> None:
        """
        Cancelling a connect stops its checks at once and frees everything, on both sides.
        """
        pairs = self.neighborhood()
        a, b = pairs.pair(NAT(), NAT())
        calling = a.peer.connect(b.peer.peerID)
        pairs.internet.advance(0.06)
        calling.cancel()
        self.failureResultOf(calling, CancelledError)
        pairs.internet.advance(0.2)
        quietFrom = pairs.internet.seconds()
        pairs.internet.advance(5.0)
        sent = [
            entry
            for entry in pairs.internet.trace
            if entry.time > quietFrom and entry.what == "sent" and " UDP " in str(entry)
        ]
        self.assertEqual(sent, [])
        pairs.close()
