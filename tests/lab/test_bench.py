# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""That `make bench` still works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab


def test_the_benchmark_measures_a_join_and_says_what_it_has_not_measured() -> None:
    argv = [sys.executable, "-m", "tests.bench", "--runs", "2", "--only", "join-drop-drop"]
    done = subprocess.run(
        argv, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False
    )
    assert "join drop x drop: s to direct" in done.stdout, done.stdout + done.stderr
    assert "not measured: idle\n" in done.stdout
    assert "FAILED" not in done.stderr, done.stderr
