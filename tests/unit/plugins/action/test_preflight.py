# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The preflight as a task: what it takes from the play, and how it says no."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _system
from ansible_collections.rendezvous.wireguard.plugins.modules import preflight

CHECKOUT = Path(__file__).resolve().parents[4]
NO_SYSTEM: dict[str, Any] = {}
"""With it the module refuses every node, and so says that it was asked."""
RELEASE = _system.os_release(Path("/etc/os-release").read_text(encoding="utf-8"))
THIS_SYSTEM: dict[str, Any] = {
    RELEASE["ID"]: {RELEASE.get("VERSION_ID", "unknown"): {"packages": [], "userspace_packages": []}}
}


def run(directory: Path, variables: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The result of the task on this machine."""
    results = directory / "result.json"
    options = {"interface": "wg0", "address": "192.168.7.5/24", "systems": NO_SYSTEM, **options}
    task = {"rendezvous.wireguard.preflight": options, "register": "result", "failed_when": False}
    report = {
        "ansible.builtin.copy": {"dest": str(results), "content": "{{ result | to_json }}"},
        "vars": {"ansible_python_interpreter": sys.executable},
    }
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [task, report]}
    (directory / "play.json").write_text(json.dumps([play]))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [ansible, "--inventory", "localhost,", "--connection", "local", "play.json"],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read: dict[str, Any] = json.loads(results.read_text())
    return read


def test_variables_of_the_play_are_checked_as_they_turn_out(tmp_path: Path) -> None:
    variables = {"size": 70000, "wg_interface_mtu": "{{ size }}", "wg_interface_fwmark": "{{ no_such }}"}
    problems = run(tmp_path, variables)["problems"]

    assert "localhost: wg_interface_mtu 70000: write a number from 576 to 65535" in problems
    (undefined,) = (problem for problem in problems if "no_such" in problem)
    assert undefined.startswith("localhost: wg_interface_fwmark has no value, since 'no_such' is undefined")
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("role", "refused"),
    [("interface", []), ("hub", ["wg_hub_port 0"]), ("peer", ["wg_peer_port 0", "no hub"])],
)
def test_a_role_has_only_its_own_variables_checked(tmp_path: Path, role: str, refused: list[str]) -> None:
    variables = {"wg_hub_port": 0, "wg_hub_endpoint": "hub.example.net:51820", "wg_peer_port": 0}
    message = run(tmp_path, variables, role=role)["msg"]

    found = [text for text in ("wg_hub_port 0", "wg_peer_port 0", "no hub") if text in message]
    assert found == refused


def test_a_node_is_asked_after_the_inventory_was_found_good(tmp_path: Path) -> None:
    result = run(tmp_path, {})

    assert "is not supported" in result["msg"] or "needs root" in result["msg"]
    assert result["msg"].startswith("localhost: ")
    assert "is not supported" not in run(tmp_path, {"wg_interface_mtu": 1})["msg"]


def test_what_was_checked_says_for_which_interface_and_role(tmp_path: Path) -> None:
    result = run(tmp_path, {}, systems=THIS_SYSTEM, firewall="none", address="192.168.7.5/24")

    assert (result["interface"], result["role"]) == ("wg0", "interface")


def test_a_user_who_is_not_root_is_told_to_become_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert preflight.find({}, {}) == ["needs root: write become: true in the play"]


@pytest.mark.parametrize("broken", ["/no/such/python3", "a script"])
def test_a_node_where_no_module_runs_is_named_with_what_python_said_and_the_remedy(
    tmp_path: Path, broken: str
) -> None:
    if broken == "a script":
        script = tmp_path / "python3"
        script.write_text("#!/bin/sh\necho it is broken >&2\nexit 127\n")
        script.chmod(0o755)
        broken = str(script)
    (problem,) = run(tmp_path, {"ansible_python_interpreter": broken})["problems"]

    assert problem.startswith("localhost: ")
    assert "no/such/python3" in problem or "it is broken" in problem
    assert "ansible_python_interpreter" in problem
