"""
The router program miniupnpd, which speaks UPnP, NAT-PMP and PCP, on a router of the laboratory.

@see: C{/usr/share/doc/miniupnpd-nftables}
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.lab.laboratory import Router
from tests.kernel.lab.namespace import LaboratoryError
from tests.kernel.lab.nat import LAN, WAN
from tests.kernel.lab.process import Program

_PROGRAM = shutil.which("miniupnpd") or "/usr/sbin/miniupnpd"
# How long it may take to start on busy cores, in seconds.
_START = 20.0

_CHAINS = """
table inet miniupnpd {
    chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
    chain prerouting { type nat hook prerouting priority -110; policy accept; jump portmap; }
    chain postrouting { type nat hook postrouting priority 90; policy accept; jump sourcemap; }
    chain miniupnpd { }
    chain portmap { }
    chain sourcemap { }
}
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """
    One mapping that the daemon's own list of leases has.

    @ivar transport: C{"udp"} or C{"tcp"}.
    @ivar externalPort: the port on the router.
    @ivar client: the inside address.
    @ivar internalPort: the inside port.
    """

    transport: str
    externalPort: int
    client: str
    internalPort: int


class Miniupnpd:
    """
    One running daemon.

    @ivar program: its process.
    """

    def __init__(
        self,
        router: Router,
        *,
        upnp: bool = True,
        pmp: bool = True,
        options: str = "",
        forget: bool = False,
    ) -> None:
        """
        Start it, and wait until it serves.

        @param pmp: whether NAT-PMP and PCP are on: the daemon has one switch for both.
        @param options: more lines of its configuration.
        @param forget: begin with nothing, as after a reboot: without it, the mappings of one that
            was killed are still there.
        """
        if not Path(_PROGRAM).exists():
            raise LaboratoryError("miniupnpd is missing: apt-get install miniupnpd-nftables")
        self._router = router
        self._leases = router.laboratory.directory / f"{router.name}.leases"
        if forget:
            self._leases.unlink(missing_ok=True)
            router.namespace.run("nft", "delete", "table", "inet", "miniupnpd")
        configuration = self._leases.with_suffix(".conf")
        yesOrNo = {True: "yes", False: "no"}
        lines = [
            f"ext_ifname={WAN}",
            f"listening_ip={LAN}",
            f"lease_file={self._leases}",
            f"enable_upnp={yesOrNo[upnp]}",
            f"enable_natpmp={yesOrNo[pmp]}",
            "secure_mode=yes",
            "upnp_table_name=miniupnpd",
            "upnp_nat_table_name=miniupnpd",
            "upnp_forward_chain=miniupnpd",
            "upnp_nat_chain=portmap",
            "upnp_nat_postrouting_chain=sourcemap",
            "friendly_name=laboratory router",
            "allow 1024-65535 0.0.0.0/0 1024-65535",
            "deny 0-65535 0.0.0.0/0 0-65535",
            options,
        ]
        configuration.write_text("\n".join(lines) + "\n")
        router.namespace.run("nft", "-f", "-", text=_CHAINS)
        pid = configuration.with_suffix(".pid")
        argv = [_PROGRAM, "-d", "-f", str(configuration), "-P", str(pid)]
        self.program: Program = router.run(*argv, name=f"{router.name}-miniupnpd")
        ready = "Listening for NAT-PMP" if pmp else "HTTP listening"
        self.program.errorLine(ready, timeout=_START)

    def leases(self) -> list[Listed]:
        """
        @return: the mappings that the daemon has written down.
        """
        if not self._leases.exists():
            return []
        found = []
        for line in self._leases.read_text().splitlines():
            transport, external, client, internal = line.split(":")[:4]
            found.append(Listed(transport.lower(), int(external), client, int(internal)))
        return found

    def rules(self) -> list[str]:
        """
        @return: the translations that the daemon has in the kernel.
        """
        shown = self._router.namespace.run("nft", "list", "chain", "inet", "miniupnpd", "portmap")
        return [line.strip() for line in shown.splitlines() if re.search(r"\bdnat\b", line)]

    def kill(self) -> None:
        """
        End the daemon without a word.
        """
        self.program.kill()
        self.program.wait(_START)
