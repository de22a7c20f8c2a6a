#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""A hub and sites behind NATs, each machine, NAT and router a container of its own.

    machine -lan- NAT -wan- router ---- core ---- router -wan- NAT -lan- machine
                                         |
                                        hub

`network.py up FILE` makes the network that the YAML file describes, `down FILE` removes it, `logs FILE`
prints what its machines and NATs know:

    name: demo                              # containers are called rwc-demo-hub, rwc-demo-alice, ...
    hub: {debian: 13}
    sites:                                  # up to eight machines, each behind a NAT and a router of its own
      alice: {debian: 12, nat: cone drop}   # the name of a profile of tests/nat_profiles.py

A packet that leaves a machine with TTL 2, 3 or 4 passes its own NAT and dies at one of the three routers. The
core counts what it forwards by outer addresses, so which path packets take is seen from outside. The cables
are veth pairs between the containers: nothing of it touches the host's network, and there is no way out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests import nat_profiles  # noqa: E402  (found by the path above)
from tests.containers import images  # noqa: E402

HUB_ADDRESS = "203.0.113.2"
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
RUN_DIRECTORY = Path("/run/rwc")
INOTIFY_INSTANCES_BEFORE = RUN_DIRECTORY / "max_user_instances"
BOOT_TIMEOUT_S = 60.0

LARGE_BYTES = 300
"""IP packets longer than this are data: handshakes (176 bytes), keepalives and openers are shorter."""

CORE_RULES = f"""
table ip core {{
    set datagrams {{ type ipv4_addr . ipv4_addr; flags dynamic; size 4096; counter; }}
    set large {{ type ipv4_addr . ipv4_addr; flags dynamic; size 4096; counter; }}
    set blocked {{ type ipv4_addr . ipv4_addr; }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ip saddr . ip daddr @blocked drop
        meta l4proto udp update @datagrams {{ ip saddr . ip daddr }}
        meta l4proto udp ip length > {LARGE_BYTES} update @large {{ ip saddr . ip daddr }}
    }}
}}
"""


@dataclass(frozen=True)
class Site:
    """A machine behind a NAT behind a router of its provider; letter tells the sites of a network apart."""

    machine: str
    letter: str
    debian: str
    profile: nat_profiles.NatProfile

    @property
    def number(self) -> int:
        """0 for the first site; the addresses follow from it."""
        return ord(self.letter) - ord("a")

    @property
    def nat_address(self) -> str:
        """The public address of the site."""
        return f"198.51.100.{8 * self.number + 2}"


@dataclass(frozen=True)
class Network:
    """What a file describes: the hub's Debian release and the sites, by the names of their machines."""

    name: str
    hub_debian: str
    sites: Mapping[str, Site]

    def container(self, role: str) -> str:
        """Name of the container of a machine ("alice"), a NAT ("nat-a"), a router ("router-a") or "core"."""
        return f"rwc-{self.name}-{role}"

    @property
    def machines(self) -> dict[str, str]:
        """The Debian release of each machine: the hub and the sites' machines."""
        return {"hub": self.hub_debian, **{site.machine: site.debian for site in self.sites.values()}}

    @property
    def routers(self) -> list[str]:
        """The roles of everything that only forwards."""
        return [
            "core",
            *(f"{kind}-{site.letter}" for site in self.sites.values() for kind in ("nat", "router")),
        ]


def load(path: Path) -> Network:
    """Read a network's file. Raises ValueError that names the entry and what may stand there."""
    data = yaml.safe_load(path.read_text())
    sites = {}
    for letter, (machine, site) in zip("abcdefgh", data["sites"].items(), strict=False):
        profile = nat_profiles.PROFILES.get(site["nat"])
        if profile is None:
            raise ValueError(
                f"{path}: {machine}: no NAT profile {site['nat']!r}; one of {list(nat_profiles.PROFILES)}"
            )
        sites[machine] = Site(machine, letter, str(site["debian"]), profile)
    return Network(data["name"], str(data["hub"]["debian"]), sites)


def podman(*arguments: str, check: bool = True) -> str:
    """Standard output of a podman command. Raises RuntimeError with what podman said."""
    environment = {**os.environ, "CONTAINERS_CONF": str(HERE / "containers.conf")}
    done = subprocess.run(
        ["podman", *arguments],
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode != 0:
        raise RuntimeError(
            f"podman {' '.join(arguments)}: exit code {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


def in_namespace(pid: int, *command: str, stdin: str | None = None) -> None:
    """Run one of the host's commands in the network namespace of a container's first process."""
    subprocess.run(["nsenter", f"--target={pid}", "--net", *command], check=True, input=stdin, text=True)


def up(network: Network) -> None:
    """Make everything, replacing what is there of an earlier run; nothing is left behind if that fails."""
    down(network)
    RUN_DIRECTORY.mkdir(exist_ok=True)
    try:
        raise_inotify_limit()
        with ThreadPoolExecutor(max_workers=2) as pool:
            releases = sorted(set(network.machines.values()))
            image_of = dict(zip(releases, pool.map(images.ensure, releases), strict=True))
            router_image = image_of[releases[0]]
            started = {
                role: pool.submit(start_router, network, role, router_image) for role in network.routers
            }
            started |= {
                machine: pool.submit(start_machine, network, machine, image_of[debian])
                for machine, debian in network.machines.items()
            }
            pids = {role: start.result() for role, start in started.items()}
            connect(network, pids)
            list(pool.map(lambda machine: wait_for_boot(network.container(machine)), network.machines))
    except BaseException:
        down(network)
        raise


def start_router(network: Network, role: str, image: str) -> int:
    """Start a container that forwards, its pid."""
    return start(network, role, "--sysctl=net.ipv4.ip_forward=1", image, "sleep", "infinity")


def start_machine(network: Network, name: str, image: str) -> int:
    """Boot a Debian machine, its pid. Its sysctls can be written, since the roles set some."""
    return start(
        network,
        name,
        "--systemd=always",
        "--device=/dev/net/tun",
        "--cap-add=SYS_ADMIN",
        "--security-opt=unmask=/proc/sys",
        f"--add-host=hub.example.net:{HUB_ADDRESS}",
        image,
        "/sbin/init",
    )


def start(network: Network, role: str, *arguments: str) -> int:
    """Start a container with no network but loopback, its pid on the host, which its pid file has too."""
    name = network.container(role)
    podman(
        "run",
        "--detach",
        f"--name={name}",
        f"--hostname={role}",
        f"--label=rwc={network.name}",
        f"--pidfile={pid_file(name)}",
        "--network=none",
        "--cap-add=NET_ADMIN,NET_RAW",
        *arguments,
    )
    return int(pid_file(name).read_text())


def pid_file(container: str) -> Path:
    """Where the pid of a container's first process is written."""
    return RUN_DIRECTORY / f"{container}.pid"


def connect(network: Network, pids: Mapping[str, int]) -> None:
    """Lay the cables, set addresses and routes, load the NATs' rules. Addresses are those of tests/lab."""
    cable(pids["hub"], "wan0", f"{HUB_ADDRESS}/30", pids["core"], "hub", "203.0.113.1/30")
    route(pids["hub"], "default", "203.0.113.1")
    in_namespace(pids["core"], "nft", "-f", "-", stdin=CORE_RULES)
    for site in network.sites.values():
        machine, nat, router = (
            pids[role] for role in (site.machine, f"nat-{site.letter}", f"router-{site.letter}")
        )
        lan, wan = f"10.0.{site.number}", f"198.51.100.{8 * site.number}"
        core_end, router_end = f"192.0.2.{4 * site.number + 1}", f"192.0.2.{4 * site.number + 2}"
        gateway = f"198.51.100.{8 * site.number + 1}"
        cable(machine, "lan0", f"{lan}.2/24", nat, "lan", f"{lan}.1/24")
        cable(nat, "wan", f"{site.nat_address}/29", router, "customer", f"{gateway}/29")
        cable(router, "core", f"{router_end}/30", pids["core"], f"site-{site.letter}", f"{core_end}/30")
        route(machine, "default", f"{lan}.1")
        route(nat, "default", gateway)
        route(router, "default", core_end)
        route(pids["core"], f"{wan}/29", router_end)
        in_namespace(nat, "nft", "-f", "-", stdin=site.profile.ruleset())
        in_namespace(
            nat, "sysctl", "-q", "-w", *(f"{key}={value}" for key, value in site.profile.sysctls().items())
        )


def cable(a_pid: int, a_name: str, a_address: str, b_pid: int, b_name: str, b_address: str) -> None:
    """A veth pair between two containers, with an address on each end."""
    in_namespace(
        a_pid, "ip", "link", "add", a_name, "type", "veth", "peer", "name", b_name, "netns", str(b_pid)
    )
    for pid, name, address in ((a_pid, a_name, a_address), (b_pid, b_name, b_address)):
        in_namespace(pid, "ip", "address", "add", address, "dev", name)
        in_namespace(pid, "ip", "link", "set", name, "up")


def route(pid: int, destination: str, gateway: str) -> None:
    """A route in a container."""
    in_namespace(pid, "ip", "route", "add", destination, "via", gateway)


def wait_for_boot(container: str) -> None:
    """Wait until systemd has started what it had to. Raises RuntimeError with what failed."""
    state = ""
    for _ in attempts(BOOT_TIMEOUT_S):
        state = podman("exec", container, "systemctl", "is-system-running", check=False).strip()
        if state == "running":
            return
        if state == "degraded":
            break
    failed = podman(
        "exec", container, "systemctl", "list-units", "--failed", "--no-legend", check=False
    ).strip()
    raise RuntimeError(f"{container} did not boot: {state or 'no systemd'}: {failed}")


def attempts(timeout_s: float, interval_s: float = 0.2) -> Iterator[None]:
    """Yield now and then until the time is over."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        yield
        time.sleep(interval_s)


def down(network: Network) -> None:
    """Remove the containers, and the cables with them."""
    names = podman("ps", "--all", "--quiet", f"--filter=label=rwc={network.name}").split()
    if names:
        podman("rm", "--force", "--time=0", *names)
    for file in RUN_DIRECTORY.glob(f"{network.container('*')}.pid"):
        file.unlink()
    if not podman("ps", "--all", "--quiet", "--filter=label=rwc").split():
        restore_inotify_limit()


def logs(network: Network) -> None:
    """Print what the machines and the NATs know, after a failure."""
    journal = "journalctl --no-pager --boot --lines=150 --output=short-precise --unit=wg-*"
    for machine in network.machines:
        for command in (journal, "wg show", "ip -brief address", "systemctl list-units --no-legend wg-*"):
            show(network.container(machine), command)
    for router in network.routers:
        if not router.startswith("router-"):
            show(network.container(router), "nft list ruleset")


def show(container: str, command: str) -> None:
    """Print a command and its output in a container, if that still runs."""
    print(
        f"\n==> {container}: {command}\n{podman('exec', container, *command.split(), check=False)}",
        flush=True,
    )


def raise_inotify_limit() -> None:
    """Let many systemds run under one kernel: with 128 inotify instances, services die in the 15th."""
    before = INOTIFY_INSTANCES.read_text()
    if int(before) < 1024:
        INOTIFY_INSTANCES_BEFORE.write_text(before)
        INOTIFY_INSTANCES.write_text("1024")


def restore_inotify_limit() -> None:
    """Put the host's limit back."""
    if INOTIFY_INSTANCES_BEFORE.exists():
        INOTIFY_INSTANCES.write_text(INOTIFY_INSTANCES_BEFORE.read_text())
        INOTIFY_INSTANCES_BEFORE.unlink()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("action", choices=("up", "down", "logs"))
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    try:
        network = load(arguments.file)
        {"up": up, "down": down, "logs": logs}[arguments.action](network)
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        print(f"network.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
