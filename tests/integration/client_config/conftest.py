# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A hub with real WireGuard in a network namespace, and the playbook that is run for its devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.containers.mesh import PlaybookRun, read_run
from tests.integration.modules.conftest import CHECKOUT, TIMEOUT_S, Node, nodes

__all__ = ["nodes"]

PLAYBOOK = "rendezvous.wireguard.client_config"
MOUNT = 'mount --bind "$1" /etc/wireguard && shift && exec "$@"'
PHONE: Mapping[str, Any] = {"name": "phone", "kind": "phone", "address": "192.168.7.50/24"}


@dataclass
class Site:
    """The controller, the hub, and a machine that can be any of the devices."""

    hub: Node
    device: Node
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    name: str = "hub"
    """The hub's, in the inventory."""
    printed: str = ""
    """By all runs."""

    @property
    def files(self) -> Path:
        """Where they are if nothing is said."""
        return self.directory / "wireguard_clients"

    def run(
        self,
        *devices: Mapping[str, Any],
        arguments: tuple[str, ...] = (),
        terminal: bool = False,
        **more: Any,
    ) -> PlaybookRun:
        """The playbook of the collection."""
        inventory = self.directory / "inventory.json"
        inventory.write_text(json.dumps(self.inventory(devices, more)))
        return self.playbook(PLAYBOOK, f"--inventory={inventory}", *arguments, terminal=terminal)

    def playbook(self, *arguments: str, terminal: bool = False) -> PlaybookRun:
        """Any playbook, in the hub's namespace; Ansible's log is printed as well."""
        log = self.directory / "ansible.log"
        log.unlink(missing_ok=True)
        ansible = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [ansible, *arguments]
        if terminal:
            command = ["script", "--quiet", "--return", "--command", " ".join(command), "/dev/null"]
        done = subprocess.run(
            [
                "ip",
                "netns",
                "exec",
                self.hub.namespace,
                "sh",
                "-c",
                MOUNT,
                "sh",
                self.hub.directory,
                *command,
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "PWD": str(self.directory),
                "LC_ALL": "C.UTF-8",
                "TERM": "xterm",
                "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
                "ANSIBLE_LOG_PATH": str(log),
                "ANSIBLE_NOCOLOR": "true",
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
                **self.environment,
            },
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * TIMEOUT_S,
            check=False,
        )
        self.printed += done.stdout + (log.read_text() if log.exists() else "")
        done.stdout = done.stdout.replace("\r\n", "\n")
        return read_run(done)

    def inventory(self, devices: Any, more: Mapping[str, Any]) -> dict[str, Any]:
        """One hub, and a peer that nobody can reach and nobody has to."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hub = {
            "wg_interface_name": self.hub.interface,
            "wg_interface_address": "192.168.7.1/24",
            "wg_hub_endpoint": "203.0.113.1:51820",
        }
        alice = {"wg_interface_address": "192.168.7.5/24", "ansible_host": "192.0.2.1"}
        return {
            "all": {
                "vars": {"wg_client_config_devices": list(devices), **more},
                "children": {
                    "wireguard_hub": {"hosts": {self.name: {**local, **hub}}},
                    "wireguard_peers": {"hosts": {"alice": alice}},
                },
            }
        }

    def text(self, name: str) -> str:
        """The file of a device."""
        return (self.files / f"{name}.conf").read_text()

    def private_key(self, name: str) -> str:
        """That in its file."""
        (line,) = [line for line in self.text(name).splitlines() if line.startswith("PrivateKey = ")]
        return line.partition(" = ")[2]

    def connect(self, name: str) -> None:
        """Import the file of a device on its machine."""
        self.device.run("ip", "link", "delete", self.device.interface, check=False)
        self.device.directory.mkdir(mode=0o700, exist_ok=True)
        self.device.conf.touch(mode=0o600)
        self.device.conf.write_text(self.text(name))
        self.device.up()


@pytest.fixture
def site(nodes: tuple[Node, Node], tmp_path: Path) -> Site:
    """A hub that is deployed, without devices."""
    hub, device = nodes
    hub.keypair()
    assert not hub.configure(address="192.168.7.1/24", listen_port=51820)["failed"]
    hub.up()
    directory = tmp_path / "controller"
    directory.mkdir()
    return Site(hub, device, directory)
