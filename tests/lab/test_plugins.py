# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What Ansible says of a mesh that runs, and a device that it has written the file for.

The playbook `status`, the inventory as a peer asks for it, and the playbook `client_config`.
"""

from __future__ import annotations

import contextlib
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
from tests.lab.network import HUB_ADDRESS
from tests.lab.programs import DIRECT, HUB_URL, RESTART_CONDITION, Agent, start_hub
from tests.lab.traffic import Pinger, path_of_pings, wait_for_path
from tests.lab.wireguard import INTERFACE, VPN, Node

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
JOIN_WITHIN_S = 15.0
MOVES_S = 8.0
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


def run_playbook(name: str, inventory: Path, *arguments: str) -> str:
    """What a playbook of the collection prints."""
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", inventory, f"rendezvous.wireguard.{name}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ENVIRONMENT},
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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

    status = run_playbook("status", static)
    pair = r"^alice +bob +direct +\S+ +[\d.]+ ms .* \S+:\d+ <-> \S+:\d+$"
    assert re.search(pair, status, re.MULTILINE), status
    for name in ("alice", "bob", phone.address):
        assert re.search(rf"^hub +{re.escape(name)} +online ", status, re.MULTILINE), status
    assert re.search(r"^\d pairs?: 1 direct", status, re.MULTILINE), status

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


PHONE = "192.168.7.50"
DEVICE = {"name": "phone", "kind": "phone", "address": f"{PHONE}/24"}


def has_file(node: Node, *lines: str) -> None:
    """The node has these lines and its key in the file of its interface, without any peer."""
    key = f"PrivateKey = {node.run('cat', f'/etc/wireguard/{INTERFACE}.key').strip()}"
    text = "\n".join(["[Interface]", key, *lines, ""])
    node.run("sh", "-c", f"umask 077; cat > /etc/wireguard/{INTERFACE}.conf", stdin=text)


def import_file(phone: Node, path: Path) -> None:
    """As the app of a phone does: nothing but what the file says, with all that was there before gone."""
    lines = [line.partition(" = ") for line in path.read_text().splitlines()]
    (address,) = [value for name, _equals, value in lines if name == "Address"]
    phone.run("sh", "-c", f"umask 077; cat > /etc/wireguard/{INTERFACE}.conf", stdin=path.read_text())
    phone.run("sh", "-c", f"wg-quick strip {INTERFACE} | wg setconf {INTERFACE} /dev/stdin")
    phone.run("ip", "address", "flush", "dev", INTERFACE)
    phone.run("ip", "address", "add", address, "dev", INTERFACE)
    phone.address = address.partition("/")[0]


def test_a_phone_that_knows_the_hub_alone_talks_with_peers_that_become_direct_and_relayed_again(
    make_network: MakeNetwork, program: Path, tmp_path: Path
) -> None:
    network = make_network("cone drop", "cone drop", "cone drop")
    (alice, bob, phone), (site_a, site_b, there) = network.nodes, network.sites
    start_hub(program, network)
    has_file(network.hub, "ListenPort = 51820", f"Address = {network.hub.address}/24")
    network.hub.run("wg", "set", INTERFACE, "peer", phone.public_key, "remove")
    inventory = write_inventory(tmp_path, network.hub, {"alice": alice, "bob": bob})
    endpoint = f"{HUB_ADDRESS}:{network.hub.listen_port}"
    devices = json.dumps({"wg_client_config_devices": [DEVICE], "wg_hub_endpoint": endpoint})
    run_playbook("client_config", inventory, "-e", devices)
    import_file(phone, tmp_path / "wireguard_clients/phone.conf")
    assert list(phone.peers()) == [network.hub.public_key]
    phone.wait_for_handshake(network.hub.public_key)

    def become(path: str) -> None:
        """Alice and bob take this path to one another, and with the phone that over the hub."""
        wait_for_path(network, site_a, site_b, path, MOVES_S)
        assert path_of_pings(network, there, site_a) == "relay"
        assert path_of_pings(network, site_b, there) == "relay"

    others = [(phone, alice), (phone, bob), (alice, phone), (bob, phone)]
    with contextlib.ExitStack() as stack:
        pingers = [stack.enter_context(Pinger(node, other.address)) for node, other in others]
        become("relay")
        agents = [Agent(program, node, 1.0) for node in (alice, bob)]
        become("direct")
        network.block(site_a, site_b)
        become("relay")
    for (node, other), pinger in zip(others, pingers, strict=True):
        assert pinger.result.lost == 0, f"{node.name} to {other.name}: {pinger.result}"
    for agent, (node, peer) in zip(agents, ((alice, bob), (bob, alice)), strict=True):
        assert set(node.peers()) <= {network.hub.public_key, peer.public_key}, "no peer is the phone's"
        assert VPN in node.peers()[network.hub.public_key]
        assert PHONE not in "".join(node.peers().values())
        assert not agent.said(RESTART_CONDITION), "a phone is no reason to take a fresh port"
