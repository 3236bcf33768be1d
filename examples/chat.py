"""
A chat room that one of the chatters keeps: encrypted, between programs behind NATs, and every line
under the name of whoever proved to have said it.

Both need a rendezvous node, named here or in the environment as P2PTWIST_RENDEZVOUS::

    python examples/chat.py --rendezvous tcp:127.0.0.1:8470 --identity bob.key
    python examples/chat.py --rendezvous tcp:127.0.0.1:8470 --identity alice.key BOB-S-PEER-ID

The protocols are plain Twisted; all that is special is the endpoint.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver

from p2ptwist.errors import P2PError


class Room:
    """
    Who is there.

    @ivar closed: fires when the room is.
    """

    def __init__(self, isKeeper: bool) -> None:
        self.closed: Deferred[None] = Deferred()
        self._isKeeper = isKeeper
        self._members: set[Member] = set()

    def come(self, member: Member) -> None:
        """
        Somebody has connected.
        """
        self._members.add(member)
        if self._isKeeper:
            self.tell(f"{member.name} is here")

    def go(self, member: Member) -> None:
        """
        Somebody has gone.  Without the keeper there is no room.
        """
        self._members.remove(member)
        if self._isKeeper:
            self.tell(f"{member.name} is gone")
        else:
            self.close()

    def heard(self, member: Member, text: str) -> None:
        """
        Somebody has said something; the keeper tells everybody who it was.
        """
        if self._isKeeper:
            self.tell(f"{member.name}: {text}", but=member)
        else:
            print(text, flush=True)

    def typed(self, text: str) -> None:
        """
        This side says something.
        """
        for member in self._members:
            member.sendLine((f"keeper: {text}" if self._isKeeper else text).encode())

    def tell(self, text: str, but: Member | None = None) -> None:
        """
        Print a line, and send it to everybody but one.
        """
        print(text, flush=True)
        for member in self._members - {but}:
            member.sendLine(text.encode())

    def close(self) -> None:
        """
        Close the room.
        """
        if not self.closed.called:
            self.closed.callback(None)


class Member(LineOnlyReceiver):
    """
    A connection.
    """

    delimiter = b"\n"

    def __init__(self, room: Room) -> None:
        self._room = room

    def connectionMade(self) -> None:
        """
        Come in, under the name that was proved.
        """
        assert self.transport is not None
        address: Any = self.transport.getPeer()
        self.name = address.peerID[:8]
        self._room.come(self)

    def lineReceived(self, line: bytes) -> None:
        """
        Say something.
        """
        self._room.heard(self, line.decode("utf-8", "replace"))

    def connectionLost(self, reason: object = None) -> None:
        """
        Leave.
        """
        self._room.go(self)


class Keyboard(LineOnlyReceiver):
    """
    Standard input.
    """

    delimiter = b"\n"

    def __init__(self, room: Room) -> None:
        self._room = room

    def lineReceived(self, line: bytes) -> None:
        """
        Say something.
        """
        self._room.typed(line.decode("utf-8", "replace"))

    def connectionLost(self, reason: object = None) -> None:
        """
        There is no more to say.
        """
        self._room.close()


def parseOptions(arguments: list[str]) -> argparse.Namespace:
    """
    @return: C{rendezvous}, C{identity} and C{peer}.
    """
    parser = argparse.ArgumentParser(description="Chat with programs behind NATs.")
    parser.add_argument("--rendezvous", metavar="tcp:HOST:PORT", help="the rendezvous node")
    parser.add_argument("--identity", metavar="FILE", help="this program's key; made if needed")
    parser.add_argument("peer", nargs="?", metavar="PEER-ID", help="who keeps the room, if not us")
    return parser.parse_args(arguments)


def describe(options: argparse.Namespace) -> str:
    """
    @return: the endpoint that the options mean.
    """
    words = ["p2p", *([options.peer] if options.peer else []), "service=chat"]
    for name in ("rendezvous", "identity"):
        if value := getattr(options, name):
            words.append(f"{name}={quoteStringArgument(value)}")
    return ":".join(words)


async def main(reactor: Any, *arguments: str) -> None:
    """
    Keep a room, or go to one.
    """
    options = parseOptions(list(arguments))
    room = Room(isKeeper=options.peer is None)
    factory: Any = Factory()
    factory.buildProtocol = lambda address: Member(room)
    try:
        if options.peer is None:
            port = await serverFromString(reactor, describe(options)).listen(factory)
            print(f"others come with: python examples/chat.py {port.getHost().peerID}", flush=True)
        else:
            await clientFromString(reactor, describe(options)).connect(factory)
    except P2PError as error:
        sys.exit(str(error))
    StandardIO(Keyboard(room))
    await room.closed


if __name__ == "__main__":
    react(main, sys.argv[1:])
