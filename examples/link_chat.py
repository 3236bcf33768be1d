"""
Chat through a rendezvous node: a link used alone, without any path between the peers.

Without --rendezvous it starts a node of its own on the loopback interface, and prints the command
that a second terminal needs::

    python examples/link_chat.py
    python examples/link_chat.py --rendezvous tcp:127.0.0.1:PORT PEER-ID

Lines of standard input go to PEER-ID, or to whoever wrote last; what comes is printed.  With
PEER-ID, the program ends when standard input does.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.peerid import decodePeerID, encodePeerID
from p2ptwist.errors import P2PError
from p2ptwist.interfaces import ILink, ILinkReceiver, IWelcome
from p2ptwist.peer.identity import generateIdentity, loadOrCreateIdentity
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.service import NodeService


@implementer(ILinkReceiver)
class Chat(LineReceiver):
    """
    Standard input on one side, the link on the other.

    @ivar ended: fires when standard input has ended.
    """

    delimiter = b"\n"

    def __init__(self, link: ILink, partner: bytes | None) -> None:
        self.ended: Deferred[None] = Deferred()
        self._link = link
        self._partner = partner

    def lineReceived(self, line: bytes) -> None:
        """
        Send a line.
        """
        if self._partner is None:
            print("nobody has written yet", file=sys.stderr, flush=True)
            return
        try:
            self._link.send(self._partner, line)
        except P2PError as error:
            print(f"not sent: {error}", file=sys.stderr, flush=True)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Standard input has ended.
        """
        if not self.ended.called:
            self.ended.callback(None)

    def linkUp(self, welcome: IWelcome) -> None:
        """
        Say so: it also comes back by itself.
        """
        print(f"linked to {welcome.nodeName}", file=sys.stderr, flush=True)

    def linkDown(self, reason: Failure) -> None:
        """
        Say why.
        """
        print(f"no link: {reason.getErrorMessage()}", file=sys.stderr, flush=True)

    def messageReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Print a line, and answer whoever wrote it from now on.
        """
        self._partner = sender
        text = payload.decode("utf-8", "replace")
        print(f"{encodePeerID(sender)[:8]}: {text}", flush=True)

    def relayedReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Ignore what is relayed: a chat has messages only.
        """

    def peerUnreachable(self, peer: bytes) -> None:
        """
        Say who is not there.
        """
        print(f"{encodePeerID(peer)} is not there", file=sys.stderr, flush=True)


def startNode(reactor: Any) -> str:
    """
    @return: the endpoint of a new node on the loopback interface.
    """
    listen = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    node = NodeService(reactor, "chat", [("tcp:0:interface=127.0.0.1", listen)])
    node.startService()
    reactor.addSystemEventTrigger("before", "shutdown", node.stopService)
    return f"tcp:127.0.0.1:{node.addresses[0].port}"  # type: ignore[attr-defined]


async def chat(reactor: Any, options: argparse.Namespace) -> None:
    """
    Chat until standard input ends.
    """
    identity = loadOrCreateIdentity(options.identity) if options.identity else generateIdentity()
    partner = decodePeerID(options.peer) if options.peer else None
    endpoint = options.rendezvous or startNode(reactor)
    link = RendezvousLink.fromString(reactor, endpoint, identity)
    link.receiver = window = Chat(link, partner)
    link.startService()
    try:
        await link.whenUp()
        if partner is None:
            peerID = encodePeerID(identity.publicKey)
            print(f"python {sys.argv[0]} --rendezvous {endpoint} {peerID}", flush=True)
        StandardIO(window)
        await (window.ended if partner else Deferred())
    finally:
        await link.stopService()


async def run(reactor: Any, options: argparse.Namespace) -> None:
    """
    Chat; what cannot be is one line.
    """
    try:
        await chat(reactor, options)
    except P2PError as error:
        raise SystemExit(f"{sys.argv[0]}: {error}") from None


def main(arguments: list[str]) -> None:
    """
    Read the command line and run.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rendezvous", help="the node, such as tcp:HOST:PORT [its own]")
    parser.add_argument("--identity", help="the file with the identity, made if missing [none]")
    parser.add_argument("peer", nargs="?", metavar="PEER-ID", help="whom to write to")
    options = parser.parse_args(arguments)
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, options)))


if __name__ == "__main__":
    main(sys.argv[1:])
