"""
What UPnP routers send, for tests; and what nobody should.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence

# Mutations of each kind of input: P2PTWIST_FUZZ=1000000 takes some minutes.
FUZZ = int(os.environ.get("P2PTWIST_FUZZ", "10000"))

IP_CONNECTION = "urn:schemas-upnp-org:service:WANIPConnection:1"
PPP_CONNECTION = "urn:schemas-upnp-org:service:WANPPPConnection:1"

# What breaks parsers, put into other inputs.
_WORDS = (
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"<!ENTITY x SYSTEM 'file:///etc/passwd'>",
    b"&b;&amp;&#0;&#x110000;",
    b"<![CDATA[",
    b"]]>",
    b"<?xml version='1.0' encoding='zlib_codec'?>",
    b"<!--",
    b"<a>" * 40,
    b"http://127.0.0.1/",
    b"http://[",
    b"\r\n\r\n",
    b"\x00",
    b"\xff\xfe",
    b"Location:",
    b"xmlns:a='a'",
)


def ssdpAnswer(location: str) -> bytes:
    """
    @return: an answer to a search, as miniupnpd writes it.
    """
    return (
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n"
        "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
        "USN: uuid:0::urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nEXT:\r\n"
        f"SERVER: Debian/12 UPnP/1.1 MiniUPnPd/2.3.1\r\nLOCATION: {location}\r\n\r\n"
    ).encode()


def service(kind: str, control: str) -> str:
    """
    @return: one service of a description.
    """
    return (
        f"<service><serviceType>{kind}</serviceType><serviceId>urn:upnp-org:serviceId:1</serviceId>"
        f"<SCPDURL>/WANIPCn.xml</SCPDURL><controlURL>{control}</controlURL>"
        "<eventSubURL>/evt</eventSubURL></service>"
    )


def description(*services: str, base: str = "", name: str = "A router", model: str = "") -> bytes:
    """
    @return: the description of a router whose WAN connection device has these services.
    """
    urlBase = f"<URLBase>{base}</URLBase>" if base else ""
    return (
        '<?xml version="1.0"?>\r\n<root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"<specVersion><major>1</major><minor>0</minor></specVersion>{urlBase}"
        "<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>"
        f"<friendlyName>{name}</friendlyName><modelName>{model}</modelName>"
        f"<serviceList>{service('urn:schemas-upnp-org:service:Layer3Forwarding:1', '/l3f')}"
        "</serviceList><deviceList><device><friendlyName>WAN</friendlyName><deviceList><device>"
        f"<serviceList>{''.join(services)}</serviceList></device></deviceList></device>"
        "</deviceList></device></root>"
    ).encode()


def response(action: str, **fields: str) -> bytes:
    """
    @return: the answer to an action that was done.
    """
    said = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return _envelope(f'<u:{action}Response xmlns:u="{IP_CONNECTION}">{said}</u:{action}Response>')


def error(code: int | str, why: str = "") -> bytes:
    """
    @return: the answer to an action that was refused.
    """
    return _envelope(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
        f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>'
        f"<errorDescription>{why}</errorDescription></UPnPError></detail></s:Fault>"
    )


def _envelope(body: str) -> bytes:
    return (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def variants(seeds: Sequence[bytes], count: int, seed: int = 2026) -> Iterator[bytes]:
    """
    @return: C{count} mutations of the seeds, the same ones each time.
    """
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            _mutate(data, chance)
        yield bytes(data)


def _mutate(data: bytearray, chance: random.Random) -> None:
    at, to = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    match chance.randrange(6):
        case 0:
            data[at:to] = b""
        case 1:
            data[at:at] = data[at:to]
        case 2:
            data[at:at] = chance.choice(_WORDS)
        case 3:
            data[at : at + 1] = chance.randbytes(1)
        case 4:
            data[at : at + 1] = chance.choice((b"<", b">", b"&", b"/", b":", b"\n", b"9"))
        case _:
            data[to:] = b""
