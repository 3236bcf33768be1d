"""
What each command does.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from p2ptwist.cli.doctor import diagnose, follow
from p2ptwist.cli.joint import Attach, Joint
from p2ptwist.cli.journal import Journal, PathWatch
from p2ptwist.cli.options import DEFAULT_SERVICE
from p2ptwist.cli.story import storyAsJSON, storyInWords
from p2ptwist.cli.streams import Once, Pinger, ToldEchoes, shortReason
from p2ptwist.compose import identityOf, makePeer, rendezvousNodes
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.peerid import decodePeerID
from p2ptwist.errors import P2PError
from p2ptwist.net.closing import thenClose
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.chronicle import Chronicle
from p2ptwist.peer.ping import PING_SERVICE, EchoFactory
from p2ptwist.peer.service import PathEvent, PeerService, allowing, everyone
from p2ptwist.peer.streamtable import encodeHeader

# Seconds that the last bytes of a transfer have to arrive, on a bad line; Ctrl-C gives them less.
PATIENCE = 60.0
INTERRUPTED = 130  # the exit status of what Ctrl-C has ended: 128 and the number of SIGINT

_OUTCOMES = (P2PError, ConnectError, ConnectionLost, ConnectionDone, OSError)


async def run(reactor: Any, options: Namespace, journal: Journal, attach: Attach) -> None:
    """
    Do what the options say.

    @param attach: joins a protocol to standard input and output.
    @raise SystemExit: when it ended badly, after one line that says why.
    """
    try:
        await _COMMANDS[options.command](reactor, options, journal, attach)
    except CancelledError:
        journal.failed("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except _OUTCOMES as error:
        journal.failed(shortReason(Failure(error)))
        raise SystemExit(1) from None


async def printIdentity(
    reactor: object, options: Namespace, journal: Journal, attach: Attach
) -> None:
    """
    C{p2ptwist id}.
    """
    journal.identity(identityOf(options.identity, os.environ).peerID)


async def listen(reactor: Any, options: Namespace, journal: Journal, attach: Attach) -> None:
    """
    C{p2ptwist listen}.
    """
    if options.service == PING_SERVICE:
        raise LocalUsageError(f"{PING_SERVICE} is what ping uses: name the service otherwise")
    encodeHeader(options.service)
    policy = allowing(options.allow) if options.allow else everyone
    peer = _makePeer(reactor, options, policy=policy)
    paths = _watch(peer, journal)
    peer.listen(PING_SERVICE, EchoFactory())
    peer.observeLinks(lambda reason: journal.offline(shortReason(reason)))
    joint = Joint(attach)
    first: Deferred[PeerAddress] = Deferred()
    if options.echo:
        peer.listen(options.service, ToldEchoes(journal, paths))
    else:
        peer.listen(options.service, Once(joint, first.callback))
    service = "" if options.service == DEFAULT_SERVICE else f" --service {options.service}"
    advice = f"waiting; on the other machine: p2ptwist connect {peer.peerID}{service}"

    async def work() -> None:
        journal.ready(peer.peerID, advice)
        address = await first
        await _join(peer, joint, address, journal, paths, None)

    try:
        await _running(peer, work)
    except CancelledError:
        if not options.echo:
            raise


async def connect(reactor: Any, options: Namespace, journal: Journal, attach: Attach) -> None:
    """
    C{p2ptwist connect}.
    """
    peer = _makePeer(reactor, options)
    _checkCallable(peer, options.peer)
    encodeHeader(options.service)
    paths = _watch(peer, journal)
    joint = Joint(attach)
    address = PeerAddress(options.peer, options.service)

    async def work() -> None:
        journal.ready(peer.peerID, f"connecting as {peer.peerID}")
        began = reactor.seconds()
        await peer.connect(options.peer, options.service, Once(joint, lambda _: None))
        await _join(peer, joint, address, journal, paths, reactor.seconds() - began)

    await _running(peer, work)


async def ping(reactor: Any, options: Namespace, journal: Journal, attach: Attach) -> None:
    """
    C{p2ptwist ping}.
    """
    peer = _makePeer(reactor, options)
    _checkCallable(peer, options.peer)

    def replied(number: int, seconds: float) -> None:
        path = peer.path(options.peer) or PathEvent(options.peer, "relayed", "tcp", None, None)
        journal.reply(number, seconds, path)

    pinger = Pinger(reactor, options.count, replied)

    async def work() -> None:
        await peer.connect(options.peer, PING_SERVICE, Once(pinger, lambda _: None))
        await pinger.done

    try:
        await _running(peer, work)
    except CancelledError:
        if not pinger.replies:
            raise


async def doctor(reactor: Any, options: Namespace, journal: Journal, attach: Attach) -> None:
    """
    C{p2ptwist doctor}.
    """
    if options.peer is None:
        await diagnose(reactor, options, journal)
        return
    peer = _makePeer(reactor, options, stunServers=options.stun or None)
    _checkCallable(peer, options.peer)
    chronicle = Chronicle(reactor, journal.progress)
    peer.attempts = chronicle.observe
    peer.observe(chronicle.pathChanged)

    async def work() -> None:
        await follow(reactor, peer, options.peer, chronicle)
        chronicle.close()
        journal.report(storyInWords(chronicle), storyAsJSON(chronicle, options.peer))

    await _running(peer, work)


_COMMANDS = {
    "id": printIdentity,
    "listen": listen,
    "connect": connect,
    "ping": ping,
    "doctor": doctor,
}


def _makePeer(reactor: Any, options: Namespace, **more: Any) -> PeerService:
    nodes = rendezvousNodes(options.rendezvous, os.environ)
    identity = identityOf(options.identity, os.environ)
    return makePeer(reactor, identity, nodes, **more)


def _checkCallable(peer: PeerService, peerID: str) -> None:
    decodePeerID(peerID)
    if peerID == peer.peerID:
        raise LocalUsageError(
            "that is this program's own peer ID: use another identity (--identity) on one of the "
            "two sides"
        )


def _watch(peer: PeerService, journal: Journal) -> PathWatch:
    paths = PathWatch(journal, peer.path)
    peer.observe(paths.changed)
    return paths


async def _running(peer: PeerService, work: Callable[[], Awaitable[None]]) -> None:
    """
    Do C{work} while the peer is at a rendezvous node.
    """

    async def run() -> None:
        await peer.whenLinked()
        await work()
        peer.linger = PATIENCE

    peer.startService()
    await thenClose(run(), peer.stopService)


async def _join(
    peer: PeerService,
    joint: Joint,
    address: PeerAddress,
    journal: Journal,
    paths: PathWatch,
    seconds: float | None,
) -> None:
    """
    Wait for the end of the stream that standard input and output are joined to.
    """
    journal.connected(address.peerID, address.service, seconds)
    paths.opened(address.peerID)
    try:
        await joint.done
    except _OUTCOMES as error:
        journal.lost(address.peerID, shortReason(Failure(error)))
        raise SystemExit(1) from None
    finally:
        paths.closed(address.peerID)
    journal.lost(address.peerID, "both sides have ended it")
