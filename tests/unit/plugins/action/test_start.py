# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How the packed program starts: from bytecode, wherever it may keep some, and from its own version of it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._program import pack

from wg_rendezvous.__main__ import only_owner_writes

CHECKOUT = Path(__file__).resolve().parents[4]
SAYS_WHERE = "def main():\n    print(__file__)\n"
WAITS_THEN_LOADS = """
def main():
    print("runs", flush=True)
    input()
    from . import late
    print(late.VERSION, flush=True)
"""


class Program:
    """A small program, packed again for each version, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.sources, self.shared = directory / "sources", directory / "shared"
        self.sources.mkdir()
        self.shared.mkdir()
        (self.sources / "__init__.py").write_text("")
        shutil.copy(CHECKOUT / "files/wg_rendezvous/__main__.py", self.sources)
        self.path = directory / "bin" / "program.pyz"
        self.path.parent.mkdir(mode=0o755)

    def pack(self, **modules: str) -> None:
        """Put this version in the place of the one before, as a copy by Ansible does."""
        for name, text in modules.items():
            (self.sources / f"{name}.py").write_text(text)
        coming = self.path.with_suffix(".coming")
        coming.write_bytes(pack(str(self.sources), str(self.shared)))
        coming.replace(self.path)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self) -> str:
        return subprocess.run([sys.executable, self.path], check=True, capture_output=True, text=True).stdout

    @property
    def from_archive(self) -> str:
        """What the first version says when it runs from the file itself."""
        return f"{self.path}/wg_rendezvous/cli.py\n"

    def versions(self) -> set[str]:
        cache = self.path.parent / "__pycache__"
        return {path.name for path in cache.iterdir()} if cache.exists() else set()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    made = Program(tmp_path)
    made.pack(cli=SAYS_WHERE)
    return made


@pytest.fixture
def running(program: Program) -> Iterator[subprocess.Popen[str]]:
    """A version that has not loaded all of itself yet."""
    program.pack(cli=WAITS_THEN_LOADS, late="VERSION = 'first'\n")
    with program.start() as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        yield process
        process.kill()


def test_every_start_is_from_bytecode(program: Program) -> None:
    for _ in range(2):
        bytecode = Path(importlib.util.cache_from_source(program.run().strip()))
        assert bytecode.exists()
        assert program.path.parent / "__pycache__" in bytecode.parents
    assert len(program.versions()) == 1


def test_a_program_that_runs_loads_the_rest_of_its_own_version(
    program: Program, running: subprocess.Popen[str]
) -> None:
    program.pack(cli=SAYS_WHERE, late="VERSION = 'second'\n")
    program.run()
    assert len(program.versions()) == 2
    assert running.communicate("go\n")[0] == "first\n"


def test_a_version_goes_when_nothing_runs_from_it(program: Program, running: subprocess.Popen[str]) -> None:
    before = program.versions()
    running.communicate("go\n")
    program.pack(cli=SAYS_WHERE, late="VERSION = 'second'\n")
    program.run()
    assert len(program.versions()) == 1
    assert program.versions().isdisjoint(before)


def test_starts_at_the_same_time_do_not_disturb_one_another(program: Program) -> None:
    said = {process.communicate()[0] for process in [program.start() for _ in range(8)]}
    assert said <= {program.from_archive, program.run()}
    assert len(program.versions()) == 1


def test_what_was_left_half_unpacked_is_made_anew(program: Program) -> None:
    program.run()
    (version,) = (program.path.parent / "__pycache__").iterdir()
    (version / "wg_rendezvous/cli.py").unlink()
    version.rename(f"{version}.coming")
    assert program.run() != program.from_archive
    assert len(program.versions()) == 1


@pytest.mark.parametrize("what", ["__pycache__", "version"])
def test_what_others_may_have_written_is_not_run(program: Program, what: str) -> None:
    program.run()
    cache = program.path.parent / "__pycache__"
    (cache if what == "__pycache__" else next(cache.iterdir())).chmod(0o777)
    assert program.run() == program.from_archive


@pytest.mark.parametrize(
    ("mode", "owner", "trusted"),
    [
        (0o755, os.geteuid(), True),
        (0o755, 0, True),
        (0o775, 0, False),
        (0o757, 0, False),
        (0o755, 12345, False),
    ],
)
def test_only_what_we_or_root_alone_could_write_is_trusted(mode: int, owner: int, trusted: bool) -> None:
    about = os.stat_result((stat.S_IFDIR | mode, 1, 1, 2, owner, 0, 0, 0, 0, 0))
    assert only_owner_writes(about) == trusted


def test_where_nothing_can_be_written_it_runs_all_the_same(program: Program) -> None:
    (program.path.parent / "__pycache__").write_text("")
    assert program.run() == program.from_archive


def test_a_link_to_it_will_do(program: Program, tmp_path: Path) -> None:
    link = tmp_path / "program"
    link.symlink_to(program.path)
    said = subprocess.run([sys.executable, link], check=True, capture_output=True, text=True).stdout
    assert said == program.run()
    assert not (tmp_path / "__pycache__").exists()
