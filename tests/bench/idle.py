# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What an agent with many direct links and no traffic costs.

The agent, its interface, the hub and the links are real; the other ends are `crowd.py`, one process with a
real WireGuard interface for each link.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.results import Goal
from tests.bench.scenarios import Bench
from tests.lab.network import HUB_VPN_ADDRESS, Network
from tests.lab.programs import Agent, start_hub
from tests.lab.wireguard import KEEPALIVE_S, VPN, Node, ordered_keys, public_key_of, wait_until
from tests.nat_profiles import PROFILES

CPU = Goal(None, 1.0, "tailscaled with one link: 0.1")
RSS = Goal(None, 60.0, "tailscaled with one link: 43")
PACKETS = Goal(None, 2 * 60 / KEEPALIVE_S + 4 + 3)
"""Keepalives of both ends, two heartbeat exchanges, and the three packets of a handshake: each link has one
in two minutes, and all may have it in this one."""
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
"""wireguard-go has one of them each."""


def idle(bench: Bench, links: int = 100, sample_s: float = 60.0) -> None:
    """CPU, memory and packets of an agent whose links are all direct."""
    keys = ordered_keys(links + 2)
    with (
        inotify_for(links),
        Network([PROFILES["cone drop"]] * 2, bench.directory / "idle", keys=[keys[0], keys[-1]]) as network,
    ):
        start_hub(bench.program, network)
        ends = [add_end(network, number, keys[number]) for number in range(1, links + 1)]
        node, crowd = network.nodes
        script = str(Path(__file__).with_name("crowd.py"))
        log = (crowd.directory / "crowd.log").open("w")
        crowd.start(
            sys.executable, script, HUB_VPN_ADDRESS, node.public_key, node.address, *ends,
            stdout=log, stderr=log,
        )  # fmt: skip
        agent = Agent(bench.program, node, 13.0, "--log-level", "info")
        wait_until(lambda: direct_links(node) == links, 120, f"{links} links are direct", every_s=1)
        time.sleep(10)
        between = (network.sites[0].nat_address, network.sites[1].nat_address)
        before, packets_before = cpu_s(agent.pid), packets(network, between)
        time.sleep(sample_s)
        used_s, sent = cpu_s(agent.pid) - before, packets(network, between) - packets_before
        still = direct_links(node)
        bench.add(f"idle with {links} links: % of a core", 100 * used_s / sample_s, CPU)
        bench.add(f"idle with {links} links: MiB", rss_mib(agent.pid), RSS)
        bench.add("idle: packets of a link in a minute", sent / links * 60 / sample_s, PACKETS)
        bench.add("idle: links that were lost", links - still, Goal(None, 0))


def add_end(network: Network, number: int, private_key: str) -> str:
    """One more interface on the second node; INTERFACE=ADDRESS."""
    node = network.nodes[1]
    interface, address, table = f"wg{number}", f"192.168.7.{number + 20}", str(1000 + number)
    log = (node.directory / f"{interface}.log").open("w")
    node.start(
        "wireguard-go", "--foreground", interface, stdout=log, stderr=log, environment={"LOG_LEVEL": "error"}
    )
    wait_until(lambda: has_socket(node, interface), 10, f"{interface} is there")
    key_file = f"/run/{interface}.key"
    node.run("sh", "-c", f"umask 077; cat > {key_file}", stdin=private_key + "\n")
    network.hub.wg_set_peer(public_key_of(private_key), allowed_ips=f"{address}/32")
    node.run("ip", "address", "add", f"{address}/32", "dev", interface)
    node.run("ip", "link", "set", interface, "up")
    node.run("ip", "route", "add", VPN, "dev", interface, "table", table)
    node.run("ip", "rule", "add", "from", address, "lookup", table)
    node.run(
        "wg", "set", interface, "private-key", key_file, "peer", network.hub.public_key, "allowed-ips", VPN,
        "endpoint", f"{network.hub_address}:{network.hub.listen_port}",
        "persistent-keepalive", str(KEEPALIVE_S),
    )  # fmt: skip
    return f"{interface}={address}"


def has_socket(node: Node, interface: str) -> bool:
    return node.run("ls", f"/run/wireguard/{interface}.sock", check=False) != ""


@contextlib.contextmanager
def inotify_for(processes: int) -> Iterator[None]:
    """Raise the limit for the run, and put it back."""
    before = int(INOTIFY.read_text())
    INOTIFY.write_text(str(before + 2 * processes))
    try:
        yield
    finally:
        INOTIFY.write_text(str(before))


def direct_links(node: Node) -> int:
    """As the agent counts them in /statusz."""
    page = node.run("curl", "-s", "-m", "2", f"http://{node.address}:8080/statusz", check=False)
    figures = dict(line.split(": ") for line in page.splitlines())
    return int(figures.get("links_direct", 0))


def cpu_s(pid: int) -> float:
    """CPU time of a process and of those that it has started and waited for (proc(5), fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def packets(network: Network, between: tuple[str, str]) -> int:
    counted = network.counted("datagrams")
    return counted.get(between, 0) + counted.get(between[::-1], 0)
