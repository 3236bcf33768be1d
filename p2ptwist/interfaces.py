"""
The few interfaces at which the rooms, and applications, meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from p2ptwist.core.address import HostPort
    from p2ptwist.core.portmapping.grant import Grant, MappingRequest
    from p2ptwist.net.puncher import Punch


class IIdentity(Interface):
    """
    An Ed25519 key pair that signs.
    """

    publicKey: bytes = Attribute("The raw public key, exactly 32 bytes.")

    def sign(data: bytes) -> bytes:
        """
        @return: the signature of C{data}, exactly 64 bytes.
        """


class IHostAddresses(Interface):
    """
    A reactor, or an adapter for one, that knows its host's own addresses.
    """

    def hostAddresses() -> Sequence[str]:
        """
        @return: every unicast address of the host's interfaces that are up, as canonical text,
            loopback addresses included, without IPv6 scopes.
        """


class IDefaultGateways(Interface):
    """
    A reactor, or an adapter for one, that knows its host's default routers.
    """

    def defaultGateways() -> Sequence[str]:
        """
        @return: the literal addresses of the default routers, the best first, IPv4 and IPv6; a
            link-local IPv6 address with its scope where the host has any, as in C{fe80::1%eth0}.
        """


class IPortMapper(Interface):
    """
    One port mapping protocol, asking one default gateway.
    """

    name: str = Attribute("The protocol: C{pcp}, C{nat-pmp} or C{upnp}.")
    gateway: str = Attribute("The literal address of the one router that is ever contacted.")
    restarted: Callable[[], object] | None = Attribute(
        "Called when the router lets it be known that its mappings are gone.  A protocol that "
        "has no such word never calls it."
    )

    def request(wanted: MappingRequest) -> Deferred[Grant]:
        """
        Make a mapping, or renew the one that the same transport, internal port and nonce made.

        @return: a Deferred that fires with the grant, or fails with a
            L{p2ptwist.errors.PortMappingError} after 3 s at most.  It can be cancelled.
        """

    def release(grant: Grant) -> Deferred[None]:
        """
        Take back what was granted.

        @return: a Deferred that fires when the router has answered; fails with a
            L{p2ptwist.errors.PortMappingError} after 3 s at most.  It can be cancelled.
        """

    def check() -> Deferred[None]:
        """
        Find out, cheaply, whether the router still has its mappings; C{restarted} is called when
        it has not.  A protocol that has no cheap way does nothing.

        @return: a Deferred that fires when that is done, 3 s from now at the latest.  It never
            fails.
        """

    def stop() -> Deferred[None]:
        """
        Give up what is under way, and close whatever is open.

        @return: a Deferred that fires when nothing is left.
        """


class IPortMapping(Interface):
    """
    A local port that can be reached from outside, for as long as it is renewed.
    """

    transport: str = Attribute("C{udp} or C{tcp}.")
    port: int = Attribute("The local port.")
    external: HostPort = Attribute("The address that it is reached at, as the router says.")
    externals: tuple[HostPort, ...] = Attribute(
        "The same, of each address family that has a mapping, the best first."
    )
    mapper: str = Attribute("The protocol that made it: C{pcp}, C{nat-pmp} or C{upnp}.")
    renewal: float = Attribute("When it is asked for again, in seconds on the reactor's clock.")
    expiry: float = Attribute("When the router forgets it, in seconds on the reactor's clock.")
    doubleNAT: bool = Attribute(
        "Whether another NAT is in front of the router, so that C{external} is not reachable from "
        "the Internet: it is private or shared, or not what the rest of the world sees."
    )

    def release() -> Deferred[None]:
        """
        Take it back, and renew it no more.

        @return: a Deferred that fires when the router has answered, or has been given up.
        """


class IWelcome(Interface):
    """
    What a rendezvous node tells a peer when its link comes up.
    """

    nodeName: str = Attribute("The name that the node gives itself.")
    observedAddress: HostPort = Attribute("The address that the node saw the peer come from.")
    roundTrip: float = Attribute("Seconds of a round trip to the node, measured once.")
    stunServers: tuple[HostPort, ...] = Attribute(
        "UDP addresses of STUN servers to use, the node's own first as a rule."
    )


class ILinkReceiver(Interface):
    """
    Whoever is told what happens on a link.
    """

    def linkUp(welcome: IWelcome) -> None:
        """
        The link carries messages from now on.  When it was lost a moment ago, and comes back to the
        node that it was on, this is as soon as its proof has left.
        """

    def linkDown(reason: Failure) -> None:
        """
        The link is gone.  It comes back by itself while its service runs.
        """

    def messageReceived(sender: bytes, payload: bytes) -> None:
        """
        Another peer sent C{payload}.

        @param sender: the public key that the node authenticated, exactly 32 bytes.
        """

    def relayedReceived(sender: bytes, payload: bytes) -> None:
        """
        Another peer had C{payload} relayed: a datagram, and others may have been lost before it.

        @param sender: as for L{messageReceived}.
        """

    def peerUnreachable(peer: bytes) -> None:
        """
        A message or relayed datagram to C{peer} was not delivered: it has no link, or will not be
        reached.
        """


class ILink(Interface):
    """
    A peer's long-lived connection to a rendezvous node.
    """

    receiver: ILinkReceiver | None = Attribute("Who is told; set before the link starts.")
    maxPayload: int = Attribute(
        "The bytes that one message or relayed datagram carries at most.  A node may allow fewer "
        "than the last one, so look again when the link comes up."
    )

    def send(to: bytes, payload: bytes) -> None:
        """
        Send C{payload} to the peer whose public key is C{to}.

        @raise LinkDown: while there is no link.
        @raise LocalUsageError: when C{payload} is longer than L{maxPayload}.
        """

    def sendRelayed(to: bytes, payload: bytes) -> bool:
        """
        Have C{payload} relayed to the peer whose public key is C{to}, as a datagram: it may be
        lost on the way, and nobody says so.  Cheap; several in one turn of the reactor leave
        together.

        @return: C{False} when it was dropped here, because there is no link or the link's
            transport is full: what is sent again at once is dropped again.
        @raise LocalUsageError: when C{payload} is longer than L{maxPayload}.
        """

    def probe(patience: float = 10.0) -> None:
        """
        Find out whether the link is alive: call it when there is a reason to doubt.  A link on
        which nothing comes for C{patience} seconds, at most 10, goes down; it is made anew, at once
        when C{patience} was shorter than that.  Without a link, do nothing.
        """

    def whenUp() -> Deferred[IWelcome]:
        """
        @return: a Deferred that fires with the node's welcome as soon as the link is up, at once
            when it is; fails with the reason of the next failed attempt or refusal
            (L{p2ptwist.errors.RendezvousUnreachable}, L{p2ptwist.errors.RendezvousRefused},
            L{p2ptwist.errors.NameNotResolved}).  It can be cancelled.
        """


class IPathReceiver(Interface):
    """
    Whoever uses a direct path: an object of the application's.
    """

    def datagramReceived(data: bytes) -> None:
        """
        A datagram came from the other side.
        """

    def pathMoved() -> None:
        """
        Datagrams go to another address of the other side from now on.
        """

    def pathLost(reason: Failure) -> None:
        """
        The path ended (L{p2ptwist.errors.PathLost}).  Nothing comes after this.
        """


class IBatchPathReceiver(IPathReceiver):
    """
    A receiver that many datagrams are given to at once: one that many come to.
    """

    def datagramsReceived(datagrams: Sequence[bytes]) -> None:
        """
        Datagrams came from the other side, in this order, and no more wait to be read.
        C{datagramReceived} may still be called for others.
        """

    def pathConfirmed(answered: bool) -> None:
        """
        The other side proved that it is there: by the answer to a check, so that the path carries
        both ways, or else by a check of its own.
        """


class IIncomingPaths(Interface):
    """
    What an application decides about peers that call it.
    """

    def accepts(peerID: str) -> bool:
        """
        Whether that peer may have a path.  Only then does it learn this peer's addresses.

        @param peerID: the caller, as the rendezvous node authenticated it.
        """

    def pathOpened(peerID: str, path: Punch) -> None:
        """
        A peer that was accepted has a path: set its C{receiver}.
        """
