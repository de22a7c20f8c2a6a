# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""`ansible-playbook` on nodes that are this machine, seen through mount and network namespaces of their own.

Always in check mode, so that what should have been refused and was not changes nothing. All hosts of an
inventory are the same node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from tests.containers.mesh import PlaybookRun, read_run

CHECKOUT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 120
DEBIAN_12 = 'ID=debian\nVERSION_ID="12"\n'

ENTER = """
set -eu
mount --bind "$1/os-release" /etc/os-release
mount --bind "$1/wireguard" /etc/wireguard
if [ -e "$1/nothing" ]; then
    for directory in /dev/net /sys/module /lib/modules; do
        [ ! -d $directory ] || mount --bind "$1/nothing" $directory
    done
fi
ip link set lo up
nft -f "$1/rules.nft"
shift
exec "$@"
"""
NO_SUCH_PACKAGE = "#!/bin/sh\nexit 1\n"
NO_KERNEL_MODULE = "#!/bin/sh\nexit 1\n"
NO_ANSWER = "#!/bin/sh\necho 'ssh: connect to host: No route to host' >&2\nexit 255\n"

Variables = Mapping[str, Any]
HUB: Variables = {"wg_interface_address": "192.168.7.1/24", "wg_hub_endpoint": "hub.example.net:51820"}
ALICE: Variables = {"wg_interface_address": "192.168.7.5/24"}
BOB: Variables = {"wg_interface_address": "192.168.7.6/24"}
Hosts = Mapping[str, Variables]


def play(hosts: str, role: str, **more: Any) -> dict[str, Any]:
    """A play of the user's, with one role of the collection."""
    return {"hosts": hosts, "gather_facts": False, "roles": [f"rendezvous.wireguard.{role}"], **more}


@dataclass
class Node:
    """What the node is like; nothing is installed on it."""

    directory: Path
    os_release: str = DEBIAN_12
    rules: str = ""
    """Of nftables."""
    conf: bytes | None = None
    """The wg0.conf that is there already."""
    tun: bool = True
    """Can wireguard-go work? The kernel has no WireGuard if not."""
    unreachable: Sequence[str] = ()
    """Names of hosts that do not answer."""
    variables: dict[str, Any] = field(default_factory=dict)
    """Of all hosts."""
    files: dict[str, str] = field(default_factory=dict)
    """Others that are in /etc/wireguard already; nobody but root can read them."""
    environment: dict[str, str] = field(default_factory=dict)
    """Of ansible-playbook, beside what every run has."""

    def key(self, private_key: str) -> str:
        """Let the node have this private key; its public key."""
        self.files["wg0.key"] = private_key + "\n"
        return keys.public_key(private_key)

    def site(self, hub: Hosts, peers: Hosts, *arguments: str) -> PlaybookRun:
        """The playbook of the collection with these hosts in its two groups."""
        groups = {"wireguard_hub": hub, "wireguard_peers": peers}
        return self.playbook("rendezvous.wireguard.site", groups, *arguments)

    def role(self, name: str, **variables: Any) -> PlaybookRun:
        """One role by itself on a host `node`, in a playbook of the user's."""
        return self.plays([play("all", name)], {"all": {"node": variables}})

    def plays(self, plays: Sequence[Variables], groups: Mapping[str, Hosts], *arguments: str) -> PlaybookRun:
        """A playbook of the user's."""
        path = self.directory / "playbook.yml"
        path.write_text(json.dumps(plays))
        return self.playbook(str(path), groups, *arguments)

    def playbook(self, name: str, groups: Mapping[str, Hosts], *arguments: str) -> PlaybookRun:
        """Any playbook."""
        self._build()
        inventory = self.directory / "inventory.json"
        inventory.write_text(json.dumps(self._inventory(groups)))
        ansible = Path(sys.executable).with_name("ansible-playbook")
        unshare = str(shutil.which("unshare"))  # not the one in bin
        enter = (unshare, "--mount", "--net", "sh", "-c", ENTER, "sh", self.directory)
        done = subprocess.run(
            [*enter, ansible, name, "--inventory", inventory, "--check", *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return read_run(done)

    def _build(self) -> None:
        (self.directory / "os-release").write_text(self.os_release)
        (self.directory / "rules.nft").write_text(self.rules)
        (self.directory / "wireguard").mkdir(exist_ok=True)
        if self.conf is not None:
            (self.directory / "wireguard/wg0.conf").write_bytes(self.conf)
        for name, text in self.files.items():
            (self.directory / "wireguard" / name).write_text(text)
            (self.directory / "wireguard" / name).chmod(0o600)
        if not self.tun:
            (self.directory / "nothing").mkdir(exist_ok=True)
        commands = {"dpkg-query": NO_SUCH_PACKAGE, "no-answer": NO_ANSWER, "unshare": NO_KERNEL_MODULE}
        (self.directory / "bin").mkdir(exist_ok=True)
        for name, text in commands.items():
            (self.directory / "bin" / name).write_text(text)
            (self.directory / "bin" / name).chmod(0o755)

    def _inventory(self, groups: Mapping[str, Hosts]) -> dict[str, Any]:
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        away = {"ansible_connection": "ssh", "ansible_ssh_executable": str(self.directory / "bin/no-answer")}
        return {
            "all": {
                "vars": {**local, **self.variables},
                "children": {
                    group: {
                        "hosts": {
                            host: {**variables, **(away if host in self.unreachable else {})}
                            for host, variables in hosts.items()
                        }
                    }
                    for group, hosts in groups.items()
                    if group != "all"
                },
                "hosts": dict(groups.get("all", {})),
            }
        }

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_PIPELINING": "true",
            **self.environment,
        }


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A Debian 12 without any package that the roles need."""
    return Node(tmp_path)
