"""
Tests for L{p2ptwist.net.routes}.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.net.routes import ADDRESS_LIMIT, Routes

HERE: HostPort = ("192.0.2.1", 1000)
THERE: HostPort = ("192.0.2.2", 1000)


class RoutesTests(SynchronousTestCase):
    """
    Datagrams find the sessions that may want them.
    """

    def setUp(self) -> None:
        """
        Two sessions.
        """
        self.routes: Routes[str] = Routes()
        self.routes.add("a")
        self.routes.add("b")

    def test_empty(self) -> None:
        """
        Where nothing was sent, nothing is expected.
        """
        self.assertEqual(self.routes.at(HERE), [])
        self.assertIsNone(self.routes.named(b"x"))
        self.assertEqual(len(Routes[str]()), 0)

    def test_newestFirst(self) -> None:
        """
        The session that began to send to an address last comes first.
        """
        self.routes.sends("a", HERE)
        self.routes.sends("b", HERE)
        self.routes.sends("a", HERE)
        self.assertEqual(self.routes.at(HERE), ["b", "a"])
        self.assertEqual(self.routes.sessions(), ["a", "b"])

    def test_names(self) -> None:
        """
        A session has the fragments that were given last.
        """
        self.routes.names("a", [b"one", b"two"])
        self.routes.names("a", [b"two", b"three"])
        found = [self.routes.named(each) for each in (b"one", b"two", b"three")]
        self.assertEqual(found, [None, "a", "a"])

    def test_forget(self) -> None:
        """
        A session that is over leaves nothing, and nothing is added to it.
        """
        self.routes.sends("a", HERE)
        self.routes.sends("a", THERE)
        self.routes.sends("b", HERE)
        self.routes.names("a", [b"one"])
        self.routes.forget("a")
        self.routes.sends("a", HERE)
        self.routes.names("a", [b"one"])
        self.assertEqual(self.routes.at(HERE), ["b"])
        self.assertEqual(self.routes.at(THERE), [])
        self.assertIsNone(self.routes.named(b"one"))
        self.assertEqual(len(self.routes), 1)

    def test_bounded(self) -> None:
        """
        A peer that makes a session answer to ever more addresses does not make it remember more;
        the address that is in use stays.
        """
        self.routes.sends("a", HERE)
        for port in range(1024, 1024 + 10 * ADDRESS_LIMIT):
            self.routes.sends("a", (THERE[0], port))
            self.routes.sends("a", HERE)
        known = [port for port in range(65536) if self.routes.at((THERE[0], port))]
        self.assertEqual(len(known), ADDRESS_LIMIT - 1)
        self.assertEqual(self.routes.at(HERE), ["a"])

    def test_manySessions(self) -> None:
        """
        Thousands of sessions with one address come and go without a trace.
        """
        for number in range(4096):
            self.routes.add(f"s{number}")
            self.routes.sends(f"s{number}", HERE)
            self.routes.names(f"s{number}", [b"%d" % number])
        self.assertEqual(self.routes.named(b"4095"), "s4095")
        for number in range(4096):
            self.routes.forget(f"s{number}")
        self.assertEqual(len(self.routes), 2)
        self.assertEqual((self.routes.byAddress, self.routes._byFragment), ({}, {}))


SESSIONS = st.sampled_from("abc")
ADDRESSES = st.builds(lambda port: (HERE[0], port), st.integers(1, 2 * ADDRESS_LIMIT))


class RoutesMachine(RuleBasedStateMachine):
    """
    Any sequence of calls leaves the three tables saying the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.routes: Routes[str] = Routes()

    @rule(session=SESSIONS)
    def add(self, session: str) -> None:
        """
        A session begins, unless it has.
        """
        if session not in self.routes.sessions():
            self.routes.add(session)

    @rule(session=SESSIONS)
    def forget(self, session: str) -> None:
        """
        A session ends, if it has begun.
        """
        if session in self.routes.sessions():
            self.routes.forget(session)

    @rule(session=SESSIONS, addresses=st.lists(ADDRESSES, max_size=60))
    def sends(self, session: str, addresses: list[HostPort]) -> None:
        """
        A session sends, or one that is over tries to.
        """
        for address in addresses:
            self.routes.sends(session, address)

    @rule(session=SESSIONS, numbers=st.sets(st.integers(0, 3), max_size=2))
    def names(self, session: str, numbers: set[int]) -> None:
        """
        A session has other fragments; no two sessions have the same.
        """
        self.routes.names(session, [f"{session}{number}".encode() for number in numbers])

    @invariant()
    def agree(self) -> None:
        """
        What is found by address or fragment is known of the session, and the other way round.
        """
        routes = self.routes
        forward = {
            (session, address)
            for session, entry in routes._entries.items()
            for address in entry.addresses
        }
        backward = {
            (session, address)
            for address, sharing in routes.byAddress.items()
            for session in sharing
        }
        assert forward == backward
        assert all(routes.byAddress.values())
        named = {
            (fragment, each) for each, e in routes._entries.items() for fragment in e.fragments
        }
        assert named == set(routes._byFragment.items())
        assert all(len(entry.addresses) <= ADDRESS_LIMIT for entry in routes._entries.values())


class AnySequenceTests(SynchronousTestCase):
    """
    L{RoutesMachine}, as a test.
    """

    def test_agree(self) -> None:
        """
        The tables agree after any sequence of calls.
        """
        run_state_machine_as_test(RoutesMachine)
