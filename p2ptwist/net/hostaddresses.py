"""
The addresses of this host, for host candidates (RFC 8445 section 5.1.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import ifaddr
from twisted.logger import Logger
from zope.interface import implementer

from p2ptwist.core.address import canonicalHost
from p2ptwist.interfaces import IHostAddresses

_log = Logger()


@implementer(IHostAddresses)
class SystemAddresses:
    """
    The addresses of the interfaces of the machine that this program runs on.
    """

    def hostAddresses(self) -> Sequence[str]:
        """
        @return: every address of every interface, without IPv6 scopes; none where the system does
            not let this program know.
        """
        try:
            adapters = list(ifaddr.get_adapters())
        except OSError as error:
            _log.warn("the addresses of this host are not known: {error}", error=error)
            return []
        return [
            canonicalHost(ip.ip[0] if isinstance(ip.ip, tuple) else ip.ip)
            for adapter in adapters
            for ip in adapter.ips
        ]


def hostAddresses(reactor: object) -> Sequence[str]:
    """
    @param reactor: a reactor; one that knows its own host's addresses is asked, and otherwise the
        operating system.
    """
    if IHostAddresses.providedBy(reactor):
        return IHostAddresses(reactor).hostAddresses()
    return SystemAddresses().hostAddresses()
