# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What Ansible says of a mesh that runs: the playbook `status`, and the inventory as a peer asks for it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.lab.conftest import MakeNetwork
from tests.lab.programs import DIRECT, HUB_URL, Agent, start_hub
from tests.lab.wireguard import Node

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
JOIN_WITHIN_S = 15.0
ENVIRONMENT = {
    "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    "ANSIBLE_NOCOLOR": "1",
}


def write_inventory(directory: Path, hub: Node, peers: Mapping[str, Node]) -> Path:
    """An inventory whose hosts are nodes of the lab: their Python runs in the node's namespaces."""
    lines = ["[all:vars]", "ansible_connection=local", "ansible_become=false"]
    groups = {"wireguard_hub": {"hub": hub}, "wireguard_peers": peers}
    for group, nodes in groups.items():
        lines.append(f"[{group}]")
        for name, node in nodes.items():
            python = directory / f"python-{name}"
            python.write_text(f'#!/bin/sh\nexec {shlex.join([*node._enter, sys.executable])} "$@"\n')
            python.chmod(0o755)
            address = f"wg_interface_address={node.address}/24"
            lines.append(f"{name} ansible_python_interpreter={python} {address}")
    path = directory / "inventory.ini"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_table_and_the_inventory_say_who_talks_directly(
    make_network: MakeNetwork, program: Path, tmp_path: Path
) -> None:
    network = make_network("cone drop", "cone drop", "cone drop")
    alice, bob, phone = network.nodes
    start_hub(program, network)
    agents = [Agent(program, alice, 1.0), Agent(program, bob, 1.0)]
    for agent in agents:
        agent.wait_until_said(DIRECT, JOIN_WITHIN_S)
    static = write_inventory(tmp_path, network.hub, {"alice": alice, "bob": bob})

    status = subprocess.run(
        [BIN / "ansible-playbook", "-i", static, "rendezvous.wireguard.status"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ENVIRONMENT},
        timeout=60,
    )
    assert status.returncode == 0, status.stdout + status.stderr
    assert re.search(r'"alice +bob +direct +\S+ +[\d.]+ ms .* \S+:\d+ <-> \S+:\d+"', status.stdout), (
        status.stdout
    )
    for name in ("alice", "bob", phone.address):
        assert re.search(rf'"hub +{re.escape(name)} +online ', status.stdout), status.stdout

    mesh = tmp_path / "mesh.wireguard.yml"
    mesh.write_text(f"plugin: rendezvous.wireguard.hub\nurl: {HUB_URL}\n")
    listing = alice.run(
        "env",
        *(f"{name}={value}" for name, value in ENVIRONMENT.items()),
        str(BIN / "ansible-inventory"),
        *("-i", str(static), "-i", str(mesh), "--list"),
    )
    listed = json.loads(listing)
    assert sorted(listed["direct"]["hosts"]) == ["alice", "bob"]
    assert sorted(listed["online"]["hosts"]) == sorted(["alice", "bob", phone.address])
    assert listed["signalling"]["hosts"].count("bob") == 1
