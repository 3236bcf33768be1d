"""
The parts put together from strings: what endpoint descriptions and the command line mean.

This is the one place that knows both a peer and a way to a rendezvous node.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import IdentityUnusable
from p2ptwist.peer.endpoints import PeerClientEndpoint, PeerServerEndpoint
from p2ptwist.peer.identity import Identity, loadOrCreateIdentity
from p2ptwist.peer.service import PeerService
from p2ptwist.peer.shared import SharedPeer
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.linkendpoint import rendezvousEndpoint

RENDEZVOUS_VARIABLE = "P2PTWIST_RENDEZVOUS"
IDENTITY_VARIABLE = "P2PTWIST_IDENTITY"
MAPPING_VARIABLE = "P2PTWIST_PORT_MAPPING"

_CLIENT_FORM = "p2p:PEER-ID:service=NAME"
_SERVER_FORM = "p2p:service=NAME"


def identityPath(named: str | None, environment: Mapping[str, str]) -> Path:
    """
    @param named: the file that was asked for, if one was.
    @return: that file; else the one in C{P2PTWIST_IDENTITY}; else C{p2ptwist/identity} in the
        user's configuration folder (C{XDG_CONFIG_HOME}, or C{~/.config}).
    """
    path = named or environment.get(IDENTITY_VARIABLE)
    if path:
        return Path(path).expanduser()
    folder = environment.get("XDG_CONFIG_HOME", "")
    # What is not absolute is to be ignored, says the XDG Base Directory Specification.
    base = Path(folder) if os.path.isabs(folder) else Path("~/.config").expanduser()
    return base / "p2ptwist" / "identity"


def identityOf(named: str | None, environment: Mapping[str, str]) -> Identity:
    """
    @return: the identity in the file of L{identityPath}; made if there is none, in a folder with
        mode 0700 if that has to be made as well.
    @raise IdentityUnusable: when that is impossible.
    """
    path = identityPath(named, environment)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise IdentityUnusable(
            f"cannot make the folder {path.parent} for the identity: {error.strerror}"
        ) from None
    return loadOrCreateIdentity(path)


def rendezvousNodes(named: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """
    @param named: the endpoints of nodes that were asked for; several may stand in one string,
        with commas or spaces between.
    @return: those, or else the ones in C{P2PTWIST_RENDEZVOUS}: the preferred one first.
    @raise LocalUsageError: when there is none.
    """
    texts = list(named) or [environment.get(RENDEZVOUS_VARIABLE, "")]
    nodes = list(dict.fromkeys(word for text in texts for word in text.replace(",", " ").split()))
    if not nodes:
        raise LocalUsageError(
            "no rendezvous node is named: say where one runs (twistd natrendezvous), such as "
            f"tcp:rendezvous.example:8470, here or in the environment as {RENDEZVOUS_VARIABLE}"
        )
    return nodes


def mapsPorts(environment: Mapping[str, str]) -> bool:
    """
    @return: whether routers are asked to map ports: unless C{P2PTWIST_PORT_MAPPING} is C{off}.
    @raise LocalUsageError: when it is neither that nor C{on}.
    """
    word = environment.get(MAPPING_VARIABLE) or "on"
    if word not in ("on", "off"):
        raise LocalUsageError(f"{MAPPING_VARIABLE} is {word!r}: write on or off")
    return word == "on"


def makePeer(reactor: Any, identity: Identity, nodes: Sequence[str], **options: Any) -> PeerService:
    """
    @param nodes: endpoint descriptions, the preferred one first.
    @param options: for L{PeerService}; without C{portMapping}, L{mapsPorts} decides about that.
    @return: a peer, not yet started.
    @raise LocalUsageError: when a node is no endpoint.
    """
    options.setdefault("portMapping", mapsPorts(os.environ))
    links = [RendezvousLink.fromString(reactor, node, identity) for node in nodes]
    return PeerService(reactor, identity, links, **options)


def clientEndpoint(reactor: Any, *words: str, **options: str) -> PeerClientEndpoint:
    """
    @param words: the peer ID.
    @param options: C{service}, and C{rendezvous} and C{identity} if not in the environment.
    @return: what C{p2p:PEER-ID:service=NAME} means.
    @raise ValueError: when the words mean nothing, with what to write.
    """
    if len(words) != 1:
        raise LocalUsageError(f"write {_CLIENT_FORM}")
    peer, service = _parse(reactor, _CLIENT_FORM, **options)
    return PeerClientEndpoint(peer, words[0], service)


def serverEndpoint(reactor: Any, *words: str, **options: str) -> PeerServerEndpoint:
    """
    @param options: as for L{clientEndpoint}.
    @return: what C{p2p:service=NAME} means.
    @raise ValueError: when the words mean nothing, with what to write.
    """
    if words:
        raise LocalUsageError(f"write {_SERVER_FORM}: nobody else's peer ID belongs to a server")
    return PeerServerEndpoint(*_parse(reactor, _SERVER_FORM, **options))


def _parse(
    reactor: Any,
    form: str,
    service: str | None = None,
    rendezvous: str = "",
    identity: str | None = None,
    **unknown: str,
) -> tuple[SharedPeer, str]:
    if unknown:
        raise LocalUsageError(
            f"{', '.join(sorted(unknown))}: not known here; {form} takes rendezvous= and identity="
        )
    if service is None:
        raise LocalUsageError(f"a service has to be named: write {form}")
    nodes = rendezvousNodes([rendezvous] if rendezvous else [], os.environ)
    for node in nodes:
        rendezvousEndpoint(reactor, node)  # so that a mistake is told at once
    key = identityOf(identity, os.environ)
    make = partial(makePeer, reactor, key, nodes)
    return SharedPeer(reactor, key, frozenset(nodes), make), service
