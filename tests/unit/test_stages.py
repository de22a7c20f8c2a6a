# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What `make test` says of a stage that failed, to somebody who sees its last lines alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def stages() -> ModuleType:
    """The program of `make test`, which is in no package."""
    path = Path(__file__).resolve().parents[2] / ".ci/stages.py"
    spec = importlib.util.spec_from_file_location("stages", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["stages"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MOLECULE = (
    "  \x1b[2m│\x1b[0m tests/test_kills.py::test_runs_that_are_killed FAILED [ 46%]\n"
    "  \x1b[2m│\x1b[0m E               AssertionError: (28, 'rotate_keys killed at task 14')\n"
    "  \x1b[2m│\x1b[0m E               assert 1.37 <= 1.0\n"
    "  \x1b[2m│\x1b[0m E                +  where 1.37 = <test_kills.Watch object at 0x7f9c6cd8a250>.gap_s\n"
    "  \x1b[2m│\x1b[0m \n"
    "  \x1b[2m│\x1b[0m /usr/lib/python3.11/contextlib.py:144: in __exit__\n"
    "  \x1b[2m│\x1b[0m tests/test_kills.py:86: AssertionError\n"
    "  \x1b[2m│\x1b[0m FAILED tests/test_kills.py::test_runs_that_are_killed\n"
    "  \x1b[2m│\x1b[0m =================== 1 failed, 5 passed in 388.85s (0:06:28) ===\n"
    "\x1b[31mERROR   \x1b[0m \x1b[2;36mlife\x1b[0m ➜ verify: \x1b[33mExecuted: Failed\x1b[0m\n"
    "\x1b[31mERROR   \x1b[0m Verifier tests failed\n"
)
"""As of a run that failed; what it says is not at its end."""


def test_what_a_failed_test_says_is_found_in_molecules_frame(stages: ModuleType) -> None:
    assert stages.reasons(MOLECULE) == [
        "E               AssertionError: (28, 'rotate_keys killed at task 14')",
        "E               assert 1.37 <= 1.0",
        "FAILED tests/test_kills.py::test_runs_that_are_killed",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: plugins/modules/peers.py:0:0: invalid-documentation: DOCUMENTATION.author: required key",
        "ERROR! the role 'wg_hub' was not found",
        "[ERROR]: Task failed: Module failed",
        "files/wg_rendezvous/cli.py:3:5: error: Incompatible return value type  [return-value]",
        "files/wg_rendezvous/cli.py:3:5: E501 Line too long (111 > 110)",
        "fatal: [hub]: FAILED! => {",
        "var-naming[no-role-prefix]: Variables names from within roles should use wg_hub_ as a prefix.",
    ],
)
def test_what_other_tools_say_is_a_reason_too(stages: ModuleType, line: str) -> None:
    assert stages.reasons(f"checking\n{line}\n12 files\n") == [line]


def test_the_reason_of_ansible_lint_is_found_under_its_links_and_colours(stages: ModuleType) -> None:
    link = "\x1b]8;;https://docs.ansible.com/\x1b\\var-naming[no-role-prefix]\x1b]8;;\x1b\\"
    line = f"\x1b[31m{link}\x1b[0m\x1b[2m:\x1b[0m \x1b[31mVariables names.\x1b[0m\n"
    assert stages.reasons(line) == ["var-naming[no-role-prefix]: Variables names."]


def test_reasons_are_few_and_short(stages: ModuleType) -> None:
    reasons = stages.reasons("".join(f"E   {number} {'long ' * 100}\n" for number in range(50)))
    assert len("\n".join(reasons)) < 1000
    assert reasons[-1].startswith("E   49 long")


def test_a_log_that_gives_no_reason_is_not_given_one(stages: ModuleType) -> None:
    assert stages.reasons("make[1]: *** [Makefile:118: molecule] Terminated\n") == []
