# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The modules by Ansible, on real WireGuard: wireguard-go where the kernel has none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.integration.modules.conftest import Node, Result, run

pytestmark = pytest.mark.lab
Pair = tuple[Node, Node]


def new_key() -> str:
    return run("wg", "genpsk").strip()


def handshake_at(node: Node) -> str:
    return node.run("wg", "show", node.interface, "latest-handshakes")


def peer(public_key: str, *allowed_ips: str, **options: object) -> Result:
    return {"public_key": public_key, "allowed_ips": list(allowed_ips), **options}


def test_a_fresh_node_in_check_mode_and_for_real(nodes: Pair) -> None:
    alice, _ = nodes
    checked = alice.configure("--check", address="192.168.7.1/24")
    assert checked["changed"]
    assert "only a stand-in" in checked["output"]
    assert not alice.directory.exists()
    assert alice.info() == {"name": alice.interface, "up": False, "addresses": [], "peers": []}
    public_key = alice.keypair()["public_key"]
    assert public_key == run("sh", "-c", f"wg pubkey < {alice.key}").strip()
    assert alice.configure(address="192.168.7.1/24", mtu=1400)["changed"]
    alice.up()
    again = alice.configure(address="192.168.7.1/24", mtu=1400)
    assert not again["changed"]
    assert again["public_key"] == public_key
    assert alice.info()["public_key"] == public_key


def test_changes_drop_no_session(pair: Pair) -> None:
    alice, bob = pair
    before = handshake_at(alice)
    result = alice.configure(
        address=["192.168.7.1/24", "fd00:7::1/64"], listen_port=51821, mtu=1380, fwmark=7
    )
    assert result["changed"]
    assert not alice.loses_a_ping_to("192.168.7.2")
    assert not bob.loses_a_ping_to("192.168.7.1")
    assert handshake_at(alice) == before
    info = alice.info()
    assert (info["listen_port"], info["mtu"], info["fwmark"]) == (51821, 1380, 7)
    assert info["addresses"] == ["192.168.7.1/24", "fd00:7::1/64"]


def test_a_second_run_changes_nothing_after_the_peers_have_roamed(pair: Pair) -> None:
    alice, bob = pair
    bob.run("wg", "set", bob.interface, "listen-port", "45678")
    assert not bob.loses_a_ping_to("192.168.7.1")
    known = alice.info()["peers"][0]
    assert known["endpoint"] == "203.0.113.2:45678"
    listed = peer(known["public_key"], "192.168.7.2/32", endpoint="203.0.113.2:51820")
    assert not alice.peers(listed)["changed"]
    assert alice.info()["peers"][0]["endpoint"] == "203.0.113.2:45678"


def test_a_reload_from_the_file_keeps_key_and_session(pair: Pair) -> None:
    alice, _ = pair
    before = handshake_at(alice)
    alice.run("sh", "-c", f"wg-quick strip {alice.conf} | wg syncconf {alice.interface} /dev/stdin")
    assert handshake_at(alice) == before
    assert not alice.loses_a_ping_to("192.168.7.2")


def test_another_address_of_the_same_network_takes_over(pair: Pair) -> None:
    alice, _ = pair
    alice.configure(address=["192.168.7.9/24", "192.168.7.10/24"], listen_port=51820)
    assert alice.info()["addresses"] == ["192.168.7.9/24", "192.168.7.10/24"]
    alice.configure(address=["10.7.0.1/24"], listen_port=51820)
    assert alice.info()["addresses"] == ["10.7.0.1/24"]
    assert "192.168.7.2 dev" in alice.run("ip", "route")


def test_preshared_keys_and_routes_come_and_go(pair: Pair) -> None:
    alice, bob = pair
    preshared_key = new_key()
    for node, other, number in ((alice, bob, 2), (bob, alice, 1)):
        networks = [f"192.168.7.{number}/32", f"10.{number}.0.0/16", f"fd00:{number}::/64"]
        listed = peer(other.info()["public_key"], *networks, preshared_key=preshared_key)
        result = node.peers(listed)
        assert result["changed"]
        assert not node.peers(listed)["changed"]
        assert preshared_key not in result["output"]
    assert "10.2.0.0/16" in alice.run("ip", "route")
    assert "fd00:2::/64" in alice.run("ip", "-6", "route")
    # Removed by hand, the peer comes back by the module; without the key that bob has, it gets no session.
    public_key = bob.info()["public_key"]
    alice.run("wg", "set", alice.interface, "peer", public_key, "remove")
    alice.peers(peer(public_key, "192.168.7.2/32", endpoint="203.0.113.2:51820"))
    assert alice.is_cut_off_from("192.168.7.2")
    assert "10.2.0.0/16" not in alice.run("ip", "route")
    assert "fd00:2::/64" not in alice.run("ip", "-6", "route")


def test_parallel_delegated_runs_lose_no_change_of_one_another(pair: Pair) -> None:
    alice, _ = pair
    keys = [new_key() for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        listed = [peer(key, f"192.168.7.{number}/32") for number, key in enumerate(keys, start=10)]
        results = list(pool.map(alice.peers, listed))
    assert all(result["changed"] for result in results)
    assert set(keys) < {found["public_key"] for found in alice.info()["peers"]}
    assert all(key in alice.conf.read_text() for key in keys)


def test_a_new_key_is_taken_over_live_and_a_wrong_address_puts_all_back(pair: Pair) -> None:
    alice, _ = pair
    text, before = alice.conf.read_text(), alice.info()
    alice.keypair(regenerate="always")
    # The kernel refuses an address of a family that is switched off.
    alice.run("sysctl", "--quiet", "--write", f"net.ipv6.conf.{alice.interface}.disable_ipv6=1")
    failed = alice.configure(address=["192.168.7.1/24", "fd00:7::1/64"], listen_port=51825)
    assert failed["failed"]
    assert "file and interface are as they were" in failed["msg"]
    assert alice.conf.read_text() == text
    after = alice.info()
    assert {**after, "peers": 1} == {**before, "peers": 1}
    result = alice.configure(address="192.168.7.1/24", listen_port=51820)
    assert result["public_key"] == alice.info()["public_key"] != before["public_key"]
    assert alice.key.read_text().strip() not in result["output"]
