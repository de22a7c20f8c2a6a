# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""`make bench-ansible`: what site.yml costs, beside a run that only gathers facts on the same hosts.

usage: python -m tests.bench.deploy [--hosts N...] [--runs N]

Hosts are systemd containers over `podman exec`, one of them the hub, with the packages installed already. A
task counts for the host that it ran on, so what is delegated counts for the hub. Of several runs the quickest
counts: what one of them takes varies by a fifth. Each first run has hosts of its own. Exits with 1 when a
figure is not as wanted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.idle import cpu_s
from tests.containers import images, network
from tests.containers.mesh import PlaybookRun, ansible_playbook

RELEASE = "12"
PACKAGES = ("wireguard-tools", "wireguard-go", "python3-aiohttp", "python3-prometheus-client")
NODES_OWN = re.compile(r"\bwg-rendezvous (?:agent|hub) |^wireguard-go ")
"""What runs on the nodes, which share the processors with Ansible here."""
IMAGE = "localhost/rwc-bench-ansible"
SMALLEST = ["!all", "!min", "distribution"]
"""Of the subsets that tell what to install."""
FIRST_TASKS, SECOND_TASKS = 9, 6
FIRST_TIMES, SECOND_TIMES = 9.0, 6.0
FLAT_TIMES = 1.25
"""What a host may cost at most in the size where it costs most, to what it costs where it costs least."""
SITE = "rendezvous.wireguard.site"
EVERYBODY = "--limit=!newhost"
AT_REST_S = 120.0
HUB_ADDRESS = "192.168.7.1"
ASK_FOR_LINKS = f"""
import urllib.request
print(urllib.request.urlopen("http://{HUB_ADDRESS}:8080/v1/links", timeout=10).read().decode())
"""


def names(hosts: int) -> list[str]:
    """The peers of a network of so many hosts, and one that is added later."""
    return [f"peer{number}" for number in range(1, hosts)] + ["newhost"]


NETWORK = network.Network("bench-ansible", RELEASE, {})
"""Containers without NATs, which this is not about; each has a cable to the router in the middle."""


@contextmanager
def prepared_image() -> Iterator[str]:
    """A machine with the packages installed, so that their download is not measured."""
    network.down(NETWORK)
    try:
        network.RUN_DIRECTORY.mkdir(exist_ok=True)
        network.start_machine(NETWORK, "hub", images.ensure(RELEASE))
        name = NETWORK.container("hub")
        network.wait_for_boot(name)
        for command in (("update",), ("install", "--yes", "--no-install-recommends", *PACKAGES)):
            network.podman("exec", name, "apt-get", "-qq", *command)
        network.podman("commit", "--quiet", name, IMAGE)
        network.down(NETWORK)
        yield IMAGE
    finally:
        network.down(NETWORK)
        network.podman("rmi", "--force", IMAGE, check=False)


@contextmanager
def machines(hosts: int, image: str, directory: Path) -> Iterator[Path]:
    """A hub, peers and a new host, running; the inventory of them."""
    try:
        network.RUN_DIRECTORY.mkdir(exist_ok=True)
        network.raise_inotify_limit()
        core = network.start_router(NETWORK, "core", image)
        with ThreadPoolExecutor(max_workers=4) as pool:
            roles = ["hub", *names(hosts)]
            pids = list(pool.map(lambda role: network.start_machine(NETWORK, role, image), roles))
            for number, pid in enumerate(pids):
                gateway = f"203.0.113.{4 * number + 1}"
                own = f"203.0.113.{4 * number + 2}/30"
                network.cable(pid, "wan0", own, core, f"c{number}", f"{gateway}/30")
                network.route(pid, "default", gateway)
            list(pool.map(lambda role: network.wait_for_boot(NETWORK.container(role)), roles))
        inventory = directory / f"{hosts}.json"
        inventory.write_text(json.dumps(inventory_of(hosts)))
        yield inventory
    finally:
        network.down(NETWORK)


def inventory_of(hosts: int) -> dict[str, Any]:
    """As a user writes it."""
    hub = {"wg_interface_address": f"{HUB_ADDRESS}/24", "wg_hub_endpoint": "hub.example.net:51820"}
    peers = {
        name: {"wg_interface_address": f"192.168.7.{number}/24"}
        for number, name in enumerate(names(hosts), start=2)
    }
    for name, variables in (("hub", hub), *peers.items()):
        variables["ansible_host"] = NETWORK.container(name)
    connection = {
        "ansible_connection": "containers.podman.podman",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_user": "root",
    }
    groups = {"wireguard_hub": {"hosts": {"hub": hub}}, "wireguard_peers": {"hosts": peers}}
    return {"all": {"vars": connection, "children": groups}}


def facts_playbook(directory: Path, subset: list[str]) -> str:
    """The yardstick: one task that gathers facts on all hosts."""
    task = {"ansible.builtin.setup": {"gather_subset": subset}}
    path = directory / "facts.json"
    path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    return str(path)


def nodes_own_s() -> float:
    """Seconds of processor time that the nodes' own programs that run now have used, and their `wg`."""
    used_s = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
            if NODES_OWN.search(command):
                used_s += cpu_s(int(process.name))
    return used_s


@dataclass(frozen=True)
class Figure:
    """One timed run: its seconds, those of processor time that the nodes' own programs used, and the
    tasks that ran on peers and hub, the most on any of them.
    """

    seconds: float
    nodes_own_s: float
    run: PlaybookRun

    def tasks(self, *hosts: str) -> int:
        """The most that one of these hosts ran."""
        return max(len(self.run.tasks.get(host, ())) for host in hosts)


def timed(playbook: str, inventory: Path, *arguments: str) -> Figure:
    """Run a playbook. RuntimeError with its output if it fails."""
    start, start_own_s = time.monotonic(), nodes_own_s()
    run = ansible_playbook(playbook, [inventory], *arguments)
    seconds, own_s = time.monotonic() - start, nodes_own_s() - start_own_s
    if run.exit_code != 0:
        raise RuntimeError(f"{playbook} {' '.join(arguments)}: {run.output}")
    return Figure(seconds, own_s, run)


def quickest(what: str, runs: list[Figure]) -> Figure:
    """The one that took the fewest seconds; those of all are printed."""
    print(f"  {what} runs: {', '.join(f'{run.seconds:.1f}' for run in runs)} s", flush=True)
    return min(runs, key=lambda run: run.seconds)


def not_flat(a_host_s: dict[int, dict[str, float]]) -> list[str]:
    """Of the seconds a host, by number of hosts and run: which runs cost more a host with more hosts."""
    problems = []
    for what in next(iter(a_host_s.values())):
        seconds = {hosts: figures[what] for hosts, figures in a_host_s.items()}
        ratio = max(seconds.values()) / min(seconds.values())
        if ratio > FLAT_TIMES:
            problems.append(f"{what}: not flat, {ratio:.2f} times as much a host: {seconds}")
    return problems


def measure(
    hosts: int, image: str, directory: Path, runs: int, a_host_s: dict[int, dict[str, float]]
) -> list[str]:
    """Print the figures of one size, and note the seconds a host; what is not as wanted."""
    firsts, problems = [], []
    for _ in range(runs - 1):
        with machines(hosts, image, directory) as inventory:
            firsts.append(timed(SITE, inventory, EVERYBODY))
            problems += links_at_rest(hosts - 1)
    with machines(hosts, image, directory) as inventory:

        def facts(subset: list[str]) -> float:
            playbook = facts_playbook(directory, subset)
            return min(timed(playbook, inventory, EVERYBODY).seconds for _ in range(runs))

        smallest_s, default_s = facts(SMALLEST), facts(["all"])
        firsts.append(timed(SITE, inventory, EVERYBODY))
        problems += links_at_rest(hosts - 1)
        seconds = [timed(SITE, inventory, EVERYBODY) for _ in range(runs)]
        first, second = quickest("first", firsts), quickest("second", seconds)
        added = timed(SITE, inventory, "--limit=newhost")
        problems += knowing_one_another()
    peers = names(hosts)[:-1]
    print(f"{hosts} hosts: facts {smallest_s:.1f} s ({','.join(SMALLEST)}), {default_s:.1f} s (all)")
    wrong = [f"{hosts} hosts: {problem}" for problem in problems]
    for what, figure, tasks, times in (
        ("first run", first, FIRST_TASKS, FIRST_TIMES),
        ("second run", second, SECOND_TASKS, SECOND_TIMES),
    ):
        ratio = figure.seconds / smallest_s
        a_host_s.setdefault(hosts, {})[what] = round(figure.seconds / hosts, 2)
        counts = f"tasks: peer {figure.tasks(*peers)}, hub {figure.tasks('hub')} (at most {tasks})"
        of_all = f"{figure.seconds / default_s:.1f} of all"
        own = f"the nodes' own programs used {figure.nodes_own_s:.0f} s of processor time"
        print(f"  {what}: {figure.seconds:.1f} s, {figure.seconds / hosts:.2f} s a host; {own}")
        print(f"    {ratio:.1f} times the facts (at most {times:.0f}; {of_all}); {counts}")
        if figure.tasks("hub", *peers) > tasks:
            wrong.append(f"{hosts} hosts: {what}: {figure.run.tasks}")
        if ratio > times:
            wrong.append(f"{hosts} hosts: {what}: {ratio:.1f} times the facts, wanted at most {times:.0f}")
    if second.run.changed_hosts:
        wrong.append(f"{hosts} hosts: the second run changed {second.run.changed_hosts}")
    counts = f"tasks: newhost {added.tasks('newhost')}, hub {added.tasks('hub')}"
    print(f"  --limit newhost: {added.seconds:.1f} s; {counts}", flush=True)
    return wrong


def links_at_rest(peers: int) -> list[str]:
    """Wait until all peers have direct links with one another, which takes two processors a while if they
    are many; the problem, if that is not so in time."""
    started, direct, wanted = time.monotonic(), 0, peers * (peers - 1)
    for _ in network.attempts(AT_REST_S, interval_s=1.0):
        answer = network.podman("exec", NETWORK.container("hub"), "python3", "-c", ASK_FOR_LINKS, check=False)
        links = json.loads(answer or "{}").get("links", {})
        direct = sum(link["state"] == "direct" for ends in links.values() for link in ends.values())
        if direct == wanted:
            took_s = time.monotonic() - started
            print(f"{peers + 1} hosts: {wanted // 2} links were direct {took_s:.0f} s after the first run")
            return []
    return [f"{direct} of {wanted} ends of links are direct after {AT_REST_S:.0f} s"]


def knowing_one_another() -> list[str]:
    """The problems, if hub and new host have not shaken hands."""
    for _ in network.attempts(10):
        shaken = network.podman(
            "exec", NETWORK.container("newhost"), "wg", "show", "wg0", "latest-handshakes"
        ).split()
        if any(at != "0" for at in shaken[1::2]):
            return []
    return ["hub and new host have not shaken hands within 10 s"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.deploy")
    parser.add_argument("--hosts", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--runs", type=int, default=3, help="of everything; the quickest counts")
    options = parser.parse_args()
    os.environ["CONTAINERS_CONF"] = str(network.HERE / "containers.conf")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is removed
    wrong: list[str] = []
    a_host_s: dict[int, dict[str, float]] = {}
    try:
        with TemporaryDirectory(prefix="bench-") as directory, prepared_image() as image:
            for hosts in options.hosts:
                wrong += measure(hosts, image, Path(directory), options.runs, a_host_s)
            wrong += not_flat(a_host_s)
    except KeyboardInterrupt:
        print("interrupted; everything is removed", file=sys.stderr)
        return 130
    for problem in wrong:
        print(f"not as wanted: {problem}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
