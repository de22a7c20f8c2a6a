# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A device that says what the test wants, and short ways to make what it says."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
from typing import Any

from wg_rendezvous._wireguard import dump
from wg_rendezvous.wg import Device, IPInterface


def key(number: int) -> str:
    """The `number`th public key."""
    return base64.b64encode(number.to_bytes(32, "big")).decode()


def peer(number: int, **fields: Any) -> dump.Peer:
    """The peer with the `number`th key at 127.7.0.`number`, which shook hands at second 1000."""
    usual: dict[str, Any] = {
        "endpoint": f"198.51.100.{number}:51820",
        "allowed_ips": (f"127.7.0.{number}/32",),
        "latest_handshake_at": 1000,
        "rx_bytes": 100,
        "tx_bytes": 100,
        "persistent_keepalive_s": 0,
    }
    return dump.Peer(public_key=key(number), **{**usual, **fields})


def device(*peers: dump.Peer) -> dump.Device:
    """The hub's device with these peers."""
    return dump.Device(key(255), 51820, 0, {one.public_key: one for one in peers})


class FakeDevice(Device):
    """The device of the hub 127.7.0.1/24; `peers` is what it says next."""

    def __init__(self, *peers: dump.Peer) -> None:
        super().__init__("wg0")
        self.peers = peers
        self.reads = 0
        self.failure: Exception | None = None

    def change(self, number: int, **fields: Any) -> None:
        """Replace these fields of the `number`th peer."""
        self.peers = tuple(
            dataclasses.replace(one, **fields) if one.public_key == key(number) else one for one in self.peers
        )

    async def read(self) -> dump.Device:
        """What the test wants."""
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return device(*self.peers)

    async def addresses(self) -> list[IPInterface]:
        """The hub's own."""
        return [ipaddress.ip_interface("127.7.0.1/24")]
