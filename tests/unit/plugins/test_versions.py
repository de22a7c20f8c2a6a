# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What is new since when: the metadata, the program, the documentation and the changelog say the same."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
VERSION: str = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["version"]
KINDS = ("filter", "inventory", "test")


def released() -> dict[tuple[str, str], str]:
    """The release that has brought a module, plugin or role, by kind and name."""
    found = {}
    releases = yaml.safe_load((CHECKOUT / "changelogs/changelog.yaml").read_text())["releases"]
    for version, release in releases.items():
        kinds = {
            "modules": release.get("modules", []),
            **release.get("plugins", {}),
            **release.get("objects", {}),
        }
        found.update({(kind, one["name"]): version for kind, added in kinds.items() for one in added})
    return found


def documented() -> Iterator[tuple[str, str, Any]]:
    """Kind, name and documentation of each module, plugin and role."""
    for kind in ("modules", *KINDS):
        for path in sorted((CHECKOUT / "plugins" / kind).glob("[!_]*.py")):
            name = f"ansible_collections.rendezvous.wireguard.plugins.{kind}.{path.stem}"
            yield kind, path.stem, yaml.safe_load(importlib.import_module(name).DOCUMENTATION)
    for path in sorted(CHECKOUT.glob("roles/*/meta/argument_specs.yml")):
        yield "role", path.parents[1].name, yaml.safe_load(path.read_text())["argument_specs"]["main"]


@pytest.mark.parametrize(
    ("kind", "name", "documentation"), list(documented()), ids=lambda part: str(part)[:20]
)
def test_everything_is_there_since_the_release_that_the_changelog_names(
    kind: str, name: str, documentation: Any
) -> None:
    assert documentation["version_added"] == released().get((kind, name), VERSION)


def test_the_program_has_the_version_of_the_collection() -> None:
    text = (CHECKOUT / "files/wg_rendezvous/__init__.py").read_text()
    assert re.findall(r'^__version__ = "(.*)"$', text, re.MULTILINE) == [VERSION]


def test_no_page_names_the_version_of_the_tarball() -> None:
    pages = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("roles/*/README.md")]
    assert [page.name for page in pages if re.search(r"rendezvous-wireguard-\d", page.read_text())] == []
