# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What a peer sends to the hub, and where it asks it, as the role's templates turn out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
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


def turn_out(directory: Path) -> dict[str, dict[str, Any]]:
    """By peer, wg_peer_hub_networks and wg_peer_hub_url."""
    inventory = {
        "wireguard_hub": {"hosts": {"hub": HUB}},
        "wireguard_peers": {"hosts": PEERS, "vars": {"ansible_connection": "local"}},
    }
    value = "{{ {'networks': wg_peer_hub_networks, 'url': wg_peer_hub_url} | to_json }}"
    play = {
        "hosts": "wireguard_peers",
        "gather_facts": False,
        "vars_files": [
            str(CHECKOUT / "roles" / path)
            for path in (
                "wg_interface/defaults/main.yml",
                "wg_peer/defaults/main.yml",
                "wg_peer/vars/main.yml",
            )
        ],
        "tasks": [
            {"ansible.builtin.copy": {"dest": f"{directory}/{{{{ inventory_hostname }}}}", "content": value}}
        ],
    }
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
    return {name: json.loads((directory / name).read_text()) for name in PEERS}


def test_each_peer_reaches_what_is_behind_the_others_in_its_own_families(tmp_path: Path) -> None:
    found = turn_out(tmp_path)
    assert {name: values["networks"] for name, values in found.items()} == {
        "four": ["192.168.7.0/24", "10.1.0.0/24", "10.9.0.0/24"],
        "six": ["fd77::/64"],
        "both": ["192.168.7.0/24", "fd77::/64", "fd88::/64", "10.9.0.0/24"],
    }
    assert {name: values["url"] for name, values in found.items()} == {
        "four": "http://192.168.7.1:8080",
        "six": "http://[fd77::1]:8080",
        "both": "http://192.168.7.1:8080",
    }
