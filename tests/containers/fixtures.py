# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""A pytest plugin for the tests of a Molecule scenario (`pytest -p tests.containers.fixtures`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.containers.mesh import Mesh, PlaybookRun, ansible_playbook

RunSite = Callable[..., PlaybookRun]
Report = Callable[[str], None]

_figures = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """report("direct after 2.1 s"): shown at the end of the run."""
    return pytestconfig.stash.setdefault(_figures, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what was reported."""
    for figure in config.stash.get(_figures, []):
        terminalreporter.write_line(f"measured: {figure}")


@pytest.fixture(scope="module")
def scenario(request: pytest.FixtureRequest) -> Path:
    """The scenario's directory."""
    return request.path.parent.parent


@pytest.fixture(scope="module")
def mesh(scenario: Path) -> Mesh:
    """The machines of the scenario."""
    return Mesh(scenario / "network.yml")


@pytest.fixture(scope="module")
def run_site(scenario: Path) -> RunSite:
    """run_site("--limit=carol", inventories=["inventory.yml", "carol.yml"]): site.yml once more."""

    def run(*arguments: str, inventories: tuple[str, ...] = ("inventory.yml",)) -> PlaybookRun:
        files = [scenario / name for name in inventories]
        return ansible_playbook("rendezvous.wireguard.site", files, *arguments)

    return run
