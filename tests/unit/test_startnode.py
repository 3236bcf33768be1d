"""
Tests for L{scripts.startnode}: what is said about a node that has started.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.peer.identity import loadIdentity
from p2ptwist.rendezvous.options import Options
from scripts import startnode
from scripts.startnode import announcement, linkAddress, reachableAt, usableHosts

HOSTS = ("::1", "fe80::1", "127.0.0.1", "2001:db8::1", "192.0.2.1")


class AddressTests(SynchronousTestCase):
    """
    Endpoint descriptions and wildcards become addresses that a person can use.
    """

    def test_linkAddress(self) -> None:
        """
        TCP endpoints have an address; others have none to show.
        """
        known = {
            "tcp:8470": ("0.0.0.0", 8470),
            "tcp4:port=8470": ("0.0.0.0", 8470),
            "tcp6:8470:backlog=9": ("::", 8470),
            "tcp:8470:interface=192.0.2.1": ("192.0.2.1", 8470),
            r"tcp6:8470:interface=2001\:db8\:\:1:backlog=9": ("2001:db8::1", 8470),
            "unix:/run/links": None,
            "ssl:443:privateKey=key.pem": None,
        }
        self.assertEqual({text: linkAddress(text) for text in known}, known)

    def test_usableHosts(self) -> None:
        """
        IPv4 comes first, loopback last; an address that needs a scope is left out.
        """
        self.assertEqual(usableHosts(HOSTS), ["192.0.2.1", "127.0.0.1", "2001:db8::1", "::1"])

    def test_reachableAt(self) -> None:
        """
        The wildcard of IPv4 stands for IPv4 addresses only, that of IPv6 for all.
        """
        hosts = ["192.0.2.1", "2001:db8::1"]
        self.assertEqual(reachableAt(("198.51.100.1", 1), hosts), "198.51.100.1:1")
        self.assertEqual(reachableAt(("0.0.0.0", 1), hosts), "192.0.2.1:1")
        self.assertEqual(reachableAt(("::", 1), hosts), "192.0.2.1:1, [2001:db8::1]:1")


class AnnouncementTests(SynchronousTestCase):
    """
    The announcement says what is served, and has the two lines to paste.
    """

    def setUp(self) -> None:
        """
        Keep the identities of the demonstration in a folder of this test.
        """
        self.identities = Path(self.mktemp()).resolve()
        self.patch(startnode, "IDENTITIES", self.identities)

    def announce(self, *arguments: str) -> list[str]:
        """
        @return: the lines that a node with these options announces.
        """
        options = Options()
        options.parseOptions(arguments)
        return announcement(options, HOSTS).splitlines()

    def test_defaults(self) -> None:
        """
        Without options every address of the machine is served.
        """
        everywhere = "192.0.2.1:{0}, 127.0.0.1:{0}, [2001:db8::1]:{0}, [::1]:{0}"
        lines = self.announce()
        self.assertIn("  links  " + everywhere.format(8470), lines)
        self.assertIn("  STUN   " + everywhere.format(3478), lines)
        self.assertEqual(lines[-1], "Ctrl-C stops the node.")

    def test_linesToPaste(self) -> None:
        """
        The second line names the peer that the first line starts.
        """
        waiting, calling = (
            shlex.split(line) for line in self.announce() if line.startswith(sys.executable)
        )
        self.assertEqual(waiting[2:5], ["--rendezvous", "tcp:127.0.0.1:8470", "--identity"])
        self.assertEqual(calling[:5], waiting[:5])
        self.assertEqual(calling[6], loadIdentity(waiting[5]).peerID)
        self.assertNotEqual(loadIdentity(calling[5]).peerID, calling[6])

    def test_sameIdentities(self) -> None:
        """
        A node that starts again prints the same lines.
        """
        self.assertEqual(self.announce(), self.announce())

    def test_oneInterface(self) -> None:
        """
        A node on one address is shown, and called, there only.
        """
        lines = self.announce("--listen", r"tcp6:99:interface=2001\:db8\:\:1", "--no-stun")
        self.assertIn("  links  [2001:db8::1]:99", lines)
        self.assertFalse([line for line in lines if "STUN" in line])
        self.assertIn(r"--rendezvous 'tcp:2001\:db8\:\:1:99'", "\n".join(lines))

    def test_noTCP(self) -> None:
        """
        A node without a TCP endpoint is shown as it was described, without lines to paste.
        """
        lines = self.announce("--listen", "unix:/run/links")
        self.assertIn("  links  unix:/run/links", lines)
        self.assertFalse([line for line in lines if "--rendezvous" in line])
        self.assertFalse(self.identities.exists())
