# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The network between the nodes: sites behind NATs, a routed core, delay, loss and TTL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.engine import Engine
from tests.simulation.nat import UNKNOWN_PORT, Endpoint, Nat

CORE_HOPS = 3
"""Routers between two sites: a TTL of 2 to 4 gets out of its own site's NAT and dies among them."""

DEFAULT_TTL = 64
LAN_DELAY_S = 0.0005
TRACED_BYTES = 128
"""A small packet of user traffic: the paths that are looked for are those of such."""


@dataclass
class Link:
    """What connects a site with the core: one-way delay, its jitter (uniform), and loss probability."""

    delay_s: float = 0.01
    jitter_s: float = 0.0
    loss: float = 0.0


@dataclass
class Host:
    """A node at a site, behind `nat` or with a public address of its own; the hub has one of IPv6, too.
    `ports` are its UDP sockets."""

    name: str
    address: str
    nat: Nat | None = None
    link: Link = field(default_factory=Link)
    up: bool = True
    address6: str | None = None
    ports: dict[int, Callable[[Any, Endpoint], None]] = field(default_factory=dict)

    @property
    def public_address(self) -> str:
        """The address by which the core reaches this host's site."""
        return self.nat.address if self.nat else self.address

    def address_towards(self, remote: Endpoint) -> str:
        """The own address that a packet to `remote` leaves with."""
        return self.address6 if self.address6 and ":" in remote.address else self.address


class Network:
    """Carries UDP datagrams (`payload` is any object) between hosts.

    `cuts` are pairs of names (from, to) between which nothing gets through, `passes` tells which
    sizes of a datagram get from one to another, where not all do.  `observers` are called with every datagram
    that leaves a host: who sends what to where.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.cuts: set[tuple[str, str]] = set()
        self.passes: dict[tuple[str, str], Callable[[int], bool]] = {}
        self.observers: list[Callable[[Host, Endpoint, Any], None]] = []
        self._sites: dict[str, list[Host]] = {}

    def add(self, host: Host) -> Host:
        """Connect `host`; hosts behind the same NAT are on one LAN."""
        self._sites.setdefault(host.public_address, []).append(host)
        if host.address6:
            self._sites[host.address6] = [host]
        return host

    def cut(self, one: str, other: str) -> None:
        """Nothing gets from `one` to `other` any more."""
        self.cuts.add((one, other))
        self.engine.changed()

    def heal(self, one: str, other: str) -> None:
        """It does again."""
        self.cuts.discard((one, other))
        self.engine.changed()

    def roam(self, host: Host, nat: Nat | None, address: str) -> None:
        """`host` moves to another network, where it has another address and is behind another NAT."""
        self._sites[host.public_address].remove(host)
        host.nat, host.address = nat, address
        self.add(host)
        self.engine.changed()

    def renumber(self, host: Host, address: str) -> None:
        """The provider gives the NAT of `host` another public address; its state is lost with the old one."""
        assert host.nat is not None
        self._sites[address] = self._sites.pop(host.nat.address)
        host.nat.address = address
        host.nat.lose_state()

    def send(
        self, host: Host, port: int, remote: Endpoint, payload: Any, ttl: int = DEFAULT_TTL, size: int = 0
    ) -> None:
        """Send one datagram of `size` bytes from `host`'s UDP `port`."""
        if not host.up:
            return
        for observer in self.observers:
            observer(host, remote, payload)
        source = Endpoint(host.address_towards(remote), port)
        if not _is_routed(source, remote):
            return
        neighbour = self._neighbour(host, remote.address)
        if neighbour is not None:
            self.engine.post(LAN_DELAY_S, lambda: _hand_over(neighbour, remote.port, source, payload))
            return
        hairpin = host.nat is not None and remote.address == host.nat.address
        if host.nat:
            ttl -= 1
            if ttl < 1 or (hairpin and not host.nat.hairpins):
                return
            source = host.nat.translate_out(source, remote)
        site = self._sites.get(remote.address)
        if (
            not site
            or (ttl <= CORE_HOPS and not hairpin)
            or self._lost(host.link)
            or self._lost(site[0].link)
        ):
            return
        if not self._passes(host.name, site[0].name, size):
            return
        delay_s = self._delay_s(host.link) + self._delay_s(site[0].link)
        self.engine.post(delay_s, lambda: self._arrive(source, remote, payload))

    def trace(self, host: Host, port: int, remote: Endpoint) -> tuple[Host, int, Endpoint] | None:
        """Where a datagram would arrive by the state of both NATs as it is, ignoring loss and delay:
        the host, its port and the source it sees, or None. Nothing is changed."""
        if not host.up:
            return None
        source = Endpoint(host.address_towards(remote), port)
        if not _is_routed(source, remote):
            return None
        neighbour = self._neighbour(host, remote.address)
        if neighbour is not None:
            reached = neighbour.up and remote.port in neighbour.ports
            return (neighbour, remote.port, source) if reached else None
        if host.nat:
            if remote.address == host.nat.address and not host.nat.hairpins:
                return None
            source = host.nat.preview(source, remote)
        site = self._sites.get(remote.address)
        if not site or not self._passes(host.name, site[0].name, TRACED_BYTES):
            return None
        inside: Endpoint | None = Endpoint(site[0].address, remote.port)
        if site[0].nat:
            inside = None if source.port == UNKNOWN_PORT else site[0].nat.would_pass_in(source, remote.port)
        target = _at(site, inside) if inside is not None else None
        if target is None or inside is None or not target.up or inside.port not in target.ports:
            return None
        return target, inside.port, source

    def _neighbour(self, host: Host, address: str) -> Host | None:
        """The host with this address on the same LAN."""
        if host.nat is None or host.nat.isolates or not address.startswith("10."):
            return None
        return _at(self._sites[host.nat.address], Endpoint(address, 0))

    def _passes(self, one: str, other: str, size: int) -> bool:
        """Whether the path lets a datagram of this size through."""
        if not self.cuts and not self.passes:
            return True
        way = (one, other)
        return way not in self.cuts and (way not in self.passes or self.passes[way](size))

    def _arrive(self, source: Endpoint, destination: Endpoint, payload: Any) -> None:
        site = self._sites.get(destination.address)
        if not site:
            return
        inside: Endpoint | None = Endpoint(site[0].address, destination.port)
        if site[0].nat:
            inside = site[0].nat.translate_in(source, destination.port)
        host = _at(site, inside) if inside is not None else None
        if host is not None and inside is not None:
            _hand_over(host, inside.port, source, payload)

    def _lost(self, link: Link) -> bool:
        return link.loss > 0 and self.engine.random.random() < link.loss

    def _delay_s(self, link: Link) -> float:
        return link.delay_s + (self.engine.random.uniform(0, link.jitter_s) if link.jitter_s else 0.0)


def _at(site: list[Host], inside: Endpoint) -> Host | None:
    for host in site:
        if host.address == inside.address:
            return host
    return None


def _is_routed(source: Endpoint, remote: Endpoint) -> bool:
    """Nothing translates between IPv4 and IPv6."""
    return (":" in source.address) == (":" in remote.address)


def _hand_over(host: Host, port: int, source: Endpoint, payload: Any) -> None:
    if host.up and port in host.ports:
        host.ports[port](payload, source)
