# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Two sites with an agent on each, and what their users see of them."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.network import Network, Site
from tests.lab.programs import Agent, Program
from tests.lab.traffic import Pinger, PingResult, Transfer, wait_for_path
from tests.lab.wireguard import Node

INTERVAL_S = 1.0
"""Of the origin's loop, which has 13 s; the time limits are in passes then."""
JOIN_WITHIN_S = 8.0


@dataclasses.dataclass
class Pair:
    """Two sites with an agent on each, and a hub."""

    network: Network
    program: Path
    hub: Program
    agents: list[Agent]
    interval_s: float = INTERVAL_S

    @property
    def sites(self) -> tuple[Site, Site]:
        a, b = self.network.sites
        return a, b

    @property
    def nodes(self) -> tuple[Node, Node]:
        a, b = self.network.nodes
        return a, b

    def wait_until_direct(self, timeout_s: float = JOIN_WITHIN_S) -> float:
        """Seconds until the pings go directly, as counted."""
        return wait_for_path(self.network, *self.sites, "direct", timeout_s)

    def wait_until_relayed(self, timeout_s: float = JOIN_WITHIN_S) -> float:
        """Seconds until the pings go through the hub, as counted."""
        return wait_for_path(self.network, *self.sites, "relay", timeout_s)

    def start_agents(self) -> None:
        """Start an agent on each node."""
        self.agents = [Agent(self.program, node, self.interval_s) for node in self.nodes]

    def restart(self, number: int) -> None:
        """Start an agent anew in the place of one that has ended."""
        self.agents[number] = Agent(self.program, self.nodes[number], self.interval_s)

    def reboot(self, number: int, down_s: float) -> float:
        """The node loses power and comes back so much later; when its tunnel was up, as Unix time."""
        self.agents[number].end(signal.SIGKILL)
        self.nodes[number].make_interface_anew(down_s)
        up_at = time.time()
        self.restart(number)
        return up_at


class Users:
    """What users of the VPN see while something happens: pings, and a TCP stream."""

    def __init__(self, pair: Pair, transfer: Transfer) -> None:
        self._pair = pair
        self._transfer = transfer
        self.pings: PingResult
        self.at = 0.0
        """When it happened, as Unix time."""

    def it_happens(self) -> None:
        """Remember the time."""
        self.at = time.time()

    def tcp_flows(self, timeout_s: float = 20.0) -> None:
        """The stream goes on."""
        self._transfer.flows_for(timeout_s=timeout_s)

    @property
    def outage_s(self) -> float:
        """How long no ping was answered."""
        return self.pings.outage_s

    def direct_again_s(self) -> float:
        """Seconds from what happened until the answers to all pings came directly."""
        since = self.pings.direct_since()
        assert since is not None, "the last answers did not come directly"
        return max(0.0, since - self.at)


@contextlib.contextmanager
def users(pair: Pair, interval_s: float = 0.02) -> Iterator[Users]:
    """Pings and a TCP stream while the context lasts; at its end the stream flows, and arrived undamaged."""
    a, b = pair.nodes
    with Transfer(a, b, pair.network.directory) as transfer:
        with Pinger(a, b.address, interval_s) as pinger:
            seen = Users(pair, transfer)
            seen.tcp_flows()
            yield seen
            time.sleep(0.3)
        seen.pings = pinger.result
        seen.tcp_flows(timeout_s=60)
        transfer.finish()
