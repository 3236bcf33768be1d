"""
C{p2ptwist doctor}: how this machine reaches others, and why a connection is relayed.
"""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any

from twisted.internet.task import deferLater

from p2ptwist.cli.findings import asJSON, inWords
from p2ptwist.cli.journal import Journal
from p2ptwist.compose import RENDEZVOUS_VARIABLE, rendezvousNodes
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.peer.chronicle import Chronicle
from p2ptwist.peer.examination import examine
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.peer.service import PeerService
from p2ptwist.rendezvous.linkclient import RendezvousLink

LONGEST = 120.0  # seconds; up to which the lifetime of mappings is looked for
TRACE_LIMIT = 90.0  # seconds; the longest ladder, with its pauses, takes some 70
_STEP = 0.05  # seconds between two looks whether all was tried


async def diagnose(reactor: Any, options: Namespace, journal: Journal) -> None:
    """
    Find everything out, and say it.

    @raise SystemExit: when nobody answered at all.
    """
    # A key of its own: the identity's would take the link away from a program that runs with it.
    identity = generateIdentity()
    nodes = [(node, RendezvousLink.fromString(reactor, node, identity)) for node in _nodes(options)]
    diagnosis = await examine(
        reactor,
        nodes,
        options.stun,
        lifetime=LONGEST if options.lifetime else None,
        progress=journal.progress,
    )
    journal.report(inWords(diagnosis), asJSON(diagnosis))
    if not diagnosis.online and not any(each.external for each in diagnosis.routers):
        raise SystemExit(1)


async def follow(reactor: Any, peer: PeerService, peerID: str, chronicle: Chronicle) -> None:
    """
    Call a peer, and wait until the connection is direct, or all was tried.

    @param chronicle: of the attempts of C{peer}, which has a link.
    """
    chronicle.begin()
    await peer.call(peerID)
    chronicle.welcomed()
    end = reactor.seconds() + TRACE_LIMIT
    while not chronicle.complete and reactor.seconds() < end:
        await deferLater(reactor, _STEP)


def _nodes(options: Namespace) -> list[str]:
    """
    @return: the nodes that were named; none is enough where STUN servers were.
    """
    named = options.rendezvous or os.environ.get(RENDEZVOUS_VARIABLE)
    if not named and options.stun:
        return []
    try:
        return rendezvousNodes(options.rendezvous, os.environ)
    except LocalUsageError as error:
        raise LocalUsageError(f"{error}; or name a STUN server (--stun HOST:PORT)") from None
