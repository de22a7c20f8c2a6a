# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The examples in the roles' READMEs make what they show. Runs last: it removes the other network."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.containers.mesh import Mesh, PlaybookRun, ansible_playbook, wait_until

ROLES = Path(__file__).resolve().parents[4] / "roles"
TO_FIRST_PING_S = 20
EVERYTHING = ("-e", "wg_interface_uninstall_all=true", "-e", "wg_interface_forget_key=true")
RunExample = Callable[..., PlaybookRun]


def example(role: str, language: str) -> str:
    """The first block of this language in a role's README."""
    readme = (ROLES / role / "README.md").read_text()
    found = re.search(rf"^```{language}\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert found, f"{role}: no block of {language}"
    return found[1]


@pytest.fixture(scope="module")
def run_example(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> RunExample:
    """run_example("wg_hub"): its playbook with the inventory of wg_peer, on machines without WireGuard."""
    deployed = [scenario / "inventory.yml"]
    uninstalled = ansible_playbook("rendezvous.wireguard.uninstall", deployed, *EVERYTHING)
    assert uninstalled.exit_code == 0, uninstalled.output
    directory = tmp_path_factory.mktemp("examples")

    def run(role: str, *arguments: str) -> PlaybookRun:
        playbook, inventory = directory / f"{role}.yml", directory / f"{role}.ini"
        playbook.write_text(example(role, "yaml"))
        inventory.write_text("alice\n" if role == "wg_interface" else example("wg_peer", "ini"))
        return ansible_playbook(str(playbook), [inventory, scenario / "examples.yml"], *arguments)

    return run


def test_hub_and_peers_reach_one_another(mesh: Mesh, run_example: RunExample) -> None:
    for role, hosts in (("wg_hub", {"hub.example.net"}), ("wg_peer", {"alice", "bob"})):
        first = run_example(role)
        assert (first.exit_code, set(first.changed_hosts)) == (0, hosts), first.output
    alice, bob = mesh["alice"], mesh["bob"]
    wait_until(lambda: alice.pings(bob, 1) == 1, TO_FIRST_PING_S, lambda: "alice reaches bob")
    for role in ("wg_hub", "wg_peer"):
        second = run_example(role)
        assert (second.exit_code, second.changed_hosts) == (0, {}), second.output


def test_an_interface_by_itself_has_the_peer_that_is_listed(mesh: Mesh, run_example: RunExample) -> None:
    """Beside alice's other one, whose name it has in the README."""
    alice = mesh["alice"]
    alice.run(f"echo {mesh['bob'].outer_address} bob.example.net >>/etc/hosts")
    for changed in ({"alice"}, set()):
        run = run_example("wg_interface", "-e", "wg_interface_name=wg9")
        assert (run.exit_code, set(run.changed_hosts)) == (0, changed), run.output
    assert "inet 192.168.9.1/24" in alice.run("ip address show dev wg9")
    assert alice.run("wg show wg9 endpoints").split()[1] == f"{mesh['bob'].outer_address}:51820"
    assert alice.run("wg show wg9 allowed-ips").split()[1:] == ["192.168.9.2/32"]
    assert alice.run("systemctl is-active wg-quick@wg9 wg-rendezvous-firewall@wg9").split() == ["active"] * 2
