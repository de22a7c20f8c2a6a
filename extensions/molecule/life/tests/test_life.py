# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""New keys and removed peers in a network that is in use: who goes on talking, how long anybody is silent.

The tests run in this order on one deployed network.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.containers.fixtures import Report
from tests.containers.inventories import Inventory
from tests.containers.mesh import Machine, Mesh, Pinger, PlaybookRun, ansible_playbook, wait_until, watched

PEERS = ("alice", "bob", "carol", "dave")
ROTATE = "rendezvous.wireguard.rotate_keys"
ROTATE_HUB = "rendezvous.wireguard.rotate_hub_key"
REMOVE = "rendezvous.wireguard.remove_peer"
TO_DIRECT_S = 60.0
GAP_S = 1.0
"""The longest silence that a new key may cost."""


@pytest.fixture
def inventory(scenario: Path) -> list[Path]:
    return [scenario / "inventory.yml"]


@pytest.fixture
def pairs(mesh: Mesh) -> list[tuple[Machine, Machine]]:
    """Who is watched: two pairs of peers, one of them with the peer that is away at first, and the hub."""
    alice, bob, carol, dave, hub = (mesh[name] for name in (*PEERS, "hub"))
    for a, b in ((alice, bob), (carol, dave), (alice, dave)):
        mesh.wait_for_path(a, b, "direct", TO_DIRECT_S)
    return [(alice, bob), (carol, dave), (dave, alice), (bob, hub)]


def keys(mesh: Mesh, names: Sequence[str] = PEERS) -> dict[str, str]:
    """The public keys that run now; a machine remembers its own."""
    return {name: mesh[name].run("wg show wg0 public-key").strip() for name in names}


def figures(pairs: Sequence[tuple[Machine, Machine]], pingers: Sequence[Pinger]) -> str:
    return ", ".join(
        f"{a.name}-{b.name} {p.gap_s:.2f} s ({p.lost} of {p.sent} lost)"
        for (a, b), p in zip(pairs, pingers, strict=True)
    )


def jobs(mesh: Mesh) -> dict[str, str]:
    """The results of jobs that Ansible has left on each machine."""
    return {
        name: machine.run("ls ~root/.ansible_async", check=False) for name, machine in mesh.machines.items()
    }


def known_to_hub(mesh: Mesh) -> str:
    """What the hub has of keys, in its file and running."""
    return mesh["hub"].run("grep -E 'PublicKey|Replaces' /etc/wireguard/wg0.conf; wg show wg0 peers")


def no_secret(run: PlaybookRun, mesh: Mesh) -> bool:
    return all(
        secret not in run.output
        for machine in mesh.machines.values()
        for secret in machine.run("cat /etc/wireguard/wg0.key* 2>/dev/null", check=False).split()
    )


def test_check_mode_says_what_would_change_and_changes_nothing(mesh: Mesh, inventory: list[Path]) -> None:
    before = keys(mesh)
    run = ansible_playbook(ROTATE, inventory, "--check", "--diff", "-e", "wg_peer_rotate_min_age_s=0")
    assert run.exit_code == 0, run.output
    assert set(run.changed_hosts) == set(PEERS)
    assert keys(mesh) == before
    for key in before.values():
        assert f"-public key: {key}" in run.output
    assert no_secret(run, mesh)
    assert mesh["alice"].run("ls /etc/wireguard/*.next", check=False) == ""


def test_all_peers_get_new_keys_at_once_except_for_one_that_is_away(
    mesh: Mesh,
    scenario: Path,
    inventory: list[Path],
    pairs: list[tuple[Machine, Machine]],
    tmp_path: Path,
    report: Report,
) -> None:
    before, left = keys(mesh), jobs(mesh)
    with watched(pairs, tmp_path) as pingers:
        run = ansible_playbook(
            ROTATE, [*inventory, scenario / "away.yml"], "-vvv", "--diff", "-e", "wg_peer_rotate_min_age_s=0"
        )
        assert run.recap["dave"].unreachable == 1, run.output
        assert {run.recap[name].failed for name in PEERS} == {0}, run.output
    report(f"life: rotation at once, one away: {figures(pairs, pingers)}")
    after = keys(mesh)
    assert [name for name in PEERS if after[name] != before[name]] == ["alice", "bob", "carol"], run.output
    assert "--limit dave" in run.output
    assert no_secret(run, mesh)
    assert max(pinger.gap_s for pinger in pingers) <= GAP_S
    known = known_to_hub(mesh)
    assert not any(before[name] in known for name in ("alice", "bob", "carol"))
    assert before["dave"] in known
    assert "Replaces" not in known
    assert jobs(mesh) == left


def test_whose_key_is_old_is_rotated_in_series_and_nobody_else(
    mesh: Mesh, inventory: list[Path], pairs: list[tuple[Machine, Machine]], tmp_path: Path, report: Report
) -> None:
    for name in ("alice", "dave"):
        mesh[name].run("touch -d '2 hours ago' /etc/wireguard/wg0.key")
    before, left = keys(mesh), jobs(mesh)
    with watched(pairs, tmp_path) as pingers:
        run = ansible_playbook(ROTATE, inventory, "-e", "wg_peer_rotate_serial=2")
        assert run.exit_code == 0, run.output
    report(f"life: rotation in series: {figures(pairs, pingers)}")
    after = keys(mesh)
    assert set(run.changed_hosts) == {"alice", "dave"}, run.output
    assert [name for name in PEERS if after[name] != before[name]] == ["alice", "dave"]
    # One after the other: the hub has forgotten alice's old key before dave's next one is made.
    changes = re.findall(r"^changed: \[(\w+)", run.output, re.MULTILINE)
    assert [name for name, _ in itertools.groupby(changes)] == ["alice", "dave"], run.output
    assert max(pinger.gap_s for pinger in pingers) <= GAP_S
    known = known_to_hub(mesh)
    assert not any(before[name] in known for name in ("alice", "dave"))
    assert all(after[name] in known for name in PEERS)
    assert "Replaces" not in known
    assert jobs(mesh) == left


def test_a_hub_gets_a_new_key_when_all_can_be_told(
    mesh: Mesh,
    scenario: Path,
    inventory: list[Path],
    pairs: list[tuple[Machine, Machine]],
    tmp_path: Path,
    report: Report,
) -> None:
    before, left = keys(mesh, ("hub",))["hub"], jobs(mesh)
    arguments = ("-e", "wg_hub_rotate_min_age_s=0")
    refused = ansible_playbook(ROTATE_HUB, [*inventory, scenario / "away.yml"], *arguments)
    assert "dave: would lose the hub" in refused.output
    assert "-e wg_hub_rotate_without=dave" in refused.output
    assert refused.changed_hosts == {}

    watched_pairs = [*pairs, (mesh["hub"], mesh["alice"])]
    with watched(watched_pairs, tmp_path) as pingers:
        run = ansible_playbook(ROTATE_HUB, inventory, "--diff", *arguments)
        assert run.exit_code == 0, run.output
    report(f"life: new key of the hub: {figures(watched_pairs, pingers)}")
    after = keys(mesh, ("hub",))["hub"]
    assert after != before
    assert no_secret(run, mesh)
    assert max(pinger.gap_s for pinger in pingers) <= GAP_S
    assert [pinger.lost for pinger in pingers[:3]] == [0, 0, 0]
    for name in PEERS:
        known = mesh[name].run("wg show wg0 peers; cat /etc/wireguard/wg0.conf")
        assert before not in known
        assert "Replaces" not in known
    assert jobs(mesh) == left
    again = ansible_playbook(ROTATE_HUB, inventory)
    assert (again.exit_code, again.changed_hosts) == (0, {}), again.output


def test_site_changes_nothing_after_a_rotation(
    inventory: list[Path], pairs: list[tuple[Machine, Machine]], tmp_path: Path
) -> None:
    with watched(pairs, tmp_path) as pingers:
        run = ansible_playbook("rendezvous.wireguard.site", inventory)
        assert (run.exit_code, run.changed_hosts) == (0, {}), run.output
    assert [pinger.lost for pinger in pingers] == [0] * len(pairs)


def test_a_removed_peer_is_forgotten_by_all_and_its_key_is_refused(
    mesh: Mesh, scenario: Path, tmp_path: Path, report: Report
) -> None:
    hub, alice, bob, dave = (mesh[name] for name in ("hub", "alice", "bob", "dave"))
    key = dave.run("wg show wg0 public-key").strip()
    original = scenario / "inventory.yml"
    without = Inventory(scenario, tmp_path).change(lambda _hub, peers: peers.pop("dave"))
    for other in (bob, dave):
        mesh.wait_for_path(alice, other, "direct", TO_DIRECT_S)

    still_there = ansible_playbook(REMOVE, [original], "-e", "wg_hub_remove_peers=dave")
    assert still_there.exit_code == 2
    assert "'dave' is still in [wireguard_peers]" in still_there.output

    with Pinger(alice, dave) as to_dave, watched([(alice, bob), (bob, hub)], tmp_path) as pingers:
        run = ansible_playbook(REMOVE, [without], "-e", "wg_hub_remove_peers=dave")
        assert (run.exit_code, run.changed_hosts) == (0, {"hub": 1}), run.output
        forgotten_s = wait_until(
            lambda: all(
                key not in mesh[name].run("wg show wg0 peers; cat /var/lib/wg-rendezvous/wg0.json")
                for name in ("alice", "bob", "carol")
            ),
            5,
            lambda: "every agent has forgotten dave",
        )
        forgotten_at = time.time()
    report(f"life: removed, and forgotten by all agents {forgotten_s:.1f} s later")
    assert [pinger.lost for pinger in pingers] == [0, 0]
    assert to_dave.answered_at[-1] <= forgotten_at  # and not while the streams flowed on
    assert key not in hub.run("wg show wg0 peers; grep PublicKey /etc/wireguard/wg0.conf")
    dave.run("systemctl restart wg-quick@wg0")
    assert dave.pings(hub, 5) == dave.pings(alice, 5) == 0
    assert hub.run(f"wg show wg0 latest-handshakes | grep -F '{key}'", check=False) == ""

    refused = ansible_playbook("rendezvous.wireguard.site", [original])
    assert refused.exit_code != 0
    assert f"the key of peer dave ({key}) was removed from wg0" in refused.output.replace("\\n", " ")
    assert refused.changed_hosts == {}
