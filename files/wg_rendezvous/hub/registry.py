# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the hub believes: observations of the device over time in, answers out. Pure: no I/O, no clock.

Times `at_s` are seconds of a clock that never jumps, `unix_at` is the wall clock's Unix time.

An *endpoint* is what WireGuard saw as the outer source of a peer's last packet. One genuine packet with a
spoofed source moves it (DESIGN fact 18), so an endpoint that changed is believed only when the peer has
completed a handshake or made an HTTP request since then; until that the last believed one is handed on.
The change and its proof may fall between the same two observations, or a peer that took a fresh port would
have to ask twice. Who can put a spoofed packet into that fraction of a second is on the path and could as
well forward the request itself.

A request counts as soon as it arrives, and not when its answer was received: somebody who spoofs every
packet of a handshake or of a connection gets that far. Those whose agents can be asked have to answer at the
new endpoint (`challenges`); agents of the origin, which close every connection, would have to wait up to 13 s
for more.

A peer is *online* if bytes came from it within 2.5 keepalives. Only the difference of two observations shows
that, so a hub that just started takes a handshake of the last 2.5 keepalives for it: an older one proves
nothing about now (DESIGN fact 6).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from .._wireguard import dump
from ..wg import IPInterface

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# The agents' keepalive. The hub sets none towards peers, so the device seldom tells.
KEEPALIVE_S = 13
ONLINE_KEEPALIVES = 2.5


@dataclass(frozen=True)
class Answer:
    """What `/peer/{key}` says: believed endpoint, address (`address_of`), latest handshake (Unix time)."""

    endpoint: str
    allowed_ips: str
    hands_shaken_at: int


@dataclass(frozen=True)
class Event:
    """Something worth a line in the log."""

    message: str
    fields: Mapping[str, Any]


@dataclass
class _Peer:
    """One peer as it was observed so far."""

    latest: dump.Peer
    received_at_s: float | None
    """When bytes came from it for the last time, as far as was seen; None if never."""
    heard_at_s: float | None = None
    """When it made its latest HTTP request."""
    changed_after_s: float = float("-inf")
    """The latest observation that had another endpoint than `latest` has."""
    handshake_before_at: int = 0
    """The latest handshake (Unix time) in that observation."""
    believed: str | None = None
    online: bool = False
    hands_shaken_at: int = 0
    """The latest handshake (Unix time) that was seen, also if the entry is a new one (`readmission`)."""


@dataclass
class _Identities:
    """Cryptokey routing: which peer may use a source address."""

    hosts: dict[IPAddress, str] = field(default_factory=dict)
    networks: list[tuple[IPNetwork, str]] = field(default_factory=list)
    """Longest prefix first."""


class Registry:
    """All peers of one interface."""

    def __init__(self) -> None:
        self._own: tuple[IPInterface, ...] = ()
        self._peers: dict[str, _Peer] = {}
        self._owners: dict[str, str] = {}
        self._routes: dict[str, str] = {}
        self._conflicts: dict[str, str] = {}
        self._identities = _Identities()
        self._allowed: dict[str, tuple[str, ...]] = {}
        self._observed_at_s: float = float("-inf")
        self.is_challenged: Callable[[str], bool] = lambda _key: False
        """Whether that peer has to answer at a new endpoint before it is believed (`challenges`)."""
        self.public_key: str | None = None

    def set_addresses(self, addresses: Iterable[IPInterface]) -> None:
        """The interface's own addresses; their networks are the VPN."""
        self._own = tuple(addresses)

    def observe(self, device: dump.Device, at_s: float, unix_at: float) -> list[Event]:
        """Take in what the device said to a question asked at `at_s`. Returns what changed, for the log."""
        events: list[Event] = []
        self.public_key = device.public_key
        for key in [key for key in self._peers if key not in device.peers]:
            del self._peers[key]
        for key, latest in device.peers.items():
            peer = self._peers.get(key)
            if peer is None:
                peer = self._peers[key] = _Peer(latest, _received_before(latest, at_s, unix_at))
            else:
                self._compare(peer, latest, at_s)
            peer.hands_shaken_at = latest.latest_handshake_at or peer.hands_shaken_at
            events += _believe(peer, at_s, self.is_challenged(key))
        self._observed_at_s = at_s
        allowed = {key: peer.allowed_ips for key, peer in device.peers.items()}
        if allowed != self._allowed:
            self._allowed = allowed
            self._identities = _identities(allowed)
        events += self._assign_routes(at_s)
        return events

    def unproven(self) -> dict[str, str]:
        """The endpoints that wait for an answer from there, by key."""
        return {
            key: peer.latest.endpoint
            for key, peer in self._peers.items()
            if peer.latest.endpoint and peer.believed not in (None, peer.latest.endpoint)
            if self.is_challenged(key)
        }

    def confirm(self, key: str, endpoint: str) -> bool:
        """The peer has answered at this endpoint. Returns whether that is where it still is."""
        peer = self._peers.get(key)
        if peer is None or peer.latest.endpoint != endpoint:
            return False
        peer.believed = endpoint
        return True

    def heard(self, key: str, at_s: float) -> None:
        """The peer made an HTTP request: proof of the endpoint that an observation after `at_s` shows."""
        peer = self._peers.get(key)
        if peer is not None:
            peer.heard_at_s = peer.received_at_s = at_s

    def peer_at(self, address: str) -> str | None:
        """The peer whose source address this is, by the longest prefix, as WireGuard itself decides.

        Who is in a subnet behind a peer is not that peer: outside of the VPN only host routes count.
        """
        try:
            parsed = ipaddress.ip_address(address.split("%")[0])
        except ValueError:
            return None
        if any(parsed == own.ip for own in self._own):
            return None
        key = self._identities.hosts.get(parsed)
        if key is None and any(parsed in network for network in self.networks()):
            key = next((owner for network, owner in self._identities.networks if parsed in network), None)
        return key

    def known_keys(self) -> list[str]:
        """All peers of the device, in its order."""
        return list(self._peers)

    def hands_shaken_at(self, key: str) -> int:
        """The peer's latest handshake (Unix time), 0 if none was seen."""
        peer = self._peers.get(key)
        return 0 if peer is None else peer.hands_shaken_at

    def route(self, key: str) -> str | None:
        """The peer's address, as `address_of` has it, if it has one that nobody else still holds."""
        return self._routes.get(key)

    def believed(self, key: str) -> str | None:
        """The peer's endpoint as far as it is proven."""
        peer = self._peers.get(key)
        return None if peer is None else peer.believed

    def networks(self) -> tuple[IPNetwork, ...]:
        """The VPN: the networks of the interface's own addresses."""
        return tuple(own.network for own in self._own)

    def is_online(self, key: str, at_s: float) -> bool:
        """Whether bytes came from the peer within 2.5 keepalives, and a handshake ever completed."""
        peer = self._peers.get(key)
        return peer is not None and _is_online(peer, at_s)

    def answer(self, key: str) -> Answer | None:
        """What to tell others about the peer; None if it is unknown, or as long as something is missing."""
        peer, route = self._peers.get(key), self._routes.get(key)
        if peer is None or peer.believed is None or route is None:
            return None
        return Answer(peer.believed, route, peer.hands_shaken_at)

    def why_not(self, key: str) -> str:
        """Why `answer` has none: a sentence."""
        peer = self._peers.get(key)
        if peer is None:
            return "no peer of this hub has that key: ask /online-peers for those that have one"
        if key in self._conflicts:
            return f"its address still belongs to {self._conflicts[key]}, which is online"
        if key not in self._routes:
            return (
                "that peer has no address of its own (a /32 or /128 in AllowedIPs) inside the VPN's network"
            )
        return "that peer has no endpoint yet: it has completed no handshake with the hub"

    def _compare(self, peer: _Peer, latest: dump.Peer, at_s: float) -> None:
        before = peer.latest
        # Counters that went back belong to a peer that was removed and added again: what they show is new.
        if latest.rx_bytes > before.rx_bytes or 0 < latest.rx_bytes < before.rx_bytes:
            peer.received_at_s = at_s
        if latest.endpoint != before.endpoint:
            peer.changed_after_s = self._observed_at_s
            peer.handshake_before_at = before.latest_handshake_at
        peer.handshake_before_at = min(peer.handshake_before_at, latest.latest_handshake_at)
        peer.latest = latest

    def _assign_routes(self, at_s: float) -> list[Event]:
        """Give every peer its address.

        A host route that moves to another key stays with its owner as long as that is online, so that a
        second machine with the same address cannot take the links of the first (DESIGN §5, "What is
        believed").
        """
        events: list[Event] = []
        wanted = {
            key: address_of(peer.latest.allowed_ips, self._own, _first(self._routes.get(key) or ""))
            for key, peer in self._peers.items()
        }
        claims = {_first(address): key for key, address in wanted.items() if address is not None}
        conflicts: dict[str, str] = {}
        for route, owner in list(self._owners.items()):
            claimant = claims.get(route)
            if claimant == owner:
                continue
            if claimant is None or not self.is_online(owner, at_s):
                del self._owners[route]
                continue
            conflicts[claimant] = owner
            if self._conflicts.get(claimant) != owner:
                fields = {"address": route, "owner": owner, "claimant": claimant}
                events.append(Event("address stays with its owner, which is still online", fields))
        for route, key in claims.items():
            self._owners.setdefault(route, key)
        self._routes = {owner: route for route, owner in self._owners.items()}
        self._routes.update(
            {
                key: address
                for key, address in wanted.items()
                if address is not None and self._owners[_first(address)] == key
            }
        )
        self._conflicts = conflicts
        return events


def address_of(allowed_ips: Iterable[str], own: Sequence[IPInterface], present: str = "") -> str | None:
    """What others may move to a direct peer: all of its AllowedIPs, with commas as `wg set` takes them; None
    if it cannot be addressed.

    The first is where it is asked: a host route (/32 or /128) inside a network of the interface, and not the
    interface's own address. Of several, `present`, where it is asked so far: a peer that is about to change
    its address has both. Else the lowest; IPv4 before IPv6.
    """
    hosts: list[IPNetwork] = []
    others: list[IPNetwork] = []
    for text in allowed_ips:
        network = ipaddress.ip_network(text, strict=False)
        address = network.network_address
        if network.num_addresses > 1 or not any(address in one.network for one in own):
            others.append(network)
        elif all(address != one.ip for one in own):
            hosts.append(network)
    hosts.sort(key=lambda network: (str(network) != present, _by_version(network)))
    in_order = [*hosts, *sorted(others, key=_by_version)]
    return ",".join(str(network) for network in in_order) if hosts else None


def _by_version(network: IPNetwork) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _first(address: str) -> str:
    return address.partition(",")[0]


def _received_before(latest: dump.Peer, at_s: float, unix_at: float) -> float | None:
    """When a peer that is seen for the first time was heard last, for all that is known: at its handshake."""
    if latest.latest_handshake_at == 0:
        return None
    return at_s - max(0.0, unix_at - latest.latest_handshake_at)


def _is_online(peer: _Peer, at_s: float) -> bool:
    if peer.received_at_s is None or peer.latest.latest_handshake_at == 0:
        return False
    keepalive_s = peer.latest.persistent_keepalive_s or KEEPALIVE_S
    return at_s - peer.received_at_s <= ONLINE_KEEPALIVES * keepalive_s


def _believe(peer: _Peer, at_s: float, challenged: bool) -> list[Event]:
    """Believe the endpoint if it is proven; a new one of a `challenged` peer by its answer only. Returns what
    to log."""
    events: list[Event] = []
    latest = peer.latest
    shaken = latest.latest_handshake_at > peer.handshake_before_at
    heard = peer.heard_at_s is not None and peer.changed_after_s < peer.heard_at_s <= at_s
    waits = challenged and peer.believed is not None
    if latest.endpoint not in (None, peer.believed) and (shaken or heard) and not waits:
        message = "peer has an endpoint" if peer.believed is None else "peer has a new endpoint"
        fields = {"peer": latest.public_key, "endpoint": latest.endpoint}
        events.append(Event(message, {**fields, "proof": "handshake" if shaken else "request"}))
        peer.believed = latest.endpoint
    online = _is_online(peer, at_s)
    if online != peer.online:
        peer.online = online
        events.append(Event(f"peer is {'online' if online else 'offline'}", {"peer": latest.public_key}))
    return events


def _identities(allowed: Mapping[str, tuple[str, ...]]) -> _Identities:
    found = _Identities()
    for key, texts in allowed.items():
        for text in texts:
            network = ipaddress.ip_network(text, strict=False)
            if network.num_addresses == 1:
                found.hosts[network.network_address] = key
            else:
                found.networks.append((network, key))
    found.networks.sort(key=lambda one: one[0].prefixlen, reverse=True)
    return found
