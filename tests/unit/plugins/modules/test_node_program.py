# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The preflight sees whether anything is left to do for the node program, and touches none of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _files
from ansible_collections.rendezvous.wireguard.plugins.modules import preflight
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _program
from tests.unit.plugins.conftest import Host


@dataclass
class Shipped:
    """The program as the module node_program leaves it: compiled, with its link and a file of options."""

    host: Host
    path: Path
    link: Path
    options: Path
    packed: bytes

    @property
    def compiled(self) -> Path:
        (directory,) = (self.path.parent / "__pycache__").iterdir()
        return directory

    def link_to(self, target: str) -> None:
        self.link.unlink()
        self.link.symlink_to(target)

    def preflight(self, check: bool = False) -> dict[str, Any]:
        files = [{"dest": str(self.options), "content": "[agent]\n"}]
        program = {"link": str(self.link), "files": files, "checksum": _program.checksum(self.packed)}
        return self.host.module("preflight", check, interface="wg0", systems={}, program=program)


@pytest.fixture
def shipped(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    path, link, options = tmp_path / "wg-rendezvous.pyz", tmp_path / "wg-rendezvous", tmp_path / "wg0.ini"
    monkeypatch.setattr(_files, "PROGRAM", str(path))
    monkeypatch.setattr(preflight, "find", lambda *_: [])
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    packed = _program.pack_collection(_program.collection_dir())
    path.write_bytes(packed)
    path.chmod(0o755)
    subprocess.run(["python3", path, "--version"], check=True, capture_output=True)
    link.symlink_to(path)
    options.write_text("[agent]\n")
    options.chmod(0o644)
    return Shipped(host, path, link, options, packed)


def test_a_program_that_is_as_wanted_is_left_alone(shipped: Shipped) -> None:
    assert shipped.preflight()["program_current"] is True
    assert shipped.preflight(check=True)["program_current"] is True


CHANGES: dict[str, Callable[[Shipped], object]] = {
    "no program": lambda shipped: shipped.path.unlink(),
    "another program": lambda shipped: shipped.path.write_bytes(shipped.packed + b"."),
    "another mode of the program": lambda shipped: shipped.path.chmod(0o700),
    "no link": lambda shipped: shipped.link.unlink(),
    "another link": lambda shipped: shipped.link_to("/bin/true"),
    "no file": lambda shipped: shipped.options.unlink(),
    "no text": lambda shipped: shipped.options.write_bytes(b"\xff"),
    "another text": lambda shipped: shipped.options.write_text("[hub]\n"),
    "another mode of a file": lambda shipped: shipped.options.chmod(0o600),
    "not compiled": lambda shipped: shutil.rmtree(shipped.path.parent / "__pycache__"),
    "compiled by another Python": lambda shipped: shipped.compiled.rename(
        shipped.compiled.with_suffix(".cpython-39")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_not_as_wanted_is_seen_and_not_touched(shipped: Shipped, change: str) -> None:
    CHANGES[change](shipped)
    before = sorted(path.lstat().st_mtime_ns for path in shipped.path.parent.rglob("*"))
    assert shipped.preflight()["program_current"] is False
    assert sorted(path.lstat().st_mtime_ns for path in shipped.path.parent.rglob("*")) == before


def test_it_may_have_to_be_compiled_for_a_python3_that_is_not_the_modules(
    shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert shipped.preflight()["program_current"] is False


def test_what_is_in_the_way_of_the_link_is_a_problem_before_anything_is_changed(shipped: Shipped) -> None:
    shipped.link.unlink()
    shipped.link.mkdir()
    result = shipped.preflight()
    assert result["failed"]
    assert result["problems"] == [f"{shipped.link} is there and is no symbolic link: move it away"]


def test_a_directory_where_a_file_belongs_is_named_with_the_remedy(shipped: Shipped) -> None:
    shipped.options.unlink()
    shipped.options.mkdir()
    assert shipped.preflight()["problems"] == [f"{shipped.options}: Is a directory: move away what is there"]


def test_a_directory_where_the_program_belongs_is_named_with_the_remedy(shipped: Shipped) -> None:
    shipped.path.unlink()
    shipped.path.mkdir()
    (problem,) = shipped.preflight()["problems"]
    assert problem.startswith(f"{shipped.path} is a directory: move it away")
