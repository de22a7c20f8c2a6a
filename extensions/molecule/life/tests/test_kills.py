# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Runs that are killed at a random task, or cut off from the nodes: the network works on, and the next run
ends what they began.

`make kills` ends 30 of them, half in either way, a Molecule run one of each playbook. The first one puts back
what `test_changes` has changed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.containers.fixtures import Report
from tests.containers.inventories import Inventory
from tests.containers.mesh import (
    Machine,
    Mesh,
    Pinger,
    Transfer,
    ansible_playbook,
    longest_gap_s,
    remains,
    wait_until,
)

SITE = "rendezvous.wireguard.site"
CLIENTS = "rendezvous.wireguard.client_config"
REMOVE = "rendezvous.wireguard.remove_peer"
UNINSTALL = "rendezvous.wireguard.uninstall"
ROTATE = "rendezvous.wireguard.rotate_keys"
ROTATE_HUB = "rendezvous.wireguard.rotate_hub_key"
TASKS = {SITE: 22, CLIENTS: 11, REMOVE: 5, UNINSTALL: 6, ROTATE: 26, ROTATE_HUB: 28}
"""How many tasks each has, in the order in which they are killed. Those runs that are not killed prove it."""
LONGEST_TASK_S = 1.0
PEERS = ("alice", "bob", "carol", "dave")
ADDRESSES = ("192.168.7.5", "192.168.7.105")
"""Alice has one of them."""
PORTS = (51820, 51821)
KILLS = int(os.environ.get("KILLS", len(TASKS)))
TO_DIRECT_S = 60.0
GAP_S = 1.0


def test_runs_that_are_killed_at_a_random_task_leave_a_network_that_works_and_the_next_one_ends_it(
    mesh: Mesh, scenario: Path, tmp_path: Path, report: Report, capfd: pytest.CaptureFixture[str]
) -> None:
    alice, bob, carol, _dave = (mesh[name] for name in PEERS)
    owner = Owner(mesh, Inventory(scenario, tmp_path), tmp_path)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    gaps: list[float] = []
    for one, other in ((bob, carol), (alice, bob)):
        mesh.wait_for_path(one, other, "direct", TO_DIRECT_S)
    with Transfer(bob, carol, tmp_path) as transfer:
        transfer.flows()
        for number in range(KILLS):
            playbook = list(TASKS)[number % len(TASKS)]
            goes_on = bool((number + number // len(TASKS)) % 2)  # each playbook both ways, in turn
            with (
                owner.begins(playbook, number // len(TASKS)) as arguments,
                Watch(alice, bob, carol, mesh["hub"]) as watch,
            ):
                killed = kill(chance, goes_on, playbook, owner.inventory.path, *arguments)
                transfer.flows()
                run = ansible_playbook(playbook, [owner.inventory.path], *arguments)
                transfer.flows()
                assert run.exit_code == 0, (seed, number, killed, run.output)
                assert (playbook, len(tasks(run.output))) == (playbook, TASKS[playbook]), run.output
            gaps.append(watch.gap_s)
            with capfd.disabled():  # many kills take long: to be seen as they happen
                print(f"\n{killed}: gap {watch.gap_s:.2f} s", flush=True)
            assert watch.gap_s <= GAP_S, (seed, number, killed, watch.gaps_s)
            assert playbook != UNINSTALL or watch.lost == 0, (seed, number, killed, watch.gaps_s)
        longest_s = transfer.finish()
    told = ", ".join(f"{gap:.2f}" for gap in gaps)
    ended = f"{KILLS} runs killed or cut off (seed {seed})"
    report(f"life: {ended}: gaps {told} s; TCP stood for {longest_s:.1f} s")


@dataclass(frozen=True)
class Owner:
    """Who runs the playbooks.

    Each method prepares a change, gives what the run is to be called with, and says at its end, after the
    runs, whether the change is complete.
    """

    mesh: Mesh
    inventory: Inventory
    directory: Path

    def begins(self, playbook: str, cycle: int) -> AbstractContextManager[Sequence[str]]:
        """The change that this playbook makes in this round of all playbooks."""
        changes: Mapping[str, Callable[[int], AbstractContextManager[Sequence[str]]]] = {
            SITE: self.moves_a_peer_and_the_hub,
            CLIENTS: self.hands_out_a_file,
            REMOVE: self.removes_a_phone,
            UNINSTALL: self.uninstalls_a_peer,
            ROTATE: self.rotates_keys,
            ROTATE_HUB: self.rotates_the_key_of_the_hub,
        }
        return changes[playbook](cycle)

    @contextlib.contextmanager
    def moves_a_peer_and_the_hub(self, cycle: int) -> Iterator[Sequence[str]]:
        """Alice's address and the hub's port become others, in the last round the first; dave comes back."""
        hub, alice, dave = (self.mesh[name] for name in ("hub", "alice", "dave"))
        which = ((KILLS - 1) // len(TASKS) - cycle) % 2
        address, port = ADDRESSES[which], PORTS[which]
        self.inventory.change(
            lambda hubs, peers: (
                peers["alice"].update(wg_interface_address=f"{address}/24"),
                hubs["hub"].update(wg_hub_endpoint=f"hub.example.net:{port}"),
            )
        )
        set_up_anew(dave)
        yield ()
        file = hub.run("cat /etc/wireguard/wg0.conf")
        assert [file.count(text) for text in ("[Peer]", *(f"Name = {name}\n" for name in PEERS))] == [
            4,
            1,
            1,
            1,
            1,
        ]
        assert hub.run("wg show wg0 listen-port") == f"{port}\n"
        known = file + alice.run("ip address show dev wg0; cat /etc/wireguard/wg0.conf")
        assert address in known
        assert f"{ADDRESSES[1 - which]}/" not in known
        wait_until(lambda: dave.pings(hub, 5) == 5, 10, lambda: "dave is back")

    @contextlib.contextmanager
    def hands_out_a_file(self, cycle: int) -> Iterator[Sequence[str]]:
        """A phone is let in."""
        devices = {
            "wg_client_config_devices": [
                {"name": f"phone{cycle}", "kind": "phone", "address": "192.168.7.50/24"}
            ],
            "wg_client_config_directory": str(self.directory / "devices"),
            "wg_client_config_qr": False,
        }
        yield ("-e", json.dumps(devices))
        file = (self.directory / "devices" / f"phone{cycle}.conf").read_text()
        (private_key,) = re.findall(r"^PrivateKey = (\S+)", file, re.MULTILINE)
        hub = self.mesh["hub"]
        public_key = hub.run(f"echo {private_key} | wg pubkey").strip()
        assert public_key in hub.run("wg show wg0 peers")
        assert public_key in hub.run("cat /etc/wireguard/wg0.conf")

    @contextlib.contextmanager
    def removes_a_phone(self, cycle: int) -> Iterator[Sequence[str]]:
        """It goes for good."""
        hub = self.mesh["hub"]
        key = hub.run(f"grep -A1 'Name = phone{cycle}$' /etc/wireguard/wg0.conf").split()[-1]
        yield ("-e", f"wg_hub_remove_peers=phone{cycle}")
        assert key not in hub.run("wg show wg0 peers; cat /etc/wireguard/wg0.conf")
        assert key in hub.run("cat /etc/wireguard/wg0.removed")

    @contextlib.contextmanager
    def uninstalls_a_peer(self, _cycle: int) -> Iterator[Sequence[str]]:
        """Dave goes, and comes back. The others have direct links, so that they can lose nothing."""
        hub, alice, bob, carol, dave = (self.mesh[name] for name in ("hub", *PEERS))
        alice.address_changed()
        for one, other in ((bob, carol), (alice, bob), (alice, dave)):
            self.mesh.wait_for_path(one, other, "direct", TO_DIRECT_S)
        yield ("--limit=dave",)
        assert remains(dave) == ""
        assert dave.run("ls /etc/wireguard").split() == ["wg0.conf", "wg0.key"]
        back = ansible_playbook(SITE, [self.inventory.path], "--limit=dave")
        assert back.exit_code == 0, back.output
        wait_until(lambda: dave.pings(hub, 5) == 5, 10, lambda: "dave is back")
        self.mesh.wait_for_path(alice, dave, "direct", TO_DIRECT_S)

    @contextlib.contextmanager
    def rotates_keys(self, _cycle: int) -> Iterator[Sequence[str]]:
        """All peers get new ones."""
        before = self._keys(*PEERS)
        yield ("-e", "wg_peer_rotate_min_age_s=0")
        after = self._keys(*PEERS)
        known = self.mesh["hub"].run("cat /etc/wireguard/wg0.conf; wg show wg0 peers")
        assert not before & after
        assert not [key for key in before if key in known]
        assert "Replaces" not in known

    @contextlib.contextmanager
    def rotates_the_key_of_the_hub(self, _cycle: int) -> Iterator[Sequence[str]]:
        """It gets a new one, and the peers learn it."""
        before = self._keys("hub")
        yield ("-e", "wg_hub_rotate_min_age_s=0")
        (after,) = self._keys("hub")
        assert after not in before
        for name in PEERS:
            known = self.mesh[name].run("wg show wg0 peers; cat /etc/wireguard/wg0.conf")
            assert after in known
            assert not [key for key in before if key in known]
            assert "Replaces" not in known

    def _keys(self, *names: str) -> set[str]:
        return {self.mesh[name].run("cat /etc/wireguard/wg0.key | wg pubkey").strip() for name in names}


class Watch:
    """Pings while the context lasts; then `gaps_s`, the longest times in which somebody was not reached, and
    `lost`, how many pings were not answered.
    """

    gaps_s: Mapping[str, float]
    lost: int

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
        to_alice = min(pinger.lost for pinger in self._to_alice)
        self.lost = to_alice + sum(pinger.lost for pinger in self._others.values())

    @property
    def gap_s(self) -> float:
        """The longest of all."""
        return max(self.gaps_s.values())


def set_up_anew(machine: Machine) -> None:
    """Nothing but its key is left, as on a machine that joins."""
    machine.run(
        "systemctl stop wg-quick@wg0; "
        "rm -rf /etc/wireguard/wg0.conf /etc/wg-rendezvous /usr/local/lib/wg-rendezvous"
    )


def tasks(output: str) -> list[str]:
    """The tasks of a run so far; one that Ansible runs for some hosts after the others is one."""
    return [name for name, _ in itertools.groupby(re.findall(r"^TASK \[(.*)\]", output, re.MULTILINE))]


def kill(chance: random.Random, goes_on: bool, playbook: str, inventory: Path, *arguments: str) -> str:
    """A run that is killed somewhere in a task; what is to be said of it.

    What it has begun on the nodes is killed too, or `goes_on` there alone, as when the connection is lost.
    """
    number = chance.randint(1, TASKS[playbook])
    output = ""
    with subprocess.Popen(
        ["ansible-playbook", playbook, f"--inventory={inventory}", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        assert run.stdout is not None
        while len(tasks(output)) < number and (line := run.stdout.readline()):
            output += line
        time.sleep(chance.uniform(0, LONGEST_TASK_S))
        for pid in stopped(run.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(pid, signal.SIGCONT if goes_on and is_in_container(pid) else signal.SIGKILL)
    assert len(tasks(output)) == number, f"{playbook} ended before its task {number}: {output}"
    name = playbook.rpartition(".")[2]
    how = "cut off" if goes_on else "killed"
    return f"{name} {how} at task {number} of {TASKS[playbook]}, {tasks(output)[-1]!r}"


def is_in_container(pid: int) -> bool:
    """Whether this process is one of another PID namespace."""
    return Path(f"/proc/{pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()


def stopped(pid: int) -> list[int]:
    """This process and all that have come from it, stopped, so that none is missed.

    They are no group: Ansible's workers have sessions of their own. What runs in containers is among them.
    """
    pids = [pid]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        os.kill(pid, signal.SIGSTOP)
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                pids += stopped(int(child))
    return pids
