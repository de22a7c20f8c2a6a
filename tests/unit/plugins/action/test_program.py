# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Packing the node program: one file, the same bytes for the same sources."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._program import (
    collection_dir,
    main,
    pack,
    pack_collection,
)

CHECKOUT = Path(__file__).resolve().parents[4]
SCRIPT = CHECKOUT / "plugins/plugin_utils/_program.py"


def names(program: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(program)).namelist()


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    """A small program and what it shares with the modules."""
    program, shared = tmp_path / "program", tmp_path / "shared"
    (program / "hub").mkdir(parents=True)
    (program / "cli.py").write_text("def main():\n    print('hello')\n    return 3\n")
    shutil.copy(CHECKOUT / "files/wg_rendezvous/__main__.py", program)
    (program / "hub" / "__init__.py").write_text("")
    (program / "__init__.py").write_text("")
    shared.mkdir()
    (shared / "__init__.py").write_text("")
    return program, shared


def test_the_program_runs(sources: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "program.pyz"
    target.write_bytes(pack(str(sources[0]), str(sources[1])))
    target.chmod(0o755)
    run = subprocess.run([target], check=False, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (3, "hello\n")


def test_who_has_nothing_but_the_installed_collection_gets_the_program_by_the_documented_line(
    tmp_path: Path,
) -> None:
    (line,) = re.findall(
        r"^python3 (.*_program\.py.*)$", (CHECKOUT / "docs/by-hand.md").read_text(), re.MULTILINE
    )
    script, target = line.replace("~/.ansible/collections", str(CHECKOUT / "build/collections")).split()
    subprocess.run([sys.executable, script, target], check=True, cwd=tmp_path)
    assert (tmp_path / target).read_bytes() == pack_collection(collection_dir())


def test_only_sources_are_packed_and_in_order(sources: tuple[Path, Path]) -> None:
    program, shared = sources
    (program / "__pycache__").mkdir()
    (program / "__pycache__" / "cli.cpython-311.pyc").write_bytes(b"x")
    (program / ".cli.py.swp").write_bytes(b"x")
    (program / "_wireguard").symlink_to(shared)
    assert names(pack(str(program), str(shared))) == [
        "DIGEST",
        "__main__.py",
        "wg_rendezvous/__init__.py",
        "wg_rendezvous/__main__.py",
        "wg_rendezvous/_wireguard/__init__.py",
        "wg_rendezvous/cli.py",
        "wg_rendezvous/hub/__init__.py",
    ]


def test_neither_place_nor_time_nor_modes_change_the_bytes(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    program, shared = sources
    first = pack(str(program), str(shared))
    moved = tmp_path / "elsewhere"
    shutil.copytree(program, moved)
    # In an installed collection the link may have become a directory.
    shutil.copytree(shared, moved / "_wireguard")
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    assert pack(str(moved), str(shared)) == first


def test_a_changed_source_changes_the_bytes(sources: tuple[Path, Path]) -> None:
    program, shared = sources
    first = pack(str(program), str(shared))
    (shared / "__init__.py").write_text("# changed\n")
    assert pack(str(program), str(shared)) != first


def test_the_script_and_the_plugin_make_the_same_bytes_twice(tmp_path: Path) -> None:
    written = []
    for name in ("first.pyz", "second/program.pyz"):
        subprocess.run([sys.executable, SCRIPT, tmp_path / name], check=True)
        written.append((tmp_path / name).read_bytes())
        assert os.access(tmp_path / name, os.X_OK)
    assert written[0] == written[1] == pack_collection(collection_dir())


def test_the_whole_program_is_in_it() -> None:
    packed = set(names(pack_collection(collection_dir())))
    here = {
        f"wg_rendezvous/{path}"
        for path in ("cli.py", "hub/registry.py", "_wireguard/dump.py", "core/link.py")
    }
    assert here <= packed
    assert not [name for name in packed if "__pycache__" in name]


def test_the_shared_parsers_are_a_relative_link_in_the_checkout() -> None:
    link = CHECKOUT / "files/wg_rendezvous/_wireguard"
    assert link.readlink() == Path("../../plugins/module_utils/_wireguard")


def test_the_script_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
