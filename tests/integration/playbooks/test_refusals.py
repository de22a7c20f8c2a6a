# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Bad input stops the play before anything is changed, and says where, what, and what to write instead.

All that the preflight knows of an inventory is in the unit tests; here is one run for each kind.
"""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from tests.containers.mesh import PlaybookRun

from .conftest import ALICE, BOB, HUB, Hosts, Node, Variables, play

KEY = "zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM="
OTHER_KEY = "0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8="
PHONE = {"name": "phone", "public_key": KEY, "allowed_ips": ["192.168.7.9/32"]}


def assert_refused(run: PlaybookRun, host: str, *words: str, exit_code: int = 2) -> None:
    """By the preflight, with these words, and nothing came after it."""
    sentences = [line for line in run.output.replace("\\n", "\n").splitlines() if f"{host}: " in line]
    assert run.exit_code == exit_code, run.output
    assert any(all(word in line for word in words) for line in sentences), run.output
    assert run.changed_hosts == {}
    assert "Install the packages" not in run.output
    assert "Traceback" not in run.output


def hub(**variables: Any) -> Hosts:
    return {"hub": {**HUB, **variables}}


def peers(**variables: Any) -> Hosts:
    return {"alice": {**ALICE, **variables}, "bob": BOB}


def listed(*listed_peers: Any) -> Hosts:
    return hub(wg_interface_peers=list(listed_peers))


@pytest.mark.parametrize(
    ("the_hub", "the_peers", "words"),
    [
        ({}, peers(), ("alice, bob", "there is no hub")),
        (
            {**hub(), "other": {**HUB, "wg_interface_address": "192.168.7.2/24"}},
            peers(),
            ("hub, other", "only one host can be the hub", "[wireguard_peers]"),
        ),
        (hub(), peers(wg_interface_address="192.168.7.6/24"), ("bob", "192.168.7.6", "alice", "another")),
        (hub(), peers(wg_interface_address="192.168.8.5/24"), ("alice", "outside", "192.168.7.0/24")),
        (hub(), peers(wg_interface_address="192.168.7.5"), ("alice", "has no prefix", "192.168.7.5/24")),
        (hub(), peers(wg_interface_address="192.168.7.5/16"), ("alice", "another prefix", "192.168.7.5/24")),
        (hub(), peers(wg_interface_address="192.168.7.255/24"), ("alice", "broadcast", "192.168.7.254/24")),
        (hub(), peers(wg_interface_address="192.168.7.5 /24"), ("alice", "192.168.7.5 /24", "write an IP")),
        (hub(wg_interface_address="192.168.7.1/24,"), peers(), ("hub", "192.168.7.1/24,", "write an IP")),
        (hub(wg_interface_address="192.168.7.1/32"), peers(), ("hub", "no room", "192.168.7.1/24")),
        (hub(), peers(wg_peer_hub="", wg_peer_hub_url="http://h:8080"), ("alice", "wg_peer_hub is empty")),
        (hub(), peers(wg_peer_hub=7), ("alice", "wg_peer_hub 7", "name of a host")),
        (
            hub(wg_interface_subnets="{{ nets }}"),
            peers(),
            ("hub", "wg_interface_subnets has no value"),
        ),
        (hub(), peers(wg_interface_subnets=10), ("alice", "wg_interface_subnets '10'")),
        (hub(), peers(wg_peer_refresh="{{ often }}"), ("alice", "wg_peer_refresh has no value", "often")),
        (hub(), peers(wg_interface_name="{{ vpn }}"), ("alice", "wg_interface_name has no value", "vpn")),
        (hub(), peers(wg_interface_table=-1), ("alice", "wg_interface_table '-1'", "off")),
        (hub(), peers(wg_interface_name="wg1"), ("alice", "hub has wg0 and no wg1", "hub_interface=wg0")),
        (hub(wg_interface_peers=None), peers(), ("hub", "wg_interface_peers is empty", "remove the line")),
        (hub(), peers(wg_interface_mut=1420), ("alice", "wg_interface_mut", "write wg_interface_mtu")),
        (hub(), peers(wg_peer_hub={}), ("alice", "wg_peer_hub {}", "write a text")),
        (hub(), peers(wg_peer_hub="hbu"), ("alice", "wg_peer_hub 'hbu'", "[wireguard_hub]")),
        (hub(), peers(wg_interface_mtu="{{ no_such }}"), ("alice", "wg_interface_mtu", "no_such")),
        (hub(), peers(wg_interface_name="{{ no_such }}"), ("alice", "no_such")),
        (hub(), peers(wg_peer_port="{{ no_such }}"), ("alice", "no_such")),
        (hub(), peers(wg_interface_address="{{ no_such }}/24"), ("alice", "no_such")),
        (hub(), peers(wg_interface_install="perhaps"), ("alice", "wg_interface_install", "true or false")),
        (hub(wg_hub_endpoint=""), peers(), ("hub", "no public endpoint", "wg_hub_endpoint=hub:51820")),
        (hub(wg_hub_endpoint=51820), peers(), ("hub", "51820", "write host:port")),
        (hub(wg_hub_endpoint="192.168.7.1:51820"), peers(), ("hub", "192.168.7.1", "public address")),
        (listed({**PHONE, "public_key": KEY[:-2] + "="}), peers(), ("hub", "public_key", "wg pubkey")),
        (
            listed(PHONE, {**PHONE, "public_key": OTHER_KEY}),
            peers(),
            ("hub", "192.168.7.9/32", KEY, OTHER_KEY, "another"),
        ),
        (
            listed({**PHONE, "allowed_ips": "192.168.7.5"}),
            peers(),
            ("hub", "192.168.7.5/32", "phone", "alice", "another"),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_an_inventory_that_cannot_work(
    node: Node, the_hub: Hosts, the_peers: Hosts, words: tuple[str, ...]
) -> None:
    assert_refused(node.site(the_hub, the_peers), *words)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"os_release": 'ID=debian\nVERSION_ID="9"\n'}, ("debian 9 is not supported", "debian 12")),
        (
            {"conf": b"[Interface]\nSaveConfig = true\n"},
            ("wg0.conf", "SaveConfig = true", "remove that line"),
        ),
        ({"conf": b"[Interface]\n# caf\xe9\n"}, ("wg0.conf", "not UTF-8", "correct or move it")),
        ({"tun": False}, ("no WireGuard", "/dev/net/tun", "load the module")),
        (
            {"rules": "table ip site { chain out { type filter hook output priority 0; policy drop; }; }"},
            (
                "ip site out",
                "what WireGuard sends",
                "add `nft insert rule ip site out meta l4proto udp accept`",
            ),
        ),
    ],
    ids=["system", "SaveConfig", "not-UTF-8", "neither-kernel-nor-tun", "foreign-firewall"],
)
def test_a_node_that_cannot_do_it(node: Node, what: dict[str, Any], words: tuple[str, ...]) -> None:
    for name, value in what.items():
        setattr(node, name, value)
    assert_refused(node.site(hub(), peers()), "alice", *words)


@pytest.mark.parametrize(
    ("role", "variables", "words"),
    [
        ("wg_hub", {**HUB, "wg_hub_endpoint": ""}, ("no public endpoint", "wg_hub_endpoint=node:51820")),
        ("wg_hub", {"wg_interface_address": "192.168.7.1/24"}, ("no public endpoint", "wg_hub_endpoint=")),
        ("wg_peer", ALICE, ("there is no hub",)),
        ("wg_peer", {**ALICE, "wg_peer_hub": "hbu"}, ("'hbu' is no host of the inventory",)),
        ("wg_peer", {}, ("wg_interface_address is missing", "192.168.7.5/24")),
        ("wg_interface", {}, ("wg_interface_address is missing", "192.168.7.5/24")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_role_by_itself_says_what_the_preflight_says(
    node: Node, role: str, variables: Variables, words: tuple[str, ...]
) -> None:
    assert_refused(node.role(role, **variables), "node", *words)


def test_all_problems_of_all_hosts_are_said_at_once(node: Node) -> None:
    run = node.site(
        hub(wg_hub_endpoint="", wg_hub_port="http"),
        {
            "alice": {**ALICE, "wg_interface_mtu": 1, "wg_peer_refresh": "rebnd"},
            "bob": {**BOB, "wg_interface_listen_port": 65536, "wg_interface_name": "wireguard-uplink"},
        },
    )
    assert_refused(run, "hub", "no public endpoint")
    assert_refused(run, "hub", "wg_hub_port 'http'", "whole number")
    assert_refused(run, "alice", "wg_interface_mtu 1", "576 to 65535")
    assert_refused(run, "alice", "wg_peer_refresh 'rebnd'", "rebind, restart, off")
    assert_refused(run, "bob", "listen_port 65536", "1 to 65535")
    assert_refused(run, "bob", "wireguard-uplink", "1 to 15 letters")


def test_no_preshared_key_is_repeated(node: Node) -> None:
    run = node.site(listed({**PHONE, "preshared_key": "hunter2"}), peers(), "-vvv", "--diff")
    assert_refused(run, "hub", "preshared_key of peer phone", "wg genpsk")
    assert "hunter2" not in run.output


@pytest.mark.parametrize("arguments", [(), ("--limit=alice",)], ids=["all", "limit"])
def test_groups_with_other_names_are_named_and_nothing_is_changed(
    node: Node, arguments: tuple[str, ...]
) -> None:
    groups = {"wireguard_hubs": hub(), "wireguard_peer": peers()}
    run = node.playbook("rendezvous.wireguard.site", groups, *arguments)
    assert run.exit_code == 2, run.output
    assert run.changed_hosts == {}
    assert "no host is in [wireguard_hub] or [wireguard_peers]" in run.output
    assert "The groups of the inventory are: wireguard_hubs, wireguard_peer." in run.output
    assert "Check the inventory and the node" not in run.output


def test_an_empty_inventory_is_no_success(node: Node) -> None:
    run = node.playbook("rendezvous.wireguard.site", {})
    assert run.exit_code == 2, run.output
    assert "The groups of the inventory are: none." in run.output


@pytest.mark.parametrize(
    ("playbook", "meant"),
    [
        ("site", "[wireguard_hub] or [wireguard_peers]"),
        ("status", "[wireguard_hub] or [wireguard_peers]"),
        ("rotate_keys", "[wireguard_peers]"),
        ("rotate_hub_key", "[wireguard_hub]"),
        ("remove_peer", "[wireguard_hub]"),
        ("uninstall", "[wireguard_hub] or [wireguard_peers]"),
    ],
)
def test_a_playbook_that_concerns_nobody_is_no_success(node: Node, playbook: str, meant: str) -> None:
    groups = {"wireguard_hubs": hub(), "wireguard_peer": peers()}
    run = node.playbook(f"rendezvous.wireguard.{playbook}", groups, "-ewg_hub_remove_peers=bob")
    assert (run.exit_code, run.changed_hosts) == (2, {}), run.output
    assert f"nothing was done: no host is in {meant}. The groups of the inventory are: wire" in run.output


@pytest.mark.parametrize("playbook", ["remove_peer", "client_config", "rotate_hub_key"])
def test_what_happens_on_the_hub_is_not_left_out_by_limit_without_a_word(node: Node, playbook: str) -> None:
    groups = {"wireguard_hub": hub(), "wireguard_peers": peers()}
    arguments = ("--limit=alice", "-ewg_hub_remove_peers=carol")
    run = node.playbook(f"rendezvous.wireguard.{playbook}", groups, *arguments)
    assert (run.exit_code, run.changed_hosts) == (2, {}), run.output
    assert "nothing was done: hub: not in --limit alice: leave out --limit" in run.output


def test_a_limit_to_hosts_of_other_groups_is_no_success(node: Node) -> None:
    groups = {"wireguard_hub": hub(), "wireguard_peers": peers(), "web": {"www": {}}}
    run = node.playbook("rendezvous.wireguard.site", groups, "--limit=web")
    assert (run.exit_code, run.changed_hosts) == (2, {}), run.output
    assert "nothing was done: hub, alice, bob: not in --limit web" in run.output


def test_devices_of_two_hubs(node: Node) -> None:
    devices = [{"name": "phone", "kind": "phone", "address": "192.168.7.50/24"}]
    node.variables = {"wg_client_config_devices": devices, "wg_client_config_qr": False}
    other = {**HUB, "wg_interface_address": "192.168.7.2/24"}
    groups = {"wireguard_hub": {**hub(), "other": other}, "wireguard_peers": peers()}
    run = node.playbook("rendezvous.wireguard.client_config", groups)
    assert_refused(run, "hub", "hub, other: only one host can be the hub", "[wireguard_hub]")


def test_a_hub_of_devices_that_was_never_deployed(node: Node) -> None:
    devices = [{"name": "phone", "kind": "phone", "address": "192.168.7.50/24"}]
    node.variables = {"wg_client_config_devices": devices, "wg_client_config_qr": False}
    groups = {"wireguard_hub": hub(), "wireguard_peers": peers()}
    run = node.playbook("rendezvous.wireguard.client_config", groups)
    words = ("has no key for wg0 yet", "rendezvous.wireguard.site", "wg_client_config_hub_interface")
    assert_refused(run, "hub", *words)
    node.variables["wg_client_config_hub_interface"] = "wireguard-uplink"
    refused = node.playbook("rendezvous.wireguard.client_config", groups)
    assert_refused(refused, "hub", "wg_client_config_hub_interface", "wireguard-uplink", "1 to 15 letters")


@pytest.mark.parametrize("value", ["perhaps", None])
def test_nothing_is_removed_while_it_is_unclear_whether_keys_are_to_go(node: Node, value: object) -> None:
    groups = {"wireguard_hub": hub(), "wireguard_peers": peers(wg_interface_forget_key=value)}
    run = node.playbook("rendezvous.wireguard.uninstall", groups, "--limit=alice,bob")
    assert_refused(run, "alice", "wg_interface_forget_key", "write true or false")
    assert "Take back what the firewall was told" not in run.output


@pytest.mark.parametrize("value", ["", None, []])
def test_it_is_said_that_nobody_is_named_who_is_to_go(node: Node, value: object) -> None:
    groups = {"wireguard_hub": hub(wg_hub_remove_peers=value)}
    run = node.playbook("rendezvous.wireguard.remove_peer", groups)
    assert_refused(run, "hub", "wg_hub_remove_peers is empty", "wg_hub_remove_peers=bob")


def test_all_that_is_wrong_is_said_at_once(node: Node) -> None:
    run = node.site(hub(), {**peers(wg_peer_hub_interface="wg1"), "carol": {"wg_interface_mtu": 99}})
    assert_refused(run, "alice", "hub has wg0 and no wg1")
    for words in ("carol: wg_interface_address is missing", "carol: wg_interface_mtu 99"):
        assert words in run.output


@pytest.mark.parametrize("subnets", ["{{ nets }}", ["10.1.0.1/24"], ["10.1.0.0/24", "{{ nets }}"], 10])
def test_what_is_wrong_with_a_subnet_of_a_host_that_is_not_in_the_run_is_said_of_that_host(
    node: Node, subnets: object
) -> None:
    """Without it, those of the run would lose the route there."""
    node.key(keys.generate_private_key())
    run = node.site(hub(), peers(wg_interface_subnets=subnets), "--limit=bob")
    assert_refused(run, "alice", "wg_interface_subnets")


def test_no_file_of_a_device_leaves_out_a_subnet_that_is_wrong(node: Node) -> None:
    node.key(keys.generate_private_key())
    devices = [{"name": "phone", "kind": "phone", "address": "192.168.7.50/24"}]
    node.variables = {"wg_client_config_devices": devices, "wg_client_config_qr": False}
    groups = {"wireguard_hub": hub(), "wireguard_peers": peers(wg_interface_subnets=["10.1.0.1/24"])}
    run = node.playbook("rendezvous.wireguard.client_config", groups)
    assert_refused(run, "alice", "wg_interface_subnets", "10.1.0.0/24")


def test_no_secret_is_in_what_is_said_of_a_variable_without_a_value(node: Node) -> None:
    secret, key = keys.generate_private_key(), keys.generate_private_key()
    the_hub = hub(
        wg_interface_mesh_secret="{{ secrets_of_mine }}",
        secrets_of_mine=[secret, "{{ of_a_vault }}"],
        wg_interface_peers="{{ peers_of_mine }}",
        peers_of_mine=[{**PHONE, "preshared_key": key}, "{{ of_a_vault }}"],
    )
    run = node.site(the_hub, peers())
    for variable in ("wg_interface_mesh_secret", "wg_interface_peers"):
        assert f"hub: {variable} has no value, since 'of_a_vault' is undefined: define that" in run.output
    assert secret not in run.output
    assert key not in run.output


@pytest.mark.parametrize("strategy", ["free", "ansible.builtin.host_pinned"])
def test_a_strategy_that_could_refuse_nothing_for_all_hosts(node: Node, strategy: str) -> None:
    plays = [
        play("wireguard_hub", "wg_hub", strategy=strategy),
        play("wireguard_peers", "wg_peer", strategy=strategy),
    ]
    run = node.plays(plays, {"wireguard_hub": hub(), "wireguard_peers": peers()})
    assert_refused(run, "hub", f"strategy {strategy}", "write strategy: linear")


def test_the_playbooks_have_the_strategy_that_they_need_whatever_is_configured(node: Node) -> None:
    node.environment = {"ANSIBLE_STRATEGY": "free"}
    run = node.site(hub(), peers(wg_interface_mtu=99))
    assert_refused(run, "alice", "wg_interface_mtu 99")


@pytest.mark.parametrize(
    ("role", "variables", "words"),
    [
        ("wg_peer", {"wg_peer_interval_s": "fast"}, ("wg_peer_interval_s 'fast'", "write")),
        ("wg_peer", {"wg_peer_hub_networks": {"a": 1}}, ("wg_peer_hub_networks {'a': 1}", "write")),
        ("wg_interface", {"wg_interface_mtu": "big"}, ("wg_interface_mtu 'big'", "write a whole number")),
        ("wg_interface", {"wg_interface_relay": "ja"}, ("wg_interface_relay 'ja'", "write")),
        ("wg_interface", {"wg_interface_peers": "bob"}, ("wg_interface_peers is a text", "write a list")),
        ("wg_interface", {"wg_interface_tcp_ports": {"a": 1}}, ("wg_interface_tcp_ports {'a': 1}", "write")),
        ("wg_interface", {"wg_interface_forget_key": 5}, ("wg_interface_forget_key 5", "write")),
    ],
)
def test_a_value_of_the_wrong_type_for_a_role_on_one_host_stops_all(
    node: Node, role: str, variables: Variables, words: tuple[str, ...]
) -> None:
    node.key(keys.generate_private_key())  # the hub has one
    groups = {"wireguard_hub": hub(), "wireguard_peers": {"alice": ALICE, "bob": {**BOB, **variables}}}
    assert_refused(node.plays([play("wireguard_peers", role)], groups), "bob", *words)


def test_a_value_of_the_wrong_type_for_the_hub(node: Node) -> None:
    assert_refused(
        node.role("wg_hub", **HUB, wg_hub_masquerade="ja", wg_hub_former_ports={"a": 1}),
        "node",
        "wg_hub_masquerade 'ja'",
        "write",
    )
