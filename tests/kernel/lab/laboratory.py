"""
The laboratory: sites behind real NATs, public hosts, and a transit network between them.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from types import TracebackType

from p2ptwist.testing.nat import NAT
from tests.kernel.lab.namespace import Namespace, checkMachine, makeDirectory, removeStale
from tests.kernel.lab.nat import FIREWALL6, LAN, WAN, rules
from tests.kernel.lab.process import Program
from tests.kernel.lab.switch import GATEWAY_MAC, Counts, Link, Switch

# Programs refuse documentation addresses, so these look like anybody's; nothing leads out of the
# laboratory.  A site has 11.1.N.0/24 and PREFIX6:N::/48, a public host 11.0.N.0/24 and PREFIX6:0:N.
_PREFIX6 = "2a11:7"
# The next hop of everything on the transit network.
_GATEWAY, _GATEWAY6 = "11.255.255.254", "fe80::1"

# How long a Python program may take to start on busy cores, in seconds.
_START = 30.0

SITE_LINK = Link(delay=0.020)
NODE_LINK = Link(delay=0.005)

_IPV6_OFF = {"ipv6__conf__all__disable_ipv6": 1, "ipv6__conf__default__disable_ipv6": 1}
# Addresses are used at once: nobody else can have them.
_IPV6_ON = {
    "ipv6__conf__default__accept_dad": 0,
    "ipv6__conf__default__dad_transmits": 0,
    "ipv6__conf__default__router_solicitations": 0,
}
_ROUTER = {
    "ipv4__ip_forward": 1,
    # What two hosts in a LAN say to each other does not pass the rules.
    "bridge__bridge-nf-call-iptables": 0,
    "bridge__bridge-nf-call-ip6tables": 0,
    "bridge__bridge-nf-call-arptables": 0,
    "ipv4__conf__all__send_redirects": 0,
    "ipv4__conf__default__send_redirects": 0,
}


class Place:
    """
    A namespace at a port of the transit network: a host, or a router.

    @ivar name: what the test calls it.
    @ivar addresses: its own addresses.
    @ivar port: the number of the port that its traffic leaves the site by.
    """

    def __init__(self, laboratory: Laboratory, name: str, *, ipv6: bool) -> None:
        self.laboratory = laboratory
        self.name = name
        self.addresses: list[str] = []
        self.port = -1
        self.namespace = Namespace(name)
        laboratory.keep(self.namespace)
        self.namespace.sysctl(**(_IPV6_ON if ipv6 else _IPV6_OFF))
        self.namespace.ip("link set lo up")

    def run(self, *argv: str, name: str | None = None) -> Program:
        """
        Start a program here, which the laboratory ends.

        @param name: what to call it in messages.
        """
        return self.laboratory.run(self, list(argv), name or self.name)

    def probe(self, kind: str, *arguments: str) -> Program:
        """
        Start C{tests/kernel/probe_KIND.py} here.
        """
        argv = [sys.executable, "-m", f"tests.kernel.probe_{kind}", *arguments]
        return self.run(*argv, name=f"{self.name}-{kind}")

    def _joinTransit(self, link: Link, addresses: list[str], prefixes: list[str]) -> None:
        switch = self.laboratory.switch
        self.port = switch.attach(self.namespace, WAN)
        switch.setLink(self.port, link)
        self.addresses += addresses
        self.namespace.ip(
            f"link set {WAN} up",
            *(f"addr add {address} dev {WAN}" for address in addresses),
            f"neigh replace {_GATEWAY} lladdr {GATEWAY_MAC} dev {WAN} nud permanent",
            f"route add default via {_GATEWAY} dev {WAN} onlink",
        )
        if any(":" in address for address in addresses):
            self.namespace.ip(
                f"neigh replace {_GATEWAY6} lladdr {GATEWAY_MAC} dev {WAN} nud permanent",
                f"route add default via {_GATEWAY6} dev {WAN}",
            )
        for prefix in prefixes:
            switch.route(prefix, self.port)


class PublicHost(Place):
    """
    A host on the transit network itself, with two addresses (of each family).
    """

    def __init__(
        self, laboratory: Laboratory, name: str, number: int, link: Link, *, ipv6: bool
    ) -> None:
        super().__init__(laboratory, name, ipv6=ipv6)
        addresses = [f"11.0.{number}.1", f"11.0.{number}.2"]
        prefixes = [f"11.0.{number}.0/24"]
        if ipv6:
            addresses += [f"{_PREFIX6}:0:{number}::1", f"{_PREFIX6}:0:{number}::2"]
            prefixes.append(f"{_PREFIX6}:0:{number}::/64")
        self._joinTransit(link, addresses, prefixes)


class Host(Place):
    """
    A host in a router's LAN.
    """

    def __init__(self, router: Router, name: str) -> None:
        super().__init__(router.laboratory, name, ipv6=router.lan6 is not None)
        self.port = router.port
        self.addresses.append(router.connect(self.namespace, "eth0"))
        if router.lan6 is not None:
            address = f"{router.lan6}::{self.addresses[0].rpartition('.')[2]}"
            self.addresses.append(address)
            self.namespace.ip(
                f"addr add {address}/64 dev eth0",
                f"route add default via {router.lan6}::1 dev eth0",
            )


class Router(Place):
    """
    A router with a NAT (and a firewall for IPv6), on the transit network or in another's LAN.

    @ivar nat: how it behaves now.
    @ivar lan6: the first four groups of its LAN's IPv6 prefix, if it has one.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        name: str,
        number: int,
        nat: NAT,
        *,
        link: Link | None = None,
        inside: Router | None = None,
        ipv6: bool = False,
        lan: str | None = None,
    ) -> None:
        super().__init__(laboratory, name, ipv6=ipv6)
        self._number = number
        self._hosts = 0
        self._lan = lan or f"192.168.{number}"
        self.lan6 = f"{_PREFIX6}:{number:x}:1" if ipv6 else None
        self.namespace.sysctl(**_ROUTER, **({"ipv6__conf__all__forwarding": 1} if ipv6 else {}))
        if inside is None:
            self._joinOutside(link or SITE_LINK)
        else:
            self.port = inside.port
            self.addresses.append(inside.connect(self.namespace, WAN))
        self._makeLAN()
        self.load(nat)
        if nat.udpLife is not None:
            self.probe("forget", self.external, *map(str, nat.udpLife))

    def host(self, name: str) -> Host:
        """
        @return: a new host in the LAN.
        """
        return Host(self, name)

    def router(self, name: str, nat: NAT) -> Router:
        """
        @return: a new router in the LAN, with a NAT and a LAN of its own.
        """
        return self.laboratory.nested(self, name, nat)

    @property
    def external(self) -> str:
        """
        The address that the NAT translates to.
        """
        return self.addresses[0]

    def load(self, nat: NAT) -> None:
        """
        Behave so from now on.  Flows that are there keep their translation.
        """
        self.nat = nat
        self.namespace.run("nft", "-f", "-", text=rules(nat, self.external))
        if self.lan6 is not None:
            self.namespace.run("nft", "-f", "-", text=FIREWALL6)
        # Connection tracking counts from the last packet of a flow, and has two timers: one for
        # flows without an answer.
        self.namespace.sysctl(
            netfilter__nf_conntrack_udp_timeout=round(nat.udpTimeout),
            netfilter__nf_conntrack_udp_timeout_stream=round(nat.udpTimeout),
        )

    def reboot(self, nat: NAT | None = None) -> None:
        """
        Forget every flow.  Of the NATs that the laboratory has, only one with random ports gives
        an inside address another outer port than before.
        """
        # In this order: a busy flow would renew its old mapping between a flush and the new rules.
        self.load(nat or self.nat)
        self.namespace.run("conntrack", "-F")

    def renumber(self) -> None:
        """
        Get another outer address, and forget every flow.
        """
        old = self.external
        new = f"{old.rpartition('.')[0]}.{int(old.rpartition('.')[2]) + 1}"
        self.namespace.ip(f"addr add {new} dev {WAN}", f"addr del {old} dev {WAN}")
        self.addresses[0] = new
        self.reboot()

    def flows(self) -> list[str]:
        """
        @return: the UDP flows that connection tracking knows, as C{conntrack -L} shows them.
        """
        return self.namespace.run("conntrack", "-L", "-p", "udp").splitlines()

    def connect(self, namespace: Namespace, interface: str) -> str:
        """
        Connect a namespace to the LAN.

        @param interface: the name of its new interface, which is its way out.
        @return: its address.
        """
        self._hosts += 1
        address, port = f"{self._lan}.{9 + self._hosts}", f"lan{self._hosts}"
        self.namespace.ip(
            f"link add {port} type veth peer name {interface} netns {namespace.name}",
            f"link set {port} master {LAN} up",
        )
        namespace.ip(
            f"link set {interface} up",
            f"addr add {address}/24 dev {interface}",
            f"route add default via {self._lan}.1 dev {interface}",
        )
        return address

    def _joinOutside(self, link: Link) -> None:
        addresses = [f"11.1.{self._number}.1"]
        prefixes = [f"11.1.{self._number}.0/24"]
        if self.lan6 is not None:
            site = f"{_PREFIX6}:{self._number:x}"
            addresses.append(f"{site}::1")
            prefixes.append(f"{site}::/48")
        self._joinTransit(link, addresses, prefixes)

    def _makeLAN(self) -> None:
        self.namespace.ip(
            f"link add {LAN} type bridge forward_delay 0 mcast_snooping 0",
            f"addr add {self._lan}.1/24 dev {LAN}",
            f"link set {LAN} up",
        )
        if self.lan6 is not None:
            self.namespace.ip(f"addr add {self.lan6}::1/64 dev {LAN}")


class Laboratory:
    """
    One laboratory.  It is a context manager; at its end nothing is left of it.

    @ivar switch: the transit network.
    @ivar directory: where the programs in it may keep files, and where their output goes.
    """

    def __init__(self, seed: int = 1) -> None:
        """
        @param seed: of whatever the links do at random.
        @raise LaboratoryError: when this machine cannot hold it.
        """
        checkMachine()
        removeStale()
        self._namespaces: list[Namespace] = []
        self._programs: list[Program] = []
        self._routers = self._publicHosts = 0
        self.directory = makeDirectory()
        transit = Namespace("transit")
        self.keep(transit)
        transit.sysctl(**_IPV6_OFF)
        self.switch = Switch(transit, seed)

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def publicHost(self, name: str, link: Link = NODE_LINK, *, ipv6: bool = False) -> PublicHost:
        """
        @return: a new host on the transit network.
        """
        self._publicHosts += 1
        return PublicHost(self, name, self._publicHosts, link, ipv6=ipv6)

    def mirror(self, *, ipv6: bool = False) -> PublicHost:
        """
        @return: a new public host, on which C{tests/kernel/probe_mirror.py} answers.
        """
        public = self.publicHost("mirror", ipv6=ipv6)
        for addresses in (public.addresses[:2], public.addresses[2:]):
            if addresses:
                public.probe("mirror", *addresses).line("ready", timeout=_START)
        return public

    def site(
        self,
        name: str,
        nat: NAT,
        link: Link = SITE_LINK,
        *,
        ipv6: bool = False,
        lan: str | None = None,
    ) -> Router:
        """
        @param ipv6: whether it has IPv6 as well, behind a stateful firewall.
        @param lan: the first three numbers of its LAN, when two sites shall have the same.
        @return: a new router on the transit network.
        """
        number = self._nextRouter()
        return Router(self, f"{name}-router", number, nat, link=link, ipv6=ipv6, lan=lan)

    def nested(self, outer: Router, name: str, nat: NAT) -> Router:
        """
        @return: a new router in another one's LAN.
        """
        return Router(self, f"{name}-router", self._nextRouter(), nat, inside=outer)

    def run(self, place: Place, argv: list[str], name: str) -> Program:
        """
        Start a program, which is ended with the laboratory.
        """
        unique = f"{name}-{len(self._programs)}"
        program = Program(place.namespace, argv, self.directory, unique)
        self._programs.append(program)
        return program

    def counts(self) -> Counts:
        """
        @return: what crossed the transit network so far.
        """
        return self.switch.counts()

    def keep(self, namespace: Namespace) -> None:
        """
        Remove a namespace at the end.
        """
        self._namespaces.append(namespace)

    def close(self) -> None:
        """
        End every program and remove everything.
        """
        with contextlib.ExitStack() as stack:
            # The last one registered runs first; every one runs, whatever the others do.
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            for namespace in self._namespaces:
                stack.callback(namespace.remove)
            stack.callback(self.switch.stop)
            for program in self._programs:
                stack.callback(program.end)
            for program in self._programs:
                stack.callback(program.terminate)
        self._namespaces.clear()
        self._programs.clear()

    def _nextRouter(self) -> int:
        self._routers += 1
        return self._routers
