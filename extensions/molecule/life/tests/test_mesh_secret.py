# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Preshared keys in a network that is in use: a mesh secret comes into use, and the next one.

After `test_life`, which removes dave.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import yaml
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys, mesh_secret
from tests.containers.fixtures import Report
from tests.containers.mesh import Machine, Mesh, Pinger, ansible_playbook, wait_until

PEERS = ("alice", "bob", "carol")
SITE, ROTATE = "rendezvous.wireguard.site", "rendezvous.wireguard.rotate_keys"
TO_DIRECT_S = 60.0
GAP_S = 1.0


def preshared_keys(machine: Machine) -> dict[str, str]:
    """By public key of the peer; "(none)" for none."""
    lines = machine.run("wg show wg0 preshared-keys").splitlines()
    return dict(line.split("\t") for line in lines)


def public_key(machine: Machine) -> str:
    return machine.run("wg show wg0 public-key").strip()


def have(one: Machine, other: Machine, secret: str) -> bool:
    """Whether both ends have the preshared key of this secret with one another."""
    ends = public_key(one), public_key(other)
    derived = mesh_secret.preshared_key(secret, *ends)
    return [preshared_keys(one).get(ends[1]), preshared_keys(other).get(ends[0])] == [derived] * 2


def test_a_mesh_secret_comes_into_use_and_is_rotated_without_an_outage(
    mesh: Mesh, scenario: Path, tmp_path: Path, report: Report
) -> None:
    hub, alice, bob, *_ = (mesh[name] for name in ("hub", *PEERS))
    inventory = yaml.safe_load((scenario / "inventory.yml").read_text())
    inventory["all"]["children"]["wireguard_peers"]["hosts"].pop("dave")
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory))
    first, second = keys.generate_private_key(), keys.generate_private_key()
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    output, gaps = "", []
    for playbook, secrets in ((SITE, [first]), (ROTATE, [first]), (SITE, [second, first])):
        (tmp_path / "secrets.json").write_text(json.dumps({"wg_interface_mesh_secret": secrets}))
        with Pinger(alice, bob) as direct, Pinger(bob, hub) as to_hub:
            variables = ("-e", f"@{tmp_path / 'secrets.json'}", "-e", "wg_peer_rotate_min_age_s=3600")
            run = ansible_playbook(playbook, [tmp_path / "inventory.yml"], "-vvv", "--diff", *variables)
            assert run.exit_code == 0, run.output
            wait_until(
                partial(have, alice, bob, secrets[0]),
                TO_DIRECT_S,
                lambda: "alice and bob have the preshared key of the newest secret",
            )
        output += run.output
        gaps += [direct.gap_s, to_hub.gap_s]
    assert all(have(hub, mesh[name], first) for name in PEERS)  # until the next rotation
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    report(f"life: mesh secret introduced and rotated: gaps {', '.join(f'{gap:.2f}' for gap in gaps)} s")
    hidden = {key for name in ("hub", *PEERS) for key in preshared_keys(mesh[name]).values()} - {"(none)"}
    assert not [secret for secret in (first, second, *hidden) if secret in output]
    assert max(gaps) <= GAP_S
