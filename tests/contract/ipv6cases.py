"""
What ports of Twisted do with IPv6, alone and beside IPv4.
"""

from __future__ import annotations

from twisted.internet.address import IPv6Address
from twisted.internet.endpoints import TCP6ClientEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError, InvalidAddressError
from twisted.internet.protocol import Factory

from tests.contract.settings import LOOPBACK, Cases
from tests.contract.tcpcases import Recorder as StreamRecorder
from tests.contract.udpcases import DEFAULT_SIZE, Echo, Recorder

LOOPBACK6 = "::1"


class IPv6Cases(Cases):
    """
    Cases on the loopback addresses of one host.
    """

    async def test_echo(self) -> None:
        """
        A datagram over IPv6 arrives with its source, without scope and flow.
        """
        echo, client = Echo(), Recorder()
        server = self.opened(self.client.listenUDP(0, echo, LOOPBACK6, DEFAULT_SIZE))
        port = self.opened(self.client.listenUDP(0, client, LOOPBACK6, DEFAULT_SIZE))
        address = (LOOPBACK6, server.getHost().port)
        port.write(b"six", address)
        self.assertEqual(await client.received.get(), (b"six", address))
        self.assertEqual(server.getHost(), IPv6Address("UDP", *address))

    async def test_dualStack(self) -> None:
        """
        A port on all IPv6 addresses gets IPv4 as well, from mapped addresses, and answers there.
        """
        echo, client = Echo(), Recorder()
        server = self.opened(self.client.listenUDP(0, echo, "::", DEFAULT_SIZE))
        number = server.getHost().port
        port = self.opened(self.client.listenUDP(0, client, LOOPBACK, DEFAULT_SIZE))
        port.write(b"four", (LOOPBACK, number))
        self.assertEqual(await client.received.get(), (b"four", (LOOPBACK, number)))
        source = (await echo.received.get())[1]
        self.assertEqual(source, (f"::ffff:{LOOPBACK}", port.getHost().port))
        with self.assertRaises(InvalidAddressError):
            server.write(b"x", (LOOPBACK, 9))

    async def test_dualStackTakesBoth(self) -> None:
        """
        A port on all IPv6 addresses also takes its number on all IPv4 addresses, but one on a
        single IPv6 address does not.
        """
        both = self.opened(self.client.listenUDP(0, Recorder(), "::", DEFAULT_SIZE))
        with self.assertRaises(CannotListenError):
            self.client.listenUDP(both.getHost().port, Recorder(), "", DEFAULT_SIZE)
        one = self.opened(self.client.listenUDP(0, Recorder(), LOOPBACK6, DEFAULT_SIZE))
        self.opened(self.client.listenUDP(one.getHost().port, Recorder(), "", DEFAULT_SIZE))

    async def test_stream(self) -> None:
        """
        TCP over IPv6 carries data both ways, and knows its addresses.
        """
        server = StreamRecorder.makeFactory()
        listening = self.opened(
            await TCP6ServerEndpoint(self.client, 0, interface=LOOPBACK6).listen(server)
        )
        number = listening.getHost().port
        client = await TCP6ClientEndpoint(self.client, LOOPBACK6, number).connect(
            Factory.forProtocol(StreamRecorder)
        )
        accepted = await server.connected.get()
        client.transport.write(b"six")
        await accepted.whenReceived(3)
        self.assertEqual(
            (accepted.transport.getPeer().host, accepted.transport.getPeer().port),
            (LOOPBACK6, client.transport.getHost().port),
        )
        client.transport.loseConnection()
        await client.lost
        await accepted.lost
