"""
Ports that routers of the simulated Internet map on request.
"""

from __future__ import annotations

from p2ptwist.core.address import HostPort
from p2ptwist.core.portmapping import natpmp, pcp
from p2ptwist.testing import (
    NAT,
    Filtering,
    Hairpinning,
    Host,
    Mapping,
    PortAllocation,
    PortMapper,
    Router,
    Trouble,
)
from tests.sim.datagrams import Recorder, listen
from tests.sim.test_internet_nat import EXTERNAL, MIRROR, RouterCase

NONCE = b"nonce.nonce."
SYMMETRIC = NAT(
    mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
    allocation=PortAllocation.RANDOM,
    portMapping=PortMapper(),
)


class MappingCase(RouterCase):
    """
    A host with a port, and a client for its router.
    """

    def home(self, nat: NAT = SYMMETRIC, name: str = "home", external: str = EXTERNAL) -> Router:
        """
        @return: a router with IPv4 and IPv6.
        """
        number = len(self.internet.routers)
        prefix6 = f"2001:db8:{number + 1}::/64"
        return self.internet.router(name, external, nat=nat, prefix6=prefix6)

    def ask(self, host: Host, request: bytes, gateway: str | None = None) -> list[bytes]:
        """
        @return: what a host's router answers within a second.
        """
        gateway = gateway or host.defaultGateways()[0]
        local = "::" if ":" in gateway else ""
        host.listenUDP(0, asker := Recorder(), local)
        asker.send(request, (gateway, pcp.SERVER_PORT))
        self.internet.advance(1.0)
        asker.transport.stopListening()
        return [data for data, source in asker.received if source == (gateway, pcp.SERVER_PORT)]

    def map(
        self, host: Host, port: int = 5000, lifetime: int = 600, protocol: int = 17
    ) -> pcp.Response:
        """
        @return: the router's answer to a MAP request for IPv4.
        """
        mapping = pcp.Mapping(NONCE, protocol, port, 7000, "0.0.0.0")
        client = host.address
        [data] = self.ask(host, pcp.encodeRequest(pcp.Request(1, lifetime, client, mapping)))
        return pcp.decodeResponse(data)

    def knock(self, at: HostPort) -> None:
        """
        Send something to a port from a stranger.
        """
        self.mirror.send(b"hello?", at)
        self.internet.advance(1.0)


class MappedTests(MappingCase):
    """
    What a mapped port is good for.
    """

    def test_udp(self) -> None:
        """
        Strangers get in, for as long as the mapping was granted.
        """
        home = self.home()
        alice = home.host("alice")
        listen(alice, recorder := Recorder())
        self.knock((EXTERNAL, 7000))
        response = self.map(alice)
        assert response.mapping is not None
        self.assertEqual(
            (response.mapping.externalHost, response.mapping.externalPort), (EXTERNAL, 7000)
        )
        [forward] = home.forwards()
        self.assertEqual(
            (forward.inside, forward.external), ((alice.address, 5000), (EXTERNAL, 7000))
        )
        self.knock((EXTERNAL, 7000))
        self.assertEqual(recorder.received, [(b"hello?", MIRROR)])
        recorder.send(b"yes?", MIRROR)
        self.internet.advance(1.0)
        self.assertEqual(self.mirror.sources[-1], (EXTERNAL, 7000))
        self.internet.advance(600.0 + 120.0)
        self.knock((EXTERNAL, 7000))
        self.assertEqual(len(recorder.received), 2)  # the second is the mirror's answer
        self.assertEqual(home.forwards(), [])

    def test_outgoing(self) -> None:
        """
        What the host begins by itself leaves from elsewhere, as with Linux, unless the router maps
        it as well.
        """
        for number, mapsOutgoing in enumerate((False, True)):
            mapper = PortMapper(mapsOutgoing=mapsOutgoing)
            nat = NAT(
                mapping=SYMMETRIC.mapping, allocation=SYMMETRIC.allocation, portMapping=mapper
            )
            external = f"203.0.113.{number + 1}"
            alice = self.home(nat, f"home{number}", external).host(f"alice{number}")
            self.map(alice)
            seen = self.reflexive(listen(alice, Recorder()))
            self.assertEqual(seen == (external, 7000), mapsOutgoing)

    def test_bothSidesSent(self) -> None:
        """
        A peer that the host has sent to gets in through the mapped port as well, as from another
        port, and is answered there, as with Linux.
        """
        home = self.home()
        alice = home.host("alice")
        listen(alice, recorder := Recorder())
        self.map(alice)
        seen = self.reflexive(recorder)
        self.knock((EXTERNAL, 7000))
        _, source = recorder.received[-1]
        self.assertEqual(source[0], MIRROR[0])
        self.assertNotEqual(source, MIRROR)
        recorder.send(b"yes?", source)
        self.internet.advance(1.0)
        self.assertEqual(self.mirror.received[-1], (b"yes?", (EXTERNAL, 7000)))
        self.assertEqual(recorder.received[-1], (b"203.0.113.1 7000", source))
        self.assertEqual(self.reflexive(recorder), seen)

    def test_errors(self) -> None:
        """
        ICMP errors find their way through such a flow, both ways.
        """
        home = self.home()
        alice = home.host("alice")
        listen(alice, recorder := Recorder())
        self.map(alice)
        self.reflexive(recorder)
        self.knock((EXTERNAL, 7000))
        _, source = recorder.received[-1]
        recorder.transport.stopListening()
        self.knock((EXTERNAL, 7000))
        self.assertIn(f"UDP {MIRROR[0]}:{MIRROR[1]} > {EXTERNAL}:7000", self.internet.trace.text(5))
        self.mirror.transport.stopListening()
        listen(alice, recorder := Recorder())
        recorder.transport.connect(*source)
        recorder.transport.write(b"there?")
        self.internet.advance(1.0)
        self.assertIn(
            f"{alice.address}:5000 > {source[0]}:{source[1]}", self.internet.trace.text(3)
        )

    def test_pinhole(self) -> None:
        """
        A pinhole in the firewall lets strangers in over IPv6.
        """
        alice = self.home().host("alice")
        six = alice.hostAddresses()[-1]
        listen(alice, recorder := Recorder(), interface="::")
        listen(self.public, stranger := Recorder(), interface="::")
        stranger.send(b"early", (six, 5000))
        self.internet.advance(1.0)
        mapping = pcp.Mapping(NONCE, 17, 5000, 0, "::")
        request = pcp.encodeRequest(pcp.Request(1, 600, six, mapping))
        [data] = self.ask(alice, request, alice.defaultGateways()[1])
        response = pcp.decodeResponse(data)
        assert response.mapping is not None
        self.assertEqual(
            (response.mapping.externalHost, response.mapping.externalPort), (six, 5000)
        )
        stranger.send(b"hello", (six, 5000))
        self.internet.advance(1.0)
        self.assertEqual([data for data, _ in recorder.received], [b"hello"])

    def test_natPMP(self) -> None:
        """
        The same by NAT-PMP, and taken back.
        """
        home = self.home()
        alice = home.host("alice")
        listen(alice, recorder := Recorder())
        for lifetime, count in ((600, 1), (0, 0)):
            request = natpmp.encodeRequest(natpmp.Request(1, 5000, 7000, lifetime))
            [data] = self.ask(alice, request)
            self.assertEqual(natpmp.decodeResponse(data).lifetime, lifetime)
            self.assertEqual(len(home.forwards()), count)
        self.knock((EXTERNAL, 7000))
        self.assertEqual(recorder.received, [])

    def test_hairpin(self) -> None:
        """
        Through a router that hairpins the neighbours get in as strangers do.
        """
        nat = NAT(hairpinning=Hairpinning.EXTERNAL, portMapping=PortMapper())
        home = self.home(nat)
        alice, carol = home.host("alice"), home.host("carol")
        listen(alice, recorder := Recorder())
        listen(carol, other := Recorder(), 6000)
        self.map(alice)
        other.send(b"hello", (EXTERNAL, 7000))
        self.internet.advance(1.0)
        self.assertEqual(recorder.received, [(b"hello", (EXTERNAL, 6000))])

    def test_fullCone(self) -> None:
        """
        A mapping beside one that is open anyway changes nothing for it.
        """
        nat = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT, portMapping=PortMapper())
        alice = self.home(nat).host("alice")
        recorder = listen(alice, Recorder())
        self.assertEqual(self.reflexive(recorder), (EXTERNAL, 5000))
        self.map(alice)
        self.knock((EXTERNAL, 7000))
        self.assertEqual(recorder.received[-1], (b"hello?", MIRROR))
        self.assertEqual(self.reflexive(recorder), (EXTERNAL, 5000))


class RouterTests(MappingCase):
    """
    What becomes of mappings and of questions.
    """

    def test_reboot(self) -> None:
        """
        A reboot forgets all, and begins a new epoch.
        """
        home = self.home()
        alice = home.host("alice")
        self.internet.advance(500.0)
        self.assertEqual(self.map(alice).epoch, 500)
        home.reboot()
        self.assertEqual(home.forwards(), [])
        self.internet.advance(10.0)
        self.assertEqual(self.map(alice).epoch, 10)

    def test_renumbered(self) -> None:
        """
        With another external address the router tells that one.
        """
        home = self.home()
        alice = home.host("alice")
        self.map(alice)
        home.changeExternal("203.0.113.99")
        response = self.map(alice)
        assert response.mapping is not None
        self.assertEqual(response.mapping.externalHost, "203.0.113.99")

    def test_doubleNAT(self) -> None:
        """
        The inner router tells its own, private address; its neighbours get in there.
        """
        isp = self.internet.router("isp", EXTERNAL, lan="100.64.0.0/24")
        home = isp.router("home", nat=SYMMETRIC)
        alice, bob = home.host("alice"), isp.host("bob")
        response = self.map(alice)
        assert response.mapping is not None
        inner = (response.mapping.externalHost, response.mapping.externalPort)
        self.assertEqual(inner, ("100.64.0.2", 7000))
        listen(alice, recorder := Recorder())
        listen(bob, other := Recorder())
        other.send(b"hello", inner)
        self.internet.advance(1.0)
        self.assertEqual(recorder.received, [(b"hello", (bob.address, 5000))])

    def test_noMapper(self) -> None:
        """
        A router that maps no ports refuses to be asked; so does every one on other ports.
        """
        for number, nat in enumerate((NAT(), SYMMETRIC)):
            home = self.home(nat, f"home{number}", f"203.0.113.{number + 1}")
            alice = home.host(f"alice{number}")
            port = alice.listenUDP(0, asker := Recorder())
            asker.send(b"\0\0", (alice.defaultGateways()[0], pcp.SERVER_PORT + number))
            self.internet.advance(1.0)
            self.assertEqual(home.counters.dropped["nothing listens on this router"], 1)
            port.stopListening()

    def test_notFromOutside(self) -> None:
        """
        Nobody outside is answered.
        """
        home = self.home()
        self.mirror.send(b"\0\0", (EXTERNAL, pcp.SERVER_PORT))
        self.internet.advance(1.0)
        self.assertEqual(home.counters.packetsSent, 0)
        self.assertEqual(home.counters.dropped["uninvited"], 1)

    def test_delay(self) -> None:
        """
        A slow router answers late, and a repetitive one often.
        """
        mapper = PortMapper(delay=2.5, copies=3)
        alice = self.home(NAT(portMapping=mapper)).host("alice")
        alice.listenUDP(0, asker := Recorder())
        asker.send(b"\0\0", (alice.defaultGateways()[0], pcp.SERVER_PORT))
        self.internet.advance(2.5)
        self.assertEqual(asker.received, [])
        self.internet.advance(0.1)
        self.assertEqual(len(asker.received), 3)

    def test_otherSources(self) -> None:
        """
        Answers may come from elsewhere, or not at all.
        """
        for number, trouble in enumerate(
            (Trouble.WRONG_SOURCE_PORT, Trouble.WRONG_SOURCE_ADDRESS, Trouble.SILENT)
        ):
            nat = NAT(portMapping=PortMapper(trouble=trouble))
            alice = self.home(nat, f"home{number}", f"203.0.113.{number + 1}").host(
                f"alice{number}"
            )
            gateways = alice.defaultGateways()
            for gateway, local in zip(gateways, ("", "::"), strict=True):
                alice.listenUDP(0, asker := Recorder(), local)
                request = pcp.encodeRequest(pcp.Request(0, 0, alice.address))
                asker.send(request, (gateway, pcp.SERVER_PORT))
                self.internet.advance(1.0)
                expected = {
                    Trouble.WRONG_SOURCE_PORT: [(gateway, pcp.SERVER_PORT + 1)],
                    Trouble.WRONG_SOURCE_ADDRESS: [
                        ("2001:db8:ffff::66" if local else "198.51.100.66", pcp.SERVER_PORT)
                    ],
                    Trouble.SILENT: [],
                }
                self.assertEqual(asker.sources, expected[trouble])
