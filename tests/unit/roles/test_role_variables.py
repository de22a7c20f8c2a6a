# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Every internal variable (`role__name`) that a role uses is set somewhere in the roles."""

from __future__ import annotations

import re
from pathlib import Path

ROLES = Path(__file__).parents[3] / "roles"
INTERNAL = re.compile(r"\bwg_[a-z_]+?__[a-z_]+\b")


def texts() -> dict[Path, str]:
    folders = ("tasks", "templates", "handlers", "vars", "defaults")
    return {
        path: path.read_text(encoding="utf-8")
        for folder in folders
        for path in ROLES.glob(f"*/{folder}/*")
        if path.is_file()
    }


def test_no_internal_variable_is_used_that_nothing_sets() -> None:
    everything = "\n".join(texts().values())
    set_somewhere = set(
        re.findall(r"^\s*(?:register: )?(wg_[a-z_]+?__[a-z_]+)(?::|$)", everything, re.MULTILINE)
    )

    assert set(INTERNAL.findall(everything)) - set_somewhere == set()
    assert set_somewhere
