# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""An execution environment that ansible-builder makes from the metadata has what the plugins import."""

from __future__ import annotations

import ast
import fnmatch
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

COLLECTION = Path(__file__).resolve().parents[3]
# On the controller; what is in modules and module_utils runs on nodes.
PLUGINS = ("action", "filter", "inventory", "lookup", "plugin_utils", "test")
COMES_WITH_ANSIBLE = {"ansible", "ansible_collections", "yaml", "jinja2", "packaging"}


def metadata() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((COLLECTION / "meta/execution-environment.yml").read_text())
    return loaded


def required() -> list[Requirement]:
    text = (COLLECTION / metadata()["dependencies"]["python"]).read_text()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def imported(path: Path) -> Iterable[str]:
    """The packages that a plugin imports absolutely."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def test_whatever_plugins_import_on_the_controller_is_required() -> None:
    paths = [path for name in PLUGINS for path in (COLLECTION / "plugins" / name).glob("*.py")]
    found = {name for path in paths for name in imported(path)}
    third_party = found - set(sys.stdlib_module_names) - COMES_WITH_ANSIBLE
    assert "requests" in third_party
    assert third_party <= {requirement.name for requirement in required()}


def test_every_file_that_is_named_is_in_the_collection() -> None:
    ignored = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["build_ignore"]
    files = [name for name in metadata()["dependencies"].values() if isinstance(name, str)]
    assert files
    for name in ("meta/execution-environment.yml", *files):
        assert (COLLECTION / name).is_file()
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in ignored), f"{name} is not in the tarball"


def test_the_tests_run_with_a_version_that_is_required() -> None:
    """So that the lower bound is not above what is tested, and the tested one not excluded."""
    tested = {
        requirement.name: requirement
        for line in (COLLECTION / "requirements-test.txt").read_text().splitlines()
        if line and not line.startswith(("#", "-"))
        for requirement in [Requirement(line)]
    }
    for requirement in required():
        (pinned,) = (specifier.version for specifier in tested[requirement.name].specifier)
        assert requirement.specifier.contains(pinned)
