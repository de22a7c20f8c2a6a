# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Waits until every pair of peers talks directly, and prints who reaches whom how."""

from __future__ import annotations

import itertools
import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.containers.mesh import Machine, Mesh  # noqa: E402  (found by the path above)
from tests.containers.network import attempts  # noqa: E402

TIMEOUT_S = 120.0
AGENT = "wg-rendezvous-agent@wg0"


def agent_start_s(machine: Machine) -> float:
    """When its agent was started, on the clock of `time.clock_gettime(CLOCK_MONOTONIC)`."""
    return int(machine.run(f"systemctl show -P ActiveEnterTimestampMonotonic {AGENT}")) / 1e6


def round_trip_ms(source: Machine, destination: Machine) -> str:
    """The average round trip through the VPN in ms, as ping prints it."""
    output = source.run(f"ping -n -q -c 5 -i 0.1 {destination.vpn_address}")
    average = re.search(r"= [\d.]+/([\d.]+)/", output)
    return average[1] if average else "?"


def show_direct_paths(mesh: Mesh, pending: list[tuple[Machine, Machine]]) -> None:
    """Print each pair as soon as it is direct, and take it off the list; after TIMEOUT_S, stop."""
    for _ in attempts(TIMEOUT_S):
        for a, b in list(pending):
            if mesh.path(a, b) != "direct":
                continue
            since_start_s = time.monotonic() - max(agent_start_s(a), agent_start_s(b))
            pending.remove((a, b))
            print(
                f"  {a.name} <-> {b.name}: direct, {a.outer_address} <-> {b.outer_address}, "
                f"seen {since_start_s:.1f} s after both agents' start, round trip {round_trip_ms(a, b)} ms",
                flush=True,
            )
        if not pending:
            return


def main() -> int:
    """Print a line for each pair once it is direct, then the machines' own view; 1 if one stays relayed."""
    mesh = Mesh(HERE / "network.yml")
    peers = [machine for name, machine in mesh.machines.items() if name != "hub"]
    pending = list(itertools.combinations(peers, 2))
    show_direct_paths(mesh, pending)
    for a, b in pending:
        print(f"  {a.name} <-> {b.name}: after {TIMEOUT_S:.0f} s still {mesh.path(a, b)}", flush=True)
    for machine in mesh.machines.values():
        print(
            f"\n{machine.name}# wg-rendezvous status\n{machine.run('wg-rendezvous status')}",
            end="",
            flush=True,
        )
    return 1 if pending else 0


if __name__ == "__main__":
    sys.exit(main())
