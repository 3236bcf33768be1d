"""
The options of C{twistd natrendezvous}.
"""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.python import usage

from p2ptwist.core.address import HostPort, canonicalHost, parseHost
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.link.frames import FRAME_LIMIT, LENGTH_SIZE
from p2ptwist.core.link.limits import Limits
from p2ptwist.core.link.messages import MAX_NAME_LENGTH, MAX_STUN_SERVERS
from p2ptwist.core.stun.limits import STUNLimits
from p2ptwist.core.tokenbucket import Rate

LINK_PORT = 8470
STUN_PORT = 3478  # RFC 8489 section 18.6

_LONGEST_FRAME = LENGTH_SIZE + FRAME_LIMIT  # bytes
_COMMAND = "twistd natrendezvous"
_DEFAULTS = Limits()
_STUN_DEFAULTS = STUNLimits()

ValueT = TypeVar("ValueT")


def anyHost() -> str:
    """
    @return: the wildcard that stands for every address of this machine, IPv6 included if it has it.
    """
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def _rateText(rate: Rate | None) -> str:
    return "none" if rate is None else f"{rate.perSecond:.10g}/{rate.burst:.10g}"


def _parseRate(text: str) -> Rate:
    if text == "none":
        return Rate(math.inf, math.inf)
    perSecond, _, burst = text.partition("/")
    try:
        rate = Rate(float(perSecond), float(burst))
    except ValueError:
        rate = Rate(0, 0)
    # "nan" and "inf" are numbers to float(); they are none here.
    if not (0 < rate.perSecond < math.inf and 1 <= rate.burst < math.inf):
        raise LocalUsageError(
            f"{text!r} is not a rate: write PER_SECOND/BURST, such as 10/50, or none for no limit"
        )
    return rate


def _parseByteRate(text: str) -> Rate:
    rate = _parseRate(text)
    if rate.burst < _LONGEST_FRAME:
        raise LocalUsageError(
            f"{text!r} would never let the largest frame pass: a burst has at least "
            f"{_LONGEST_FRAME} bytes"
        )
    return rate


def _parseCount(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise LocalUsageError(f"{text!r} is not a number of at least 1")
    return int(text)


def _parseSeconds(text: str) -> int:
    seconds = _parseCount(text)
    if seconds > 65535:
        raise LocalUsageError(f"{text!r} is more than 65535 seconds")
    return seconds


def _parseName(text: str) -> str:
    if not 0 < len(text.encode(errors="replace")) <= MAX_NAME_LENGTH:
        raise LocalUsageError(f"a name has 1 to {MAX_NAME_LENGTH} bytes")
    return text


def _parsePort(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) < 65536:
        raise LocalUsageError(f"{text!r} is not a port")
    return int(text)


def parseHostPort(text: str, host: str) -> HostPort:
    """
    Read C{PORT}, C{HOST:PORT} or C{[IPV6]:PORT}.

    @param host: what a missing host means.
    @raise LocalUsageError: when C{text} is none of them, or the host is not a literal address.
    """
    before, colon, after = text.rpartition(":")
    if colon:
        host = canonicalHost(before.removeprefix("[").removesuffix("]"))
    return host, _parsePort(after)


def _parseAlternate(text: str) -> HostPort:
    try:
        return canonicalHost(text.strip("[]")), STUN_PORT
    except LocalUsageError:
        return parseHostPort(text, "")


class Options(usage.Options):
    """
    What an operator can say.

    @ivar limits: the bounds of the links.
    @ivar stunLimits: the bounds of STUN.
    """

    synopsis = "[options]"
    longdesc = (
        "Run a rendezvous node. With no option it serves links on TCP port 8470 and STUN on UDP "
        "port 3478, on every address of this machine. In the options, an address is one IPv4 "
        "address or one IPv6 /64, a network is one IPv4 /24 or one IPv6 /48, and a rate is "
        "PER_SECOND/BURST, or none for no limit."
    )

    optParameters = [  # noqa: RUF012  (usage.Options reads it from the class)
        ["name", None, None, "The node's name, which peers sign for. [default: the host's name]"],
        [
            "stun-alternate-address",
            None,
            None,
            "HOST[:PORT], a second UDP address for STUN, so that peers can find out how their NAT "
            "behaves (RFC 5780); the first --stun then names its HOST too. [default port: 3478]",
        ],
        [
            "stun-rate",
            None,
            _rateText(_STUN_DEFAULTS.perHost),
            "STUN requests answered for one address.",
        ],
        [
            "stun-network-rate",
            None,
            _rateText(_STUN_DEFAULTS.perNetwork),
            "STUN requests answered for one network.",
        ],
        ["max-links", None, str(_DEFAULTS.maxLinks), "Links held at once; each costs 4 KiB."],
        [
            "accept-rate",
            None,
            _rateText(_DEFAULTS.acceptRate),
            "Connections accepted in all.",
        ],
        [
            "address-accept-rate",
            None,
            _rateText(_DEFAULTS.siteAcceptRate),
            "Connections accepted from one address.",
        ],
        [
            "network-accept-rate",
            None,
            _rateText(_DEFAULTS.regionAcceptRate),
            "Connections accepted from one network.",
        ],
        [
            "max-unproven",
            None,
            str(_DEFAULTS.maxUnproven),
            "Connections held that have not proved a key yet.",
        ],
        [
            "max-address-unproven",
            None,
            str(_DEFAULTS.maxSiteUnproven),
            "Connections held from one address that have not proved a key yet.",
        ],
        [
            "max-network-unproven",
            None,
            str(_DEFAULTS.maxRegionUnproven),
            "Connections held from one network that have not proved a key yet.",
        ],
        [
            "registration-rate",
            None,
            _rateText(_DEFAULTS.registrationRate),
            "Links that one key may bring up.",
        ],
        [
            "message-rate",
            None,
            _rateText(_DEFAULTS.messageRate),
            "Messages that one key may send; over it, the node reads more slowly.",
        ],
        [
            "lookup-rate",
            None,
            _rateText(_DEFAULTS.lookupRate),
            "Messages to absent peers that one key may send; over it, the node reads more slowly.",
        ],
        [
            "relay-rate",
            None,
            _rateText(_DEFAULTS.relayRate),
            "Bytes that one key may have relayed to others; what is over it is dropped.",
        ],
        [
            "relay-capacity",
            None,
            _rateText(_DEFAULTS.relayCapacity),
            "Bytes relayed in all, shared fairly; what is over it is dropped. Say about 0.8 of "
            "the bandwidth that this machine has.",
        ],
        [
            "ping-interval",
            None,
            str(_DEFAULTS.pingInterval),
            "Seconds of silence after which a peer pings. Shorten it when a NAT or load balancer "
            "in the way forgets idle TCP connections sooner.",
        ],
        [
            "idle-timeout",
            None,
            f"{_DEFAULTS.idleDelay:.0f}",
            "Seconds of silence after which a link is taken for dead; at least 20 more than "
            "--ping-interval.",
        ],
    ]
    optFlags = [  # noqa: RUF012  (as above)
        ["no-stun", None, "Serve no STUN."],
    ]

    limits: Limits
    stunLimits: STUNLimits

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["stun"] = []
        self["stun-announce"] = []

    def opt_listen(self, description: str) -> None:
        """
        Where to serve links: a Twisted server endpoint, such as tcp:8470, tcp6:8470,
        tcp:8470:interface=192.0.2.1, ssl:443:privateKey=key.pem:certKey=cert.pem,
        unix:/run/links. May be repeated. [default: TCP port 8470 on every address]
        """
        self["listen"].append(description)

    def opt_stun(self, address: str) -> None:
        """
        Where to serve STUN on UDP: PORT, HOST:PORT or [IPV6]:PORT. May be repeated.
        [default: 3478 on every address]
        """
        self["stun"].append(
            self._parse("stun", lambda text: parseHostPort(text, anyHost()), address)
        )

    def opt_stun_announce(self, address: str) -> None:
        """
        The STUN address that peers are told, where it is not what --stun says, as behind a
        translating firewall: HOST:PORT, or PORT on the host that their link goes to. May be
        repeated.
        """
        parsed = self._parse("stun-announce", lambda text: parseHostPort(text, ""), address)
        self["stun-announce"].append(parsed)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line; a wrong option ends the program with one line.

        @raise SystemExit: with that line.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sys.exit(f"{_COMMAND}: {error} (see {_COMMAND} --help)")

    def parseArgs(self, *arguments: str) -> None:
        """
        @raise UsageError: there are none.
        """
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}: only options are taken")

    def postOptions(self) -> None:
        """
        Check what was said.

        @raise UsageError: with one clear line.
        """
        self["name"] = self._convert("name", _parseName, socket.gethostname()[:MAX_NAME_LENGTH])
        self.limits = self._linkLimits()
        self.stunLimits = STUNLimits(
            self._convert("stun-rate", _parseRate), self._convert("stun-network-rate", _parseRate)
        )
        self._checkSTUN()

    def stunServers(self, served: Sequence[HostPort]) -> tuple[HostPort, ...]:
        """
        @param served: the addresses that STUN is served on.
        @return: what peers are told; a wildcard becomes "the host that your link goes to".
        """
        said: Sequence[HostPort] = self["stun-announce"] or served
        return tuple(("" if _isAny(host) else host, port) for host, port in said)

    def _linkLimits(self) -> Limits:
        limits = Limits(
            acceptRate=self._convert("accept-rate", _parseRate),
            siteAcceptRate=self._convert("address-accept-rate", _parseRate),
            regionAcceptRate=self._convert("network-accept-rate", _parseRate),
            maxUnproven=self._convert("max-unproven", _parseCount),
            maxSiteUnproven=self._convert("max-address-unproven", _parseCount),
            maxRegionUnproven=self._convert("max-network-unproven", _parseCount),
            registrationRate=self._convert("registration-rate", _parseRate),
            messageRate=self._convert("message-rate", _parseRate),
            lookupRate=self._convert("lookup-rate", _parseRate),
            relayRate=self._convert("relay-rate", _parseByteRate),
            relayCapacity=self._convert("relay-capacity", _parseByteRate),
            maxLinks=self._convert("max-links", _parseCount),
            pingInterval=self._convert("ping-interval", _parseSeconds),
            idleDelay=self._convert("idle-timeout", _parseSeconds),
        )
        if limits.idleDelay < limits.pingInterval + 20:
            raise usage.UsageError(
                "--idle-timeout must be at least 20 seconds more than --ping-interval, or links "
                "end while a ping is on its way"
            )
        return limits

    def _checkSTUN(self) -> None:
        alternate = "stun-alternate-address"
        if self["no-stun"] and (self["stun"] or self[alternate]):
            raise usage.UsageError("--no-stun contradicts the other STUN options: leave one out")
        if self[alternate] is not None:
            self[alternate] = self._convert(alternate, _parseAlternate)
            if not self["stun"] or _isAny(self["stun"][0][0]):
                raise usage.UsageError(
                    "--stun-alternate-address needs --stun HOST:PORT with the very host that "
                    "peers reach"
                )
        if not self["stun"] and not self["no-stun"]:
            self["stun"].append((anyHost(), STUN_PORT))
        if max(len(self["stun"]), len(self["stun-announce"])) > MAX_STUN_SERVERS:
            raise usage.UsageError(f"at most {MAX_STUN_SERVERS} STUN addresses fit into a welcome")

    def _convert(self, option: str, parse: Callable[[str], ValueT], default: str = "") -> ValueT:
        value = self[option]
        return self._parse(option, parse, default if value is None else value)

    def _parse(self, option: str, parse: Callable[[str], ValueT], text: str) -> ValueT:
        try:
            return parse(text)
        except LocalUsageError as error:
            raise usage.UsageError(f"--{option}: {error}") from None


def _isAny(host: str) -> bool:
    return not host or parseHost(host).is_unspecified
