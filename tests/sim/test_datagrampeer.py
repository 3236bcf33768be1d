"""
L{p2ptwist.peer.datagrams} on the simulated Internet: beginnings, ends, and what goes wrong.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.ice.signal import Goodbye, decodeSignal, encodeSignal
from p2ptwist.core.peerid import decodePeerID, encodePeerID
from p2ptwist.errors import (
    LinkDown,
    NameNotResolved,
    PathLost,
    PeerUnreachable,
    PortUnusable,
    PunchFailed,
    RendezvousUnreachable,
    STUNTimeout,
)
from p2ptwist.net.puncher import Punch
from p2ptwist.peer.datagrams import FAILURE_RATE, REFUSAL_RATE, DatagramPeer
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.rendezvous.service import NodeService
from p2ptwist.testing import NAT, Host, Internet, Link
from tests.sim.neighborhood import (
    LINK_PORT,
    NODE,
    STUN_PORT,
    Neighborhood,
    Party,
    Recorder,
)
from tests.sim.test_puncher_hostile import SIGNALS, mutations

SILENT = "192.0.2.99"


class PeerCase(SynchronousTestCase):
    """
    What these tests share: a node, and homes with a peer in each.
    """

    def setUp(self) -> None:
        """
        Make the node.
        """
        self.world = Neighborhood(seed=21)
        self.internet: Internet = self.world.internet
        self.internet.showOnFailure(self)
        self.homes = 0

    def home(self) -> Host:
        """
        @return: a host behind a router of its own.
        """
        self.homes += 1
        address = f"203.0.113.{self.homes}"
        link = Link(latency=0.02)
        router = self.internet.router(f"home{self.homes}", address, nat=NAT(), link=link)
        return router.host(f"host{self.homes}")

    def party(self, **options: Any) -> Party:
        """
        @return: a peer at home, which has started.
        """
        return self.world.party(self.home(), **options)

    def ready(self, count: int) -> list[Party]:
        """
        @return: so many peers, which are ready.
        """
        parties = [self.party() for _ in range(count)]
        self.world.settle()
        return parties

    def refuse(self, deferred: Deferred[Any], *errors: type[Exception]) -> Exception:
        """
        Wait until C{deferred} fails.

        @return: why.
        """
        caught: Exception = self.assertRaises(errors, self.internet.runUntil, deferred)
        return caught

    def assertNothingLeft(self, *parties: Party) -> None:
        """
        These peers keep no session, and the programs no delayed call.
        """
        self.internet.advance(1.0)
        for party in parties:
            reach = party.peer._reach
            self.assertEqual(0 if reach is None else len(reach.puncher), 0)
            self.assertEqual(len(party.peer._calls), 0)

    def talk(self, caller: Recorder, callee: Party) -> None:
        """
        Data crosses both ways.
        """
        caller.path.write(b"ping")
        self.internet.advance(0.5)
        self.assertEqual(callee.paths[-1].received[-1][1], b"ping")
        self.assertEqual(caller.received[-1][1], b"ping")

    def restartNode(self) -> None:
        """
        Start a new node where one was stopped, and give links the time to come back.
        """
        endpoint = TCP4ServerEndpoint(self.world.node, LINK_PORT, 50, NODE)
        servers = (("", STUN_PORT),)
        self.world.service = NodeService(
            self.world.node, "node", [("tcp", endpoint)], stunServers=servers
        )
        self.world.service.startService()
        self.internet.advance(60.0)


class ReadyTests(PeerCase):
    """
    When a peer can be reached, and when not.
    """

    def test_ready(self) -> None:
        """
        A peer is ready soon after it starts, and stays so.
        """
        party = self.party()
        self.internet.runUntil(party.peer.whenReady(), timeout=1.0)
        self.successResultOf(party.peer.whenReady())
        self.assertEqual(len(party.peer.peerID), 52)
        self.world.close()

    def unready(self, **options: Any) -> Exception:
        """
        @return: why a peer with these options is not.
        """
        party = self.party(**options)
        errors = (STUNTimeout, NameNotResolved, LocalUsageError)
        failure = self.refuse(party.peer.whenReady(), *errors)
        self.world.close()
        return failure

    def test_silentServer(self) -> None:
        """
        A STUN server that was named and does not answer is an error that names it.
        """
        error = self.unready(stunServers=[(SILENT, STUN_PORT)])
        self.assertIsInstance(error, STUNTimeout)
        self.assertIn(f"{SILENT}:{STUN_PORT}", str(error))

    def test_unknownName(self) -> None:
        """
        So is a name that does not resolve.
        """
        error = self.unready(stunServers=[("stun.example", STUN_PORT)])
        self.assertIsInstance(error, NameNotResolved)
        self.assertIn("stun.example", str(error))

    def test_otherFamily(self) -> None:
        """
        So is an address that the port cannot send to.
        """
        host = self.home()
        party = self.world.party(
            host, interface=host.address, stunServers=[("2001:db8::1", STUN_PORT)]
        )
        error = self.refuse(party.peer.whenReady(), LocalUsageError)
        self.assertIn("2001:db8::1", str(error))
        self.world.close()

    def test_oneOfTwo(self) -> None:
        """
        One server of use is enough, by name as well.
        """
        self.internet.name("stun.example", NODE)
        servers = [(SILENT, STUN_PORT), ("stun.example", STUN_PORT)]
        party = self.party(stunServers=servers)
        self.internet.runUntil(party.peer.whenReady(), timeout=5.0)
        self.world.close()

    def test_noServers(self) -> None:
        """
        A peer that wants none is ready with its host's addresses.
        """
        party = self.party(stunServers=[])
        self.internet.runUntil(party.peer.whenReady(), timeout=1.0)
        self.world.close()

    def test_nodeWithoutSTUN(self) -> None:
        """
        A STUN server that the node names, and that does not answer, keeps nobody from being ready.
        """
        self.internet.runUntil(self.world.stun.stopService())
        party = self.party()
        self.internet.runUntil(party.peer.whenReady(), timeout=5.0)
        self.world.close()

    def test_noNode(self) -> None:
        """
        A node that is not there is an error, and the peer goes on trying.
        """
        self.internet.runUntil(self.world.service.stopService())
        party = self.party()
        self.refuse(party.peer.whenReady(), RendezvousUnreachable)
        self.restartNode()
        self.internet.runUntil(party.peer.whenReady(), timeout=1.0)
        self.world.close()

    def test_unexpected(self) -> None:
        """
        Whatever keeps a peer from knowing its addresses is logged and told; nobody waits for ever.
        """
        host = self.home()

        def failing(*arguments: object) -> None:
            raise ZeroDivisionError

        self.patch(host.nameResolver, "resolveHostName", failing)
        party = self.world.party(host, stunServers=[("stun.example", STUN_PORT)])
        self.refuse(party.peer.whenReady(), ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.world.close()

    def test_cancel(self) -> None:
        """
        Waiting can be given up at any moment.
        """
        for moment in (0.0, 0.05, 0.12, 0.2):
            self.setUp()
            party = self.party()
            waiting = party.peer.whenReady()
            self.internet.advance(moment)
            if not waiting.called:
                waiting.cancel()
                self.failureResultOf(waiting, CancelledError)
            self.world.close()

    def test_linkAgain(self) -> None:
        """
        When the node restarts, the peer asks for its addresses again and can be called.
        """
        first, second = self.ready(2)
        self.internet.runUntil(self.world.service.stopService())
        self.restartNode()
        self.talk(self.world.connect(first, second), second)
        self.world.close()

    def test_linkAgainWhileResolving(self) -> None:
        """
        A link that comes back while a name is looked up begins anew.
        """
        self.internet.name("stun.example", NODE)
        party = self.party(stunServers=[("stun.example", STUN_PORT)])
        welcome = self.internet.runUntil(party.link.whenUp())
        party.peer.linkUp(welcome)
        party.peer.linkUp(welcome)
        self.internet.runUntil(party.peer.whenReady(), timeout=5.0)
        self.world.close()


class ConnectTests(PeerCase):
    """
    Calls that come to something.
    """

    def test_whileGathering(self) -> None:
        """
        A call that is made before this side knows its own addresses is not slower for it: what is
        found is sent after.
        """
        (callee,) = self.ready(1)
        caller = self.party()
        recorder = self.world.connect(caller, callee)
        self.talk(recorder, callee)
        self.world.close()

    def test_beforeStart(self) -> None:
        """
        A call may be made before the service starts; it waits for that.
        """
        (callee,) = self.ready(1)
        host = self.home()
        caller = Party(host, generateIdentity(), self.world.random)
        calling = caller.peer.connect(callee.peer.peerID)
        waiting = caller.peer.whenReady()
        self.internet.advance(5.0)
        self.assertNoResult(calling)
        caller.peer.startService()
        self.world.parties.append(caller)
        self.assertIsInstance(self.internet.runUntil(calling), Punch)
        self.internet.runUntil(waiting)
        self.world.close()

    def test_glare(self) -> None:
        """
        Two peers that call each other at the same moment have one session, and both get its path,
        whoever's key is larger; even if neither takes calls.
        """
        for incoming in (True, False):
            self.setUp()
            first, second = self.ready(2)
            first.welcome = second.welcome = incoming
            calls = [
                first.peer.connect(second.peer.peerID),
                second.peer.connect(first.peer.peerID),
            ]
            paths = [self.internet.runUntil(call) for call in calls]
            self.internet.advance(2.0)
            self.assertEqual(paths[0].session, paths[1].session)
            self.assertEqual([len(party.peer._calls) for party in (first, second)], [1, 1])
            self.assertEqual((first.paths, second.paths), ([], []))
            ends = [
                Recorder(party.host, path, echo=False)
                for party, path in zip((first, second), paths, strict=True)
            ]
            for end in ends:
                end.path.receiver = end
            paths[0].write(b"from the first")
            paths[1].write(b"from the second")
            self.internet.advance(1.0)
            received = [[data for _, data in end.received] for end in ends]
            self.assertEqual(received, [[b"from the second"], [b"from the first"]])
            self.world.close()

    def test_glareAtAnyDistance(self) -> None:
        """
        However far apart the two calls begin, whoever's key is larger, both get a path, and
        nothing is left over.
        """
        for step, larger in product(range(12), (0, 1)):
            self.setUp()
            parties = sorted(self.ready(2), key=lambda party: decodePeerID(party.peer.peerID))
            first, second = parties[larger], parties[1 - larger]
            one = first.peer.connect(second.peer.peerID)
            self.internet.advance(step * 0.01)
            other = second.peer.connect(first.peer.peerID)
            for call in (one, other):
                self.assertIsInstance(self.internet.runUntil(call), Punch)
            self.internet.advance(30.0)
            counts = [len(party.peer._calls) for party in (first, second)]
            self.assertEqual(counts[0], counts[1], f"{step * 10} ms apart")
            self.world.close()

    def test_glareGivenUp(self) -> None:
        """
        A call that crossed another one can be given up as well, which ends the other.
        """
        first, second = self.ready(2)
        calls = {
            party: party.peer.connect(other.peer.peerID)
            for party, other in ((first, second), (second, first))
        }
        self.internet.advance(0.052)
        smaller = min(calls, key=lambda party: decodePeerID(party.peer.peerID))
        calls[smaller].cancel()
        self.failureResultOf(calls.pop(smaller), CancelledError)
        self.assertEqual(len(smaller.peer._calls), 0)
        (remaining,) = calls.values()
        self.refuse(remaining, PeerUnreachable, PathLost)
        self.assertNothingLeft(first, second)
        self.world.close()

    def test_localAddress(self) -> None:
        """
        The address that a path starts from is one of this host's own.
        """
        first, second = self.ready(2)
        path = first.peer.connect(second.peer.peerID)
        (punch,) = first.peer._calls.pending()
        self.assertIsNone(first.peer.localAddress(punch))
        self.internet.runUntil(path)
        self.internet.advance(1.0)
        expected = (first.host.address, first.peer._requireReach().port.localPort)
        self.assertEqual(first.peer.localAddress(punch), expected)
        self.world.close()

    def test_localAddressInPublic(self) -> None:
        """
        On a host with several addresses it is the one that the other side sees, if it is known.
        """
        host = self.internet.host("public", "198.51.100.1", "198.51.100.2")
        caller = self.world.party(host)
        callee = self.party()
        self.world.settle()
        recorder = self.world.connect(caller, callee)
        self.internet.advance(1.0)
        self.assertEqual(caller.peer.localAddress(recorder.path), recorder.path.mapped)
        self.world.close()


class RefusalTests(PeerCase):
    """
    Calls that come to nothing.
    """

    def test_wrongID(self) -> None:
        """
        What is no peer ID, or this peer's own, raises at once.
        """
        (party,) = self.ready(1)
        self.assertRaises(LocalUsageError, party.peer.connect, "nobody")
        error = self.assertRaises(LocalUsageError, party.peer.connect, party.peer.peerID)
        self.assertIn("own peer ID", str(error))
        self.world.close()

    def test_unknownPeer(self) -> None:
        """
        A peer that the node does not know is told within a round trip.
        """
        (party,) = self.ready(1)
        began = self.internet.seconds()
        error = self.refuse(party.peer.connect(encodePeerID(bytes(32))), PeerUnreachable)
        self.assertIn("is that program running", str(error))
        self.assertLess(self.internet.seconds() - began, 0.1)
        self.assertNothingLeft(party)
        self.world.close()

    def test_refused(self) -> None:
        """
        A peer that takes no call says so, and does not say where it is.
        """
        caller, callee = self.ready(2)
        callee.welcome = False
        error = self.refuse(caller.peer.connect(callee.peer.peerID), PeerUnreachable)
        self.assertIn("takes no call", str(error))
        self.assertNothingLeft(caller, callee)
        self.world.close()

    def test_nobodyIsTaken(self) -> None:
        """
        A peer without a policy takes no calls, and makes them.
        """
        first, second = self.ready(2)
        second.peer._incoming = DatagramPeer(second.host, generateIdentity(), second.link)._incoming
        self.refuse(first.peer.connect(second.peer.peerID), PeerUnreachable)
        self.world.connect(second, first)
        self.world.close()

    def test_bugInPolicy(self) -> None:
        """
        A policy that raises refuses, and is logged.
        """
        caller, callee = self.ready(2)

        def failing(peerID: str) -> bool:
            raise ZeroDivisionError

        self.patch(callee, "accepts", failing)
        self.refuse(caller.peer.connect(callee.peer.peerID), PeerUnreachable)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertNothingLeft(caller, callee)
        self.world.close()

    def test_bugWhenOpened(self) -> None:
        """
        A program that cannot take its path loses it, and the caller is told why.
        """
        caller, callee = self.ready(2)

        def failing(peerID: str, path: Punch) -> None:
            raise ZeroDivisionError

        self.patch(callee, "pathOpened", failing)
        recorder = self.world.connect(caller, callee)
        self.internet.advance(1.0)
        assert recorder.lost is not None
        self.assertIn("the program failed", recorder.lost.getErrorMessage())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertNothingLeft(caller, callee)
        self.world.close()

    def test_tooManyAtOnce(self) -> None:
        """
        One peer opens two sessions at once; a third is refused.
        """
        caller, callee = self.ready(2)
        calls = [caller.peer.connect(callee.peer.peerID) for _ in range(3)]
        self.refuse(calls[2], PeerUnreachable)
        for call in calls[:2]:
            self.internet.runUntil(call)
        self.world.close()

    def test_failuresAreCounted(self) -> None:
        """
        A peer whose calls come to nothing, as those of one that aims checks at others do, may call
        again only when some time has passed.
        """
        caller, callee = self.ready(2)
        for _ in range(int(FAILURE_RATE.burst)):
            calling = caller.peer.connect(callee.peer.peerID)
            self.internet.advance(0.06)
            calling.cancel()
            self.failureResultOf(calling, CancelledError)
            self.internet.advance(0.1)
        refused: list[bytes] = []
        self.patch(callee.link, "send", lambda to, payload: refused.append(payload))
        calling = caller.peer.connect(callee.peer.peerID)
        calling.addErrback(lambda failure: None)
        self.internet.advance(0.2)
        self.assertEqual([type(decodeSignal(each)) for each in refused], [Goodbye])
        self.world.close()

    def test_flood(self) -> None:
        """
        Refusals are bounded, so that strangers cannot use up what this peer may send.
        """
        caller, callee = self.ready(2)
        callee.welcome = False
        sent: list[bytes] = []
        self.patch(callee.link, "send", lambda to, payload: sent.append(payload))
        offers: list[bytes] = []
        for _ in range(100):
            caller.peer._requireReach().puncher.call(offers.append, []).close()
        key = decodePeerID(caller.peer.peerID)
        for offer in offers[::2]:
            callee.peer.messageReceived(key, offer)
        self.assertEqual(len(sent), REFUSAL_RATE.burst)
        self.internet.advance(5.0)
        for offer in offers[::2]:
            callee.peer.messageReceived(key, offer)
        self.assertEqual(len(sent), REFUSAL_RATE.burst + 5 * REFUSAL_RATE.perSecond)
        self.world.close()

    def test_nodeGone(self) -> None:
        """
        A call while there is no link fails with the next attempt at one.
        """
        caller, callee = self.ready(2)
        self.internet.runUntil(self.world.service.stopService())
        self.internet.advance(1.0)
        self.refuse(caller.peer.connect(callee.peer.peerID), RendezvousUnreachable)
        self.world.close()

    def test_lineCut(self) -> None:
        """
        When the line of the node is cut right behind the offer, the call fails in time.
        """
        caller, callee = self.ready(2)
        calling = caller.peer.connect(callee.peer.peerID)
        self.world.node.link.cut()
        self.refuse(calling, PunchFailed)
        self.assertNothingLeft(caller, callee)
        self.world.node.link.restore()
        self.world.close()

    def test_linkLostMeanwhile(self) -> None:
        """
        A signal that there is no link for is lost; the call ends in time.
        """
        caller, callee = self.ready(2)
        self.internet.runUntil(callee.peer.stopService())

        def down(to: bytes, payload: bytes) -> None:
            raise LinkDown("down")

        self.patch(caller.link, "send", down)
        self.refuse(caller.peer.connect(callee.peer.peerID), PunchFailed)
        self.assertNothingLeft(caller, callee)
        self.world.close()

    def test_ignored(self) -> None:
        """
        What is malformed, or of no session, is counted.
        """
        (party,) = self.ready(1)
        for payload in (b"", b"hello", encodeSignal(Goodbye(bytes(8), "bye"))):
            party.peer.messageReceived(b"x" * 32, payload)
        party.peer.peerUnreachable(b"x" * 32)
        self.assertEqual(party.peer.ignored, 3)
        self.world.close()


class StopTests(PeerCase):
    """
    Stopping, in every state, frees everything.
    """

    def stop(self, party: Party) -> None:
        """
        Stop a peer, and see that its program has nothing left to do.
        """
        self.internet.runUntil(party.peer.stopService(), timeout=10.0)
        self.assertNothingLeft(party)
        self.assertEqual(list(party.host.getDelayedCalls()), [])
        self.assertEqual(list(party.host.getReaders()), [])

    def test_neverStarted(self) -> None:
        """
        A peer that never started.
        """
        party = Party(self.home(), generateIdentity(), self.world.random)
        self.stop(party)

    def test_atAnyMoment(self) -> None:
        """
        While the link connects, addresses are gathered, the NAT is measured.
        """
        for moment in (0.0, 0.03, 0.06, 0.1, 0.12, 0.14, 0.16, 0.2, 0.5, 3.0, 20.0):
            self.setUp()
            party = self.party()
            ready = party.peer.whenReady()
            self.internet.advance(moment)
            self.stop(party)
            if not ready.called:
                self.fail("nobody was told")
            ready.addErrback(lambda failure: failure.trap(LinkDown))

    def test_whileResolving(self) -> None:
        """
        While the name of a STUN server is looked up.
        """
        self.internet.name("stun.example", NODE)
        party = self.party(stunServers=[("stun.example", STUN_PORT)])
        ready = party.peer.whenReady()
        self.internet.runUntil(party.link.whenUp())
        self.stop(party)
        self.failureResultOf(ready, LinkDown)

    def test_whileCalling(self) -> None:
        """
        While a call is made, at any moment of it: both sides are told.
        """
        for moment in (0.0, 0.03, 0.06, 0.08, 0.1):
            self.setUp()
            caller, callee = self.ready(2)
            calling = caller.peer.connect(callee.peer.peerID)
            self.internet.advance(moment)
            self.stop(caller)
            calling.addErrback(lambda failure: failure.trap(LinkDown, PathLost))
            self.assertTrue(calling.called)
            self.assertNothingLeft(callee)
            self.stop(callee)

    def test_whileCalled(self) -> None:
        """
        While it is called: the caller is told.
        """
        for moment in (0.055, 0.06, 0.08, 0.1):
            self.setUp()
            caller, callee = self.ready(2)
            calling = caller.peer.connect(callee.peer.peerID)
            self.internet.advance(moment)
            self.stop(callee)
            calling.addErrback(lambda failure: failure.trap(PeerUnreachable, PathLost))
            self.internet.advance(2.0)
            self.assertTrue(calling.called)
            self.assertNothingLeft(caller)
            self.stop(caller)

    def test_connected(self) -> None:
        """
        While there is a path: both ends are told, the other one by a goodbye.
        """
        caller, callee = self.ready(2)
        recorder = self.world.connect(caller, callee)
        self.stop(caller)
        assert recorder.lost is not None
        recorder.lost.trap(PathLost)
        lost = callee.paths[0].lost
        assert lost is not None
        self.assertIn("the program stopped", lost.getErrorMessage())
        self.stop(callee)

    def test_afterwards(self) -> None:
        """
        A peer that was stopped is not ready, and makes no calls.
        """
        caller, callee = self.ready(2)
        self.stop(caller)
        self.failureResultOf(caller.peer.whenReady(), LinkDown)
        self.failureResultOf(caller.peer.connect(callee.peer.peerID), LinkDown)
        self.stop(callee)

    def test_callsWhenLost(self) -> None:
        """
        A program that calls again whenever it loses its path does not keep the peer from stopping.
        """
        caller, callee = self.ready(2)
        path = self.internet.runUntil(caller.peer.connect(callee.peer.peerID))
        again: list[Deferred[Punch]] = []

        class Stubborn(Recorder):
            """
            Calls again.
            """

            def pathLost(self, reason: Failure) -> None:
                """
                At once.
                """
                again.append(caller.peer.connect(callee.peer.peerID))

        path.receiver = Stubborn(caller.host, path, echo=False)
        self.stop(caller)
        self.failureResultOf(again[0], LinkDown)
        self.stop(callee)

    def test_whileAsked(self) -> None:
        """
        A program that stops the peer when it is asked about a caller has no session after that.
        """
        caller, callee = self.ready(2)

        def stopping(peerID: str) -> bool:
            callee.peer.stopService()
            return True

        self.patch(callee, "accepts", stopping)
        self.refuse(caller.peer.connect(callee.peer.peerID), PeerUnreachable, PunchFailed)
        self.stop(callee)
        self.stop(caller)

    def test_linkUpTooLate(self) -> None:
        """
        A link that says it is up when the peer has stopped makes it do nothing.
        """
        (party,) = self.ready(1)
        welcome = self.successResultOf(party.link.whenUp())
        self.stop(party)
        party.peer.linkUp(welcome)
        self.assertEqual(list(party.host.getDelayedCalls()), [])


class StartTests(PeerCase):
    """
    Starting, and starting again.
    """

    def test_again(self) -> None:
        """
        A peer that was stopped can be started again: it is ready, called, and calls.
        """
        first, second = self.ready(2)
        for _ in range(3):
            self.internet.runUntil(first.peer.stopService())
            first.peer.startService()
            self.internet.runUntil(first.peer.whenReady(), timeout=30.0)
            self.talk(self.world.connect(first, second), second)
            self.talk(self.world.connect(second, first), first)
        self.world.close()

    def test_neverStarted(self) -> None:
        """
        A peer that never started cannot say where a path of it starts.
        """
        first, second = self.ready(2)
        recorder = self.world.connect(first, second)
        self.internet.advance(1.0)
        idle = Party(self.home(), generateIdentity(), self.world.random)
        self.assertRaises(LocalUsageError, idle.peer.localAddress, recorder.path)
        self.world.close()

    def test_tooSoon(self) -> None:
        """
        A peer that runs is not started again.
        """
        (party,) = self.ready(1)
        self.assertRaises(LocalUsageError, party.peer.startService)
        self.world.close()

    def test_portInUse(self) -> None:
        """
        A UDP port that somebody else has is an error at once, and nothing is left of the attempt.
        """
        (party,) = self.ready(1)
        number = party.peer._requireReach().port.localPort
        other = Party(party.host, generateIdentity(), self.world.random, port=number)
        self.assertRaises(PortUnusable, other.peer.startService)
        self.assertFalse(other.peer.running)
        self.internet.runUntil(other.peer.stopService())
        self.world.close()


class AnythingTests(PeerCase):
    """
    Whatever other peers send.
    """

    @settings(max_examples=40)
    @given(st.lists(st.tuples(st.booleans(), mutations(SIGNALS) | st.binary(max_size=60))))
    def test_signals(self, signals: list[tuple[bool, bytes]]) -> None:
        """
        Nothing raises, and nothing is left.
        """
        self.homes = 0
        self.world = Neighborhood(seed=21)
        self.internet = self.world.internet
        caller, callee = self.ready(2)
        calling = caller.peer.connect(callee.peer.peerID)
        calling.addErrback(lambda failure: None)
        for known, signal in signals:
            sender = decodePeerID(caller.peer.peerID) if known else b"x" * 32
            callee.peer.messageReceived(sender, signal)
            caller.peer.messageReceived(decodePeerID(callee.peer.peerID), signal)
            self.internet.advance(0.02)
        self.internet.advance(30.0)
        self.assertTrue(calling.called)
        self.world.close()
