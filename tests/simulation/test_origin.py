# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""With an agent of the origin's protocol on the other side a pair gets direct and stays it, in all phases."""

from __future__ import annotations

import pytest
from tests.simulation.run import Case
from tests.simulation.scenarios import ORIGIN, SCENARIOS, simulate

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("larger", ["A", "B"])
@pytest.mark.parametrize("scenario", ORIGIN)
def test_gets_direct(scenario: str, larger: str) -> None:
    for second in range(14):
        seed = 1000 * list(SCENARIOS).index(scenario) + 10 * second + (larger == "B")
        simulate(Case(scenario, float(second), larger, seed))
