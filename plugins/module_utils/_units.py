# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Units of systemd as they are, and what is left to do about them.

Decided by what is there, not by what a run has changed: a unit that started before its files were written is
restarted, also by the run that follows one which was killed in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROPERTIES = (
    "Id",
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "NeedDaemonReload",
    "ExecMainStartTimestampMonotonic",
)
RUNS = ("active", "reloading")

UNIT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "path", "default": []},
    "taken_over": {"type": "bool", "default": False},
}
"""One unit of the modules' option `units`."""


@dataclass(frozen=True)
class Unit:
    """One unit as `systemctl show` has it."""

    name: str
    enabled: bool = False
    runs: bool = False
    stale_manager: bool = False
    """Its file was changed since systemd has read it."""
    started_s: float = 0.0
    """When its main process was started, by CLOCK_MONOTONIC."""


def question(names: Iterable[str]) -> tuple[str, ...]:
    """The command that tells about units; patterns stand for those that systemd has loaded."""
    return ("systemctl", "show", f"--property={','.join(PROPERTIES)}", *names)


def parse(text: str) -> dict[str, Unit]:
    """The answer to `question`, by name."""
    blocks = (dict(line.split("=", 1) for line in block.split("\n") if line) for block in text.split("\n\n"))
    return {block["Id"]: _unit(block) for block in blocks if block}


def _unit(block: Mapping[str, str]) -> Unit:
    return Unit(
        name=block["Id"],
        enabled=block.get("UnitFileState") == "enabled",
        runs=block.get("ActiveState") in RUNS,
        stale_manager=block.get("NeedDaemonReload") == "yes",
        started_s=int(block.get("ExecMainStartTimestampMonotonic") or 0) / 1e6,
    )


def older_than(unit: Unit, files: Iterable[str]) -> bool:
    """Was the unit started before one of these files was written? A time to come tells nothing."""
    now_at = time.time()
    started_at = now_at - (time.clock_gettime(time.CLOCK_MONOTONIC) - unit.started_s)
    return any(started_at < _written_at(file) <= now_at for file in files)


def _written_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def waiting(wanted: Sequence[Mapping[str, Any]], found: Mapping[str, Unit]) -> list[str]:
    """The wanted units that are not enabled, do not run, or run with files that are gone."""
    return [one["name"] for one in wanted if not _is_as_wanted(one, found)]


def _is_as_wanted(wanted: Mapping[str, Any], found: Mapping[str, Unit]) -> bool:
    unit = found.get(wanted["name"])
    return (
        unit is not None
        and unit.enabled
        and unit.runs
        and not unit.stale_manager
        and not older_than(unit, wanted["files"])
    )
