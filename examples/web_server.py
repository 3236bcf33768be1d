"""
A web server behind a NAT, reached by its peer ID: C{twisted.web} on both sides, unchanged.

Both need a rendezvous node, named here or in the environment as P2PTWIST_RENDEZVOUS::

    python examples/web_server.py --rendezvous tcp:127.0.0.1:8470 --identity bob.key
    python examples/web_server.py --rendezvous tcp:127.0.0.1:8470 --identity a.key BOB-S-PEER-ID /

The first serves until Ctrl-C; the second fetches a page and prints it.  To serve a folder, no
program is needed: C{twistd -n web --path=FOLDER --listen=p2p:service=www}.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.task import react
from twisted.web.client import Agent, ResponseFailed, readBody
from twisted.web.iweb import IAgentEndpointFactory
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from p2ptwist.errors import P2PError

# Agent's readBody() says this of every transport, because it asks a wrapper of its own.
warnings.filterwarnings("ignore", "Using readBody with a transport")


class Page(Resource):
    """
    Greets whoever asks, by the peer ID that they proved.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """
        @return: a greeting.
        """
        caller = request.getClientAddress()
        return f"hello {caller.peerID}, you asked for {request.path.decode()}\n".encode()


@implementer(IAgentEndpointFactory)
class ToPeer:
    """
    Leads an C{Agent} to a peer, whatever the host in the URL.
    """

    def __init__(self, reactor: Any, description: str) -> None:
        self._endpoint = clientFromString(reactor, description)

    def endpointForURI(self, uri: object) -> Any:
        """
        @return: the endpoint of the peer.
        """
        return self._endpoint


def parseOptions(arguments: list[str]) -> argparse.Namespace:
    """
    @return: C{rendezvous}, C{identity}, C{peer} and C{path}.
    """
    parser = argparse.ArgumentParser(description="Serve web pages from behind a NAT.")
    parser.add_argument("--rendezvous", metavar="tcp:HOST:PORT", help="the rendezvous node")
    parser.add_argument("--identity", metavar="FILE", help="this program's key; made if needed")
    parser.add_argument("peer", nargs="?", metavar="PEER-ID", help="whom to ask; left out, serve")
    parser.add_argument("path", nargs="?", default="/", help="what to ask for; / when left out")
    return parser.parse_args(arguments)


def describe(options: argparse.Namespace) -> str:
    """
    @return: the endpoint that the options mean.
    """
    words = ["p2p", *([options.peer] if options.peer else []), "service=www"]
    for name in ("rendezvous", "identity"):
        if value := getattr(options, name):
            words.append(f"{name}={quoteStringArgument(value)}")
    return ":".join(words)


async def main(reactor: Any, *arguments: str) -> None:
    """
    Serve, or fetch a page.
    """
    options = parseOptions(list(arguments))
    try:
        if options.peer is None:
            site = Site(Page(), reactor=reactor)
            port = await serverFromString(reactor, describe(options)).listen(site)
            print(f"fetch a page with: {port.getHost().peerID} /", flush=True)
            await Deferred()
        agent = Agent.usingEndpointFactory(reactor, ToPeer(reactor, describe(options)))
        # A URL wants a host; a whole peer ID is accepted by servers, and ignored.
        response = await agent.request(b"GET", f"http://{options.peer}{options.path}".encode())
        print((await readBody(response)).decode(), end="")
    except (P2PError, ResponseFailed) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    react(main, sys.argv[1:])
