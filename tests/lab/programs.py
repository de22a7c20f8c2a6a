# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Hubs and agents in the lab: the program under test, and the origin's."""

from __future__ import annotations

import datetime
import itertools
import json
import signal
import sys
from pathlib import Path
from typing import Any

from tests.lab.network import HUB_VPN_ADDRESS, Network
from tests.lab.wireguard import INTERFACE, Node, wait_until

HUB_PORT = 8080
HUB_URL = f"http://{HUB_VPN_ADDRESS}:{HUB_PORT}"


def url(address: str) -> str:
    """Of what the hub, or an agent, serves at this address."""
    return f"http://[{address}]:{HUB_PORT}" if ":" in address else f"http://{address}:{HUB_PORT}"


ORIGIN = str(Path(__file__).with_name("origin.py"))

RESTART_CONDITION = "restart condition: taking a fresh port"
DIRECT = "link provisional -> direct"
GAVE_UP = "link knocking -> relayed"
"""A rendezvous came to nothing."""
NOT_TAKEN = "link offered -> relayed"
"""An offer was refused, or not answered."""
KNOCK_FAILED = "no handshake since the last knock"


class Program:
    """A process on a node with a log file; starting it again appends to a new one."""

    _numbers = itertools.count()

    def __init__(self, node: Node, *argv: str) -> None:
        self.node = node
        self.path = node.directory / f"program-{next(self._numbers)}.log"
        with self.path.open("w") as log:
            self._process = node.start(sys.executable, "-u", *argv, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self, how: int = signal.SIGTERM) -> int:
        """Signal it and wait; its exit code."""
        return self.node.end(self._process, how)

    def log(self) -> str:
        return self.path.read_text()


class Agent(Program):
    """The agent under test. Its log is read as JSON."""

    def __init__(self, program: Path, node: Node, interval_s: float, *options: str) -> None:
        self.program = program
        super().__init__(
            node, str(program), "agent", "--interface", INTERFACE, "--hub", url(node.hub_address),
            "--interval-s", str(interval_s), "--log-format", "json", "--log-level", "debug", *options,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """What `wg-rendezvous status` says on this node, once the agent answers."""
        answer: list[str] = [""]

        def answers() -> bool:
            argv = (sys.executable, str(self.program), "status", "--json", "--interface", INTERFACE)
            answer[0] = self.node.run(*argv, check=False)
            return answer[0] != ""

        wait_until(answers, 10, f"{self.node.name} answers to status")
        status: dict[str, Any] = json.loads(answer[0])
        return status

    def link(self) -> dict[str, Any]:
        """Its only link, as `status` has it."""
        links: list[dict[str, Any]] = self.status()["links"]
        assert len(links) == 1, links
        return links[0]

    def freeze(self, frozen: bool = True) -> None:
        """Stop it as a suspended machine does; with frozen=False, let it go on."""
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def entries(self) -> list[dict[str, Any]]:
        """Its log, oldest first."""
        lines = self.log().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def said(self, message: str) -> list[dict[str, Any]]:
        """The log entries with this message, oldest first."""
        return [entry for entry in self.entries() if entry["message"] == message]

    def said_at(self, message: str) -> list[float]:
        """When it said so, Unix times."""
        return [datetime.datetime.fromisoformat(entry["time"]).timestamp() for entry in self.said(message)]

    def wait_until_said(self, message: str, timeout_s: float, times: int = 1) -> float:
        """Seconds until it has said so, so many times."""
        return wait_until(
            lambda: len(self.said(message)) >= times,
            timeout_s,
            f"{self.node.name} says {message!r} {times} times; see {self.path}",
        )


def start_hub(program: Path, network: Network) -> Program:
    """The hub under test, once it answers."""
    hub = Program(network.hub, str(program), "hub", "--interface", INTERFACE)
    _wait_for_hub(network, hub)
    return hub


def start_origin_hub(network: Network, *options: str) -> Program:
    """The origin's hub, once it answers."""
    hub = Program(network.hub, ORIGIN, "hub", INTERFACE, f"{HUB_VPN_ADDRESS}:{HUB_PORT}", *options)
    _wait_for_hub(network, hub)
    return hub


def start_origin_agent(node: Node, interval_s: float, *options: str) -> Program:
    """The origin's agent."""
    return Program(node, ORIGIN, "agent", INTERFACE, HUB_URL, str(interval_s), *options)


def _wait_for_hub(network: Network, hub: Program) -> None:
    def listens() -> bool:
        assert hub.is_running(), f"the hub ended: {hub.log()}"
        address = network.hub.address
        host = f"[{address}]" if ":" in address else address
        places = {f"{host}%{INTERFACE}:{HUB_PORT}", f"{host}:{HUB_PORT}"}
        return not places.isdisjoint(listening(network.hub))

    wait_until(listens, 10, f"the hub listens; see {hub.path}")


def listening(node: Node) -> set[str]:
    """Where TCP sockets listen on this node, as ss(8) writes it."""
    lines = node.run("ss", "-H", "-l", "-t", "-n").splitlines()
    return {line.split()[3] for line in lines}
