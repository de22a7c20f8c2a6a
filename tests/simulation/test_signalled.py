# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Agents that signal: joined at once behind every pair of NATs, repaired fault by fault, and quiet
otherwise."""

from __future__ import annotations

import pytest
from tests.simulation.crowds import CROWDS
from tests.simulation.cuts import CUTS, STARS
from tests.simulation.run import Case
from tests.simulation.scenarios import SCENARIOS, simulate
from tests.simulation.signalled import SIGNALLED

pytestmark = pytest.mark.sim

OFFSETS_S = (0.0, 0.07, 0.6)
"""How long after A's agent B's one starts: at once, within a round trip, later."""
FEW = {
    "quiet when hopeless, fresh ports: off",
    "quiet when hopeless, fresh ports: rebind",
    "signals: six of them",
    "hub gone, NATs rebooted",
    "clock ahead and back",
    "idle",
    "signals: ten of them",
    "hub away for an hour, NATs rebooted",
    "hub away for an hour, peers removed",
    "path cut for 5 minutes, hub away meanwhile",
    "path cut for 5 minutes, A's agent restarted meanwhile",
    "path cut for 5 minutes, B's agent restarted meanwhile",
    "path cut for 5 minutes, units restarted for fresh ports",
}


@pytest.mark.parametrize("larger", ["A", "B"])
@pytest.mark.parametrize("scenario", SIGNALLED)
def test_holds(scenario: str, larger: str) -> None:
    few = scenario in FEW or scenario in CUTS or scenario in CROWDS
    for nth, offset_s in enumerate(OFFSETS_S[: 1 if few else None]):
        seed = 1000 * list(SCENARIOS).index(scenario) + 10 * nth + (larger == "B")
        simulate(Case(scenario, offset_s, larger, seed))


@pytest.mark.parametrize("scenario", STARS)
def test_many_links_are_back_as_soon_as_one(scenario: str) -> None:
    simulate(Case(scenario, 0.07, "B", 5))
