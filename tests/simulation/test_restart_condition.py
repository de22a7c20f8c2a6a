# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The restart condition fires when and only when it should (DESIGN §5, "Without signals").

Every scenario runs over the phase offsets of the two 13 s loops and with the keys ordered either way. Every
run has its own seed, from which its delays, jitter and loss come.
"""

from __future__ import annotations

import pytest
from tests.simulation.run import Case, Run
from tests.simulation.scenarios import HOPELESS, RESTART_CONDITION, SCENARIOS, simulate, simulate_all

pytestmark = pytest.mark.sim

HALF_SECONDS = [half / 2 for half in range(27)]
"""0 to 13 s: one whole loop."""

IN_PHASE = [0.02, 0.05, 0.1, 0.2]
"""Both pass at almost the same time, again and again: packets cross."""

AT_ONCE = [25.0, 25.5, 25.8, 25.9, 26.0, 26.05, 26.1, 26.2, 26.5, 27.0]
"""B, whose key is the larger, starts about two passes after A: both conditions come true at the same time,
before either end can have heard of the other's fresh port."""

SPARSE = [0.0, 4.5, 9.0, 12.5]
"""For what has to run long, as the fresh ports get rarer, and for many agents."""


def cases(scenario: str, larger: str) -> list[Case]:
    """The cases of one scenario and one order of the keys."""
    many = len(SCENARIOS[scenario].nats) > 2
    offsets = SPARSE if many or scenario in HOPELESS else HALF_SECONDS + IN_PHASE
    first_seed = 1000 * list(SCENARIOS).index(scenario) + (500 if larger == "B" else 0)
    return [Case(scenario, offset_s, larger, first_seed + nth) for nth, offset_s in enumerate(offsets)]


@pytest.mark.parametrize("larger", ["A", "B"])
@pytest.mark.parametrize("scenario", RESTART_CONDITION)
def test_fires_when_and_only_when_it_should(scenario: str, larger: str) -> None:
    simulate_all(cases(scenario, larger))


@pytest.mark.parametrize("scenario", ["learning window", "B accepts, A first"])
def test_two_that_fire_at_the_same_moment_need_no_second_fresh_port(scenario: str) -> None:
    first_seed = 1000 * list(SCENARIOS).index(scenario) + 800
    late = [Case(scenario, offset_s, "B", first_seed + nth) for nth, offset_s in enumerate(AT_ONCE * 3)]
    # What tells either end in time may be lost, too; then a later fresh port has to do.
    runs = [simulate(case) for case in late if Run(case, SCENARIOS[scenario]).loss == 0]
    at_once = [run for run in runs if _fired_at_once(run)]
    assert at_once, "this shows nothing: no two agents fired at the same moment"


def _fired_at_once(run: Run) -> bool:
    a, b = (agent.fresh_ports_at[:1] for agent in (run.a, run.b))
    return bool(a and b) and abs(a[0] - b[0]) < 0.2


@pytest.mark.parametrize("larger", ["A", "B"])
@pytest.mark.parametrize("scenario", HOPELESS)
def test_without_hope_it_stays_relayed_quiet_and_within_its_budget(scenario: str, larger: str) -> None:
    simulate_all(cases(scenario, larger))


@pytest.mark.parametrize("scenario", ["learning window", "healthy drop"])
def test_one_seed_gives_one_run(scenario: str) -> None:
    case = Case(scenario, 2.5, "B", 7)
    assert str(simulate(case).journal) == str(simulate(case).journal)
