"""
A fresh local port for one attempt.

Where a router took an uninvited packet for its own (C{docs/ladder.md}), the other side's address
and this side's port do not go together any more for as long as the router remembers it.  Another
port is not spoiled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import Candidate, CandidateType, makeCandidate
from p2ptwist.errors import STUNRefused, STUNTimeout
from p2ptwist.net.climb import Gear
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.stunclient import STUNClient

STUN_TIME = 1.5  # seconds for its server-reflexive address; two requests


@dataclass(frozen=True, slots=True)
class FreshPort:
    """
    An open port that nothing was sent from, but to a STUN server.

    @ivar port: whoever uses it closes it.
    @ivar candidates: its addresses.
    """

    port: DatagramPort
    candidates: tuple[Candidate, ...]


def openFresh(gear: Gear, known: Iterable[Candidate]) -> Deferred[FreshPort]:
    """
    Open a fresh port beside the one of C{gear}.

    @param known: the candidates of that one; the host candidates among them tell the hosts.
    @return: a Deferred that fires with it when its server-reflexive address is known, or no server
        tells it.  It can be cancelled.
    @raise PortUnusable: when there is none.
    """
    port = gear.port.another()
    port.listen()
    own = [
        makeCandidate(CandidateType.HOST, (each.address[0], port.localPort), order)
        for order, each in enumerate(each for each in known if each.type is CandidateType.HOST)
    ]
    server = gear.server()
    client = STUNClient(gear.clock, port.write)
    port.addConsumer(client.datagramReceived)
    asked: Deferred[HostPort | None] = Deferred()
    if server is None:
        asked.callback(None)
    else:
        asked = client.bind(server, STUN_TIME).addErrback(_untold)

    def done(reflexive: HostPort | Failure | None) -> FreshPort | Failure:
        port.removeConsumer(client.datagramReceived)
        if isinstance(reflexive, Failure):
            port.stopListening()
            return reflexive
        if reflexive is not None and all(each.address != reflexive for each in own):
            own.append(makeCandidate(CandidateType.SERVER_REFLEXIVE, reflexive, 0))
        return FreshPort(port, tuple(own))

    return asked.addBoth(done)


def _untold(failure: Failure) -> None:
    if failure.check(CancelledError) or not failure.check(STUNTimeout, STUNRefused):
        failure.raiseException()
