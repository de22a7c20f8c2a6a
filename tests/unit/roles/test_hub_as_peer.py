# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What a peer is told of its hub, as the role's variables turn out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.unit.roles.test_peer_networks import HUB, ROLES, played, role_defaults

KEYS = {name: f"{name}{'A' * 38}=" for name in ("known", "fresh", "plain", "made", "older")}
ANSWER = {
    "interface": "wg0",
    "role": "hub",
    "public_key": KEYS["older"],
    "mesh_secrets": ["to come", "newest", "oldest"],
    "present_mesh_secrets": ["newest", "oldest"],
    "preshared_key_ids": {KEYS["known"]: "of-known", KEYS["plain"]: ""},
}


def told(
    directory: Path, hub: dict[str, Any], asked: Sequence[dict[str, Any]] = (), /, **own_keys: str | None
) -> dict[str, dict[str, Any]]:
    """By peer, wg_peer__hub_as_peer; the peers have these keys in the preflight."""
    peers = {
        name: {
            "wg_interface_address": f"192.168.7.{number}/24",
            "wg_interface__node": {"interface": "wg0", "public_key": key},
            "wg_peer__asked": {"results": list(asked)},
        }
        for number, (name, key) in enumerate(own_keys.items(), start=5)
    }
    inventory = {
        "wireguard_hub": {"hosts": {"hub": {**HUB, **hub}}},
        "wireguard_peers": {"hosts": peers},
        "all": {"vars": {"ansible_connection": "local", **role_defaults("wg_interface", "wg_peer")}},
    }
    play = {
        "hosts": "wireguard_peers",
        "gather_facts": False,
        "vars_files": [str(ROLES / "wg_peer/vars/main.yml")],
        "tasks": [
            {"ansible.builtin.import_tasks": str(ROLES / "wg_interface/tasks/subnets.yml")},
            {
                "ansible.builtin.copy": {
                    "dest": f"{directory}/{{{{ inventory_hostname }}}}",
                    "content": "{{ wg_peer__hub_as_peer | to_json }}",
                }
            },
        ],
    }
    return {name: json.loads(text) for name, text in played(directory, inventory, play, peers).items()}


def test_a_key_that_the_hub_knows_keeps_its_preshared_key_and_another_gets_that_of_the_newest_secret(
    tmp_path: Path,
) -> None:
    keys = {"known": KEYS["known"], "plain": KEYS["plain"], "other": KEYS["fresh"], "keyless": None}
    found = told(tmp_path, {"wg_interface__node": ANSWER}, **keys)
    assert found["known"] == {
        "name": "hub",
        "public_key": KEYS["older"],
        "endpoint": "hub.example.net:51820",
        "allowed_ips": ["192.168.7.0/24", "10.9.0.0/24"],
        "persistent_keepalive_s": 13,
        "from_mesh_secret": True,
        "preshared_key_id": "of-known",
    }
    assert found["plain"]["preshared_key_id"] == ""
    for name in ("other", "keyless"):
        assert found[name]["mesh_secret_id"] == "newest"
        assert "preshared_key_id" not in found[name]


def test_without_a_mesh_secret_at_the_hub_a_new_peer_has_no_preshared_key(tmp_path: Path) -> None:
    answer = {**ANSWER, "present_mesh_secrets": [], "preshared_key_ids": {}}
    found = told(tmp_path, {"wg_interface__node": answer}, fresh=None)
    assert found["fresh"]["preshared_key_id"] == ""
    assert "mesh_secret_id" not in found["fresh"]


def test_a_hub_that_has_got_its_key_in_this_run_is_known_by_it_unless_it_is_that_of_another_interface(
    tmp_path: Path,
) -> None:
    made = {"public_key": KEYS["made"], "mesh_secrets": ["to come"], "preshared_key_ids": {}}
    hub = {"wg_interface__node": {**ANSWER, "public_key": None}, "wg_hub__configured": {"wg0": made}}
    found = told(tmp_path, hub, fresh=None)["fresh"]
    assert (found["public_key"], found["mesh_secret_id"]) == (KEYS["made"], "to come")
    hub = {"wg_interface__node": ANSWER, "wg_hub__configured": {"wg1": made}}
    found = told(tmp_path, hub, fresh=None)["fresh"]
    assert (found["public_key"], found["mesh_secret_id"]) == (KEYS["older"], "newest")


def test_a_hub_that_is_not_in_the_run_is_asked(tmp_path: Path) -> None:
    asked = {"item": {"hub": "hub", "interface": "wg0"}, **ANSWER}
    found = told(tmp_path, {}, [asked], known=KEYS["known"], fresh=None)
    assert {told["public_key"] for told in found.values()} == {KEYS["older"]}
    assert found["known"]["preshared_key_id"] == "of-known"
    assert found["fresh"]["mesh_secret_id"] == "newest"
