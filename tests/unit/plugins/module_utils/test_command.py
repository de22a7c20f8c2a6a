# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Commands on a node."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _command

PLUGINS = Path(__file__).resolve().parents[4] / "plugins"


def test_what_a_command_says_and_how_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    script = "cat; echo $LC_ALL; echo no >&2; exit 3"
    assert _command.run(("sh", "-c", script), "read\n") == (3, "read\nC\n", "no\n")
    assert _command.run(["sh", "-c", "cat"]) == (0, "", "")


def test_a_command_that_is_not_there_is_told_from_one_that_fails() -> None:
    assert _command.run(("no-such-command", "x")) == (127, "", "no-such-command: No such file or directory")


def test_commands_of_the_system_are_found_whatever_the_path_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert _command.run(("sysctl", "--version"))[0] == 0


def test_output_that_is_longer_than_a_pipe_is_read_to_its_end() -> None:
    text = "0123456789abcde\n" * 65536
    assert _command.run(("cat",), text) == (0, text, "")


def test_no_command_waits_for_a_second_after_its_end() -> None:
    """Of 1000 that `AnsibleModule.run_command` runs, it is two."""

    def duration_s() -> float:
        began = time.monotonic()
        assert _command.run(("true",))[0] == 0
        return time.monotonic() - began

    assert max(duration_s() for _ in range(1000)) < 0.9


def test_nobody_runs_commands_in_another_way() -> None:
    calls = [path for path in PLUGINS.rglob("*.py") if ".run_command(" in path.read_text(encoding="utf-8")]
    assert calls == []


def test_a_system_that_starts_no_process_is_no_command_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.run", busy)
    with pytest.raises(OSError, match="temporarily"):
        _command.run(("wg", "show"))
