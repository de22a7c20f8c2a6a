# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which hosts of an inventory are one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.action.preflight import ActionModule
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._inventory import routed_networks

HUB = {"wg_interface_address": "192.168.7.1/24", "wg_hub_endpoint": "hub.example.net:51820"}
ALICE = {"wg_interface_address": "192.168.7.5/24"}
DEFAULTS = {
    "wg_peer_hub": "hub",
    "wg_peer_hub_networks": ["192.168.7.0/24"],
    "wg_peer_hub_endpoint": "hub.example.net:51820",
}
"""Those of the role wg_peer that matter here."""


def problems(
    name: str, hosts: dict[str, dict[str, Any]], interface: str = "wg0", batch: Sequence[str] = ()
) -> list[str]:
    """What this host says of an inventory; without `batch` it is the first of the run."""
    action = ActionModule.__new__(ActionModule)
    task_vars = {
        "inventory_hostname": name,
        "groups": {
            "wireguard_hub": [host for host in hosts if host.startswith("hub")],
            "wireguard_peers": [host for host in hosts if not host.startswith("hub")],
        },
        "hostvars": hosts,
        "ansible_play_batch": [*(batch or [name])],
    }
    variables = {**DEFAULTS, **hosts[name], "wg_interface_name": interface}
    return action._problems("hub" if name.startswith("hub") else "peer", variables, task_vars)


def test_a_peer_may_name_its_interface_otherwise_than_the_hub_does() -> None:
    alice = {**ALICE, "wg_interface_name": "mesh0", "wg_peer_hub_interface": "wg0"}
    assert problems("alice", {"hub": HUB, "alice": alice}, "mesh0") == []


@pytest.mark.parametrize("first", ["hub", "bob"])
def test_its_address_is_checked_with_those_of_its_network(first: str) -> None:
    alice = {**ALICE, "wg_interface_name": "mesh0", "wg_peer_hub_interface": "wg0"}
    found = problems(first, {"hub": HUB, "bob": ALICE, "alice": alice})
    assert any("192.168.7.5" in problem and "alice" in problem for problem in found)


def test_another_network_of_the_inventory_is_none_of_its_business() -> None:
    other = {**ALICE, "wg_interface_name": "wg1", "wg_peer_hub_interface": "wg1"}
    assert problems("hub", {"hub": HUB, "bob": ALICE, "alice": other}) == []


@pytest.mark.parametrize("first", ["hub", "alice"])
def test_the_address_of_a_device_is_not_given_to_a_host(first: str) -> None:
    devices = [
        {"name": "phone", "address": ["192.168.7.5/24"]},
        {"name": "old", "state": "absent"},
        "no device",
    ]
    hub = {**HUB, "wg_client_config_devices": devices}
    (problem,) = problems(first, {"hub": hub, "alice": ALICE})
    assert problem.startswith(
        "alice: wg_interface_address 192.168.7.5 is that of the device phone in wg_client"
    )
    gone = [{**device, "state": "absent"} for device in devices[:2] if isinstance(device, dict)]
    assert problems(first, {"hub": {**HUB, "wg_client_config_devices": gone}, "alice": ALICE}) == []


def test_another_network_of_the_inventory_is_checked_by_its_own_first_host() -> None:
    other = {**ALICE, "wg_interface_name": "wg1", "wg_peer_hub_interface": "wg1"}
    hosts = {"hub": HUB, "bob": ALICE, "dave": other, "erin": other}
    (problem,) = problems("dave", hosts, "wg1", batch=list(hosts))
    assert "192.168.7.5" in problem
    assert "dave" in problem
    assert problem.startswith("erin: ")
    assert problems("erin", hosts, "wg1", batch=list(hosts)) == []


def test_a_second_hub_is_one_also_if_its_interface_has_another_name() -> None:
    other = {**HUB, "wg_interface_name": "wg1", "wg_interface_address": "192.168.8.1/24"}
    (problem,) = problems("hub", {"hub": HUB, "hub2": other, "alice": ALICE})
    assert problem.startswith("hub, hub2: only one host can be the hub")
    assert "for several networks, write an inventory for each" in problem


def test_an_address_that_the_hub_of_another_network_could_not_reach_is_refused() -> None:
    networks = {"wg_peer_hub_networks": ["192.168.8.0/24", "192.168.9.0/24"]}
    alice = {**ALICE, **networks, "wg_interface_name": "wg0", "wg_peer_hub_interface": "wg1"}
    (problem,) = problems("alice", {"hub": HUB, "alice": alice}, "wg1")
    assert problem.startswith("alice: wg_interface_address 192.168.7.5/24 is outside of wg_peer_hub_networks")
    assert "192.168.8.0/24, 192.168.9.0/24" in problem
    inside = {**alice, "wg_interface_address": "192.168.8.5/24"}
    assert problems("alice", {"hub": HUB, "alice": inside}, "wg1") == []


def test_an_address_of_a_device_is_the_same_in_any_notation() -> None:
    devices = [{"name": "phone", "address": "FD77:0::5/64"}]
    hub = {**HUB, "wg_interface_address": "fd77::1/64", "wg_client_config_devices": devices}
    (problem,) = problems("hub", {"hub": hub, "alice": {"wg_interface_address": "fd77::5/64"}})
    assert problem.startswith("alice: wg_interface_address fd77::5 is that of the device phone")


def test_a_peer_whose_networks_leave_out_the_hub_says_so_itself() -> None:
    alice = {**ALICE, "wg_peer_hub_networks": ["10.0.0.0/8"]}
    (problem,) = problems("alice", {"hub": HUB, "bob": ALICE, "alice": alice}, batch=["bob", "alice"])
    assert problem.startswith("alice: wg_peer_hub_networks 10.0.0.0/8 leaves out 192.168.7.0/24")
    other = {**alice, "wg_interface_name": "wg1"}
    assert problems("alice", {"hub": HUB, "alice": other}, "wg1") == []


def test_a_misspelt_variable_is_said_by_its_host() -> None:
    action = ActionModule.__new__(ActionModule)
    task_vars = {"inventory_hostname": "alice", "groups": {}, "hostvars": {"alice": {}}}
    found = action._problems("interface", DEFAULTS, {**task_vars, "wg_interface_mut": 1420})
    assert any("wg_interface_mut is no variable" in problem for problem in found)


def test_what_is_routed_to_the_hub_is_compared_with_the_networks_of_the_node() -> None:
    networks = {"wg_peer_hub_networks": "192.168.7.0/24"}
    assert routed_networks("peer", networks) == ["192.168.7.0/24"]
    assert routed_networks("peer", {**networks, "wg_interface_table": "off"}) == []
    assert routed_networks("hub", networks) == []
