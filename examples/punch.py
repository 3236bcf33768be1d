"""
Punch a path with the application's own UDP protocol and its own signaling.

Without options both programs run in this one process, over loopback.  Between two machines, the
signaling is a TCP connection, as plain as can be::

    python examples/punch.py --listen tcp:9000 --stun HOST:PORT
    python examples/punch.py --connect tcp:FIRST-MACHINE:9000 --stun HOST:PORT

The STUN server, such as that of a rendezvous node, tells each program its address outside of its
NAT.  L{Application}, twenty lines without what they say of themselves, is all that an application
needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue, gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.error import ConnectError
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, formatAddress, isIPv6
from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.errors import P2PError
from p2ptwist.interfaces import IPathReceiver
from p2ptwist.net.hostaddresses import hostAddresses
from p2ptwist.net.names import resolveAddress
from p2ptwist.net.puncher import Punch, Puncher
from p2ptwist.net.stunclient import STUNClient

REPEAT = 0.5  # seconds between two greetings, as datagrams get lost
LINGER = 1.0  # seconds that the path stays open after the other's greeting, for ours to arrive


class Application(DatagramProtocol):
    """
    The application's own protocol on its own UDP port.
    """

    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor

    def startProtocol(self) -> None:
        """
        The port is open.
        """
        self.stun = STUNClient(self.reactor, self.transport.write)
        self.puncher = Puncher(self.reactor, self.transport.write)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        What neither of the two takes is the application's own.
        """
        if not self.stun.datagramReceived(datagram, addr):
            self.puncher.datagramReceived(datagram, addr)

    async def punch(
        self, signaling: Signaling, offers: bool, hosts: list[HostPort], stun: HostPort | None
    ) -> Punch:
        """
        Find a path to the program at the other end of C{signaling}.

        @param hosts: the addresses of this port that the host knows itself.
        @param stun: a STUN server.
        """
        own = [makeCandidate(CandidateType.HOST, address) for address in hosts]
        if stun is not None:
            own.append(makeCandidate(CandidateType.SERVER_REFLEXIVE, await self.stun.bind(stun)))
        if offers:
            punch = self.puncher.call(signaling.sendString, own)
        else:
            punch = self.puncher.answer(await signaling.signals.get(), signaling.sendString, own)
        signaling.handOver(punch.signalReceived)
        return await punch.whenOpen()


class Signaling(Int16StringReceiver):
    """
    The application's own signaling: each string is one signal.

    @ivar signals: gives the signals that came before there was a session.
    """

    transport: Any

    def __init__(self) -> None:
        self.signals: DeferredQueue[bytes] = DeferredQueue()
        self.receive: Callable[[bytes], object] = self.signals.put

    def stringReceived(self, string: bytes) -> None:
        """
        A signal has come.
        """
        self.receive(string)

    def handOver(self, receive: Callable[[bytes], object]) -> None:
        """
        Give every signal to C{receive} from now on.
        """
        self.receive = receive
        while self.signals.pending:
            receive(self.signals.pending.pop(0))


@implementer(IPathReceiver)
class Greeter:
    """
    Says hello until the other side has said it.

    @ivar heard: fires with the other side's greeting; fails when the path is lost before.
    """

    def __init__(self, name: str, path: Punch) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.greeting = f"hello from {name}".encode()
        self.path = path

    def greet(self) -> None:
        """
        Say it.
        """
        self.path.write(self.greeting)

    def datagramReceived(self, data: bytes) -> None:
        """
        The other side says it.
        """
        if not self.heard.called:
            self.heard.callback(data)

    def pathMoved(self) -> None:
        """
        There is a better path; nothing is to be done.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        Whoever waits is told.
        """
        if not self.heard.called:
            self.heard.errback(reason)


async def meet(
    reactor: Any, signaling: Signaling, options: argparse.Namespace, name: str, offers: bool
) -> None:
    """
    Open a port, punch, and exchange greetings.
    """
    application = Application(reactor)
    port = reactor.listenUDP(0, application, options.bind)
    hosts = [options.bind] if options.bind else hostAddresses(reactor)
    addresses = [(host, port.getHost().port) for host in hosts if not isIPv6(host)]
    try:
        stun = await resolveAddress(reactor, *options.stun) if options.stun else None
        path = await application.punch(signaling, offers, addresses, stun)
        greeter = Greeter(name, path)
        path.receiver = greeter
        greeting = LoopingCall(greeter.greet)
        greeting.clock = reactor
        greeting.start(REPEAT)
        try:
            said = (await greeter.heard).decode("utf-8", "replace")
            remote = formatAddress(path.remote) if path.remote else "nowhere"
            print(f"{name}: {said!r}, directly from {remote}", file=options.output, flush=True)
            await deferLater(reactor, LINGER)
        finally:
            greeting.stop()
    finally:
        application.puncher.close()
        application.stun.stop()
        signaling.transport.loseConnection()
        await port.stopListening()


async def listen(reactor: Any, description: str, connected: Callable[[int], object]) -> Signaling:
    """
    @param connected: called with the number of the TCP port, once it is open.
    @return: the first connection that comes.
    """
    factory = _OneConnection()
    port = await serverFromString(reactor, description).listen(factory)
    connected(port.getHost().port)
    try:
        return await factory.came
    finally:
        await port.stopListening()


class _OneConnection(Factory):
    def __init__(self) -> None:
        self.came: Deferred[Signaling] = Deferred()

    def buildProtocol(self, addr: object) -> Signaling | None:
        if self.came.called:
            return None
        signaling = Signaling()
        self.came.callback(signaling)
        return signaling


async def connect(reactor: Any, description: str) -> Signaling:
    """
    @return: a connection to the program that listens there.
    """
    endpoint: Any = clientFromString(reactor, description)
    signaling: Signaling = await connectProtocol(endpoint, Signaling())
    return signaling


async def run(reactor: Any, options: argparse.Namespace) -> None:
    """
    Be one of the two programs, or both.
    """
    try:
        if options.listen:
            signaling = await listen(reactor, options.listen, lambda port: None)
            await meet(reactor, signaling, options, "listener", offers=False)
        elif options.connect:
            signaling = await connect(reactor, options.connect)
            await meet(reactor, signaling, options, "caller", offers=True)
        else:
            await both(reactor, options)
    except (P2PError, ConnectError) as error:
        raise SystemExit(f"punch.py: {error}") from None


async def both(reactor: Any, options: argparse.Namespace) -> None:
    """
    Be both programs, on this machine.
    """
    options.bind = options.bind or "127.0.0.1"
    number: Deferred[int] = Deferred()
    description = f"tcp:0:interface={options.bind}"
    listening = Deferred.fromCoroutine(listen(reactor, description, number.callback))
    calling = await connect(reactor, f"tcp:{options.bind}:{await number}")
    meetings = (
        meet(reactor, await listening, options, "listener", offers=False),
        meet(reactor, calling, options, "caller", offers=True),
    )
    await gatherResults([Deferred.fromCoroutine(each) for each in meetings], consumeErrors=True)


def parseServer(text: str) -> HostPort:
    """
    @return: the STUN server that C{text} names.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def parseOptions(arguments: list[str]) -> argparse.Namespace:
    """
    @return: C{listen}, C{connect}, C{stun}, C{bind} and C{output}.
    """
    parser = argparse.ArgumentParser(
        description="Punch a path between two programs that signal over TCP, and say hello on it."
    )
    role = parser.add_mutually_exclusive_group()
    role.add_argument("--listen", metavar="tcp:PORT", help="wait for the other program here")
    role.add_argument("--connect", metavar="tcp:HOST:PORT", help="where the other program waits")
    parser.add_argument(
        "--stun",
        type=parseServer,
        metavar="HOST:PORT",
        help="a STUN server, which says what this program's address is outside of its NAT",
    )
    parser.add_argument("--bind", default="", metavar="ADDRESS", help="the local IPv4 address")
    parser.set_defaults(output=sys.stdout)
    return parser.parse_args(arguments)


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """
    The program on the real reactor.
    """
    return Deferred.fromCoroutine(run(reactor, parseOptions(list(arguments))))


if __name__ == "__main__":
    react(main, sys.argv[1:])
