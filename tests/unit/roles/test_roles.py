# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Argument specs say what the defaults say, and every system that is listed resolves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _system
from jinja2.nativetypes import NativeEnvironment
from tests.containers.images import RELEASES

ROLES = Path(__file__).resolve().parents[3] / "roles"
NAMES = ["wg_client_config", "wg_hub", "wg_interface", "wg_peer"]


def load(role: str, path: str) -> Any:
    return yaml.safe_load((ROLES / role / path).read_text(encoding="utf-8"))


def systems() -> Any:
    """As Ansible sees them: the values are templates."""
    variables = load("wg_interface", "vars/main.yml")
    render = NativeEnvironment().from_string
    return {
        name: {version: render(entry).render(variables) for version, entry in versions.items()}
        for name, versions in variables["wg_interface__systems"].items()
    }


def test_all_roles_are_listed_here() -> None:
    assert sorted(path.name for path in ROLES.iterdir() if path.is_dir()) == NAMES


@pytest.mark.parametrize("role", NAMES)
def test_argument_specs_and_defaults_say_the_same(role: str) -> None:
    options = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    specified = {name: option["default"] for name, option in options.items() if "default" in option}

    assert specified == load(role, "defaults/main.yml")


@pytest.mark.parametrize("role", NAMES)
def test_every_variable_carries_the_name_of_its_role_and_is_described(role: str) -> None:
    options = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]

    for name, option in options.items():
        assert name.startswith(f"{role}_")
        assert option["description"]


@pytest.mark.parametrize("role", NAMES)
def test_a_role_claims_no_system_that_no_test_runs_on(role: str) -> None:
    """Those run on the images that have the packages for them. Others may be accepted, as the README says."""
    platforms = load(role, "meta/main.yml")["galaxy_info"]["platforms"]
    claimed = {(one["name"], version) for one in platforms for version in one["versions"]}

    assert claimed == {("Debian", release.codename) for release in RELEASES.values() if release.offered}


@pytest.mark.parametrize("role", NAMES)
def test_the_readme_names_every_variable(role: str) -> None:
    readme = (ROLES / role / "README.md").read_text(encoding="utf-8")
    options = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]

    assert [name for name in options if f"`{name}`" not in readme] == []


@pytest.mark.parametrize(
    "release",
    [
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
        'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n',
        'PRETTY_NAME="Ubuntu 24.04.2 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n',
    ],
    ids=["Debian 12", "Debian 13", "Ubuntu 24.04"],
)
def test_a_supported_system_resolves_to_its_packages(release: str) -> None:
    found = _system.resolve(systems(), _system.os_release(release))

    assert {"wireguard-tools", "nftables", "python3-aiohttp", "python3-prometheus-client"} <= set(
        found["packages"]
    )
    assert found["userspace_packages"] == ["wireguard-go"]


@pytest.mark.parametrize("release", ['ID=debian\nVERSION_ID="9"\n', 'ID=plan9\nVERSION_ID="4"\n', ""])
def test_an_unsupported_system_is_refused_with_a_list_of_supported_ones(release: str) -> None:
    with pytest.raises(
        ValueError, match=r"is not supported; supported are debian 12, debian 13, ubuntu 24\.04"
    ):
        _system.resolve(systems(), _system.os_release(release))
