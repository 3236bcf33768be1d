"""
The documents of a UPnP Internet Gateway Device: its description, and its answers to actions.

They come from whoever says that it is the router.  So they are read with bounds on everything, and
without document types or entities; and what is read is written anew, by L{writeDescription} and
L{writeResponse}, for the library that speaks UPnP: it never sees a byte that a router wrote but for
the values of known fields.

@see: UPnP Device Architecture 1.1, sections 2.3 and 3.1; WANIPConnection:1 and :2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urljoin
from xml.parsers import expat

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping.ssdp import MAX_URL, Place, readPlace

MAX_DOCUMENT = 65536  # bytes; descriptions of real routers have 2,000 to 20,000
_MAX_ELEMENTS = 2000  # real descriptions have some 100 to 400
_MAX_DEPTH = 24  # real descriptions have 9
_MAX_CONNECTIONS = 4  # the WAN connections of one router that are looked at
_MAX_NAME = 64  # characters of a router's name that are shown
_MAX_VALUE = 64  # characters of a field of an answer; the longest that is needed is a status
_MAX_FIELDS = 32  # fields of an answer; the most that any action has are eight

_CONNECTION = re.compile(r"urn:schemas-upnp-org:service:WAN(?:IP|PPP)Connection:[12]")
_FIELD = re.compile(r"New[A-Za-z]{1,40}")
_MARKUP = str.maketrans(dict.fromkeys("<>&\"'", " "))


@dataclass(slots=True)
class Record:
    """
    An element that has others in it.

    @ivar name: its name, without a prefix.
    @ivar fields: the texts of those elements right in it that have none in them, by name; the first
        of each name.
    """

    name: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connection:
    """
    One WAN connection of a router.

    @ivar service: the type of the service that maps ports on it.
    @ivar control: where its actions are sent.
    """

    service: str
    control: Place


@dataclass(frozen=True, slots=True)
class Description:
    """
    What a router says of itself.

    @ivar router: its name, at most 64 printable characters.
    @ivar connections: its WAN connections, at most four, at least one.
    """

    router: str | None
    connections: tuple[Connection, ...]


@dataclass(frozen=True, slots=True)
class Response:
    """
    An answer to an action.

    @ivar fields: what it says, by name.
    @ivar code: the error code; C{None} for success.
    """

    fields: dict[str, str]
    code: int | None = None


class _Reader:
    """
    Makes records of the elements of one document, as expat finds them.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        # The elements that are open: the record of one, once it has another in it, or its name.
        self._open: list[Record | str] = []
        self._text: list[str] = []
        self._elements = 0

    def start(self, name: str, attributes: object) -> None:
        """
        An element begins: the one that is around it has elements in it.
        """
        self._elements += 1
        if self._elements > _MAX_ELEMENTS or len(self._open) == _MAX_DEPTH:
            raise MalformedDatagram("a document has too many elements")
        if self._open and isinstance(around := self._open[-1], str):
            self._open[-1] = record = Record(around)
            self.records.append(record)
        self._open.append(name.rpartition(":")[2])
        self._text.clear()

    def end(self, name: str) -> None:
        """
        An element ends.
        """
        ended = self._open.pop()
        if isinstance(ended, str) and self._open:
            around = self._open[-1]
            assert isinstance(around, Record), "start() made it one"
            around.fields.setdefault(ended, "".join(self._text).strip())
        self._text.clear()

    def text(self, data: str) -> None:
        """
        A piece of text comes.
        """
        self._text.append(data)

    def refuse(self, *arguments: object) -> None:
        """
        A document type begins: with it come entities.
        """
        raise MalformedDatagram("a document has a document type")


def readRecords(data: bytes) -> list[Record]:
    """
    Read an XML document.

    @return: its elements that have others in them, in their order.
    @raise MalformedDatagram: when it is longer than 64 KiB, is not well-formed, has a document
        type, or has more elements than any router needs.
    """
    if len(data) > MAX_DOCUMENT:
        raise MalformedDatagram("a document is too long")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        # As text, so that the encoding is UTF-8, whatever the document names.
        parser.Parse(data.decode("utf-8", "replace"), True)
    except expat.ExpatError:
        raise MalformedDatagram("a document is not well-formed XML") from None
    return reader.records


def readDescription(data: bytes, location: Place) -> Description:
    """
    Read the description of a router.

    @param location: where it came from.  Actions are only ever sent to that same server.
    @raise MalformedDatagram: for what is no description of a router with a WAN connection.
    """
    records = readRecords(data)
    base = next((r.fields["URLBase"] for r in records if r.fields.get("URLBase")), "")
    host, port = location.address
    base = base or f"http://{host}:{port}{location.path}"
    services = [
        record.fields
        for record in records
        if record.name == "service" and _CONNECTION.fullmatch(record.fields.get("serviceType", ""))
    ]
    connections = tuple(
        Connection(service["serviceType"], control)
        for service in services[:_MAX_CONNECTIONS]
        if (control := _control(base, service.get("controlURL", ""), location)) is not None
    )
    if not connections:
        raise MalformedDatagram("a description has no WAN connection of the gateway's")
    return Description(_routerName(records), connections)


def readResponse(data: bytes, action: str) -> Response:
    """
    Read the answer to an action.

    @param action: its name.
    @raise MalformedDatagram: for what is neither its response nor an error.
    """
    said = f"{action}Response"
    for record in readRecords(data):
        if record.name == "UPnPError":
            return Response({}, _errorCode(record.fields.get("errorCode", "")))
        if record.name == said:
            return Response(_values(record.fields))
        if said in record.fields:  # it has no fields
            return Response({})
    raise MalformedDatagram("an answer is not one to the action")


def writeDescription(service: str, controlPath: str) -> bytes:
    """
    @param service: the type of the one service that is described.
    @param controlPath: where its actions are sent, on the server that gives this document out.
    """
    return (
        '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>'
        f"<service><serviceType>{service}</serviceType><controlURL>{controlPath}</controlURL>"
        "</service></serviceList></device></root>"
    ).encode()


def writeResponse(response: Response, action: str) -> bytes:
    """
    @return: an answer that says the same as C{response}, and nothing else.
    """
    if response.code is not None:
        body = f"<s:Fault><errorCode>{response.code}</errorCode></s:Fault>"
    else:
        fields = "".join(f"<{name}>{value}</{name}>" for name, value in response.fields.items())
        body = f"<u:{action}Response>{fields}</u:{action}Response>"
    return f"<s:Envelope><s:Body>{body}</s:Body></s:Envelope>".encode()


def _control(base: str, url: str, location: Place) -> Place | None:
    """
    @return: where a control URL leads, if that is the server that the description came from.
    """
    if len(base) > MAX_URL or len(url) > MAX_URL:
        return None
    try:
        control = readPlace(urljoin(base, url), location.address[0])
    except ValueError:  # MalformedDatagram is one, and urljoin raises them too
        return None
    return control if control.address == location.address else None


def _routerName(records: list[Record]) -> str | None:
    device = next((record.fields for record in records if record.name == "device"), {})
    friendly, model = (_shown(device.get(name, "")) for name in ("friendlyName", "modelName"))
    both = friendly if model in friendly else f"{friendly} ({model})" if friendly else model
    return both[:_MAX_NAME].strip() or None


def _shown(text: str) -> str:
    """
    @return: C{text} without what is not printable, on one line, and not longer than is shown.
    """
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_NAME])
    return " ".join(printable.split())[:_MAX_NAME]


def _values(fields: dict[str, str]) -> dict[str, str]:
    """
    @return: the fields that an action of a WAN connection may have, as ASCII without markup.
    """
    known = [name for name in fields if _FIELD.fullmatch(name)][:_MAX_FIELDS]
    return {name: _plain(fields[name]) for name in known}


def _plain(text: str) -> str:
    shown = _shown(text.translate(_MARKUP))
    return shown.encode("ascii", "replace").decode()[:_MAX_VALUE]


def _errorCode(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{2}", text):
        raise MalformedDatagram("an error has no code")
    return int(text)
