"""
What a UPnP router may answer to any request, if it means no good.
"""

from __future__ import annotations

from tests.contract.fakeigd import Exchange, Lie


def _shut(exchange: Exchange) -> None:
    exchange.transport.abortConnection()


def _say(*data: bytes) -> Lie:
    def lie(exchange: Exchange) -> None:
        exchange.transport.write(b"".join(data))
        exchange.transport.loseConnection()

    return lie


_OK = b"HTTP/1.1 200 OK\r\n"
_BOMB = (
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY a 'ha'>"
    + b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 9))
    + b"]><root><device><friendlyName>&a8;</friendlyName></device></root>"
)

#: what a router may answer to any request, that is over at once
LIES: dict[str, Lie] = {
    "reset": _shut,
    "nothing": _say(),
    "half a status": _say(b"HTTP/1."),
    "half a header": _say(_OK, b"Content-"),
    "half a body": _say(_OK, b"Content-Length: 500\r\n\r\n<root><device>"),
    "garbage": _say(bytes(range(256)) * 20),
    "other protocol": _say(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "no body": _say(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "empty": _say(_OK, b"Content-Length: 0\r\n\r\n"),
    "negative": _say(_OK, b"Content-Length: -5\r\n\r\n<a/>"),
    "not found": _say(b"HTTP/1.1 404 Not Found\r\n\r\n"),
    "unauthorized": _say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
    "entities": lambda exchange: exchange.say(_BOMB),
    "no XML": lambda exchange: exchange.say(b"hello" * 1000),
    "deep": lambda exchange: exchange.say(b"<a>" * 20000),
    "other XML": lambda exchange: exchange.say(b"<a><b>c</b></a>"),
    "70,000": lambda exchange: exchange.say(b"<a>" + b" " * 70000 + b"</a>"),
    "half a chunk": _say(_OK, b"Transfer-Encoding: chunked\r\n\r\nffff\r\n<a>"),
    "bad chunk": _say(_OK, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n<a>"),
    "huge chunk": _say(_OK, b"Transfer-Encoding: chunked\r\n\r\n", b"f" * 40, b"\r\n<a/>"),
    "many headers": _say(_OK, b"A: b\r\n" * 5000, b"\r\n"),
    "long header": _say(_OK, b"A: ", b"b" * 100_000, b"\r\n\r\n"),
}
#: and what would never be over
ENDLESS: dict[str, Lie] = {
    "silence": lambda exchange: None,
    "a byte at a time": lambda exchange: exchange.pour(
        _OK + b"Content-Length: 60000\r\n\r\n", b"<", 0.2
    ),
    "a header at a time": lambda exchange: exchange.pour(_OK, b"A", 0.2),
    "endless body": lambda exchange: exchange.pour(_OK + b"\r\n<a>", b"b" * 65536),
    "endless chunks": lambda exchange: exchange.pour(
        _OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 1000 + b"\r\nb\r\n"
    ),
    "endless continues": lambda exchange: exchange.pour(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless header": lambda exchange: exchange.pour(_OK, b"a" * 65536),
}
