"""
Run the rendezvous node in the foreground, and say how to see two peers talk through it.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from p2ptwist.core.address import HostPort, formatAddress, isIPv6
from p2ptwist.errors import P2PError
from p2ptwist.net.hostaddresses import hostAddresses
from p2ptwist.peer.identity import loadOrCreateIdentity
from p2ptwist.rendezvous.options import LINK_PORT, Options, anyHost

ROOT = Path(__file__).resolve().parents[1]
IDENTITIES = ROOT / "var" / "demo"

_TCP = re.compile(r"(?P<kind>tcp[46]?):(?:port=)?(?P<port>\d+)(?P<rest>.*)")
_WILDCARDS = {"tcp": "0.0.0.0", "tcp4": "0.0.0.0", "tcp6": "::"}
_INTERFACE = re.compile(r":interface=(?P<host>(?:\\.|[^:\\])+)")


def linkAddress(description: str) -> HostPort | None:
    """
    @param description: a Twisted server endpoint, such as C{tcp:8470:interface=192.0.2.1}.
    @return: the TCP address that it listens on, or C{None} when it is of another kind.
    """
    found = _TCP.fullmatch(description)
    if found is None:
        return None
    interface = _INTERFACE.search(found["rest"])
    if interface is None:
        return _WILDCARDS[found["kind"]], int(found["port"])
    return interface["host"].replace("\\", ""), int(found["port"])


def isWildcard(host: str) -> bool:
    """
    @return: whether C{host} stands for every address of this machine.
    """
    return ip_address(host).is_unspecified


def reachableAt(address: HostPort, hosts: Iterable[str]) -> str:
    """
    @param hosts: the addresses of this machine.
    @return: what C{address} means from outside; a wildcard of IPv6 stands for IPv4 as well.
    """
    host, port = address
    if not isWildcard(host):
        return formatAddress(address)
    meant = [each for each in hosts if isIPv6(host) or not isIPv6(each)]
    return ", ".join(formatAddress((each, port)) for each in meant)


def usableHosts(hosts: Iterable[str]) -> list[str]:
    """
    @return: those of C{hosts} that can be written without a scope; IPv4 first, loopback last.
    """
    usable = [host for host in hosts if not (isIPv6(host) and ip_address(host).is_link_local)]
    return sorted(usable, key=lambda host: (isIPv6(host), ip_address(host).is_loopback))


def demonstration(link: HostPort, first: Path, second: Path, firstPeer: str) -> str:
    """
    @param link: where the node serves links.
    @param first: the identity file of the peer that waits.
    @param second: that of the peer that calls.
    @param firstPeer: the peer ID of C{first}.
    @return: the lines to paste into two more terminals.
    """
    host = "127.0.0.1" if isWildcard(link[0]) else link[0]
    escaped = host.replace(":", "\\:")
    program = [sys.executable, str(ROOT / "examples" / "datagrams.py")]
    program += ["--rendezvous", f"tcp:{escaped}:{link[1]}", "--identity"]
    waiting = shlex.join([*program, str(first)])
    calling = shlex.join([*program, str(second), firstPeer])
    return f"""\
To see two peers talk, paste this into a second terminal; it waits to be called:

{waiting}

and this into a third; each line that you type there comes back from the second:

{calling}
"""


def announcement(options: Options, hosts: Iterable[str]) -> str:
    """
    @param hosts: the addresses of this machine.
    @return: what the node serves and how to try it.
    @raise P2PError: when the identities of the demonstration cannot be made.
    """
    known = usableHosts(hosts)
    links = {text: linkAddress(text) for text in options["listen"]}
    links = links or {"": (anyHost(), LINK_PORT)}
    lines = ["", "The rendezvous node serves"]
    for text, link in links.items():
        lines.append(f"  links  {reachableAt(link, known) if link else text}")
    lines += [f"  STUN   {reachableAt(address, known)}" for address in options["stun"]]
    lines.append("")
    overTCP = next(filter(None, links.values()), None)
    if overTCP is not None:
        IDENTITIES.mkdir(parents=True, exist_ok=True)
        first, second = IDENTITIES / "first.key", IDENTITIES / "second.key"
        loadOrCreateIdentity(second)
        peer = loadOrCreateIdentity(first).peerID
        lines.append(demonstration(overTCP, first, second, peer))
        if isWildcard(overTCP[0]):
            lines.append("From another machine, put an address from above in place of 127.0.0.1.")
    lines.append("Ctrl-C stops the node.")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """
    Be C{twistd -n natrendezvous} with C{arguments}; once it serves, print the announcement.
    """
    options = Options()
    options.synopsis = "Usage: scripts/node [options]"
    options.parseOptions(arguments)
    try:
        text = announcement(options, hostAddresses(None))
    except (P2PError, OSError) as error:
        sys.exit(f"scripts/node: {error}")

    # Imported late, so that a wrong option is answered at once.
    from twisted.internet import reactor
    from twisted.internet.interfaces import IReactorCore
    from twisted.scripts import twistd

    # twistd turns what is printed into log entries; this is for whoever started it.
    terminal = sys.stdout
    IReactorCore(reactor).callWhenRunning(lambda: print(text, file=terminal, flush=True))
    sys.argv[:] = ["twistd", "--nodaemon", "--pidfile=", "natrendezvous", *arguments]
    twistd.run()


if __name__ == "__main__":
    main(sys.argv[1:])
