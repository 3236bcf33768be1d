"""
Tests for L{p2ptwist.rendezvous.options} and L{p2ptwist.rendezvous.tap}: what an operator can say.
"""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.link.limits import Limits
from p2ptwist.core.stun.limits import STUNLimits
from p2ptwist.core.tokenbucket import Rate
from p2ptwist.rendezvous.descriptors import raiseDescriptorLimit
from p2ptwist.rendezvous.options import Options, anyHost, parseHostPort
from p2ptwist.rendezvous.tap import NodeApplication, makeService


def parsed(*arguments: str) -> Options:
    """
    @return: what C{arguments} mean.
    """
    options = Options()
    options.parseOptions(list(arguments))
    return options


class OptionTests(SynchronousTestCase):
    """
    What the options mean.
    """

    def test_defaults(self) -> None:
        """
        With no option, the node has the default bounds and serves STUN on every address.
        """
        options = parsed()
        self.assertEqual(options.limits, Limits())
        self.assertEqual(options.stunLimits, STUNLimits())
        self.assertEqual(options["listen"], [])
        self.assertEqual(options["stun"], [(anyHost(), 3478)])
        self.assertEqual(options.stunServers(options["stun"]), (("", 3478),))
        self.assertTrue(options["name"])

    def test_limits(self) -> None:
        """
        Each bound has its option.
        """
        options = parsed(
            "--accept-rate=1/2",
            "--address-accept-rate=3/4",
            "--network-accept-rate=5/6",
            "--max-unproven=7",
            "--max-address-unproven=8",
            "--max-network-unproven=9",
            "--registration-rate=0.5/10",
            "--message-rate=none",
            "--lookup-rate=11/12",
            "--relay-rate=100000/200000",
            "--relay-capacity=none",
            "--max-links=13",
            "--ping-interval=30",
            "--idle-timeout=50",
            "--stun-rate=14/15",
            "--stun-network-rate=16/17",
        )
        expected = replace(
            Limits(),
            acceptRate=Rate(1, 2),
            siteAcceptRate=Rate(3, 4),
            regionAcceptRate=Rate(5, 6),
            maxUnproven=7,
            maxSiteUnproven=8,
            maxRegionUnproven=9,
            registrationRate=Rate(0.5, 10),
            messageRate=Rate(math.inf, math.inf),
            lookupRate=Rate(11, 12),
            relayRate=Rate(100_000, 200_000),
            relayCapacity=Rate(math.inf, math.inf),
            maxLinks=13,
            pingInterval=30,
            idleDelay=50,
        )
        self.assertEqual(options.limits, expected)
        self.assertEqual(options.stunLimits, STUNLimits(Rate(14, 15), Rate(16, 17)))

    def test_stun(self) -> None:
        """
        STUN may be served on several addresses; peers are told of a wildcard as the node's host.
        """
        options = parsed("--stun=1234", "--stun=192.0.2.1:1", "--stun=[2001:db8::1]:2")
        self.assertEqual(options["stun"], [(anyHost(), 1234), ("192.0.2.1", 1), ("2001:db8::1", 2)])
        told = options.stunServers(options["stun"])
        self.assertEqual(told, (("", 1234), ("192.0.2.1", 1), ("2001:db8::1", 2)))

    def test_announce(self) -> None:
        """
        What peers are told may differ from what is served.
        """
        options = parsed("--stun=10.0.0.1:3478", "--stun-announce=203.0.113.1:3478")
        self.assertEqual(options.stunServers([("10.0.0.1", 1)]), (("203.0.113.1", 3478),))
        options = parsed("--stun=10.0.0.1:3478", "--stun-announce=9")
        self.assertEqual(options.stunServers([("10.0.0.1", 1)]), (("", 9),))

    def test_alternate(self) -> None:
        """
        The alternate address has the STUN port unless it says another.
        """
        for text, expected in (
            ("192.0.2.2", ("192.0.2.2", 3478)),
            ("192.0.2.2:9", ("192.0.2.2", 9)),
            ("[2001:db8::2]", ("2001:db8::2", 3478)),
            ("[2001:db8::2]:9", ("2001:db8::2", 9)),
        ):
            options = parsed("--stun=192.0.2.1:3478", f"--stun-alternate-address={text}")
            self.assertEqual(options["stun-alternate-address"], expected)

    def test_noSTUN(self) -> None:
        """
        A node may leave STUN to others, and still name them.
        """
        options = parsed("--no-stun", "--stun-announce=192.0.2.1:3478")
        self.assertEqual(options["stun"], [])
        self.assertEqual(options.stunServers([]), (("192.0.2.1", 3478),))

    def test_wrong(self) -> None:
        """
        A wrong option ends the program with one line that names it.
        """
        for arguments, named in (
            ("--bogus", "--bogus"),
            ("argument", "unexpected argument 'argument'"),
            ("--accept-rate=5", "--accept-rate: '5' is not a rate"),
            ("--accept-rate=0/5", "PER_SECOND/BURST"),
            ("--accept-rate=nan/5", "is not a rate"),
            ("--message-rate=5/inf", "is not a rate"),
            ("--message-rate=5/0.5", "is not a rate"),
            ("--relay-rate=1000/1000", "a burst has at least 16386 bytes"),
            ("--relay-capacity=many", "--relay-capacity: 'many' is not a rate"),
            ("--max-links=0", "--max-links: '0' is not a number of at least 1"),
            ("--max-links=many", "--max-links"),
            ("--max-links=9999999999", "--max-links"),
            ("--ping-interval=70000", "--ping-interval: '70000' is more than 65535 seconds"),
            ("--idle-timeout=100", "--idle-timeout must be at least 20 seconds more"),
            ("--name=", "--name: a name has 1 to 64 bytes"),
            ("--name=" + 40 * "\u00fc", "--name: a name has 1 to 64 bytes"),
            ("--stun=host:1", "--stun: 'host' is not an IP address"),
            ("--stun=65536", "--stun: '65536' is not a port"),
            ("--stun=", "--stun: '' is not a port"),
            ("--stun-announce=x", "--stun-announce: 'x' is not a port"),
            ("--stun=1 --no-stun", "--no-stun contradicts"),
            ("--stun-alternate-address=192.0.2.2", "needs --stun HOST:PORT"),
            ("--stun=1 --stun-alternate-address=192.0.2.2", "needs --stun HOST:PORT"),
            ("--stun=1 --stun-alternate-address=x", "--stun-alternate-address: 'x'"),
            ("--stun=1 --stun=2 --stun=3 --stun=4 --stun=5", "at most 4 STUN addresses"),
        ):
            with self.assertRaises(SystemExit) as caught:
                parsed(*arguments.split(" "))
            line = str(caught.exception)
            self.assertIn(named, line)
            self.assertTrue(line.startswith("twistd natrendezvous: "), line)
            self.assertEqual(len(line.splitlines()), 1)

    @given(st.text(max_size=20))
    def test_anyAddress(self, text: str) -> None:
        """
        Any text is an address with a port, or is refused.
        """
        try:
            host, port = parseHostPort(text, "")
        except LocalUsageError:
            return
        self.assertTrue(0 <= port < 65536)
        self.assertIsInstance(host, str)

    def test_help(self) -> None:
        """
        Every option is explained, with its default.
        """
        options = Options()
        text = options.getUsage(width=200)
        explained = {
            words[0].rstrip("="): words[1:]
            for words in (line.split() for line in text.splitlines())
            if words and words[0].startswith("--")
        }
        for name in [*options.defaults, "listen", "stun", "stun-announce"]:
            self.assertGreater(len(explained[f"--{name}"]), 2, name)
        self.assertIn("[default: 200/400]", text)
        self.assertIn("[default: 1000000/262144]", text)


class ServiceTests(SynchronousTestCase):
    """
    What C{twistd natrendezvous} makes of its options.
    """

    def test_plugin(self) -> None:
        """
        twistd finds the command.
        """
        (maker,) = [
            plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "natrendezvous"
        ]
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, makeService)

    def test_everything(self) -> None:
        """
        Links and each STUN address have their service.
        """
        service = makeService(parsed("--listen=tcp:1", "--listen=tcp:2", "--stun=1", "--stun=2"))
        assert isinstance(service, NodeApplication)
        self.assertEqual([text for text, _ in service.node.endpoints], ["tcp:1", "tcp:2"])
        self.assertEqual(len(service.stun), 2)
        self.assertEqual(len(list(service)), 3)

    def test_default(self) -> None:
        """
        With no option, links are served on the default port.
        """
        service = makeService(parsed("--no-stun"))
        assert isinstance(service, NodeApplication)
        self.assertEqual([text for text, _ in service.node.endpoints], ["tcp:8470"])

    def test_wrong(self) -> None:
        """
        What only the making finds out is one line as well.
        """
        for arguments, named in (
            (["--listen=bogus:1"], "--listen: 'bogus:1' is not an endpoint"),
            (["--listen=tcp:port"], "--listen: 'tcp:port' is not an endpoint"),
            (["--listen=ssl:1:privateKey=/nonexistent"], "--listen: 'ssl:1"),
            (
                ["--stun=192.0.2.1:3478", "--stun-alternate-address=[2001:db8::1]"],
                "--stun: ",
            ),
        ):
            with self.assertRaises(SystemExit) as caught:
                makeService(parsed(*arguments))
            self.assertIn(f"twistd natrendezvous: {named}", str(caught.exception))
            self.assertEqual(len(str(caught.exception).splitlines()), 1)


class DescriptorTests(SynchronousTestCase):
    """
    The limit of file descriptors.
    """

    def test_raised(self) -> None:
        """
        It is as high as it may be, and stays so.
        """
        limit = raiseDescriptorLimit()
        self.assertEqual(raiseDescriptorLimit(), limit)
