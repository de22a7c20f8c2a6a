# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Runs that are killed at any moment: the network works on, and the next run ends what they began.

`make kills` kills 30 of them, a Molecule run only a few.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.containers.fixtures import Report
from tests.containers.inventories import Inventory
from tests.containers.mesh import Machine, Mesh, Pinger, Transfer, ansible_playbook, longest_gap_s

SITE, ROTATE = "rendezvous.wireguard.site", "rendezvous.wireguard.rotate_keys"
ALL_KEYS = ("-e", "wg_peer_rotate_min_age_s=0")
PEERS = ("alice", "bob", "carol", "dave")
ADDRESSES = ("192.168.7.5", "192.168.7.105")
"""Alice has one of them."""
PORTS = (51820, 51821)
KILLS = int(os.environ.get("KILLS", "5"))
TO_DIRECT_S = 60.0
GAP_S = 1.0


def test_runs_that_are_killed_at_any_moment_leave_a_network_that_works_and_the_next_one_ends_it(
    mesh: Mesh, scenario: Path, tmp_path: Path, report: Report, capfd: pytest.CaptureFixture[str]
) -> None:
    alice, bob, carol, dave = (mesh[name] for name in PEERS)
    hub = mesh["hub"]
    inventory = Inventory(scenario, tmp_path)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    before = keys(mesh)
    gaps: list[float] = []
    for one, other in ((bob, carol), (alice, bob)):
        mesh.wait_for_path(one, other, "direct", TO_DIRECT_S)
    with Transfer(bob, carol, tmp_path) as transfer:
        transfer.flows()
        for number in range(KILLS):
            with Watch(alice, bob, carol, hub) as watch:
                after_s = chance.uniform(2, 20)
                if number % 2:
                    task = kill_after(after_s, ROTATE, inventory.path, *ALL_KEYS)
                else:
                    change(inventory, number // 2)
                    set_up_anew(dave)
                    task = kill_after(after_s, SITE, inventory.path)
                transfer.flows()
            gaps.append(watch.gap_s)
            with capfd.disabled():  # many kills take long: to be seen as they happen
                print(f"\nkilled after {after_s:.1f} s at {task!r}: gap {watch.gap_s:.2f} s", flush=True)
            assert watch.gap_s <= GAP_S, (seed, number, task, watch.gaps_s)
        with Watch(alice, bob, carol, hub) as watch:
            runs = [ansible_playbook(SITE, [scenario / "inventory.yml"])]
            runs.append(
                ansible_playbook(
                    ROTATE, [scenario / "inventory.yml"], *ALL_KEYS, "-e", "wg_peer_rotate_serial=2"
                )
            )
        gaps.append(watch.gap_s)
        longest_s = transfer.finish()
    told = ", ".join(f"{gap:.2f}" for gap in gaps)
    report(f"life: {KILLS} killed runs (seed {seed}): gaps {told} s; TCP stood for {longest_s:.1f} s")
    assert [run.exit_code for run in runs] == [0, 0], [run.output for run in runs]
    assert not set(keys(mesh).values()) & set(before.values())
    assert dave.pings(hub, 5) == 5
    file = hub.run("cat /etc/wireguard/wg0.conf")
    assert file.count("[Peer]") == len(PEERS), file
    assert "Replaces" not in file
    assert hub.run("wg show wg0 listen-port") == f"{PORTS[0]}\n"
    assert ADDRESSES[1] not in file + alice.run("ip address show dev wg0; cat /etc/wireguard/wg0.conf")
    assert max(gaps) <= GAP_S


class Watch:
    """Pings while the context lasts; then `gaps_s`, the longest times in which somebody was not reached."""

    gaps_s: Mapping[str, float]

    def __init__(self, alice: Machine, bob: Machine, carol: Machine, hub: Machine) -> None:
        self._to_alice = [Pinger(bob, alice, address) for address in ADDRESSES]
        self._others = {
            "bob to carol": Pinger(bob, carol),
            "carol to the hub": Pinger(carol, hub),
            "the hub to bob": Pinger(hub, bob),
        }

    def __enter__(self) -> Watch:
        with contextlib.ExitStack() as stack:
            for pinger in (*self._to_alice, *self._others.values()):
                stack.enter_context(pinger)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        # Alice has one address, then the other: what counts is that she is reached.
        answered = [at for pinger in self._to_alice for at in pinger.answered_at]
        self.gaps_s = {
            "bob to alice": longest_gap_s(answered),
            **{name: pinger.gap_s for name, pinger in self._others.items()},
        }

    @property
    def gap_s(self) -> float:
        """The longest of all."""
        return max(self.gaps_s.values())


def keys(mesh: Mesh, names: Sequence[str] = PEERS) -> dict[str, str]:
    return {name: mesh[name].run("cat /etc/wireguard/wg0.key | wg pubkey").strip() for name in names}


def change(inventory: Inventory, number: int) -> None:
    """Alice's address and the hub's port are to be others."""
    address, port = ADDRESSES[(number + 1) % 2], PORTS[(number + 1) % 2]
    inventory.change(
        lambda hubs, peers: (
            peers["alice"].update(wg_interface_address=f"{address}/24"),
            hubs["hub"].update(wg_hub_endpoint=f"hub.example.net:{port}"),
        )
    )


def set_up_anew(machine: Machine) -> None:
    """Nothing but its key is left, as on a machine that joins."""
    machine.run(
        "systemctl stop wg-quick@wg0; "
        "rm -rf /etc/wireguard/wg0.conf /etc/wg-rendezvous /usr/local/lib/wg-rendezvous"
    )


def kill_after(seconds: float, playbook: str, inventory: Path, *arguments: str) -> str:
    """A run that is killed, with all that it has started here; the task that it had come to."""
    with tempfile.TemporaryFile("w+") as output:
        run = subprocess.Popen(
            ["ansible-playbook", playbook, f"--inventory={inventory}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(timeout=seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        output.seek(0)
        return next(
            (task for task in reversed(re.findall(r"^TASK \[(.*)\]", output.read(), re.MULTILINE))), ""
        )
