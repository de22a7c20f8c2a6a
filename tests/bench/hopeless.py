# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Pairs that have no direct path: what it costs their users, and the network."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.bench.results import Goal
from tests.bench.scenarios import NOTHING, Bench, pings, start_over
from tests.lab.programs import RESTART_CONDITION
from tests.lab.wireguard import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "files"))

from tests.simulation.run import Case, Run  # noqa: E402 (needs the path above)
from tests.simulation.signalled import (  # noqa: E402
    HOPELESS_SPAN_S,
    SIGNALLED,
    TEN_MINUTES_S,
    Costs,
    most_in_ten_minutes,
)

UNTIL_FRESH_PORT_S = 60.0
AFTERWARDS_S = 3.0
SEEDS = 20
TEN_MINUTES = Goal(None, TEN_MINUTES_S / 60.0 - 1)
"""Less than one in a minute."""


def hopeless(bench: Bench) -> None:
    """The pings of a pair that tries all there is: every candidate, again and again, and a fresh port."""
    for one, other in (("symmetric", "port-restricted"), ("symmetric", "symmetric")):
        profiles = [f"{name} drop".replace("port-restricted", "cone") for name in (one, other)]
        with bench.pair(*profiles) as pair:
            for _ in range(bench.runs_of(UNTIL_FRESH_PORT_S)):
                with pings(pair) as seen:
                    pair.start_agents()
                    wait_until(
                        lambda: any(agent.said(RESTART_CONDITION) for agent in pair.agents),
                        UNTIL_FRESH_PORT_S,
                        "one takes a fresh port",
                    )
                    time.sleep(AFTERWARDS_S)
                assert seen[0].direct_since == float("inf"), "direct, which the NATs do not permit"
                bench.add(f"no direct path, {one} x {other}: packets lost", seen[0].lost, NOTHING)
                start_over(pair)


def hopeless_cost(bench: Bench) -> None:
    """The core's, with simulated time: in the lab it would take as long."""
    scenario = "quiet when hopeless, fresh ports: rebind"
    for seed in range(SEEDS):
        run = Run(Case(scenario, 0.0, "AB"[seed % 2], seed), SIGNALLED[scenario])
        costs = Costs(run)
        run.engine.run_until(HOPELESS_SPAN_S)
        most = most_in_ten_minutes(costs)
        bench.add("idle: most packets of a hopeless pair in ten minutes (simulated)", most, TEN_MINUTES)
