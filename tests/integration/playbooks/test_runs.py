# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What a good inventory leads to, also when a host is away."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys

from .conftest import ALICE, BOB, HUB, Node, play

RECORDED_PORTS = re.compile(r'\+  "(tcp|udp)_ports": \[([\d,\s+]*)\]')
"""Of a firewall's record in a diff."""

PEERS = {"alice": ALICE, "bob": BOB}


def test_check_mode_runs_to_its_end_on_a_fresh_hub_and_fresh_peers(node: Node) -> None:
    run = node.site({"hub": HUB}, PEERS, "--diff")
    assert run.exit_code == 0, run.output
    assert run.changed_hosts.keys() == {"hub", "alice", "bob"}


def test_ports_of_the_user_are_opened_besides_those_of_the_roles(node: Node) -> None:
    hub = {**HUB, "wg_interface_tcp_ports": [443], "wg_interface_udp_ports": "53"}
    alice = {**ALICE, "wg_interface_tcp_ports": [22, 8080]}
    run = node.site({"hub": hub}, {"alice": alice}, "--diff")
    assert run.exit_code == 0, run.output
    records = [
        {
            protocol: [int(port) for port in re.findall(r"\d+", ports)]
            for protocol, ports in RECORDED_PORTS.findall(record)
        }
        for record in run.output.split('+  "interface": "wg0"')[1:]
    ]
    opened = [{"tcp": [22, 8080], "udp": [8080]}, {"tcp": [443, 8080], "udp": [53, 8080]}]
    assert sorted(records, key=lambda record: record["tcp"]) == opened  # the hosts end in any order


def test_what_an_ini_inventory_calls_false_is_false(node: Node) -> None:
    node.variables = {"wg_interface_install": "false", "wg_interface_peers_exclusive": "no"}
    run = node.site({"hub": HUB}, PEERS)
    assert run.exit_code == 0, run.output
    assert run.output.count("skipping") >= 3


def test_a_peer_that_cannot_be_reached_is_reported_and_the_others_are_deployed(node: Node) -> None:
    node.unreachable = ["alice"]
    run = node.site({"hub": HUB}, PEERS)
    assert run.exit_code == 4, run.output
    assert run.recap["alice"].unreachable == 1
    assert "No route to host" in run.output
    assert run.changed_hosts.keys() == {"hub", "bob"}
    assert {run.recap[host].failed for host in ("hub", "bob")} == {0}


def test_no_peer_is_introduced_to_a_hub_that_fails_half_way(node: Node) -> None:
    python = f"{{{{ '/nowhere' if wg_interface__node is defined else '{sys.executable}' }}}}"
    run = node.site({"hub": {**HUB, "ansible_python_interpreter": python}}, PEERS)
    assert run.exit_code == 2, run.output
    assert run.recap["hub"].failed == 1
    assert "hub has failed, as said above, and its peers were not introduced to it" in run.output
    assert "Tell the hub about all peers of this run" not in run.output


def test_a_refusal_still_stops_all_when_a_host_cannot_be_reached(node: Node) -> None:
    node.unreachable = ["alice"]
    run = node.site({"hub": HUB}, {**PEERS, "carol": {"wg_interface_address": "192.168.7.7"}})
    assert "carol: wg_interface_address: address '192.168.7.7' has no prefix" in run.output
    assert run.changed_hosts == {}


def test_without_the_hub_nothing_is_changed_and_each_peer_says_why(node: Node) -> None:
    node.unreachable = ["hub"]
    run = node.site({"hub": HUB}, PEERS)
    assert run.exit_code != 0
    assert run.changed_hosts == {}
    for peer in PEERS:
        assert f"{peer}: Ansible cannot reach the hub hub, which has to learn this peer" in run.output
    assert "No route to host" in run.output
    assert "ansible_host" in run.output


def test_a_hub_that_is_away_is_said_with_limit_as_well(node: Node) -> None:
    node.unreachable = ["hub"]
    run = node.site({"hub": HUB}, PEERS, "--limit=alice")
    assert run.recap["alice"].failed == 1
    assert run.changed_hosts == {}
    assert "alice: Ansible cannot reach the hub hub" in run.output
    assert "bob: " not in run.output


def test_a_hub_that_was_never_deployed_is_said_before_a_peer_is_changed(node: Node) -> None:
    run = node.site({"hub": HUB}, PEERS, "--limit=alice")
    assert run.exit_code == 2, run.output
    assert run.changed_hosts == {}
    assert "alice: the hub hub has no key for wg0 yet: deploy it first" in run.output
    assert "--limit hub,alice" in run.output


@pytest.mark.parametrize("at_hub", [False, True])
def test_a_mesh_secret_that_the_hub_has_not_yet_is_said_before_it_learns_a_peer(
    node: Node, at_hub: bool
) -> None:
    new, old = keys.generate_private_key(), keys.generate_private_key()
    node.key(keys.generate_private_key())
    node.files["wg0.mesh-secret"] = f"{old}\n"
    node.variables = {"wg_interface_mesh_secret": [new, old] if at_hub else new}
    run = node.site({"hub": HUB}, PEERS, "--limit=alice")
    refusal = "alice: the mesh secret that the hub hub has now is none of wg_interface_mesh_secret"
    assert (refusal in run.output, "Tell the hub about" in run.output) == (not at_hub, at_hub), run.output
    assert at_hub or (run.changed_hosts == {} and "--limit hub,alice" in run.output)
    assert new not in run.output
    assert old not in run.output


OF_A_SITE: dict[str, list[Any]] = {
    "roles": [
        {
            "hosts": group,
            "gather_facts": False,
            "roles": [{"role": f"rendezvous.wireguard.{role}", "tags": "vpn"}, {"role": "other"}],
        }
        for group, role in (("wireguard_hub", "wg_hub"), ("wireguard_peers", "wg_peer"))
    ],
    "a playbook": [
        {"ansible.builtin.import_playbook": "rendezvous.wireguard.site", "tags": "vpn"},
        {"hosts": "all", "gather_facts": False, "roles": ["other"]},
    ],
}


@pytest.mark.parametrize("what", OF_A_SITE)
@pytest.mark.parametrize(
    ("arguments", "vpn", "other"),
    [((), True, True), (("--tags=vpn",), True, False), (("--skip-tags=vpn",), False, True)],
)
def test_a_tag_that_the_user_gives_to_a_role_or_the_playbook_is_that_of_all_its_tasks(
    node: Node, what: str, arguments: tuple[str, ...], vpn: bool, other: bool
) -> None:
    tasks = node.directory / "roles/other/tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text(json.dumps([{"ansible.builtin.debug": {"msg": "the other role"}}]))
    groups = {"wireguard_hub": {"hub": HUB}, "wireguard_peers": PEERS}
    run = node.plays(OF_A_SITE[what], groups, *arguments)
    assert run.exit_code == 0, run.output
    assert set(run.changed_hosts) == ({"hub", *PEERS} if vpn else set())
    assert ("the other role" in run.output) is other


def test_a_hub_learns_its_peers_in_a_play_whose_first_host_leaves_out_their_role(node: Node) -> None:
    conditions = {"wg_hub": "wireguard_hub", "wg_peer": "wireguard_peers"}
    roles = [
        {"role": f"rendezvous.wireguard.{role}", "when": f"inventory_hostname in groups['{group}']"}
        for role, group in conditions.items()
    ]
    plays = [{"hosts": "all", "gather_facts": False, "roles": roles}]
    hub = {**HUB, "wg_interface_subnets": ["10.9.0.0/24"]}
    groups: dict[str, dict[str, Any]] = {"wireguard_hub": {"hub": hub}, "wireguard_peers": PEERS}
    run = node.plays(plays, groups, "--diff")
    assert run.exit_code == 0, run.output
    told = run.output.partition(" : Tell the hub about all peers of this run]")[2].partition("TASK")[0]
    assert "\nchanged: [alice -> hub] => (item=hub: alice, bob)" in told, run.output
    assert run.output.count("+AllowedIPs = 192.168.7.0/24, 10.9.0.0/24") == len(PEERS)


def test_a_hub_is_asked_by_its_peers_where_another_role_has_looked_at_it_in_this_run(node: Node) -> None:
    node.key(keys.generate_private_key())
    plays = [play("wireguard_hub", "wg_interface"), play("wireguard_peers", "wg_peer")]
    groups: dict[str, dict[str, Any]] = {"wireguard_hub": {"hub": HUB}, "wireguard_peers": {"alice": ALICE}}
    run = node.plays(plays, groups)
    assert run.exit_code == 0, run.output
    assert "changed: [alice -> hub] => (item=hub: alice)" in run.output


def test_devices_reach_what_is_behind_peers_in_a_play_whose_first_host_is_not_the_hub(node: Node) -> None:
    node.key(keys.generate_private_key())
    devices = [{"name": "phone", "kind": "phone", "address": "192.168.7.50/24"}]
    node.variables = {"wg_client_config_devices": devices, "wg_client_config_qr": False}
    role = {"role": "rendezvous.wireguard.wg_client_config", "when": "inventory_hostname == 'hub'"}
    plays = [{"hosts": "all", "gather_facts": False, "roles": [role]}]
    alice = {**ALICE, "wg_interface_subnets": ["10.9.0.0/24"]}
    groups: dict[str, dict[str, Any]] = {"wireguard_peers": {"alice": alice}, "wireguard_hub": {"hub": HUB}}
    run = node.plays(plays, groups, "--diff")
    assert run.exit_code == 0, run.output
    assert "AllowedIPs = 192.168.7.0/24, 10.9.0.0/24" in run.output
