"""
Tests for L{p2ptwist.core.portmapping.igd}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping.igd import (
    MAX_DOCUMENT,
    Connection,
    Response,
    readDescription,
    readRecords,
    readResponse,
    writeDescription,
    writeResponse,
)
from p2ptwist.core.portmapping.ssdp import Place
from tests.unit.upnpwire import (
    FUZZ,
    IP_CONNECTION,
    PPP_CONNECTION,
    description,
    error,
    response,
    service,
    variants,
)

GATEWAY = "192.168.1.1"
LOCATION = Place((GATEWAY, 5000), "/a/rootDesc.xml")


class RecordTests(SynchronousTestCase):
    """
    XML, as far as it is read.
    """

    def rejected(self, data: bytes) -> None:
        """
        It is not read.
        """
        self.assertRaises(MalformedDatagram, readRecords, data)

    def test_records(self) -> None:
        """
        Elements with others in them are records, of the texts right in them; prefixes, comments,
        attributes and texts between elements do not matter, and the first of two counts.
        """
        data = (
            b"<x:a b='c'>-<y:d> 1<!-- 2 -->3 </y:d><e><f/></e><d>4</d>-<g><![CDATA[<&]]></g></x:a>"
        )
        found = [(record.name, record.fields) for record in readRecords(data)]
        self.assertEqual(found, [("a", {"d": "13", "g": "<&"}), ("e", {"f": ""})])

    def test_alone(self) -> None:
        """
        A document of one element has no records.
        """
        self.assertEqual(readRecords(b"<a>b</a>"), [])

    def test_notWellFormed(self) -> None:
        """
        What is no XML is rejected, what ends too early as well.
        """
        for data in (b"", b"<", b"<a>", b"<a></b>", b"<a/><a/>", b"a", b"\x00" * 9, b"<a>\xef&b;"):
            self.rejected(data)

    def test_documentType(self) -> None:
        """
        A document type is rejected where it begins: a billion laughs are not one, and nothing
        outside is looked for.
        """
        entities = "".join(f"<!ENTITY e{n + 1} '{f'&e{n};' * 10}'>" for n in range(9))
        self.rejected(f"<!DOCTYPE a [<!ENTITY e0 'ha'>{entities}]><a>&e9;</a>".encode())
        self.rejected(b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>")
        self.rejected(b"<!DOCTYPE a SYSTEM 'http://192.0.2.1/a.dtd'><a/>")
        self.rejected(b"<!DOCTYPE a [<!ENTITY % x 'y'> %x;]><a/>")

    def test_encoding(self) -> None:
        """
        The encoding that a document names is not looked up: it is UTF-8.
        """
        for name in (b"zlib_codec", b"UTF-16", b"idna", b"../../x", b"ISO-8859-1"):
            data = b"<?xml version='1.0' encoding='" + name + b"'?><a><b>c</b></a>"
            if name == b"../../x":
                self.rejected(data)
            else:
                self.assertEqual(readRecords(data)[0].fields, {"b": "c"})

    def test_bounds(self) -> None:
        """
        A document that is too long, too deep or has too many elements is rejected.
        """
        self.rejected(b"<a>" + b" " * MAX_DOCUMENT + b"</a>")
        self.rejected(b"<a>" * 25 + b"</a>" * 25)
        self.rejected(b"<a>" + b"<b/>" * 2000 + b"</a>")
        self.assertEqual(len(readRecords(b"<a>" * 24 + b"</a>" * 24)), 23)
        self.assertEqual(len(readRecords(b"<a>" + b"<b/>" * 1999 + b"</a>")), 1)


class DescriptionTests(SynchronousTestCase):
    """
    What a router says of itself.
    """

    def controls(self, *services: str, base: str = "") -> list[Place]:
        """
        @return: where the actions of the WAN connections go.
        """
        read = readDescription(description(*services, base=base), LOCATION)
        return [connection.control for connection in read.connections]

    def rejected(self, data: bytes) -> None:
        """
        It is no description of a router.
        """
        self.assertRaises(MalformedDatagram, readDescription, data, LOCATION)

    def test_connections(self) -> None:
        """
        WAN connections are found wherever they are, in their order, other services left alone.
        """
        wanted = service(IP_CONNECTION, "/ip"), service(PPP_CONNECTION, "/ppp")
        other = service("urn:schemas-upnp-org:service:WANIPv6FirewallControl:1", "/6")
        read = readDescription(description(other, *wanted), LOCATION)
        self.assertEqual(
            read.connections,
            (
                Connection(IP_CONNECTION, Place((GATEWAY, 5000), "/ip")),
                Connection(PPP_CONNECTION, Place((GATEWAY, 5000), "/ppp")),
            ),
        )

    def test_urls(self) -> None:
        """
        A control URL is resolved against the base that the description names, or its own URL.
        """
        base = f"http://{GATEWAY}:5000/b/"
        for url, where, path in (
            ("/c", "", "/c"),
            ("c", "", "/a/c"),
            ("c", base, "/b/c"),
            (f"{base}c", "", "/b/c"),
            ("../../c?d=e", base, "/c?d=e"),
        ):
            places = self.controls(service(IP_CONNECTION, url), base=where)
            self.assertEqual(places, [Place((GATEWAY, 5000), path)], url)

    def test_elsewhere(self) -> None:
        """
        A connection whose actions would go anywhere but to the server that the description came
        from is left out; one that has no others is no router.
        """
        good = service(IP_CONNECTION, "/good")
        for url, base in (
            ("http://192.168.1.2:5000/c", ""),
            (f"http://{GATEWAY}:5001/c", ""),
            (f"https://{GATEWAY}:5000/c", ""),
            ("//example.org/c", ""),
            ("http://[", ""),
            ("/.." * 200 + "/c", ""),
            ("/c", "http://192.168.1.2:5000/"),
            ("/c", f"http://{GATEWAY}/"),
            ("/c", "http://["),
            ("/c", "file:///"),
            ("/c", f"http://{GATEWAY}:5000/" + "../" * 200),
        ):
            bad = description(service(IP_CONNECTION, url), base=base)
            self.rejected(bad)
            if not base:
                self.assertEqual(
                    [p.path for p in self.controls(bad.decode()[21:], good)], ["/good"]
                )

    def test_none(self) -> None:
        """
        A description without a WAN connection, or with one of another kind, is no router's.
        """
        self.rejected(description())
        self.rejected(description(service(IP_CONNECTION[:-1] + "9", "/c")))
        self.rejected(description("<service><controlURL>/c</controlURL></service>"))

    def test_many(self) -> None:
        """
        Of many connections the first four count.
        """
        bad = [service(IP_CONNECTION, "http://192.168.1.2/c")] * 4
        self.rejected(description(*bad, service(IP_CONNECTION, "/c")))
        self.assertEqual(len(self.controls(*[service(IP_CONNECTION, "/c")] * 100)), 4)

    def test_names(self) -> None:
        """
        A router's name is its friendly name and model, on one line, without what is not printable,
        cut after 64 characters; or nothing.
        """
        for name, model, shown in (
            ("A", "B", "A (B)"),
            ("A B", "B", "A B"),
            ("", "B", "B"),
            ("", "", None),
            (" A\n\tB\x7f\u202e\u0085C ", "", "A B C"),
            ("A" * 9999, "B", "A" * 64),
        ):
            data = description(service(IP_CONNECTION, "/c"), name=name, model=model)
            self.assertEqual(readDescription(data, LOCATION).router, shown)

    def test_noDevice(self) -> None:
        """
        A description without a device has no name.
        """
        data = f"<root><a>{service(IP_CONNECTION, '/c')}</a></root>".encode()
        self.assertIsNone(readDescription(data, LOCATION).router)

    def test_written(self) -> None:
        """
        What is written for miniupnpc is such a description.
        """
        read = readDescription(writeDescription(IP_CONNECTION, "/token"), LOCATION)
        place = Place((GATEWAY, 5000), "/token")
        self.assertEqual(read.connections, (Connection(IP_CONNECTION, place),))

    def test_fuzz(self) -> None:
        """
        Mutated descriptions are read or rejected, and lead to where they came from.
        """
        both = service(IP_CONNECTION, "/ip"), service(PPP_CONNECTION, "ppp")
        seeds = [
            description(*both, model="B"),
            description(*both, base=f"http://{GATEWAY}:5000/b/"),
        ]
        read = 0
        for data in variants(seeds, FUZZ):
            try:
                said = readDescription(data, LOCATION)
            except MalformedDatagram:
                continue
            read += 1
            self.assertTrue(1 <= len(said.connections) <= 4)
            self.assertTrue(len(said.router or "") <= 64 and (said.router or "").isprintable())
            for connection in said.connections:
                self.assertEqual(connection.control.address, LOCATION.address)
        self.assertGreater(read, 0)


class ResponseTests(SynchronousTestCase):
    """
    Answers to actions.
    """

    def rejected(self, data: bytes, action: str = "A") -> None:
        """
        It is no answer.
        """
        self.assertRaises(MalformedDatagram, readResponse, data, action)

    def test_done(self) -> None:
        """
        The fields of a response are read; some have none.
        """
        said = response("GetExternalIPAddress", NewExternalIPAddress="192.0.2.1")
        fields = {"NewExternalIPAddress": "192.0.2.1"}
        self.assertEqual(readResponse(said, "GetExternalIPAddress"), Response(fields))
        self.assertEqual(readResponse(response("AddPortMapping"), "AddPortMapping"), Response({}))

    def test_refused(self) -> None:
        """
        An error is its code.
        """
        self.assertEqual(readResponse(error(718, "Conflict"), "A"), Response({}, 718))

    def test_neither(self) -> None:
        """
        Answers to other actions, errors without a code and other documents are none.
        """
        self.rejected(response("B", NewC="d"))
        for code in ("", "-1", "0", "718 ", "71", "7180", "\u0661\u0661\u0661"):
            self.rejected(error(code) if code != "718 " else error("7 18"))
        self.rejected(description())
        self.rejected(b"<AResponse/>")

    def test_fields(self) -> None:
        """
        Only fields that actions have are read, at most 32, as ASCII without markup, cut after 64.
        """
        said = readResponse(
            response("A", NewA="&lt;b&gt;&amp;\u00e9", Old="c", NewLong="d" * 999, New1="e"), "A"
        )
        self.assertEqual(said.fields, {"NewA": "b ?", "NewLong": "d" * 64})
        many = {"New" + chr(97 + n // 9) + chr(97 + n % 9): "" for n in range(80)}
        self.assertEqual(len(readResponse(response("A", **many), "A").fields), 32)

    def test_written(self) -> None:
        """
        What is written for miniupnpc says the same.
        """
        said = Response({"NewA": "b", "NewC": ""})
        self.assertEqual(readResponse(writeResponse(said, "A"), "A"), said)
        refusal = writeResponse(Response({}, 725), "A")
        self.assertIn(b"<errorCode>725</errorCode>", refusal)

    def test_fuzz(self) -> None:
        """
        Mutated answers are read or rejected; what is written of one that was read has no markup of
        the router's.
        """
        action = "GetSpecificPortMappingEntry"
        fields = {"NewInternalPort": "1", "NewInternalClient": "a", "NewLeaseDuration": "9"}
        read = 0
        for data in variants([response(action, **fields), error(714, "None")], FUZZ):
            try:
                said = readResponse(data, action)
            except MalformedDatagram:
                continue
            read += 1
            written = writeResponse(said, action)
            self.assertTrue(written.isascii())
            if said.code is None:
                self.assertEqual(readResponse(written, action), said)
                self.assertEqual(written.count(b"<"), 6 + 2 * len(said.fields))
        self.assertGreater(read, 0)
