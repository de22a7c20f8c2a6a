# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Run one case of the simulation again and print what happened (README.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "files")]

from tests.simulation.chaos import CHAOS  # noqa: E402
from tests.simulation.run import Case, Run  # noqa: E402 (needs the path above)
from tests.simulation.scenarios import SCENARIOS, scenario_of  # noqa: E402


def main() -> int:
    """Exit code 0 if everything held that has to hold, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=[*SCENARIOS, CHAOS])
    parser.add_argument("--offset-s", type=float, default=0.0, help="B's agent starts so long after A's")
    parser.add_argument("--larger", choices=("A", "B"), default="A", help="whose key is the larger")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    case = Case(options.scenario, options.offset_s, options.larger, options.seed)
    run = Run(case, scenario_of(case))
    try:
        run.go()
        verdict = "held"
    except AssertionError as error:
        verdict = f"FAILED: {error}"
    print(run.journal)
    print(f"loss {run.loss:g}, one-way delay {run.monitor.one_way_s:.3f} s")
    print(verdict)
    return 0 if verdict == "held" else 1


if __name__ == "__main__":
    sys.exit(main())
