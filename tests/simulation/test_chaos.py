# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Whatever strikes, in whatever order: never without a path for longer than it takes to notice, and direct
again.

`chaos.py` makes the schedules; `SIMULATION_SEEDS=5000` tries more of them, `SIMULATION_FIRST=10000` others.
"""

from __future__ import annotations

import os

import pytest
from tests.simulation.chaos import CHAOS
from tests.simulation.run import Case
from tests.simulation.scenarios import simulate

pytestmark = pytest.mark.sim

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))
PARTS = 20
FAILED_ONCE = {
    500301: "one end far from the hub: the near one had no patience, and the far one knocked too soon",
    501889: "the same, among three",
    701390: "a fresh port was taken while the loop had a direct link, whose other end was not told",
    701408: "a NAT lost its state under idle links: withdrawals ended before the agent missed its stream",
    901211: "a peer was added and removed in one breath, without being recorded",
    710002: "the hub's packets had taken a tuple too: the smaller key's end alone can heal that",
    710282: "a link was given back to an end whose stream was not back yet: what that may cost is stated now",
    710706: "a NAT lost its state under idle links, which took 39 s to be noticed",
    718: "thin traffic was no traffic while the session was to be renewed",
    710468: "a link that was given back for another one's fresh port needed one of its own",
    801342: "the hub's packets had taken a tuple while the link healed in place: nobody took the port for it",
    802242: "the same, and the other end lost its power afterwards",
    921977: "`promote` was lost: one end moved alone for a second, and then waited long to try again",
}


def case(seed: int) -> Case:
    """All from the seed: how far apart the agents start, at times at once, and whose key is the larger."""
    return Case(CHAOS, (0.0, 0.13, 0.57)[seed % 3], "AB"[seed // 2 % 2], seed)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_of_faults_breaks_it(part: int) -> None:
    for seed in range(FIRST + part, FIRST + SEEDS, PARTS):
        simulate(case(seed))


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_what_broke_it_once_does_not_break_it_again(seed: int) -> None:
    simulate(case(seed))
