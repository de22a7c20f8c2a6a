# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A hub with a public address and nodes behind NATs, as Ansible leaves them: a hub-and-spoke network."""

from __future__ import annotations

import base64

from tests.nat_profiles import NatProfile
from tests.simulation import paths
from tests.simulation.engine import Engine
from tests.simulation.nat import Endpoint, Nat
from tests.simulation.network import Host, Link, Network
from tests.simulation.wireguard import Device, Inner

HUB_ENDPOINT = Endpoint("198.51.100.1", 51820)
HUB_ENDPOINT6 = Endpoint("2001:db8::1", 51820)
HUB_ADDRESS = "192.168.7.1"
VPN = "192.168.7.0/24"
KEEPALIVE_S = 13
UNIX_TIME_AT_START = 1_700_000_000
"""The Unix time at simulated time 0."""


def key(number: int) -> str:
    """A public key; keys are ordered as their numbers are."""
    return base64.b64encode(bytes([number]) * 32).decode()


class World:
    """Everything of one run. Nodes have numbers from 2 on; number n has the VPN address 192.168.7.n."""

    def __init__(self, seed: int = 0) -> None:
        self.engine = Engine(seed)
        self.network = Network(self.engine)
        link = Link(delay_s=0.002)
        host = self.network.add(Host("hub", HUB_ENDPOINT.address, link=link, address6=HUB_ENDPOINT6.address))
        self.hub = Device(
            self.engine, self.network, host, key(1), HUB_ADDRESS, HUB_ENDPOINT.port, forwarding=True
        )
        self.nodes: dict[str, Device] = {}
        self.devices = paths.by_host(self.hub)

    def add_node(
        self,
        name: str,
        profile: NatProfile,
        key_number: int = 0,
        link: Link | None = None,
        nat: Nat | None = None,
        ipv6: bool = False,
    ) -> Device:
        """A node behind a NAT of its own, or behind `nat` with others, not connected yet; with `ipv6` it has
        a global address of IPv6 alone. `key_number` orders its key, if given."""
        number = len(self.nodes) + 2
        if ipv6:
            host = Host(name, f"2001:db8:{number}::2", None, link or Link())
        else:
            nat = nat or Nat(self.engine, f"203.0.113.{number}", profile)
            host = Host(name, f"10.0.{number}.2", nat, link or Link())
        self.network.add(host)
        public_key = key(key_number or number)
        device = Device(self.engine, self.network, host, public_key, f"192.168.7.{number}", 51820 + number)
        self.nodes[name] = device
        self.devices = paths.by_host(self.hub, *self.nodes.values())
        return device

    def connect(self, device: Device) -> None:
        """Make `device` and the hub known to one another; the tunnel comes up."""
        self.hub.set_peer(device.public_key, allowed_ips=(f"{device.address}/32",))
        endpoint = HUB_ENDPOINT6 if ":" in device.host.address else HUB_ENDPOINT
        device.set_peer(self.hub.public_key, endpoint, KEEPALIVE_S, (VPN,))

    def nat(self, device: Device) -> Nat:
        """The NAT that `device` is behind."""
        assert device.host.nat is not None
        return device.host.nat

    def reflexive_endpoint(self, device: Device) -> Endpoint:
        """Where the hub sees `device`."""
        endpoint = self.hub.peers[device.public_key].endpoint
        assert endpoint is not None, f"{device.host.name} never reached the hub"
        return endpoint

    def knock(self, device: Device, at: Device) -> None:
        """(Re-)add the peer `at` with its reflexive endpoint and a keepalive, without AllowedIPs."""
        device.remove_peer(at.public_key)
        device.set_peer(at.public_key, self.reflexive_endpoint(at), KEEPALIVE_S, ())

    def open(self, device: Device, towards: Device) -> None:
        """Send low-TTL openers to the reflexive endpoint of `towards`."""
        for ttl in (2, 3, 4):
            device.send_opener(self.reflexive_endpoint(towards), ttl)

    def take_fresh_port(self, device: Device) -> None:
        """Move WireGuard to another port, and show it to the hub."""
        device.set_listen_port(self.engine.random.randint(20000, 50000))
        device.send(Inner(device.address, HUB_ADDRESS, None))

    def sessions_pass(self, one: Device, other: Device) -> bool:
        """A direct session works both ways, whatever the AllowedIPs are."""
        devices = self.devices
        return paths.session_passes(devices, one, other) and paths.session_passes(devices, other, one)

    def paths(self, one: Device, other: Device) -> tuple[bool, bool]:
        """Whether packets would pass both ways, on whatever path; and whether not through the hub."""
        there = paths.path(self.devices, one, other.address)
        back = paths.path(self.devices, other, one.address) if there else None
        return bool(there and back), there == [one, other] and back == [other, one]

    def has_path(self, one: Device, other: Device) -> bool:
        """Packets would pass both ways, on whatever path."""
        return bool(
            paths.path(self.devices, one, other.address) and paths.path(self.devices, other, one.address)
        )

    def is_direct(self, one: Device, other: Device) -> bool:
        """Packets would pass both ways, and not through the hub."""
        return paths.is_direct(self.devices, one, other)
