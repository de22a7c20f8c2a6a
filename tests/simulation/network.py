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


@dataclass
class Link:
    """What connects a site with the core: one-way delay, its jitter (uniform), and loss probability."""

    delay_s: float = 0.01
    jitter_s: float = 0.0
    loss: float = 0.0


@dataclass
class Host:
    """A node at a site, behind `nat` or with a public address of its own. `ports` are its UDP sockets."""

    name: str
    address: str
    nat: Nat | None = None
    link: Link = field(default_factory=Link)
    up: bool = True
    ports: dict[int, Callable[[Any, Endpoint], None]] = field(default_factory=dict)

    @property
    def public_address(self) -> str:
        """The address by which the core reaches this host's site."""
        return self.nat.address if self.nat else self.address


class Network:
    """Carries UDP datagrams (`payload` is any object) between hosts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._hosts: dict[str, Host] = {}

    def add(self, host: Host) -> Host:
        """Connect `host`; every host has a site of its own."""
        self._hosts[host.public_address] = host
        return host

    def renumber(self, host: Host, address: str) -> None:
        """The provider gives the NAT of `host` another public address; its state is lost with the old one."""
        assert host.nat is not None
        del self._hosts[host.nat.address]
        host.nat.address = address
        host.nat.lose_state()
        self._hosts[address] = host

    def send(self, host: Host, port: int, remote: Endpoint, payload: Any, ttl: int = DEFAULT_TTL) -> None:
        """Send one datagram from `host`'s UDP `port`."""
        if not host.up:
            return
        source = Endpoint(host.address, port)
        if host.nat:
            ttl -= 1
            if ttl < 1:
                return
            source = host.nat.translate_out(source, remote)
        target = self._hosts.get(remote.address)
        if target is None or ttl <= CORE_HOPS or self._lost(host.link) or self._lost(target.link):
            return
        delay_s = self._delay_s(host.link) + self._delay_s(target.link)
        self.engine.call_in(delay_s, lambda: self._arrive(source, remote, payload))

    def trace(self, host: Host, port: int, remote: Endpoint) -> tuple[Host, int, Endpoint] | None:
        """Where a datagram would arrive by the state of both NATs as it is, ignoring loss and delay:
        the host, its port and the source it sees, or None. Nothing is changed."""
        if not host.up:
            return None
        source = Endpoint(host.address, port)
        if host.nat:
            source = host.nat.preview(source, remote)
        target = self._hosts.get(remote.address)
        if target is None or not target.up:
            return None
        inside: Endpoint | None = Endpoint(target.address, remote.port)
        if target.nat:
            inside = None if source.port == UNKNOWN_PORT else target.nat.would_pass_in(source, remote.port)
        if inside is None or inside.port not in target.ports:
            return None
        return target, inside.port, source

    def _arrive(self, source: Endpoint, destination: Endpoint, payload: Any) -> None:
        host = self._hosts.get(destination.address)
        if host is None:
            return
        port: int | None = destination.port
        if host.nat:
            inside = host.nat.translate_in(source, destination.port)
            port = inside.port if inside else None
        if host.up and port in host.ports:
            host.ports[port](payload, source)

    def _lost(self, link: Link) -> bool:
        return link.loss > 0 and self.engine.random.random() < link.loss

    def _delay_s(self, link: Link) -> float:
        return link.delay_s + (self.engine.random.uniform(0, link.jitter_s) if link.jitter_s else 0.0)
