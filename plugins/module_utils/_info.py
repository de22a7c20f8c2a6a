# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A running interface and its peers as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._node import Node
from ._wireguard import check, conf, diff, owned


def interface_info(node: Node) -> dict[str, Any]:
    """The running interface and its peers as data, without secrets. `up` is false if there is none."""
    check.interface_name(node.name)
    runtime = node.runtime()
    if runtime is None:
        return {"changed": False, "interface": {"name": node.name, "up": False, "addresses": [], "peers": []}}
    text = node.read_conf()
    in_file = node.parse_conf(text).peers() if text else {}
    added = node.owned()
    return {
        "changed": False,
        "interface": {
            "name": node.name,
            "up": True,
            "public_key": runtime.device.public_key,
            "listen_port": runtime.device.listen_port,
            "fwmark": runtime.device.fwmark,
            "mtu": runtime.mtu,
            "addresses": list(runtime.addresses),
            "peers": [_running_peer(runtime, key, in_file, added) for key in runtime.device.peers],
        },
    }


def _running_peer(
    runtime: diff.Runtime, key: str, in_file: Mapping[str, conf.Peer], added: owned.OwnedPeers
) -> dict[str, Any]:
    peer = runtime.device.peers[key]
    return {
        "public_key": key,
        "name": in_file[key].name if key in in_file else None,
        "managed_by": "agent" if key in added else "file" if key in in_file else "nobody",
        "allowed_ips": list(peer.allowed_ips),
        "endpoint": peer.endpoint,
        "persistent_keepalive_s": peer.persistent_keepalive_s,
        "latest_handshake_at": peer.latest_handshake_at,
        "rx_bytes": peer.rx_bytes,
        "tx_bytes": peer.tx_bytes,
        "has_preshared_key": key in runtime.preshared_keys,
    }
