"""
What stands between miniupnpc and the router, in a child process: an HTTP server on loopback.

miniupnpc would connect to wherever a description leads, and read whatever comes.  Here it is given
a description that leads to this server alone.  Each action that it sends is passed on to the one
place that was checked, in a request of its own, and the answer is read with bounds and written anew
before miniupnpc sees it.  Redirects are not followed.

Everything here blocks, and runs in the child process of L{p2ptwist.net.upnp} only, where a deadline
ends it.  It imports nothing of Twisted, so that the child starts in some 50 ms.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Literal

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping.igd import (
    MAX_DOCUMENT,
    Connection,
    Response,
    readResponse,
    writeDescription,
    writeResponse,
)
from p2ptwist.core.portmapping.ssdp import Place

_READ_TIMEOUT = 2.0  # seconds for any one read; the whole is ended by the child's deadline
_MAX_REQUEST = 8192  # bytes of an action of miniupnpc's; they have some 700
_ACTION_FAILED = 501  # UPnP Device Architecture 1.1, table 3-3


class RouterFailure(Exception):
    """
    A router did not do what it was asked to.

    @ivar kind: C{"silent"}, there was no answer; C{"unusable"}, the answer was none; C{"refused"};
        C{"offline"}, the router has no address of the Internet.
    @ivar why: the reason, for a person to read.
    @ivar code: the UPnP error code, when it refused.
    """

    def __init__(
        self, kind: Literal["silent", "unusable", "refused", "offline"], why: str, code: int = 0
    ) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why
        self.code = code


def fetch(
    place: Place, source: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """
    Make one HTTP request: GET, or POST if there is a body.

    @param source: the local address to connect from.
    @return: the status, and the document.
    @raise RouterFailure: when there is no answer, or one that is too long or not HTTP.
    """
    host, port = place.address
    connection = HTTPConnection(host, port, _READ_TIMEOUT, source_address=(source, 0))
    try:
        connection.request("GET" if body is None else "POST", place.path, body, dict(headers or {}))
        response = connection.getresponse()
        document = response.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise RouterFailure("silent", f"no answer from {host} port {port}: {error}") from None
    except (HTTPException, ValueError):
        raise RouterFailure("unusable", "the router's answer is not HTTP") from None
    finally:
        connection.close()
    if len(document) > MAX_DOCUMENT:
        raise RouterFailure("unusable", "the router's answer is too long")
    return response.status, document


class Forwarder:
    """
    The server: one description, one place that actions go to.

    @ivar code: the error code of the last answer; C{None} for success.
    @ivar failure: why there was no answer to an action; C{None} if there was one.
    """

    def __init__(self, source: str) -> None:
        """
        Listen, in a thread of its own.

        @param source: the local address to connect to the router from.
        """
        self.code: int | None = None
        self.failure: RouterFailure | None = None
        self._source = source
        self._connection: Connection | None = None
        # A web page that guesses the port still does not reach the router through here.
        self._path = f"/{os.urandom(16).hex()}"
        self._server = TCPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def serve(self, connection: Connection) -> str:
        """
        Describe C{connection} from now on, and pass actions on to it.

        @return: the URL of the description.
        """
        self._connection = connection
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._path}"

    def forget(self) -> None:
        """
        Forget what the last answer was.
        """
        self.code = self.failure = None

    def close(self) -> None:
        """
        Listen no more.
        """
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes | None, soapAction: str) -> bytes | None:
        """
        Answer one request of miniupnpc's.

        @return: the document; C{None} for whoever does not know the path.
        """
        if self._connection is None or path != self._path:
            return None
        if body is None:
            return writeDescription(self._connection.service, self._path)
        action = soapAction.strip('"').rpartition("#")[2]
        try:
            response = self._pass(self._connection.control, body, soapAction, action)
        except RouterFailure as failure:
            self.failure = failure
            response = Response({}, _ACTION_FAILED)
        self.code = response.code
        return writeResponse(response, action)

    def _pass(self, control: Place, body: bytes, soapAction: str, action: str) -> Response:
        headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": soapAction}
        status, document = fetch(control, self._source, body, headers)
        # 500 comes with an error (UPnP Device Architecture 1.1, section 3.1.3).
        if status not in (200, 500):
            raise RouterFailure("unusable", f"the router answered an action with {status}")
        try:
            return readResponse(document, action)
        except MalformedDatagram as error:
            raise RouterFailure("unusable", str(error)) from None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        forwarder = self

        class Handler(BaseHTTPRequestHandler):
            """
            One request.
            """

            timeout = _READ_TIMEOUT

            def do_GET(self) -> None:
                """
                Give the description.
                """
                self._give(None)

            def do_POST(self) -> None:
                """
                Pass an action on.
                """
                length = int(self.headers.get("Content-Length") or 0)
                self._give(self.rfile.read(min(max(length, 0), _MAX_REQUEST)))

            def log_message(self, format: str, *args: object) -> None:
                """
                Say nothing.
                """

            def _give(self, body: bytes | None) -> None:
                said = forwarder.answer(self.path, body, self.headers.get("SOAPAction", ""))
                self.send_response(404 if said is None else 200)
                self.send_header("Content-Length", str(len(said or b"")))
                self.end_headers()
                self.wfile.write(said or b"")

        return Handler
