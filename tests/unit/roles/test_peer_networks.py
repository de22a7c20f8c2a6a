# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What a peer sends to the hub, and where it asks it, as the role's templates turn out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
ROLES = CHECKOUT / "roles"
HUB = {
    "wg_interface_address": ["192.168.7.1/24", "fd77::1/64"],
    "wg_interface_subnets": ["10.9.0.0/24"],
    "wg_hub_endpoint": "hub.example.net:51820",
}
PEERS: dict[str, dict[str, Any]] = {
    "four": {"wg_interface_address": "192.168.7.5/24"},
    "six": {"wg_interface_address": "fd77::6/64", "wg_interface_subnets": ["fd88::/64"]},
    "both": {
        "wg_interface_address": ["192.168.7.7/24", "fd77::7/64"],
        "wg_interface_subnets": "10.1.0.0/24",
    },
}
SECOND: dict[str, dict[str, Any]] = {
    "by-interface": {"wg_interface_name": "wg1", "wg_interface_address": "192.168.7.9/24"},
    "by-hub": {"wg_interface_address": "192.168.7.10/24", "wg_peer_hub": "other"},
}
"""Peers of other networks in the same inventory: of the hub's second interface, and of another hub."""
OTHER_HUB = {"wg_interface_address": "192.168.7.1/24", "wg_interface_subnets": ["10.8.0.0/24"]}


def role_defaults(*roles: str) -> dict[str, Any]:
    """The defaults of these roles together."""
    defaults: dict[str, Any] = {}
    for role in roles:
        defaults.update(yaml.safe_load((ROLES / role / "defaults/main.yml").read_text()))
    return defaults


def turn_out(directory: Path, peers: dict[str, dict[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """By peer, wg_peer_hub_networks, wg_peer_hub_url and, the same for all, wg_client_config_networks."""
    defaults = role_defaults("wg_interface", "wg_peer", "wg_client_config")
    inventory = {
        "wireguard_hub": {"hosts": {"hub": HUB}},
        "wireguard_peers": {"hosts": peers or PEERS},
        "second": {"hosts": SECOND},
        "all": {"hosts": {"other": OTHER_HUB}, "vars": {"ansible_connection": "local", **defaults}},
    }
    names = {
        "networks": "wg_peer_hub_networks",
        "url": "wg_peer_hub_url",
        "devices": "wg_client_config_networks",
    }
    value = "{{ {" + ", ".join(f"'{name}': {variable}" for name, variable in names.items()) + "} | to_json }}"
    play = {
        "hosts": "wireguard_peers:second",
        "gather_facts": False,
        "vars_files": [str(ROLES / role / "vars/main.yml") for role in ("wg_peer", "wg_client_config")],
        "tasks": [
            {"ansible.builtin.import_tasks": str(ROLES / "wg_interface/tasks/subnets.yml")},
            {"ansible.builtin.copy": {"dest": f"{directory}/{{{{ inventory_hostname }}}}", "content": value}},
        ],
    }
    texts = played(directory, inventory, play, (*PEERS, *SECOND))
    return {name: json.loads(text) for name, text in texts.items()}


def played(
    directory: Path, inventory: dict[str, Any], play: dict[str, Any], hosts: Iterable[str]
) -> dict[str, str]:
    """Run a play on this machine; by host, the file in the directory that it has written."""
    (directory / "hosts.json").write_text(json.dumps(inventory))
    (directory / "play.json").write_text(json.dumps([play]))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "--inventory=hosts.json",
            "play.json",
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: (directory / name).read_text() for name in hosts}


def test_each_peer_reaches_what_is_behind_the_others_of_its_network_in_its_own_families(
    tmp_path: Path,
) -> None:
    found = turn_out(tmp_path)
    assert {name: values["networks"] for name, values in found.items()} == {
        "four": ["192.168.7.0/24", "10.1.0.0/24", "10.9.0.0/24"],
        "six": ["fd77::/64"],
        "both": ["192.168.7.0/24", "fd77::/64", "fd88::/64", "10.9.0.0/24"],
        "by-interface": ["192.168.7.0/24"],
        "by-hub": ["192.168.7.0/24", "10.8.0.0/24"],
    }
    assert {name: found[name]["url"] for name in PEERS} == {
        "four": "http://192.168.7.1:8080",
        "six": "http://[fd77::1]:8080",
        "both": "http://192.168.7.1:8080",
    }
    behind = ["192.168.7.0/24", "fd77::/64", "fd88::/64", "10.1.0.0/24", "10.9.0.0/24"]
    assert found["four"]["devices"] == behind


def test_a_host_whose_subnets_have_no_value_does_not_stop_the_others(tmp_path: Path) -> None:
    broken = {"wg_interface_address": "192.168.7.8/24", "wg_interface_subnets": "{{ nothing }}"}
    odd = {"wg_interface_address": "192.168.7.9/24", "wg_interface_subnets": 10}
    found = turn_out(tmp_path, {**PEERS, "broken": broken, "odd": odd})
    assert found["four"]["networks"] == ["192.168.7.0/24", "10.1.0.0/24", "10.9.0.0/24"]
