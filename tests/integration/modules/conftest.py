# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Two nodes with real WireGuard, each in a network namespace, and Ansible that runs the modules in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
ANSIBLE = Path(sys.executable).with_name("ansible")
TIMEOUT_S = 60
PATIENCE_S = 20
Result = dict[str, Any]


def run(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Node:
    """A node in a namespace of its own; its interface has a unique name, since /run/wireguard is shared."""

    namespace: str
    interface: str
    directory: Path

    @property
    def conf(self) -> Path:
        return self.directory / f"{self.interface}.conf"

    @property
    def key(self) -> Path:
        return self.directory / f"{self.interface}.key"

    def run(self, *argv: str, check: bool = True) -> str:
        return run("ip", "netns", "exec", self.namespace, *argv, check=check)

    def module(self, name: str, options: Result, *flags: str) -> Result:
        """Run a module by `ansible`, as a play would; the result has all that was printed as `output`."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory.parent),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
        }
        command = ("ip", "netns", "exec", self.namespace, str(ANSIBLE), "localhost", "-c", "local", "--diff")
        module = ("-m", f"rendezvous.wireguard.{name}", "-a", json.dumps(options))
        interpreter = ("-e", f"ansible_python_interpreter={sys.executable}")
        done = subprocess.run(
            [*command, *interpreter, *module, *flags],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=environment,
            check=False,
        )
        *_, found = re.finditer(r"^localhost \| \S+ => ", done.stdout, re.MULTILINE)
        result: Result = json.JSONDecoder().raw_decode(done.stdout[found.end() :])[0]
        return {**result, "failed": done.returncode != 0, "output": done.stdout + done.stderr}

    def keypair(self, **options: Any) -> Result:
        return self.module("keypair", {"path": str(self.key), **options})

    def configure(self, *flags: str, **options: Any) -> Result:
        return self.module(
            "interface", {"name": self.interface, "directory": str(self.directory), **options}, *flags
        )

    def peers(self, *peers: Result, **options: Any) -> Result:
        own = {"interface": self.interface, "directory": str(self.directory)}
        return self.module("peers", {**own, "peers": list(peers), **options})

    def info(self) -> Result:
        own = {"interface": self.interface, "directory": str(self.directory)}
        found: Result = self.module("interface_info", own)["interface"]
        return found

    def up(self) -> None:
        self.run("wg-quick", "up", str(self.conf))

    def loses_a_ping_to(self, address: str) -> bool:
        """Whether one of three pings gets no reply, however late: other tests may have the processors."""
        printed = self.run("ping", "-c3", "-i0.2", f"-w{PATIENCE_S}", address, check=False)
        replies = re.findall(r"^\d+ bytes from .*icmp_seq=(\d+)", printed, re.MULTILINE)
        return sorted(replies) != ["1", "2", "3"]

    def is_cut_off_from(self, address: str) -> bool:
        """Whether three pings get no reply in two seconds."""
        return " 100% packet loss" in self.run("ping", "-c3", "-i0.2", "-W2", address, check=False)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes that reach one another at 203.0.113.1 and .2, without any WireGuard yet."""
    pid = os.getpid()
    alice, bob = (
        Node(f"rwm-{pid}-{name}", f"rwm{pid}{name[0]}", tmp_path / name / "wireguard")
        for name in ("alice", "bob")
    )
    try:
        for node in (alice, bob):
            run("ip", "netns", "add", node.namespace)
            node.run("ip", "link", "set", "lo", "up")
            node.run("sysctl", "-qw", "net.ipv4.conf.default.promote_secondaries=0")
            node.directory.parent.mkdir()
        alice.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", bob.namespace)
        for number, node in enumerate((alice, bob), start=1):
            node.run("ip", "address", "add", f"203.0.113.{number}/24", "dev", "lan0")
            node.run("ip", "link", "set", "lan0", "up")
        yield alice, bob
    finally:
        for node in (alice, bob):
            # wireguard-go ends with its interface, and the namespace with its last process.
            node.run("ip", "link", "delete", node.interface, check=False)
            run("ip", "netns", "delete", node.namespace, check=False)


@pytest.fixture
def pair(nodes: tuple[Node, Node]) -> tuple[Node, Node]:
    """The same with a tunnel between 192.168.7.1 and .2 that carries traffic, written by hand."""
    private_keys = [run("wg", "genkey").strip() for _ in nodes]
    for index, node in enumerate(nodes):
        own, other = index + 1, 2 - index
        public_key = run("sh", "-c", f"echo {private_keys[1 - index]} | wg pubkey").strip()
        node.directory.mkdir(mode=0o700)
        node.key.touch(mode=0o600)
        node.key.write_text(private_keys[index])
        node.conf.touch(mode=0o600)
        node.conf.write_text(
            f"# by hand\n[Interface]\naddress=192.168.7.{own}/24\nlistenport=51820\n"
            f"privatekey={private_keys[index]}\n\n# the other one\n[Peer]\npublickey={public_key}\n"
            f"allowedips=192.168.7.{other}/32\nendpoint=203.0.113.{other}:51820\n"
        )
        node.up()
    assert not nodes[0].loses_a_ping_to("192.168.7.2")
    return nodes
