"""
What can be said on the command line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from p2ptwist import __version__
from p2ptwist.core.address import HostPort

DEFAULT_SERVICE = "pipe"
PING_INTERVAL = 1.0  # seconds
STUN_PORT = 3478  # RFC 8489 section 18.6

_DESCRIPTION = """\
Talk to programs behind NATs by their peer IDs: encrypted, authenticated, directly where possible.

  on one machine                                   on another one
    p2ptwist listen                                  p2ptwist connect PEER-ID
    (prints its PEER-ID)                             (type; it comes out on the other side)

Both need a rendezvous node that both reach: run 'twistd -n natrendezvous' on a public host, and
say where it is with --rendezvous or in the environment as P2PTWIST_RENDEZVOUS.
"""

_LISTEN = """\
Offer a service, and join the first stream that comes to standard input and output:

  p2ptwist listen > backup.tar             and there: p2ptwist connect PEER-ID < backup.tar

Whoever may connect can also ping.  With --echo every stream is sent back, until Ctrl-C.
"""

_CONNECT = """\
Connect to a service of a peer, and join it to standard input and output.  The end of standard input
ends this side's direction only; the command ends when both directions have.
"""

_PING = """\
Measure the round trip to a peer that listens, once a second, and say over which path: relayed by
the rendezvous node at first, direct as soon as there is a way.
"""

_DOCTOR = """\
Find out within five seconds how this machine reaches others: what the NATs before it do, whether
routers map ports, and which kinds of peers will be direct.  With a PEER-ID: call that peer, which
has to listen, and say of the attempt all that happens.  See docs/doctor.md.
"""

_ID = """\
Print the peer ID of the identity, which others connect to.  The key is made if there is none.
"""


class _Parser(argparse.ArgumentParser):
    """
    Says what is wrong in one line.
    """

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; '{self.prog} --help' explains\n")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _server(text: str) -> HostPort:
    """
    @return: host and port of C{HOST}, C{HOST:PORT} or C{[IPV6]:PORT}.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(STUN_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _file(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name of the file is empty")
    return text


def _common() -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--rendezvous",
        action="append",
        default=[],
        metavar="tcp:HOST:PORT",
        help="a rendezvous node; may be repeated, the preferred one first (P2PTWIST_RENDEZVOUS)",
    )
    common.add_argument(
        "--identity",
        type=_file,
        metavar="FILE",
        help="this program's key, made if there is none "
        "(P2PTWIST_IDENTITY; otherwise ~/.config/p2ptwist/identity)",
    )
    common.add_argument(
        "--json", action="store_true", help="write one JSON object a line instead of words"
    )
    return common


def _service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--service",
        default=DEFAULT_SERVICE,
        metavar="NAME",
        help=f"the name of the service (default: {DEFAULT_SERVICE})",
    )


def _peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER-ID", help="what the other program prints, or 'id'")


def makeParser() -> argparse.ArgumentParser:
    """
    @return: the parser of the whole command line.
    """
    parser = _Parser(
        prog="p2ptwist",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"p2ptwist {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    common = _common()

    def add(name: str, help: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help,
            description=description,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    add("id", "print this program's peer ID", _ID)
    listen = add("listen", "wait for another program to connect", _LISTEN)
    _service(listen)
    listen.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PEER-ID",
        help="who may connect; may be repeated; everybody when left out",
    )
    listen.add_argument("--echo", action="store_true", help="send everything back, to everybody")
    connect = add("connect", "connect to a program that listens", _CONNECT)
    _peer(connect)
    _service(connect)
    ping = add("ping", "measure the round trip to a peer, and see its path", _PING)
    _peer(ping)
    ping.add_argument("--count", type=_count, metavar="N", help="end after so many replies")
    doctor = add("doctor", "find out what the NATs here do, or why a peer is relayed", _DOCTOR)
    doctor.add_argument(
        "peer", metavar="PEER-ID", nargs="?", help="trace a connection to that peer"
    )
    doctor.add_argument(
        "--stun",
        action="append",
        default=[],
        type=_server,
        metavar="HOST:PORT",
        help="a STUN server to ask as well as those of the nodes; may be repeated",
    )
    doctor.add_argument(
        "--lifetime",
        action="store_true",
        help="find out as well how long mappings live, which takes some minutes",
    )
    return parser


def parseOptions(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    @return: C{command} and its options.
    @raise SystemExit: when the help was asked for, or something is wrong.
    """
    return makeParser().parse_args(sys.argv[1:] if arguments is None else arguments)
