# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What happens to a direct link in its life: agents die, NATs forget, somebody else removes peers.

The relay takes over within two passes, nothing is left half moved for good, and nobody takes a fresh port
for it.
"""

from __future__ import annotations

import pytest
from tests.simulation.run import Case
from tests.simulation.scenarios import LIFE, SCENARIOS, simulate

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("larger", ["A", "B"])
@pytest.mark.parametrize("scenario", LIFE)
def test_survives(scenario: str, larger: str) -> None:
    for second in range(14):
        seed = 1000 * list(SCENARIOS).index(scenario) + 10 * second + (larger == "B")
        simulate(Case(scenario, float(second), larger, seed))
