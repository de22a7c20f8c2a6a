# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Shipping the node program, by ansible-playbook on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.rendezvous.wireguard.plugins.action.node_program import ActionModule
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._program import (
    collection_dir,
    pack_collection,
)

CHECKOUT = Path(__file__).resolve().parents[4]


def names(program: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(program)).namelist()


class Play:
    """A playbook for this machine that ships the program to `dest`."""

    def __init__(self, directory: Path) -> None:
        self.dest = directory / "lib" / "wg-rendezvous" / "wg-rendezvous.pyz"
        self._directory = directory

    def ship(self, *, check_mode: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
        """A task."""
        arguments = {"dest": str(self.dest), **arguments}
        return {"rendezvous.wireguard.node_program": arguments, "check_mode": check_mode, "diff": diff}

    def run(self, *tasks: dict[str, Any]) -> list[dict[str, Any]]:
        """The results of these tasks; one that fails does not stop the others."""
        registered = [{**task, "register": f"result_{number}"} for number, task in enumerate(tasks)]
        names = ", ".join(task["register"] for task in registered)
        results = self._directory / "results.json"
        report = {"ansible.builtin.copy": {"dest": str(results), "content": f"{{{{ [{names}] | to_json }}}}"}}
        play = [
            {
                "hosts": "localhost",
                "gather_facts": False,
                "ignore_errors": True,
                "tasks": [*registered, report],
            }
        ]
        (self._directory / "play.json").write_text(json.dumps(play))
        run = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                "-i",
                "localhost,",
                "-c",
                "local",
                "play.json",
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=self._directory,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            },
        )
        assert run.returncode == 0, run.stdout + run.stderr
        read: list[dict[str, Any]] = json.loads(results.read_text())
        return read


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def test_it_is_shipped_once(play: Play) -> None:
    first, second, checked = play.run(play.ship(diff=True), play.ship(), play.ship(check_mode=True))
    assert first["changed"]
    assert first["checksum"] in first["diff"][0]["after"]
    assert hashlib.sha1(play.dest.read_bytes()).hexdigest() == first["checksum"]
    assert names(play.dest.read_bytes()) == names(pack_collection(collection_dir()))
    assert play.dest.stat().st_mode & 0o777 == 0o755
    assert play.dest.parent.stat().st_mode & 0o777 == 0o755
    assert not second["changed"]
    assert not checked["changed"]


@pytest.mark.parametrize(
    ("missing", "check_mode", "sent"),
    [
        (False, False, [False, True]),
        (True, False, [True]),
        ("yes", False, [True]),
        (True, True, [False]),
    ],
)
def test_a_node_that_is_known_to_lack_it_is_not_asked_first(
    monkeypatch: pytest.MonkeyPatch, missing: Any, check_mode: bool, sent: list[bool]
) -> None:
    executed: list[bool] = []

    def execute(_: str, arguments: dict[str, Any], **__: Any) -> dict[str, Any]:
        executed.append("program" in arguments)
        return {"program_wanted": not check_mode and not executed[-1]}

    action = ActionModule.__new__(ActionModule)
    action._task = SimpleNamespace(args={"missing": missing}, check_mode=check_mode)
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(action, "_execute_module", execute)
    assert action.run()["program_wanted"] is False
    assert executed == sent


def test_another_program_or_mode_is_put_right_but_not_in_check_mode(play: Play) -> None:
    play.dest.parent.mkdir(parents=True)
    play.dest.write_text("another")
    other_mode = {"ansible.builtin.file": {"path": str(play.dest), "mode": "0600"}}
    checked, same, shipped, _, moded, other = play.run(
        play.ship(check_mode=True),
        {"ansible.builtin.stat": {"path": str(play.dest)}},
        play.ship(diff=True),
        other_mode,
        play.ship(),
        play.ship(mode="0750"),
    )
    assert checked["changed"]
    assert same["stat"]["size"] == len("another")
    assert shipped["changed"]
    assert "sha1" in shipped["diff"][0]["before"]
    assert hashlib.sha1(play.dest.read_bytes()).hexdigest() == shipped["checksum"]
    assert moded["changed"]
    assert other["changed"]
    assert play.dest.stat().st_mode & 0o777 == 0o750


def test_check_mode_runs_to_its_end_where_not_even_the_directory_exists(play: Play) -> None:
    (result,) = play.run(play.ship(check_mode=True, diff=True))
    assert result["changed"]
    assert result["diff"][0]["before"] == ""
    assert not play.dest.parent.exists()


def test_link_and_files_come_with_it_each_with_its_difference(play: Play) -> None:
    link, unit = play.dest.parents[2] / "bin/wg-rendezvous", play.dest.parents[2] / "system/agent.service"
    together: dict[str, Any] = {"link": str(link), "files": [{"dest": str(unit), "content": "[Unit]\n"}]}
    checked, first, second = play.run(
        play.ship(check_mode=True, diff=True, **together),
        play.ship(diff=True, **together),
        play.ship(diff=True, **together),
    )
    for result in (checked, first):
        assert [(entry["after_header"], entry["after"]) for entry in result["diff"]] == [
            (f"{play.dest} (after)", f"sha1 {first['checksum']}\n"),
            (f"{link} (after)", f"link to {play.dest}\n"),
            (f"{unit} (after)", "[Unit]\n"),
        ]
    assert (second["changed"], second["diff"]) == (False, [])
    assert link.resolve() == play.dest
    assert unit.read_text() == "[Unit]\n"
    assert unit.stat().st_mode & 0o777 == 0o644


def test_what_is_where_the_link_belongs_is_left_alone_and_nothing_else_changes(play: Play) -> None:
    link = play.dest.parents[2] / "wg-rendezvous"
    link.mkdir()
    checked, result = play.run(play.ship(check_mode=True, link=str(link)), play.ship(link=str(link)))
    assert checked["msg"] == result["msg"] == f"{link} is there and is no symbolic link: move it away"
    assert not play.dest.exists()


def test_what_cannot_be_is_a_clear_error(play: Play) -> None:
    results = play.run(play.ship(dest="wg-rendezvous.pyz"), play.ship(dest="/tmp"), play.ship(colour="red"))
    for result, says in zip(results, ("absolute", "is a directory", "colour"), strict=True):
        assert result["failed"]
        assert says in result["msg"]
