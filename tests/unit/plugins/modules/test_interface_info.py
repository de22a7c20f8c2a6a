# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from tests.unit.plugins.conftest import Host
from tests.unit.plugins.fake_node import FakePeer

ALICE, BOB, CAROL = (keys.public_key(keys.generate_private_key()) for _ in range(3))
DOWN = {"name": "wg0", "up": False, "addresses": [], "peers": []}


def test_an_interface_that_is_down_or_not_installed_is_down(host: Host) -> None:
    host.node.up = False
    assert host.info() == {"changed": False, "interface": DOWN}
    host.node.installed = False
    assert host.info() == {"changed": False, "interface": DOWN}


def test_a_running_interface_is_described(ready: Host) -> None:
    interface = ready.info()["interface"]
    public_key = keys.public_key(ready.key.read_text().strip())
    assert interface == {
        "name": "wg0",
        "up": True,
        "public_key": public_key,
        "listen_port": 40000,
        "fwmark": 0,
        "mtu": 1420,
        "addresses": ["192.168.7.1/24"],
        "peers": [],
    }


def test_each_peer_says_who_manages_it(ready: Host) -> None:
    ready.peers({"public_key": ALICE, "name": "alice", "allowed_ips": []})
    ready.own({BOB: {"address": "192.168.7.6/32"}})
    ready.node.peers[BOB] = FakePeer("secret", "203.0.113.6:4", ["192.168.7.6/32"], 13)
    ready.node.peers[CAROL] = FakePeer()
    peers = {peer["public_key"]: peer for peer in ready.info()["interface"]["peers"]}
    managed_by = {key: peer["managed_by"] for key, peer in peers.items()}
    assert managed_by == {ALICE: "file", BOB: "agent", CAROL: "nobody"}
    assert peers[ALICE]["name"] == "alice"
    assert peers[BOB] == {
        "public_key": BOB,
        "name": None,
        "managed_by": "agent",
        "allowed_ips": ["192.168.7.6/32"],
        "endpoint": "203.0.113.6:4",
        "persistent_keepalive_s": 13,
        "latest_handshake_at": 0,
        "rx_bytes": 0,
        "tx_bytes": 0,
        "has_preshared_key": True,
    }


def test_no_secret_is_printed(ready: Host) -> None:
    preshared_key = keys.generate_private_key()
    ready.node.peers[BOB] = FakePeer(preshared_key)
    ready.info()
    assert preshared_key not in ready.output
    assert ready.key.read_text().strip() not in ready.output
