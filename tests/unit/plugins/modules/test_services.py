# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Units run with the files as they are, decided from what is there."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _command, _system, _units
from tests.unit.plugins.conftest import Host

TUNNEL, AGENT = "wg-quick@wg0.service", "wg-rendezvous-agent@wg0.service"


@dataclass
class Systemd:
    """Two units, as `systemctl` shows them; `calls` are those that change something."""

    states: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    answers: bool = True

    def running(self, name: str, started_s: float, **properties: str) -> None:
        self.states[name] = {
            "UnitFileState": "enabled",
            "ActiveState": "active",
            "NeedDaemonReload": "no",
            "ExecMainStartTimestampMonotonic": str(int(started_s * 1e6)),
            **properties,
        }

    def show(self, *_command: str) -> str | None:
        if not self.answers:
            return None
        blocks = [{"Id": name, **state} for name, state in self.states.items()]
        return "\n\n".join("\n".join(map("=".join, block.items())) for block in blocks) + "\n"

    def run(self, argv: Sequence[str], _stdin: str | None = None) -> tuple[int, str, str]:
        self.calls.append(" ".join(argv[1:]))
        return 0, "", ""


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, host: Host) -> Systemd:
    host.node.installed = False  # none of its commands is used
    fake = Systemd()
    monkeypatch.setattr(_system, "run", fake.show)
    monkeypatch.setattr(_command, "run", fake.run)
    return fake


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A file that was written ten seconds ago."""
    path = tmp_path / "program"
    path.write_text("")
    os.utime(path, (time.time() - 10,) * 2)
    return path


def ago(seconds: float) -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC) - seconds


def services(host: Host, program: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    units = [{"name": TUNNEL}, {"name": AGENT, "files": [str(program)]}]
    return host.module("services", check, units=units, **options)


def test_what_does_not_run_is_enabled_and_started_together(
    host: Host, systemd: Systemd, program: Path
) -> None:
    systemd.running(TUNNEL, 0, ActiveState="failed", UnitFileState="disabled")
    result = services(host, program)

    assert systemd.calls == [f"enable {TUNNEL} {AGENT}", f"start {TUNNEL} {AGENT}"]
    assert (result["started"], result["restarted"]) == ([TUNNEL, AGENT], [])
    headers = [entry["after_header"].split()[0] for entry in result["diff"]]
    assert headers == [TUNNEL, AGENT, TUNNEL, AGENT]


def test_what_runs_as_it_should_is_left_alone(host: Host, systemd: Systemd, program: Path) -> None:
    systemd.running(TUNNEL, ago(100))
    systemd.running(AGENT, ago(5))
    result = services(host, program)

    assert (result["changed"], systemd.calls) == (False, [])


def test_a_unit_older_than_its_files_is_restarted_and_the_tunnel_never(
    host: Host, systemd: Systemd, program: Path
) -> None:
    systemd.running(TUNNEL, ago(100), NeedDaemonReload="yes")
    systemd.running(AGENT, ago(15))
    result = services(host, program)

    assert systemd.calls == ["daemon-reload", f"restart {AGENT}"]
    assert result["restarted"] == [AGENT]


def test_refreshed_starts_nothing(host: Host, systemd: Systemd, program: Path) -> None:
    systemd.running("wg-rendezvous-agent@wg1.service", ago(15), UnitFileState="disabled")
    systemd.running(AGENT, ago(15), ActiveState="inactive")
    units = [{"name": "wg-rendezvous-agent@*.service", "files": [str(program)]}]
    result = host.module("services", units=units, state="refreshed")

    assert systemd.calls == ["restart wg-rendezvous-agent@wg1.service"]
    assert result["restarted"] == ["wg-rendezvous-agent@wg1.service"]


def test_check_mode_says_the_same_and_does_nothing_also_before_systemd_knows_the_units(
    host: Host, systemd: Systemd, program: Path
) -> None:
    systemd.answers = False
    result = services(host, program, check=True)

    assert result["started"] == [TUNNEL, AGENT]
    assert systemd.calls == []
    assert "systemd does not answer" in services(host, program)["msg"]


def test_a_file_from_the_future_or_none_tells_nothing(program: Path) -> None:
    unit = _units.Unit(AGENT, runs=True, started_s=ago(5))
    os.utime(program, (time.time() + 3600,) * 2)

    assert not _units.older_than(unit, [str(program), f"{program}.missing"])


@pytest.mark.parametrize(
    ("properties", "waits"),
    [
        ({}, False),
        ({"UnitFileState": "disabled"}, True),
        ({"ActiveState": "activating"}, True),
        ({"NeedDaemonReload": "yes"}, True),
        ({"ExecMainStartTimestampMonotonic": "1"}, True),
    ],
)
def test_the_preflight_is_told_what_waits(
    systemd: Systemd, program: Path, properties: dict[str, str], waits: bool
) -> None:
    systemd.running(AGENT, ago(5), **properties)
    found = _units.parse(systemd.show() or "")

    assert _units.waiting([{"name": AGENT, "files": [str(program)]}], found) == ([AGENT] if waits else [])
    assert _units.waiting([{"name": TUNNEL, "files": []}], found) == [TUNNEL]


def test_a_unit_whose_work_is_taken_over_is_not_asked_to_end_first(
    host: Host, systemd: Systemd, program: Path
) -> None:
    systemd.running(TUNNEL, ago(60))
    systemd.running(AGENT, ago(60))
    units = [{"name": TUNNEL}, {"name": AGENT, "files": [str(program)], "taken_over": True}]
    assert host.module("services", True, units=units)["restarted"] == [AGENT]
    assert systemd.calls == []
    host.module("services", units=units)
    assert systemd.calls == [f"kill --kill-who=main --signal=SIGKILL {AGENT}", f"restart {AGENT}"]
