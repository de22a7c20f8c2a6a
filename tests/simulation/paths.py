# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""*Has a path*: whether a packet would get from one device to another by the state of everything as it is.

A function of cryptokey routing, sessions, endpoints and NAT state at both ends, without delay and loss:
nothing is sent and nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.simulation.network import Host
from tests.simulation.wireguard import Device, Peer

Devices = Mapping[int, Device]


def by_host(*devices: Device) -> Devices:
    """Devices by what `path` finds them by: the identity of their host."""
    return {id(device.host): device for device in devices}


def path(devices: Devices, source: Device, destination: str) -> list[Device] | None:
    """The devices that a packet from `source` to the VPN address `destination` would pass, or None."""
    passed = [source]
    device = source
    while device.address != destination:
        if len(passed) > len(devices) or (device is not source and not device.forwarding):
            return None
        to = device.owner(destination)
        received = _hop(devices, device, to) if to else None
        if received is None:
            return None
        device, from_peer = received
        # Cryptokey routing on receipt: the source address has to be the peer's that it came from.
        if device.owner(source.address) is not from_peer:
            return None
        passed.append(device)
    return passed


def session_passes(devices: Devices, source: Device, destination: Device) -> bool:
    """Whether a keepalive of `source` would arrive at `destination`, whatever the AllowedIPs are."""
    peer = source.peers.get(destination.public_key)
    received = _hop(devices, source, peer) if peer else None
    return received is not None and received[0] is destination


def is_direct(devices: Devices, one: Device, other: Device) -> bool:
    """Whether packets would go from one to the other and back, through nobody else."""
    there = path(devices, one, other.address)
    back = path(devices, other, one.address)
    return there == [one, other] and back == [other, one]


def _hop(devices: Devices, device: Device, peer: Peer) -> tuple[Device, Peer] | None:
    """Who would receive what `device` sends to `peer` now, and as coming from which of its peers."""
    keypair = device.sending_keypair(peer)
    if keypair is None or peer.endpoint is None:
        return None
    arrival = device.network.trace(device.host, device.listen_port, peer.endpoint)
    receiver = _device_at(devices, arrival[0], arrival[1]) if arrival else None
    accepted = receiver.receiving_keypair(keypair.remote_index) if receiver else None
    return (receiver, accepted.peer) if receiver and accepted else None


def _device_at(devices: Devices, host: Host, port: int) -> Device | None:
    device = devices.get(id(host))
    return device if device and device.listen_port == port else None
