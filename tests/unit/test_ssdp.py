"""
Tests for L{p2ptwist.core.portmapping.ssdp}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping.ssdp import MAX_ANSWER, Place, readAnswer, readPlace, searches
from tests.unit.upnpwire import FUZZ, ssdpAnswer, variants

GATEWAY = "192.168.1.1"
LOCATION = f"http://{GATEWAY}:5000/rootDesc.xml"


class SearchTests(SynchronousTestCase):
    """
    What is sent.
    """

    def test_form(self) -> None:
        """
        Each search is an M-SEARCH with its five lines, for another target.
        """
        targets = set()
        for datagram in searches():
            first, host, man, mx, target, *end = datagram.split(b"\r\n")
            self.assertEqual(first, b"M-SEARCH * HTTP/1.1")
            self.assertEqual(host, b"HOST: 239.255.255.250:1900")
            self.assertEqual(man, b'MAN: "ssdp:discover"')
            self.assertEqual(mx, b"MX: 1")
            self.assertEqual(end, [b"", b""])
            targets.add(target)
        self.assertEqual(len(targets), 3)


class AnswerTests(SynchronousTestCase):
    """
    What counts as an answer.
    """

    def rejected(self, data: bytes) -> None:
        """
        It does not.
        """
        self.assertRaises(MalformedDatagram, readAnswer, data, GATEWAY)

    def test_answer(self) -> None:
        """
        The location of an answer is where the description is, however its header is written.
        """
        place = Place((GATEWAY, 5000), "/rootDesc.xml")
        answer = ssdpAnswer(LOCATION)
        self.assertEqual(readAnswer(answer, GATEWAY), place)
        self.assertEqual(readAnswer(answer.replace(b"LOCATION: ", b"location:  "), GATEWAY), place)
        self.assertEqual(readAnswer(answer.replace(b"\r\n", b"\n"), GATEWAY), place)
        self.assertEqual(readAnswer(answer.replace(b"1.1 200 OK", b"1.0 200"), GATEWAY), place)

    def test_notAnAnswer(self) -> None:
        """
        Other messages of SSDP, errors, garbage and what is too long are none.
        """
        self.rejected(b"")
        self.rejected(b"\xff" * 100)
        self.rejected(searches()[0])
        self.rejected(ssdpAnswer(LOCATION).replace(b"HTTP/1.1 200 OK", b"NOTIFY * HTTP/1.1"))
        self.rejected(ssdpAnswer(LOCATION).replace(b"200 OK", b"404 Not Found"))
        self.rejected(ssdpAnswer(LOCATION).replace(b"200 OK", b"2000"))
        self.rejected(ssdpAnswer(LOCATION) + b" " * MAX_ANSWER)

    def test_oneLocation(self) -> None:
        """
        An answer without a location, or with two, is none.
        """
        self.rejected(ssdpAnswer(LOCATION).replace(b"LOCATION", b"ELSEWHERE"))
        self.rejected(ssdpAnswer(LOCATION).replace(b"ST:", b"LOCATION:"))

    def test_elsewhere(self) -> None:
        """
        An answer whose location is not on the gateway is none.
        """
        self.rejected(ssdpAnswer("http://192.168.1.2:5000/rootDesc.xml"))

    def test_fuzz(self) -> None:
        """
        Mutated answers are read or rejected, and lead to the gateway alone.
        """
        seeds = [ssdpAnswer(LOCATION), ssdpAnswer(f"http://{GATEWAY}/?a=b")]
        read = 0
        for data in variants(seeds, FUZZ):
            try:
                place = readAnswer(data, GATEWAY)
            except MalformedDatagram:
                continue
            read += 1
            self.assertEqual(place.address[0], GATEWAY)
            self.assertTrue(place.path.startswith("/") and place.path.isprintable())
        self.assertGreater(read, 0)


class PlaceTests(SynchronousTestCase):
    """
    Which URLs lead to the gateway.
    """

    def test_places(self) -> None:
        """
        Without a port it is 80, without a path the root; a query is part of the path.
        """
        for url, port, path in (
            (f"http://{GATEWAY}", 80, "/"),
            (f"http://{GATEWAY}/", 80, "/"),
            (f"http://{GATEWAY}:1", 1, "/"),
            (f"http://{GATEWAY}:65535/a/b?c=d&e", 65535, "/a/b?c=d&e"),
        ):
            self.assertEqual(readPlace(url, GATEWAY), Place((GATEWAY, port), path), url)

    def test_rejected(self) -> None:
        """
        Other schemes, names, users, addresses in other writing, other ports than there are,
        whatever is not visible ASCII and endless paths do not lead to the gateway.
        """
        for url in (
            "",
            "/rootDesc.xml",
            f"https://{GATEWAY}/",
            f"ftp://{GATEWAY}/",
            f"file:///{GATEWAY}",
            f"//{GATEWAY}/",
            "http://router/",
            "http://192.168.1.10/",
            "http://192.168.1.1.example.org/",
            "http://192.168.001.001/",
            "http://3232235777/",
            "http://0xc0a80101/",
            "http://127.0.0.1/",
            "http://[::ffff:192.168.1.1]/",
            "http://169.254.169.254/latest/meta-data",
            f"http://user@{GATEWAY}/",
            f"http://evil@{GATEWAY}:80/",
            f"http://{GATEWAY}@example.org/",
            f"http://{GATEWAY}:0/",
            f"http://{GATEWAY}:65536/",
            f"http://{GATEWAY}:999999/",
            f"http://{GATEWAY}:-1/",
            f"http://{GATEWAY}:/",
            f"http://{GATEWAY}?a",
            f"http://{GATEWAY}/#fragment",
            f"http://{GATEWAY}/a b",
            f"http://{GATEWAY}/a\r\nHost: b",
            f"http://{GATEWAY}/\u00e9",
            f"http://{GATEWAY}/\n",
            f"http://{GATEWAY}/" + "a" * 512,
        ):
            self.assertRaises(MalformedDatagram, readPlace, url, GATEWAY)
