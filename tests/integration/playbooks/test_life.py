# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Removal and rotation: what they refuse, what they say in check mode, and who is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.containers.mesh import PlaybookRun

from .conftest import ALICE, BOB, HUB, Hosts, Node
from .test_refusals import KEY, OTHER_KEY, assert_refused

GONE = f"-ewg_hub_remove_peers={KEY}"
CONF = f"""[Interface]
Address = 192.168.7.1/24

[Peer]
# Name = alice
PublicKey = {KEY}
AllowedIPs = 192.168.7.5/32

[Peer]
# Name = mallory
PublicKey = {OTHER_KEY}
AllowedIPs = 192.168.7.66/32
""".encode()
LISTED = {"name": "mallory", "public_key": OTHER_KEY}
DEVICES = [{"name": "mallory", "kind": "phone", "address": "192.168.7.66/24"}]


@pytest.fixture
def deployed(node: Node) -> Node:
    """The hub knows alice and mallory."""
    node.conf = CONF
    return node


def remove(node: Node, *arguments: str, peers: Hosts | None = None, **of_hub: Any) -> PlaybookRun:
    groups = {"wireguard_hub": {"hub": {**HUB, **of_hub}}, "wireguard_peers": peers or {}}
    return node.playbook("rendezvous.wireguard.remove_peer", groups, *arguments)


def test_check_mode_shows_what_goes_and_that_the_key_is_noted(deployed: Node) -> None:
    run = remove(deployed, "-ewg_hub_remove_peers=mallory", "--diff", peers={"alice": ALICE})
    assert run.exit_code == 0, run.output
    assert run.changed_hosts == {"hub": 1}
    assert f"-PublicKey = {OTHER_KEY}" in run.output
    assert f"+{OTHER_KEY} " in run.output
    assert f"-PublicKey = {KEY}" not in run.output


@pytest.mark.parametrize(
    ("names", "of_hub", "words"),
    [
        ("alice", {}, ("'alice' is still in [wireguard_peers]", "remove it there first")),
        (KEY, {}, ("'alice' is still in [wireguard_peers]", "remove it there first")),
        ("malory", {}, ("wg_hub_remove_peers: 'malory' is no peer of wg0", "there is alice, mallory")),
        ("mallory,malory", {}, ("'malory' is no peer of wg0",)),
        (
            "mallory",
            {"wg_client_config_devices": DEVICES},
            ("'mallory' is still in wg_client_config_devices", "remove it there first"),
        ),
        (
            "mallory",
            {"wg_interface_peers": [{"name": "mallory", "public_key": OTHER_KEY, "allowed_ips": []}]},
            ("'mallory' is still in wg_interface_peers of hub", "remove it there first"),
        ),
        (
            "mallory",
            {"wg_interface_peers": [{"public_key": OTHER_KEY, "state": "present"}]},
            (f"'{OTHER_KEY}' is still in wg_interface_peers of hub", "remove it there first"),
        ),
        ("", {}, ("wg_hub_remove_peers is empty", "-e wg_hub_remove_peers=bob")),
    ],
    ids=[
        "in-the-inventory",
        "by-key",
        "unknown",
        "one-of-two-unknown",
        "a-device",
        "a-listed-peer",
        "a-listed-peer-without-a-name",
        "nobody",
    ],
)
def test_a_removal_that_cannot_be(
    deployed: Node, names: str, of_hub: dict[str, Any], words: tuple[str, ...]
) -> None:
    run = remove(deployed, f"-ewg_hub_remove_peers={names}", peers={"alice": ALICE}, **of_hub)
    assert_refused(run, "hub", *words)


@pytest.mark.parametrize(
    ("of_hub", "words"),
    [
        ({"wg_interface_peers": 5}, "wg_interface_peers has no value, or is no list of dictionaries"),
        ({"wg_interface_peers": [{**LISTED, "preshared_key": "{{ of_a_vault }}"}]}, "wg_interface_peers"),
        ({"wg_client_config_devices": "{{ my_devices }}"}, "wg_client_config_devices has no value"),
        ({"wg_interface_name": "{{ my_name }}"}, "interface name ''"),
    ],
)
def test_nobody_is_removed_while_it_cannot_be_told_who_is_still_in_the_inventory(
    deployed: Node, of_hub: dict[str, Any], words: str
) -> None:
    run = remove(deployed, "-ewg_hub_remove_peers=mallory", peers={"alice": ALICE}, **of_hub)
    assert (run.exit_code, run.changed_hosts) == (2, {}), run.output
    assert words in run.output
    assert "Traceback" not in run.output


def test_a_removal_without_a_hub(node: Node) -> None:
    run = node.playbook("rendezvous.wireguard.remove_peer", {"wireguard_peers": {"alice": ALICE}}, GONE)
    assert run.exit_code == 2, run.output
    assert "no host is in [wireguard_hub]" in run.output


def test_who_was_removed_already_is_no_error(deployed: Node) -> None:
    deployed.files["wg0.removed"] = f"# by hand\n{OTHER_KEY} 2025-11-25 bob\n"
    run = remove(deployed, "-ewg_hub_remove_peers=bob")
    assert (run.exit_code, run.changed_hosts) == (0, {}), run.output


def test_a_removed_key_that_is_still_in_the_inventory_is_refused_before_anything_changes(node: Node) -> None:
    private_key = "CENTaMmv9LbYbQmmkBLWZlnaYyIUz7JAWR8k4hEgrHI="
    public_key = node.key(private_key)
    node.files["wg0.removed"] = f"{public_key} 2025-11-25 bob\n"
    run = node.site({"hub": HUB}, {"bob": BOB}, "--diff", "-vvv")
    assert_refused(run, "bob", "the key of peer bob", "was removed from wg0 on 2025-11-25", "new key")
    assert private_key not in run.output


PEERS: Hosts = {"alice": ALICE, "bob": BOB}


def rotate(node: Node, *arguments: str, peers: Hosts = PEERS, playbook: str = "rotate_keys") -> PlaybookRun:
    """All hosts are one node: the hub's interface has another name, and a key."""
    node.files["wg9.key"] = "eLTZoNYi8ZLFNIQYSjcfwnvV3KFDJ3qlBhWZL4SlLmU=\n"
    node.variables["wg_peer_hub_interface"] = "wg9"
    hub = {"hub": {**HUB, "wg_interface_name": "wg9"}}
    groups: dict[str, Mapping[str, Mapping[str, Any]]] = {
        "wireguard_hub": hub,
        "wireguard_peers": peers,
    }
    return node.playbook(f"rendezvous.wireguard.{playbook}", groups, *arguments)


def test_rotation_of_hosts_that_are_not_in_the_mesh(node: Node) -> None:
    run = rotate(node)
    assert_refused(run, "alice", "wg0.key does not exist", "not in the mesh", "rendezvous.wireguard.site")


def test_rotation_of_a_host_that_is_down(node: Node) -> None:
    node.key("CENTaMmv9LbYbQmmkBLWZlnaYyIUz7JAWR8k4hEgrHI=")
    assert_refused(rotate(node, peers={"bob": BOB}), "bob", "wg0 is down", "systemctl start wg-quick@wg0")


def test_two_hosts_with_one_key(node: Node) -> None:
    public_key = node.key("CENTaMmv9LbYbQmmkBLWZlnaYyIUz7JAWR8k4hEgrHI=")
    assert_refused(rotate(node), "bob", "same key as alice", public_key, "regenerate: always")
    run = node.site({"hub": HUB}, PEERS)
    assert_refused(run, "bob", "same key as alice")


def test_an_address_that_the_hub_routes_to_somebody_else(deployed: Node) -> None:
    mallory = {"wg_interface_address": "192.168.7.66/24"}
    deployed.key("CENTaMmv9LbYbQmmkBLWZlnaYyIUz7JAWR8k4hEgrHI=")
    words = (
        "wg_interface_address",
        "192.168.7.66/32 to peer mallory",
        OTHER_KEY,
        "wg_hub_remove_peers=mallory",
    )
    assert_refused(deployed.site({"hub": HUB}, {"bob": mallory}), "bob", *words)
    assert_refused(deployed.site({"hub": HUB}, {"bob": mallory}, "--limit=bob"), "bob", *words)


def test_a_new_key_of_the_hub_while_a_host_is_away(node: Node) -> None:
    node.unreachable = ["bob"]
    run = rotate(node, playbook="rotate_hub_key")
    words = ("would lose the hub", "-e wg_hub_rotate_without=bob")
    assert_refused(run, "bob", *words, exit_code=4)  # Ansible's own for a host that was not reached


def test_a_new_key_of_the_hub_while_there_is_a_mesh_secret(node: Node) -> None:
    secret = "wg_interface_mesh_secret=QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8="
    run = rotate(node, "-e", secret, peers={"bob": BOB}, playbook="rotate_hub_key")
    assert_refused(run, "bob", "has wg_interface_mesh_secret", "The key of the hub stays")


def test_an_uninstallation_of_nobody_in_particular(node: Node) -> None:
    groups = {"wireguard_hub": {"hub": HUB}, "wireguard_peers": PEERS}
    run = node.playbook("rendezvous.wireguard.uninstall", groups)
    assert (run.exit_code, run.changed_hosts) == (2, {}), run.output
    assert "name those that leave it" in run.output
    assert node.playbook("rendezvous.wireguard.uninstall", groups, "--limit=bob").exit_code == 0


def test_rotation_without_the_hub(node: Node) -> None:
    node.unreachable = ["hub"]
    assert_refused(rotate(node), "alice", "Ansible cannot reach the hub hub")


def test_rotation_of_a_name_that_nobody_has(node: Node) -> None:
    run = rotate(node, "--limit=malory")
    assert run.exit_code != 0
    assert "malory" in run.output


@pytest.mark.parametrize("value", ["soon", "-1"])
def test_a_rotation_by_an_age_that_is_none(node: Node, value: str) -> None:
    node.variables["wg_peer_rotate_min_age_s"] = value
    assert_refused(rotate(node), "alice", "wg_peer_rotate_min_age_s", repr(value), "seconds")
