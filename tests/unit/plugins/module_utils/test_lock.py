# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _node


def add_lines(directory: str, count: int) -> None:
    """Read, change, write, as a module does with a file."""
    path = Path(directory) / "file"
    for _ in range(count):
        with _node.locked(directory):
            lines = path.read_text() if path.exists() else ""
            _node.write_private(str(path), lines + "line\n")


def test_parallel_runs_lose_no_change_of_one_another(tmp_path: Path) -> None:
    directory = str(tmp_path / "wireguard")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_lines, args=(directory, 10)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "wireguard" / "file").read_text() == "line\n" * 40


def test_a_lock_that_is_never_released_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node, "LOCK_TIMEOUT_S", 0.1)
    with (
        _node.locked(str(tmp_path)),
        pytest.raises(_node.NodeError, match="lslocks"),
        _node.locked(str(tmp_path)),
    ):
        pass
