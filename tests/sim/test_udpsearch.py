"""
Tests for L{p2ptwist.peer.udpsearch}, L{p2ptwist.net.freshport} and L{p2ptwist.net.outlet}: what
becomes of an attempt, and of the ports that were opened for it.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.ice.signal import Description, decodeSignal
from p2ptwist.core.ladder.memory import Means
from p2ptwist.errors import PortUnusable
from p2ptwist.net.climb import memoryOf
from p2ptwist.net.freshport import STUN_TIME, openFresh
from p2ptwist.net.outlet import Outlet
from p2ptwist.peer.udpsearch import FRESH_AFTER
from p2ptwist.testing import NAT, Uninvited
from tests.sim.searching import HOSTS, SERVER, Search, Searcher

ACCEPTING = NAT(portOverloading=True, uninvited=Uninvited.ACCEPT)
SILENT = ("192.0.2.77", 3478)


def offers(side: Searcher) -> list[Description]:
    """
    @return: the descriptions that a side has sent.
    """
    signals = map(decodeSignal, side.said)
    return [signal for signal in signals if isinstance(signal, Description)]


def ports(side: Searcher) -> int:
    """
    @return: how many UDP ports are open on its host.
    """
    return len(side.host.getReaders())


class FreshPortTests(SynchronousTestCase):
    """
    One fresh port.
    """

    def setUp(self) -> None:
        """
        Two sides, of which one opens a port.
        """
        self.search = Search()
        self.side = self.search.caller
        assert self.side.puncher.gear is not None
        self.gear = self.side.puncher.gear

    def test_addresses(self) -> None:
        """
        It has the hosts of the port beside it, a number of its own, and a server-reflexive address.
        """
        opening = openFresh(self.gear, self.side.addresses.known)
        fresh = self.search.internet.runUntil(opening, timeout=5.0)
        host, reflexive = fresh.candidates
        self.assertEqual(host.address, (self.side.host.address, fresh.port.localPort))
        self.assertIs(reflexive.type, CandidateType.SERVER_REFLEXIVE)
        self.assertEqual(reflexive.address[0], "203.0.113.1")
        self.assertNotEqual(fresh.port.localPort, self.side.port.localPort)
        fresh.port.stopListening()
        self.search.close()

    def test_silence(self) -> None:
        """
        A STUN server that does not answer costs so many seconds, and none at all nothing; then
        there is a host address.
        """
        for server, seconds in ((SILENT, STUN_TIME), (None, 0.0)):
            self.side.server = server
            began = self.search.internet.seconds()
            opening = openFresh(self.gear, self.side.addresses.known)
            fresh = self.search.internet.runUntil(opening, timeout=5.0)
            self.assertAlmostEqual(self.search.internet.seconds() - began, seconds, 1)
            self.assertEqual([each.type for each in fresh.candidates], [CandidateType.HOST])
            fresh.port.stopListening()
        self.search.close()

    def test_cancel(self) -> None:
        """
        A port that is not wanted any more is closed at once.
        """
        opening = openFresh(self.gear, self.side.addresses.known)
        self.assertEqual(ports(self.side), 2)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.search.internet.advance(0.0)
        self.assertEqual(ports(self.side), 1)
        self.search.close()

    def test_noRoom(self) -> None:
        """
        Where no port can be opened that is said at once.
        """
        self.side.port.room = 0
        self.assertRaises(PortUnusable, openFresh, self.gear, ())
        self.search.close()


class SearchTests(SynchronousTestCase):
    """
    Attempts.
    """

    def spoiled(self) -> Search:
        """
        @return: two sides whose first attempt fails: their routers keep what comes too early.
        """
        return Search(ACCEPTING)

    def test_ordinary(self) -> None:
        """
        Where all is well the first attempt is the last.
        """
        search = Search()
        search.caller.search.call()
        search.caller.search.call()
        search.internet.advance(10.0)
        self.assertEqual([len(side.paths) for side in search.sides], [1, 1])
        self.assertEqual([offer.fresh for offer in offers(search.caller)], [False])
        self.assertEqual([ports(side) for side in search.sides], [1, 1])
        search.close()

    def test_fresh(self) -> None:
        """
        An attempt that is silent is followed by one from fresh ports on both sides, which are
        closed with the path; and the attempt after that begins with fresh ones.
        """
        search = self.spoiled()
        search.caller.search.call()
        search.internet.advance(FRESH_AFTER + 3.0)
        self.assertEqual([offer.fresh for offer in offers(search.caller)], [False, True])
        self.assertEqual([ports(side) for side in search.sides], [2, 2])
        for side in search.sides:
            (_, path) = side.paths.pop()
            self.assertTrue(path.outlet.fresh)
            path.close()
        search.internet.advance(0.1)
        self.assertEqual([ports(side) for side in search.sides], [1, 1])
        search.caller.search.call()
        search.internet.advance(2.0)
        self.assertEqual([offer.fresh for offer in offers(search.caller)], [False, True, True])
        self.assertEqual([len(side.paths) for side in search.sides], [1, 1])
        search.close()

    def test_noServer(self) -> None:
        """
        Without a STUN server a fresh port is ready at once, and one attempt still follows another.
        """
        search = self.spoiled()
        for side in search.sides:
            side.server = None
        search.caller.search.call()
        search.internet.advance(60.0)
        self.assertGreater(len(offers(search.caller)), 3)
        self.assertLessEqual(max(ports(side) for side in search.sides), 2)
        search.close()

    def test_callerHasNoRoom(self) -> None:
        """
        A caller that cannot open a fresh port goes on with the one that it has.
        """
        search = self.spoiled()
        search.caller.port.room = 0
        search.caller.search.call()
        search.internet.advance(300.0)
        kinds = {offer.fresh for offer in offers(search.caller)}
        self.assertEqual((kinds, len(offers(search.caller)) > 3), ({False}, True))
        search.close()

    def test_callerLosesRoom(self) -> None:
        """
        The same where a fresh port was what helped before.
        """
        search = self.spoiled()
        search.caller.search.call()
        search.internet.advance(FRESH_AFTER + 3.0)
        search.caller.port.room = 0
        for side in search.sides:
            side.paths.pop()[1].close()
        search.caller.search.call()
        search.internet.advance(0.1)
        self.assertEqual([offer.fresh for offer in offers(search.caller)], [False, True, False])
        search.close()

    def test_calleeHasNoRoom(self) -> None:
        """
        One that is asked for a fresh port and has none answers from the one that it has.
        """
        search = self.spoiled()
        search.callee.port.room = 0
        search.caller.search.call()
        search.internet.advance(FRESH_AFTER + 3.0)
        answers = [offer.fresh for offer in offers(search.callee)]
        self.assertEqual(answers, [False, False])
        search.close()

    def test_pathWhileOpening(self) -> None:
        """
        The first attempt succeeds while the fresh port is being opened for the next one: that is
        given up, and the path stays.
        """
        search = Search()
        search.caller.server = SILENT
        search.callee.deaf = True
        search.caller.search.call()
        search.internet.advance(FRESH_AFTER - 0.055)
        search.callee.deaf = False
        search.callee.hear(search.caller.said[0])
        search.internet.advance(0.056)
        self.assertEqual((ports(search.caller), search.caller.paths), (2, []))
        search.internet.advance(0.5)
        self.assertEqual([len(side.paths) for side in search.sides], [1, 1])
        self.assertEqual(ports(search.caller), 1)
        search.internet.advance(5.0)
        self.assertEqual([offer.fresh for offer in offers(search.caller)], [False])
        self.assertIsNotNone(search.caller.paths[0][1].remote)
        search.close()

    def test_closedWhileOpening(self) -> None:
        """
        Whoever closes while a port is being opened leaves nothing behind.
        """
        search = self.spoiled()
        for side in search.sides:
            side.server = SILENT
        search.caller.search.call()
        search.internet.advance(FRESH_AFTER + STUN_TIME + 0.2)
        self.assertEqual([ports(side) for side in search.sides], [2, 2])
        search.callee.search.close("enough")
        search.internet.advance(0.01)
        self.assertEqual(ports(search.callee), 1)
        search.close()
        search = self.spoiled()
        search.caller.server = SILENT
        search.caller.search.call()
        search.internet.advance(FRESH_AFTER + 0.5)
        self.assertEqual(ports(search.caller), 2)
        search.close()

    def test_offerWhileOpening(self) -> None:
        """
        A newer offer replaces the one that a port is being opened for.
        """
        search = self.spoiled()
        for side in search.sides:
            side.server = SILENT
        search.caller.search.call()
        search.internet.advance(FRESH_AFTER + STUN_TIME + 0.2)
        self.assertEqual(ports(search.callee), 2)
        search.caller.search.close("again")
        search.callee.hear(search.caller.said[0])
        search.internet.advance(0.01)
        self.assertEqual(ports(search.callee), 1)
        search.internet.advance(STUN_TIME + 0.1)
        self.assertEqual([offer.fresh for offer in offers(search.callee)], [False, False])
        search.close()

    def test_claimed(self) -> None:
        """
        Nothing is remembered of a network that the other side only says it is in.
        """
        search = Search()
        search.callee.learn(("198.51.100.7", 4000))
        search.caller.search.call()
        search.internet.advance(5.0)
        self.assertEqual([len(side.paths) for side in search.sides], [1, 1])
        memory = memoryOf(search.caller.host)
        self.assertIs(memory.recall(HOSTS), Means.FRESH)
        self.assertIsNone(memory.recall((HOSTS[0], "198.51.100.7")))
        search.close()

    def test_freshAndMore(self) -> None:
        """
        More addresses of the peer's own port are not told in an attempt from a fresh one.
        """
        search = self.spoiled()
        search.caller.search.call()
        search.internet.advance(0.1)
        said = len(search.caller.said)
        search.caller.learn(("203.0.113.1", 44444))
        search.caller.search.addressesChanged()
        self.assertEqual(len(search.caller.said), said + 1)
        search.callee.deaf = True
        search.internet.advance(FRESH_AFTER + 0.5)
        said = len(search.caller.said)
        search.caller.learn(("203.0.113.1", 44445))
        search.caller.search.addressesChanged()
        self.assertEqual(len(search.caller.said), said)
        search.close()


class OutletTests(SynchronousTestCase):
    """
    The way out.
    """

    def test_ways(self) -> None:
        """
        To an address that another socket was found for it sends from there, singly and many; a
        closed socket loses what it is given, and that is counted.
        """
        search = Search()
        caller = search.caller
        sent: list[bytes] = []
        outlet = Outlet(
            caller.host,
            caller.puncher.call(lambda data: None, ())._agent.survey,
            lambda data, address: sent.append(data),
            lambda datagrams, address: sent.extend(datagrams),
        )
        other = caller.port.another()
        other.listen()
        self.assertIsNone(outlet.redirect(SERVER, other))
        outlet.send(b"1", SERVER)
        outlet.way(SERVER)([b"2", b"3"], SERVER)
        outlet.send(b"4", SILENT)
        outlet.way(SILENT)([b"5"], SILENT)
        self.assertEqual(sent, [b"4", b"5"])
        self.assertIs(outlet.redirect(SERVER, None), other)
        outlet.send(b"6", SERVER)
        self.assertEqual(sent[2:], [b"6"])
        self.assertIs(outlet.redirect(SERVER, other), None)
        outlet.close()
        outlet.close()
        search.internet.advance(0.0)
        self.assertEqual(ports(caller), 1)
        caller.puncher.close()
        search.close()

    def test_refused(self) -> None:
        """
        Whatever a socket raises, the datagrams are lost and counted.
        """

        def refuse(*arguments: object) -> None:
            raise OSError("no route")

        search = Search()
        punch = search.caller.puncher.call(lambda data: None, ())
        outlet = Outlet(search.caller.host, punch._agent.survey, refuse, refuse)
        outlet.send(b"1", SERVER)
        outlet.refused([b"2", b"3"], OSError("no route"))
        self.assertEqual(outlet.unsent, 3)
        punch.close()
        search.close()
