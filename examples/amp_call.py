"""
Call a function of a program behind another NAT, with Twisted's AMP.

Both need a rendezvous node, named here or in the environment as P2PTWIST_RENDEZVOUS::

    python examples/amp_call.py --rendezvous tcp:127.0.0.1:8470 --identity bob.key
    python examples/amp_call.py --rendezvous tcp:127.0.0.1:8470 --identity a.key BOB-S-PEER-ID 2 3

The first serves until Ctrl-C; the second prints the sum, and where the answer came from.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.amp import AMP, Command, Integer

from p2ptwist.errors import P2PError


class Sum(Command):
    """
    Add two numbers.
    """

    arguments = [(b"a", Integer()), (b"b", Integer())]  # noqa: RUF012
    response = [(b"total", Integer())]  # noqa: RUF012


class Calculator(AMP):
    """
    Adds for others.
    """

    @Sum.responder
    def sum(self, a: int, b: int) -> dict[str, int]:
        """
        @return: the sum, as the command's response.
        """
        return {"total": a + b}


def parseOptions(arguments: list[str]) -> argparse.Namespace:
    """
    @return: C{rendezvous}, C{identity}, C{peer} and C{numbers}.
    """
    parser = argparse.ArgumentParser(description="Add numbers on a machine behind another NAT.")
    parser.add_argument("--rendezvous", metavar="tcp:HOST:PORT", help="the rendezvous node")
    parser.add_argument("--identity", metavar="FILE", help="this program's key; made if needed")
    parser.add_argument("peer", nargs="?", metavar="PEER-ID", help="who adds; left out, we do")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="two of them")
    options = parser.parse_args(arguments)
    if options.peer and len(options.numbers) != 2:
        parser.error("two numbers are needed")
    return options


def describe(options: argparse.Namespace) -> str:
    """
    @return: the endpoint that the options mean.
    """
    words = ["p2p", *([options.peer] if options.peer else []), "service=sum"]
    for name in ("rendezvous", "identity"):
        if value := getattr(options, name):
            words.append(f"{name}={quoteStringArgument(value)}")
    return ":".join(words)


async def main(reactor: Any, *arguments: str) -> None:
    """
    Serve, or call.
    """
    options = parseOptions(list(arguments))
    factory = Factory.forProtocol(Calculator)
    try:
        if options.peer is None:
            port = await serverFromString(reactor, describe(options)).listen(factory)
            print(f"call me with: {port.getHost().peerID} 2 3", flush=True)
            await Deferred()
        calculator: Any = await clientFromString(reactor, describe(options)).connect(factory)
        a, b = options.numbers
        answer = await calculator.callRemote(Sum, a=a, b=b)
        print(answer["total"], "from", calculator.transport.getPeer())
        calculator.transport.loseConnection()
    except P2PError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    react(main, sys.argv[1:])
