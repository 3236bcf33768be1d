"""
Find out how the NATs before this machine behave.

The server needs a second address to tell everything, as C{twistd natrendezvous --stun HOST
--stun-alternate-address OTHER-HOST:3479} has one; several servers tell more than one.  Without
--server the tests run on the simulated Internet, behind every kind of NAT in turn, and take no
time::

    python examples/nat_behavior.py
    python examples/nat_behavior.py --server stun.example.org:3478
    python examples/nat_behavior.py --server one.example:3478 --server two.example:3478 --lifetime
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.errors import P2PError
from p2ptwist.net.names import resolveAddress
from p2ptwist.net.natreport import FamilyReport, NATReport, measureNAT
from p2ptwist.net.stunserver import STUNService
from p2ptwist.net.stunstreams import STUNStreamService
from p2ptwist.testing import NAT, Filtering, Internet, Mapping

STUN_PORT = 3478  # RFC 8489 section 18.6
LONGEST = 120.0  # seconds; up to which the lifetime of mappings is looked for
_KNOWN = {None: "not found out", True: "yes", False: "no"}


def show(report: NATReport) -> None:
    """
    Print everything that was found out.
    """
    for name, family in (("IPv4", report.ipv4), ("IPv6", report.ipv6)):
        if family is not None:
            print(f"{name}: " + (describe(family) if family.udp else "no answer over UDP"))
    print(f"pystun3: {report.classic or 'no opinion'}", end="")
    print(f", but {report.ourClassic} is right" if report.classicDiffers else "")


def describe(family: FamilyReport) -> str:
    """
    @return: a line for each fact.
    """
    behavior = family.behavior
    step = f", {behavior.step:+} each" if behavior.step else ""
    lifetime = (
        "not measured" if behavior.lifetime is None else f"at least {behavior.lifetime:.0f} s"
    )
    return "\n  ".join(
        (
            f"seen at {', '.join(map(formatAddress, family.addresses))}",
            str(behavior),
            f"translated: {_KNOWN[family.translated]}",
            f"ports: {behavior.allocation or 'not found out'}{step}",
            f"hairpinning: {_KNOWN[behavior.hairpinning]}",
            f"mapping of TCP: {behavior.tcpMapping or 'not found out'}",
            f"lifetime of mappings: {lifetime}",
        )
    )


async def discover(reactor: Any, servers: list[HostPort], lifetime: bool) -> None:
    """
    Test the NATs before this machine.
    """
    addresses = [await resolveAddress(reactor, *server) for server in servers]
    show(
        await measureNAT(
            reactor,
            addresses,
            progress=lambda words: print(f"… {words}", file=sys.stderr),
            lifetime=LONGEST if lifetime else None,
        )
    )


def simulate() -> None:
    """
    Test every kind of NAT on the simulated Internet.
    """
    primary, alternate = ("192.0.2.1", 3478), ("192.0.2.2", 3479)
    for mapping, filtering in product(Mapping, Filtering):
        internet = Internet(seed=1)
        node = internet.host("node", primary[0], alternate[0])
        STUNService(node, primary, alternate).startService()
        STUNStreamService(node, primary, alternate).startService()
        nat = NAT(mapping=mapping, filtering=filtering)
        alice = internet.router("home", "203.0.113.7", nat=nat).host("alice")
        report = internet.runUntil(measureNAT(alice, [primary]), timeout=5.0)
        seen = f"{len(report.addresses)} addresses, {alice.seconds():.2f} s"
        print(f"{report.behavior}   ({seen}, RFC 3489: {report.ourClassic})")


def hostPort(text: str) -> HostPort:
    """
    @return: host and port of C{HOST}, C{HOST:PORT} or C{[IPV6]:PORT}.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(STUN_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def main() -> None:
    """
    Run the example.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        type=hostPort,
        action="append",
        help="a STUN server to ask; may be repeated",
    )
    parser.add_argument(
        "--lifetime", action="store_true", help="find out the lifetime of mappings: some minutes"
    )
    options = parser.parse_args()
    if options.server is None:
        simulate()
        return

    async def run(reactor: Any) -> None:
        try:
            await discover(reactor, options.server, options.lifetime)
        except P2PError as error:
            sys.exit(str(error))

    react(lambda reactor: ensureDeferred(run(reactor)))


if __name__ == "__main__":
    main()
