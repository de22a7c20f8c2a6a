# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""`module_defaults` for all modules that work on an interface."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (CHECKOUT / "plugins/modules").glob("[!_]*.py"))


def group() -> list[str]:
    runtime = yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())
    members: list[str] = runtime["action_groups"]["all"]
    return members


def plugin(kind: str, name: str) -> Any:
    return importlib.import_module(f"ansible_collections.rendezvous.wireguard.plugins.{kind}.{name}")


def documentation(module: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(plugin("modules", module).DOCUMENTATION)
    return loaded


@cache
def options(module: str) -> dict[str, Any]:
    """Those of the module, and of the fragments that it extends."""
    documented = documentation(module)
    found = dict(documented.get("options", {}))
    for fragment in documented.get("extends_documentation_fragment", []):
        name, _dot, part = fragment.removeprefix("rendezvous.wireguard.").partition(".")
        text = getattr(plugin("doc_fragments", name).ModuleDocFragment, part.upper() or "DOCUMENTATION")
        found.update(yaml.safe_load(text)["options"])
    return found


def test_the_group_has_exactly_the_modules_that_take_an_interface() -> None:
    assert group() == [name for name in MODULES if "interface" in options(name)]


def tasks(listed: Any) -> Iterator[dict[str, Any]]:
    """Those of a file or a play, also in blocks."""
    for entry in listed or []:
        yield entry
        for part in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from tasks(entry.get(part))


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for files in ("playbooks/**/*.yml", "roles/*/tasks/*.yml", "roles/*/handlers/*.yml")
        for path in CHECKOUT.glob(files)
    ),
    ids=lambda path: str(path.relative_to(CHECKOUT)),
)
def test_no_alias_of_an_option_stands_beside_the_default_of_the_group(path: Path) -> None:
    for task in tasks(yaml.safe_load(path.read_text())):
        for module in MODULES:
            given = task.get(f"rendezvous.wireguard.{module}") or {}
            aliases = {alias for option in options(module).values() for alias in option.get("aliases", [])}
            assert aliases.isdisjoint(given), f"{module}: write the option itself"


def test_the_documentation_of_each_says_that_it_is_in_the_group() -> None:
    fragment = "rendezvous.wireguard.attributes.action_group"
    says_so = [m for m in MODULES if fragment in documentation(m).get("extends_documentation_fragment", [])]
    assert says_so == group()


def test_a_default_of_the_group_is_for_all_and_a_task_can_say_otherwise(tmp_path: Path) -> None:
    """Nothing runs as these interfaces, so that the modules say their names."""
    key = tmp_path / "wg7.key"
    address = {"address": "192.168.7.5/24", "directory": str(tmp_path), "private_key_path": str(key)}
    tasks: list[dict[str, Any]] = [
        {"rendezvous.wireguard.interface_info": {}, "register": "info"},
        {"rendezvous.wireguard.interface_info": {"interface": "wgown0"}, "register": "own"},
        {"rendezvous.wireguard.mesh_info": {}, "register": "mesh", "failed_when": False},
        {"rendezvous.wireguard.keypair": {"path": str(key)}},
        {"rendezvous.wireguard.interface": address},
        {"rendezvous.wireguard.interface": {**address, "name": "wgown1"}},
        {
            "ansible.builtin.copy": {
                "dest": "result.json",
                "content": "{{ [info.interface.name, own.interface.name, mesh.msg] | to_json }}",
            }
        },
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": {"group/rendezvous.wireguard.all": {"interface": "wggroup0"}},
        "tasks": tasks,
    }
    (tmp_path / "play.json").write_text(json.dumps([play]))
    run = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "--inventory",
            "localhost,",
            "--connection",
            "local",
            "play.json",
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
    )
    assert run.returncode == 0, run.stdout + run.stderr
    info, own, message = json.loads((tmp_path / "result.json").read_text())
    assert (info, own) == ("wggroup0", "wgown0")
    assert message.startswith("wggroup0: no hub and no agent runs for it")
    assert sorted(path.name for path in tmp_path.glob("*.conf")) == ["wggroup0.conf", "wgown1.conf"]
