# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A hub and two peers on one LAN, in network namespaces of their own, with real WireGuard (wireguard-go)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wg_rendezvous import status
from wg_rendezvous._wireguard.dump import Device, parse_dump
from wg_rendezvous._wireguard.keys import generate_private_key, public_key

# Another Python, e.g. one with the oldest aiohttp, can run the program.
PYTHON = os.environ.get("WG_RENDEZVOUS_PYTHON", sys.executable)
PORT = 51820

GET = """
import http.client, sys
path, host, port, source = sys.argv[1:]
connection = http.client.HTTPConnection(host, int(port), timeout=3, source_address=(source, 0))
try:
    connection.request("GET", path, headers={"Connection": "close"})
    answer = connection.getresponse()
    print(answer.status)
    print(answer.read().decode())
except OSError as error:
    print(0)
    print(error)
"""


# argv: host, port, instance. Registers, opens a stream, pings, and prints a line for each thing that it gets.
JOIN = """
import http.client, json, socket, sys, threading
host, port, instance = sys.argv[1], int(sys.argv[2]), sys.argv[3]
connection = http.client.HTTPConnection(host, port, timeout=15)
headers = {"Content-Type": "application/json"}
connection.request("PUT", "/v1/self", json.dumps({"instance": instance}), headers)
print("self", connection.getresponse().read().decode(), flush=True)
beats = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
beats.settimeout(5)
beats.sendto(bytes.fromhex("57475256010100000000000000000007") + bytes(1000), (host, port))
print("pong", json.dumps(beats.recv(2048).hex()), flush=True)
connection.request("GET", "/v1/stream")
answer = connection.getresponse()
while line := answer.readline():
    word, _, data = line.decode().rstrip().partition(": ")
    if word == "event":
        name = data
    elif word == "data":
        print(name, data, flush=True)
"""
POST = """
import http.client, json, sys
path, host, port, body = sys.argv[1:]
connection = http.client.HTTPConnection(host, int(port), timeout=5)
connection.request("POST", path, body, {"Content-Type": "application/json"})
print(connection.getresponse().status)
"""


def run(*words: str, stdin: str = "", check: bool = True) -> str:
    """Standard output of a command; it has 20 s."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, timeout=20)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def wait_until(condition: Callable[[], Any], what: str, within_s: float = 10.0) -> Any:
    """The first true value of `condition`; AssertionError if there is none in time."""
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s:g} s: {what}")


@dataclass
class Node:
    """A namespace with a LAN address and a WireGuard interface."""

    name: str
    number: int
    private_key: str = field(default_factory=generate_private_key, repr=False)

    def __post_init__(self) -> None:
        # wireguard-go's control sockets share one directory, so the names differ between runs too.
        self.namespace = f"rwh-{os.getpid()}-{self.name}"
        self.interface = f"rwh{os.getpid()}{self.name}"[:15]
        self.lan = f"198.51.100.{self.number}"
        self.vpn = f"10.99.0.{self.number}"
        self.key = public_key(self.private_key)
        self.tunnel: subprocess.Popen[bytes] | None = None

    def run(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """Standard output of a command inside."""
        return run(*self.inside(*words), stdin=stdin, check=check)

    def inside(self, *words: str) -> list[str]:
        """The command that runs `words` inside."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def wg_set(self, *words: str) -> None:
        """`wg set` of the own interface."""
        self.run("wg", "set", self.interface, *words)

    def device(self) -> Device:
        """The own interface now."""
        return parse_dump(self.run("wg", "show", self.interface, "dump"))

    def get(self, path: str, host: str, port: int = 8080, source: str = "") -> tuple[int, str]:
        """Status and body of `GET http://host:port/path`; status 0 and the reason if there is no answer."""
        words = [path, host, str(port), source]
        head, _, body = self.run(sys.executable, "-c", GET, *words).partition("\n")
        return int(head), body.rstrip("\n")

    def post(self, path: str, host: str, body: str) -> int:
        """Status of the answer to `POST http://host:8080/path`."""
        return int(self.run(sys.executable, "-c", POST, path, host, "8080", body))

    def join(self, host: str, instance: str) -> subprocess.Popen[str]:
        """An agent's side of /v1: what it gets, one line each, as its standard output."""
        words = self.inside(sys.executable, "-c", JOIN, host, "8080", instance)
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def start_tunnel(self) -> None:
        """Make the interface, with its key, port and address."""
        environment = {**os.environ, "LOG_LEVEL": "error"}
        words = self.inside("wireguard-go", "-f", self.interface)
        self.tunnel = subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: self.run("wg", "show", self.interface, check=False), f"{self.interface} is there")
        self.run(
            "wg",
            "set",
            self.interface,
            "listen-port",
            str(PORT),
            "private-key",
            "/dev/stdin",
            stdin=self.private_key,
        )
        self.run("ip", "addr", "add", f"{self.vpn}/24", "dev", self.interface)
        self.run("ip", "link", "set", self.interface, "up")

    def stop_tunnel(self) -> None:
        """Take the interface away."""
        if self.tunnel is not None:
            self.tunnel.terminate()
            self.tunnel.wait(10)
            self.tunnel = None


class Network:
    """Hub, alice and bob; both are peers of the hub."""

    def __init__(self) -> None:
        self.hub, self.alice, self.bob = Node("h", 1), Node("a", 2), Node("b", 3)
        self.nodes = (self.hub, self.alice, self.bob)

    def build(self) -> None:
        """Make it; `remove` takes away whatever there is."""
        for node in self.nodes:
            run("ip", "netns", "add", node.namespace)
            node.run("ip", "link", "set", "lo", "up")
        self.hub.run("ip", "link", "add", "lan0", "type", "bridge")
        for node in (self.alice, self.bob):
            port = f"lan{node.number}"
            self.hub.run("ip", "link", "add", port, "type", "veth", "peer", "lan0", "netns", node.namespace)
            self.hub.run("ip", "link", "set", port, "master", "lan0", "up")
        for node in self.nodes:
            node.run("ip", "addr", "add", f"{node.lan}/24", "dev", "lan0")
            node.run("ip", "link", "set", "lan0", "up")
            node.start_tunnel()
        for node in (self.alice, self.bob):
            self.hub.wg_set("peer", node.key, "allowed-ips", f"{node.vpn}/32")
            node.wg_set(
                "peer", self.hub.key, "endpoint", f"{self.hub.lan}:{PORT}", "allowed-ips", "10.99.0.0/24"
            )

    def remove(self) -> None:
        """Leave nothing behind."""
        for node in self.nodes:
            node.stop_tunnel()
            run("ip", "netns", "del", node.namespace, check=False)


class Hub:
    """`wg-rendezvous hub` on the hub of a network."""

    def __init__(self, node: Node, program: Path, log: Path) -> None:
        self._node = node
        self._program = program
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Its local API."""
        return Path(f"/run/wg-rendezvous/{self._node.interface}.sock")

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def start(self) -> None:
        """Return when it serves."""
        words = self._node.inside(PYTHON, str(self._program), "hub", "--interface", self._node.interface)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        wait_until(self._serves, f"the hub serves: {self.log}", 20)

    def _serves(self) -> bool:
        try:
            return bool(status.ask(str(self.socket)))
        except status.StatusError:
            return False

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another run of the program on that node, to its end."""
        command = self._node.inside(PYTHON, str(self._program), *words)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
