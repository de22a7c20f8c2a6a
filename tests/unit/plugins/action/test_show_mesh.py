# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The table of the mesh, as it is on the terminal of who runs a playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.plugins.filter.test_links_table import agent, direct
from tests.unit.plugins.inventory.fake_hub import ALICE, BOB

CHECKOUT = Path(__file__).resolve().parents[4]
SILENT = {"failed": True, "msg": "wg0: no hub and no agent runs for it"}
ANSWERS = {
    "alice": agent(ALICE, direct(BOB, "192.0.2.6:40122")),
    "bob": agent(BOB, direct(ALICE, "192.0.2.5:51820")),
    "carol": SILENT,
}
LINES = """\
FROM   TO   STATE    VIA        RTT     SINCE  ENDPOINTS, OR WHY NOT DIRECT
alice  bob  direct   reflexive  9.8 ms  2 h    192.0.2.5:51820 <-> 192.0.2.6:40122
carol  -    unknown  -          -       -      wg0: no hub and no agent runs for it
1 pair: 1 direct; 1 did not answer: carol
"""
CALLBACK = """\
import json
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "own_json"
    results = {}

    def v2_runner_on_ok(self, result):
        self.results[result._host.name] = result._result

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.results[result._host.name] = result._result

    def v2_playbook_on_stats(self, stats):
        print(json.dumps(self.results))
"""


def run(
    directory: Path, playbook: str, *arguments: str, callback: str = "default"
) -> subprocess.CompletedProcess[str]:
    """Ansible without anything to ask but this machine; the callback `own_json` writes the last results."""
    (directory / "own_json.py").write_text(CALLBACK)
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), playbook, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env={
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(directory),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_STDOUT_CALLBACK": callback,
        },
    )


def show(
    directory: Path, answers: Any, *arguments: str, callback: str = "default"
) -> subprocess.CompletedProcess[str]:
    """A play that shows what it is given."""
    task = {"rendezvous.wireguard.show_mesh": {"answers": answers}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task]}
    (directory / "play.json").write_text(json.dumps([play]))
    return run(directory, "play.json", "-i", "localhost,", *arguments, callback=callback)


@pytest.mark.parametrize(
    "arguments", [(), ("--forks", "1", "--check")], ids=["usual", "one fork, check mode"]
)
def test_it_is_plain_lines(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = show(tmp_path, ANSWERS, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{LINES}" in done.stdout, done.stdout


def test_where_json_is_wanted_the_output_is_nothing_else_and_has_the_data(tmp_path: Path) -> None:
    done = show(tmp_path, ANSWERS, callback="own_json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)["localhost"]
    assert result["lines"] == LINES.splitlines()
    assert result["unanswered"] == {"carol": SILENT["msg"]}
    assert LINES in done.stderr


def test_what_is_no_answer_is_refused(tmp_path: Path) -> None:
    done = show(tmp_path, {"alice": {"mesh": {}}})
    assert done.returncode == 2
    assert "write registered results of mesh_info by host name" in done.stdout + done.stderr


def test_the_status_of_a_network_in_which_nobody_answers_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.ini"
    inventory.write_text(
        "[all:vars]\n"
        "ansible_connection=local\n"
        "ansible_become=false\n"
        f"ansible_python_interpreter={sys.executable}\n"
        "wg_interface_name=wgnobody0\n"
        "[wireguard_hub]\nhub\n[wireguard_peers]\nalice\n"
    )
    done = run(tmp_path, "rendezvous.wireguard.status", "-i", str(inventory), callback="own_json")
    assert done.returncode == 2, done.stdout + done.stderr
    first, *reasons = json.loads(done.stdout)["hub"]["msg"].splitlines()
    assert first == "no host has answered, so nothing is known of the mesh"
    assert [reason.partition(" no agent")[0] for reason in reasons] == [
        "hub: wgnobody0: no hub and",
        "alice: wgnobody0: no hub and",
    ]
