# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What becomes of a network that is in use: other addresses, ports, names and programs. Nobody is to notice.

The tests run in this order on one deployed network, each from where the one before has left it. `test_kills`
puts everything back.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.containers.fixtures import Report
from tests.containers.inventories import Inventory
from tests.containers.mesh import (
    Machine,
    Mesh,
    Pinger,
    ansible_playbook,
    longest_gap_s,
    remains,
    wait_until,
    watched,
)
from tests.containers.network import HUB_ADDRESS

PEERS = ("alice", "bob", "carol", "dave")
SITE = "rendezvous.wireguard.site"
TO_DIRECT_S = 60.0
GAP_S = 1.0
OLD, NEW = "192.168.7.5", "192.168.7.105"
COLLECTION = Path("ansible_collections/rendezvous/wireguard")


@pytest.fixture(scope="module")
def inventory(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    return Inventory(scenario, tmp_path_factory.mktemp("inventory"))


@pytest.fixture
def peers(mesh: Mesh) -> list[Machine]:
    """The peers; the two pairs that are watched are direct."""
    alice, bob, carol, dave = (mesh[name] for name in PEERS)
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    mesh.wait_for_path(carol, dave, "direct", TO_DIRECT_S)
    return [alice, bob, carol, dave]


def tunnel_began(machine: Machine) -> str:
    """When the tunnel was brought up."""
    return machine.run("systemctl show --property=ActiveEnterTimestampMonotonic wg-quick@wg0")


def known(machine: Machine) -> str:
    """Everything that a machine knows of addresses: files, agent, kernel."""
    return machine.run(
        "cat /etc/wireguard/wg0.conf /etc/wg-rendezvous/* /var/lib/wg-rendezvous/* /run/wg-rendezvous/*.json "
        "2>/dev/null; wg show wg0 allowed-ips; ip address show dev wg0",
        check=False,
    )


def test_a_peer_gets_another_address_without_a_gap(
    mesh: Mesh, inventory: Inventory, peers: list[Machine], tmp_path: Path, report: Report
) -> None:
    alice, bob, carol, dave = peers
    hub = mesh["hub"]
    began = tunnel_began(alice)
    path = inventory.change(lambda _hub, hosts: hosts["alice"].update(wg_interface_address=f"{NEW}/24"))
    with (
        watched([(carol, dave), (bob, hub)], tmp_path) as others,
        Pinger(bob, alice, OLD) as before,  # and no stream: to an address that goes it ends
        Pinger(bob, alice, NEW) as after,
        Pinger(alice, bob) as back,
    ):
        run = ansible_playbook(SITE, [path])
        assert run.exit_code == 0, run.output
    stood_s = longest_gap_s([*before.answered_at, *after.answered_at])
    report(f"life: another address: gap {stood_s:.2f} s to the peer, {back.gap_s:.2f} s from it")
    assert [pinger.lost for pinger in others] == [0, 0]
    assert max(stood_s, back.gap_s) <= GAP_S
    assert tunnel_began(alice) == began
    alice.address_changed()
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    wait_until(
        lambda: not any(f"{OLD}/" in known(machine) for machine in mesh.machines.values()),
        10,
        lambda: "nobody knows the old address any more",
    )


def test_a_hub_gets_another_endpoint_and_is_found_also_by_a_peer_that_was_not_told(
    mesh: Mesh, inventory: Inventory, peers: list[Machine], tmp_path: Path, report: Report
) -> None:
    alice, bob, carol, dave = peers
    hub = mesh["hub"]
    path = inventory.change(lambda hosts, _peers: hosts["hub"].update(wg_hub_endpoint=f"{HUB_ADDRESS}:51821"))
    with watched([(alice, bob), (carol, hub), (dave, hub)], tmp_path) as pingers:
        run = ansible_playbook(SITE, [path, inventory.away])
        assert (run.recap["dave"].unreachable, run.recap["alice"].failed) == (1, 0), run.output
    direct, told, not_told = pingers
    report(f"life: another endpoint of the hub: lost {told.lost} of {told.sent}, {not_told.lost} untold")
    assert hub.run("wg show wg0 listen-port") == "51821\n"
    # Not what runs: whom the hub sends something before it sends itself is led back to the former port.
    assert f"{HUB_ADDRESS}:51821" in carol.run("grep Endpoint /etc/wireguard/wg0.conf")
    assert ":51821" not in dave.run("grep Endpoint /etc/wireguard/wg0.conf; wg show wg0 endpoints")
    assert direct.lost == 0
    assert max(told.gap_s, not_told.gap_s) <= GAP_S
    assert dave.pings(hub, 5) == 5


def test_a_renamed_host_is_the_same_to_all(
    inventory: Inventory, peers: list[Machine], tmp_path: Path
) -> None:
    alice, bob, carol, dave = peers
    path = inventory.change(lambda _hub, hosts: hosts.update(alicia=hosts.pop("alice")))
    with watched([(bob, alice), (carol, dave)], tmp_path) as pingers:
        run = ansible_playbook(SITE, [path], "--limit=alicia", "--diff")
        assert run.exit_code == 0, run.output
    assert run.changed_hosts == {"alicia": 1}, run.output
    lines = [line for line in run.output.splitlines() if line.startswith(("+", "-"))]
    changed = [line for line in lines if not line.startswith(("+++", "---"))]
    assert changed == ["-# Name = alice", "+# Name = alicia"]
    assert [pinger.lost for pinger in pingers] == [0, 0]


def test_another_program_is_run_everywhere_without_a_loss_on_direct_links(
    mesh: Mesh, inventory: Inventory, peers: list[Machine], tmp_path: Path, report: Report
) -> None:
    alice, bob, carol, dave = peers
    others = tmp_path / "collections"
    shutil.copytree(
        Path(os.environ["ANSIBLE_COLLECTIONS_PATH"].partition(":")[0]) / COLLECTION,
        others / COLLECTION,
        ignore=shutil.ignore_patterns("build", ".*", "output"),
    )
    changed = others / COLLECTION / "files/wg_rendezvous/cli.py"
    changed.write_text(changed.read_text() + "# another version\n")
    before = running_program(mesh)
    with watched([(carol, dave), (dave, carol), (alice, bob)], tmp_path) as pingers:
        run = ansible_playbook(SITE, [inventory.path], collections=others)
        assert run.exit_code == 0, run.output
    lost = [pinger.lost for pinger in pingers]
    report(f"life: another program: lost {lost} of {pingers[0].sent} each on direct links")
    assert not set(before.values()) & set(running_program(mesh).values())
    assert lost == [0, 0, 0]


def running_program(mesh: Mesh) -> dict[str, str]:
    """The version that the agent or hub of each machine runs from."""
    return {
        name: machine.run(
            "ls -l /proc/$(systemctl show --value --property=MainPID 'wg-rendezvous-[ah]*@wg0.service')/fd "
            "| grep -o 'wg-rendezvous-[0-9a-f]*'"
        )
        for name, machine in mesh.machines.items()
    }


def test_what_is_uninstalled_leaves_nothing_and_comes_back_together_with_another_while_a_third_is_away(
    mesh: Mesh, inventory: Inventory, peers: list[Machine], tmp_path: Path
) -> None:
    """The program that comes back is the older one. Dave, who is away, keeps the newer."""
    alice, bob, carol, dave = peers
    hub = mesh["hub"]
    newer = running_program(mesh)
    uninstall = "rendezvous.wireguard.uninstall"
    assert "name those that leave it" in ansible_playbook(uninstall, [inventory.path]).output
    mesh.wait_for_path(alice, dave, "direct", TO_DIRECT_S)
    with watched([(alice, dave)], tmp_path) as pingers:
        run = ansible_playbook(uninstall, [inventory.path], "--limit=bob,carol")
        again = ansible_playbook(uninstall, [inventory.path], "--limit=bob,carol")
        assert (run.exit_code, set(run.changed_hosts)) == (0, {"bob", "carol"}), run.output
        assert (again.exit_code, again.changed_hosts) == (0, {}), again.output
    assert pingers[0].lost == 0
    for machine in (bob, carol):
        assert remains(machine) == ""
        assert machine.run("ls /etc/wireguard").split() == ["wg0.conf", "wg0.key"]
    with watched([(alice, dave)], tmp_path) as pingers:
        run = ansible_playbook(SITE, [inventory.path, inventory.away])
        assert run.recap["dave"].unreachable == 1, run.output
        assert {run.recap[name].failed for name in ("hub", "alicia", "bob", "carol")} == {0}, run.output
    assert pingers[0].lost == 0
    older = running_program(mesh)
    assert [name for name in older if older[name] == newer[name]] == ["dave"]
    assert hub.run("wg show wg0 peers").count("\n") == len(PEERS)
    for one, other in ((bob, carol), (alice, bob), (carol, dave)):
        mesh.wait_for_path(one, other, "direct", TO_DIRECT_S)
