# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Modules run in this process, on a fake node and in a directory of the test's own."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common import warnings
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _command
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import owned
from tests.unit.plugins.fake_node import FakeNode

MODULES = "ansible_collections.rendezvous.wireguard.plugins.modules"


@dataclass
class Host:
    """A host to run modules on; `output` is all that they printed so far."""

    node: FakeNode
    directory: Path
    owned_directory: Path
    capsys: pytest.CaptureFixture[str]
    output: str = ""

    @property
    def conf(self) -> Path:
        return self.directory / "wg0.conf"

    @property
    def key(self) -> Path:
        return self.directory / "wg0.key"

    def own(self, peers: dict[str, dict[str, Any]]) -> None:
        """Let the agent have added these peers."""
        self.owned_directory.mkdir(exist_ok=True)
        Path(owned.path("wg0", str(self.owned_directory))).write_text(owned.render(peers))

    def module(self, name: str, check: bool = False, /, **options: Any) -> dict[str, Any]:
        """Run a module, and return its result with "failed" if it failed."""
        main = importlib.import_module(f"{MODULES}.{name}").main
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
        text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
        warnings._global_warnings.clear()  # Ansible keeps them for the whole process
        with pytest.MonkeyPatch.context() as patch:
            # ansible.module_utils.testing does this too, but only from ansible-core 2.19 on.
            patch.setattr(basic, "_ANSIBLE_ARGS", text.encode())
            patch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
            # Other tests of this process import the controller's side; then warnings would go to its display.
            patch.setattr("ansible.module_utils._internal.is_controller", False, raising=False)
            with pytest.raises(SystemExit):
                main()
        printed = self.capsys.readouterr().out
        self.output += printed
        result: dict[str, Any] = json.loads(printed.splitlines()[-1])
        result.pop("invocation", None)  # ansible-core 2.21 leaves it out
        return result

    def keypair(self, check: bool = False, **options: Any) -> dict[str, Any]:
        return self.module("keypair", check, path=str(self.key), **options)

    def interface(self, check: bool = False, **options: Any) -> dict[str, Any]:
        options = {"address": ["192.168.7.1/24"], "directory": str(self.directory), **options}
        return self.module("interface", check, **options)

    def peers(self, *peers: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
        return self.module("peers", check, peers=list(peers), directory=str(self.directory), **options)

    def info(self) -> dict[str, Any]:
        return self.module("interface_info", directory=str(self.directory))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    """A host whose interface is up, without a key, an address or a file."""
    node = FakeNode()

    monkeypatch.setattr(_command, "run", node.execute)
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda _module, name: node.get_bin_path(name))
    monkeypatch.setattr(owned, "DIRECTORY", str(tmp_path / "run"))
    return Host(node, tmp_path / "wireguard", tmp_path / "run", capsys)


@pytest.fixture
def ready(host: Host) -> Host:
    """The same with key, file and address."""
    host.keypair()
    host.interface()
    host.node.commands.clear()
    return host
