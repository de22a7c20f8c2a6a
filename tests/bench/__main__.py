# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""`make bench`: every figure, its goal, and in brackets what others reach (DESIGN section 6).

usage: python -m tests.bench [--runs N] [--slow-runs N] [--hub-stopped-s S] [--cut-s S...]
                             [--only SCENARIO...]

Exits with 1 when a figure is not as wanted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.bench.hopeless import hopeless, hopeless_cost
from tests.bench.idle import idle
from tests.bench.results import Results
from tests.bench.scenarios import SCENARIOS, Bench
from tests.lab import namespaces

ALL = {**SCENARIOS, "hopeless": hopeless, "idle": idle, "idle-hopeless": hopeless_cost}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--runs", type=int, default=20, help="of a join, half with each end controlling")
    parser.add_argument("--slow-runs", type=int, default=7, help="of what takes longer")
    parser.add_argument("--hub-stopped-s", type=float, default=60.0, help="how long the hub is away")
    parser.add_argument("--cut-s", type=float, nargs="+", default=[10.0, 60.0], help="how long a path is cut")
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(ALL), metavar="SCENARIO")
    options = parser.parse_args()
    results = Results()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, namespaces.swept_when_this_process_ends():
        program = pack(Path(directory))
        bench = Bench(
            program,
            Path(directory),
            options.runs,
            options.slow_runs,
            options.hub_stopped_s,
            options.cut_s,
            results,
        )
        try:
            for name in options.only:
                measure(bench, name)
        finally:
            print(results.table(), flush=True)
            print(not_measured(options.only, results.failures), flush=True)
    return 1 if results.failures or results.missed() else 0


def not_measured(asked: list[str], failed: list[str]) -> str:
    """A line for each scenario whose figures are not in the table, or not all of them."""
    missing = [f"not measured: {name}" for name in ALL if name not in asked]
    return "\n".join([*missing, *(f"FAILED, its figures are not complete: {name}" for name in failed)])


def pack(directory: Path) -> Path:
    """The program as it is shipped."""
    path = directory / "wg-rendezvous.pyz"
    packer = Path(__file__).parents[2] / "plugins/plugin_utils/_program.py"
    subprocess.run([sys.executable, str(packer), str(path)], check=True)
    return path


def measure(bench: Bench, name: str) -> None:
    """One scenario; that it fails is a result as well."""
    began = time.monotonic()
    try:
        ALL[name](bench)
        outcome = "done"
    except Exception:  # the other figures are wanted all the same
        bench.results.failures.append(name)
        outcome = f"FAILED: {traceback.format_exc()}"
    print(f"{name}: {outcome} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
