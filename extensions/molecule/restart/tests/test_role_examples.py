# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The examples of READMEs and docs make what they show. Runs last: it removes the other network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from tests.containers.mesh import Mesh, Pinger, PlaybookRun, ansible_playbook, wait_until

CHECKOUT = Path(__file__).resolve().parents[4]
TO_FIRST_PING_S = 20
TO_DIRECT_S = 30
EVERYTHING = ("-e", "wg_interface_uninstall_all=true", "-e", "wg_interface_forget_key=true")
RunExample = Callable[..., PlaybookRun]


def example(role: str, language: str) -> str:
    """The first block of this language in a role's README."""
    return first_block((CHECKOUT / "roles" / role / "README.md").read_text(), language)


def first_block(text: str, language: str) -> str:
    """What stands in it."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"no block of {language}"
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


@pytest.fixture
def made_by_hand(mesh: Mesh, scenario: Path, run_example: RunExample, tmp_path: Path) -> Iterator[list[Path]]:
    """The inventory of the full tunnel in docs/networks.md, and carol. Its hub and its laptop, which is bob,
    have WireGuard already, as admins write it.
    """
    assert run_example  # the machines have been uninstalled, and deployed by the examples
    inventory = tmp_path / "inventory.yml"
    text = (CHECKOUT / "docs/networks.md").read_text()
    inventory.write_text(first_block(text.partition("## A full tunnel\n")[2], "yaml"))
    inventories = [inventory, scenario / "full_tunnel.yml"]
    uninstalled = ansible_playbook("rendezvous.wireguard.uninstall", inventories, *EVERYTHING)
    assert uninstalled.exit_code == 0, uninstalled.output
    hub, laptop = mesh["hub"], mesh["bob"]
    laptop.address_changed()
    of_hub, of_laptop = (keys.generate_private_key() for _ in range(2))
    interface = "[Interface]\nAddress = 192.168.7.{host}/24\nPrivateKey = {key}\n"
    peer = "\n[Peer]\nPublicKey = {key}\nAllowedIPs = {networks}\n"
    to_hub = "Endpoint = hub.example.net:51820\nPersistentKeepalive = 25\n"
    files = {
        hub: interface.format(host=1, key=of_hub)
        + "ListenPort = 51820\n"
        + peer.format(key=keys.public_key(of_laptop), networks="192.168.7.5/32"),
        laptop: interface.format(host=5, key=of_laptop)
        + peer.format(key=keys.public_key(of_hub), networks="192.168.7.0/24")
        + to_hub,
    }
    for machine, content in files.items():
        machine.run(f"umask 077; mkdir -p /etc/wireguard; echo '{content}' >/etc/wireguard/wg0.conf")
        machine.run("systemctl enable --now wg-quick@wg0")
    wait_until(lambda: laptop.pings(hub, 1) == 1, TO_FIRST_PING_S, lambda: "the hub by hand is reached")
    yield inventories
    laptop.address_changed()


def test_a_network_made_by_hand_keeps_its_keys_and_becomes_a_full_tunnel_with_direct_paths(
    mesh: Mesh, made_by_hand: list[Path]
) -> None:
    hub, laptop, carol, elsewhere = mesh["hub"], mesh["bob"], mesh["carol"], mesh["alice"].outer_address
    known = [machine.run("wg show wg0 public-key") for machine in (hub, laptop)]
    with Pinger(laptop, hub) as pinger:
        first = ansible_playbook("rendezvous.wireguard.site", made_by_hand)
    assert first.exit_code == 0, first.output
    assert pinger.lost == 0
    assert [machine.run("wg show wg0 public-key") for machine in (hub, laptop)] == known
    for machine in (hub, laptop):
        assert machine.run("wg pubkey </etc/wireguard/wg0.key") == machine.run("wg show wg0 public-key")
    assert "changes when wg-quick@wg0 is restarted" in " ".join(first.output.split())

    laptop.run("systemctl restart wg-quick@wg0")
    wait_until(lambda: laptop.pings(hub, 1) == 1, TO_FIRST_PING_S, lambda: "the hub is reached again")
    second = ansible_playbook("rendezvous.wireguard.site", made_by_hand)
    assert (second.exit_code, second.changed_hosts) == (0, {}), second.output
    assert "dev wg0" in laptop.run(f"ip route get {elsewhere}")
    assert "1 received" in laptop.run(f"ping -c 1 -W 2 {elsewhere}")
    mesh.wait_for_path(laptop, carol, "direct", TO_DIRECT_S)
