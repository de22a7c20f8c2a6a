# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The variables that roles and playbooks use: internal ones (`role__name`) are set, others are documented."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[3]
ROLES = CHECKOUT / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())
PUBLIC = re.compile(rf"\b(?:{'|'.join(NAMES)})_[a-z0-9]+(?:_[a-z0-9]+)*\b")
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


def test_a_variable_that_is_no_option_of_a_role_is_documented_where_users_look() -> None:
    options = {
        name
        for path in ROLES.glob("*/meta/argument_specs.yml")
        for name in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    }
    everything = [*texts().values(), *(path.read_text() for path in CHECKOUT.glob("playbooks/**/*.yml"))]
    others = set(PUBLIC.findall("\n".join(everything))) - options
    assert "wg_peer_rotate_serial" in others
    pages = "\n".join(path.read_text(encoding="utf-8") for path in CHECKOUT.glob("docs/*.md"))
    for variable in others:
        role = next(name for name in NAMES if variable.startswith(f"{name}_"))
        assert f"`{variable}`" in (ROLES / role / "README.md").read_text(encoding="utf-8")
        assert variable in pages
