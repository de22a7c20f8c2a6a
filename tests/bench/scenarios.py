# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The figures of the rendezvous, each measured by whole runs of hub and agents behind real NATs.

Packets are pings, 100 a second in both directions; their TTL says which way they came. A network is used for
several runs of a scenario: in between the agents are stopped, their state is removed, the nodes take fresh
ports and the NATs forget everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.results import Goal, Results
from tests.lab.network import Network
from tests.lab.pairs import Pair
from tests.lab.programs import DIRECT, start_hub
from tests.lab.traffic import Pinger, PingResult, path_of_pings
from tests.lab.wireguard import ordered_keys, wait_until
from tests.nat_profiles import PROFILES

PING_S = 0.01
SETTLE_S = 0.5
JOIN_S = 10.0
LONG_S = 240.0
"""What one scenario may take, if it can."""

TO_DIRECT = Goal(1.0, 1.5, "NetBird 3.1, Tailscale 8.3, wgsd 5 to 14, the origin's loop 5 to 11")
AFTER_READY = Goal(None, 0.4)
LOST = Goal(1, 2, "the origin's loop 90 to 190 at 18/s")
FIRST_REPLY = Goal(None, 0.1, "NetBird 2.4, Tailscale 6")
NOTHING = Goal(0, 0)
STATE_LOST = Goal(0.6, 1.5, "Tailscale 0.6 (0.1 to 2.8), NetBird 0.6, the origin's loop 5.6, nebula 9.7")
STATE_LOST_ACCEPT = Goal(None, 2.5)
MOVED = Goal(None, 2.5)
MOVED_DIRECT = Goal(None, 4.0, "Tailscale 8 to 9, the origin's loop 10 to 11, NetBird 15 to 20, nebula 27")
ONE_WAY_S = 0.075
TRIPS_OF_A_JOIN = 8
"""One after the other: TCP to the hub, registration, stream, offer, handshake, `verified`, promotion, a ping.
A signal takes as long to the other end as an answer of the hub does."""
LONGER_S = TRIPS_OF_A_JOIN * 2 * ONE_WAY_S
LONG_WAY_TO_DIRECT = Goal(1.0 + LONGER_S, 1.5 + LONGER_S)
LONG_WAY_AFTER_READY = Goal(None, 0.4 + LONGER_S)
LONG_WAY_LOST = Goal(None, ONE_WAY_S / PING_S + 2)
"""The relay's way is twice the direct one. It is missed: docs/figures.md says why."""
CUT = Goal(None, 2.5, "Tailscale 5.2, NetBird 5.8, nebula 28")
HEALED = Goal(None, 5.0, "Tailscale 4, NetBird 12")
POWER_FIRST = Goal(None, 0.2, "tinc 0.05, NetBird 2.5, the origin's loop 5.5, Tailscale 6.1, nebula 22")
POWER_DIRECT = Goal(None, 1.5, "tinc 1.6, NetBird 3.2")


@dataclasses.dataclass
class Bench:
    """The runs of one invocation."""

    program: Path
    directory: Path
    runs: int
    slow_runs: int
    hub_stopped_s: float
    cuts_s: list[float]
    results: Results
    networks: int = 0

    @contextlib.contextmanager
    def pair(self, *profiles: str, **options: Any) -> Iterator[Pair]:
        """A hub, and two nodes without agents."""
        self.networks += 1
        nats = [PROFILES[profile] for profile in profiles]
        with Network(nats, self.directory / f"network-{self.networks}", **options) as network:
            hub = start_hub(self.program, network)
            yield Pair(network, self.program, hub, [], 13.0)

    def runs_of(self, seconds: float) -> int:
        """How many runs of something that takes so long: as many as of others, if there is time."""
        return max(1, min(self.slow_runs, int(LONG_S / seconds)))

    def add(self, name: str, value: float, goal: Goal) -> None:
        """One more value."""
        self.results.add(name, value, goal)


@dataclasses.dataclass
class Both:
    """Pings in both directions; the results when the context has ended."""

    there: PingResult
    back: PingResult

    @property
    def lost(self) -> int:
        return max(self.there.lost, self.back.lost)

    @property
    def outage_s(self) -> float:
        return max(self.there.outage_s, self.back.outage_s)

    @property
    def direct_since(self) -> float:
        """Since when all answers came directly, both ways; infinite if they do not."""
        return max(
            float("inf") if since is None else since
            for since in (self.there.direct_since(), self.back.direct_since())
        )


@contextlib.contextmanager
def pings(pair: Pair) -> Iterator[list[Both]]:
    """A list that has the results when the context has ended."""
    a, b = pair.nodes
    seen: list[Both] = []
    with Pinger(a, b.address, PING_S) as there, Pinger(b, a.address, PING_S) as back:
        time.sleep(SETTLE_S)
        yield seen
        time.sleep(SETTLE_S)
    seen.append(Both(there.result, back.result))


def start_over(pair: Pair) -> None:
    """As if nothing had happened yet on this network."""
    for agent in pair.agents:
        agent.end()
    pair.agents = []
    for site in pair.sites:
        site.node.run("rm", "-rf", "/var/lib/wg-rendezvous", "/run/wg-rendezvous")
        pair.network.lose_nat_state(site)
        site.node.fresh_port()
        wait_until(lambda site=site: site.node.ping(pair.network.hub.address, 1), 10, "the hub")  # type: ignore[misc]


def make_direct(pair: Pair) -> None:
    """Start agents, and wait until the link is direct and settled."""
    pair.start_agents()
    for agent in pair.agents:
        agent.wait_until_said(DIRECT, JOIN_S)
    time.sleep(SETTLE_S)


# --- joining ---


def join(
    bench: Bench,
    name: str,
    *profiles: str,
    goals: tuple[Goal, ...] = (TO_DIRECT, AFTER_READY, LOST),
    **options: Any,
) -> None:
    """From the start of the agents' processes to traffic direct both ways, either of them controlling."""
    for keys in (ordered_keys(), ordered_keys()[::-1]):
        with bench.pair(*profiles, keys=keys, **options) as pair:
            for _ in range(bench.runs // 2):
                one_join(bench, name, pair, *goals)
                start_over(pair)


def one_join(bench: Bench, name: str, pair: Pair, to_direct: Goal, after_ready: Goal, lost: Goal) -> None:
    with pings(pair) as seen:
        started_at = time.time()
        pair.start_agents()
        for agent in pair.agents:
            agent.wait_until_said(DIRECT, JOIN_S)
    ready_at = max(agent.said_at("agent started")[0] for agent in pair.agents)
    assert path_of_pings(pair.network, *pair.sites) == "direct"
    bench.add("any join: s from the start of the process to ready", ready_at - started_at, Goal())
    bench.add(f"join {name}: s to direct", seen[0].direct_since - started_at, to_direct)
    bench.add(f"join {name}: s after ready", seen[0].direct_since - ready_at, after_ready)
    bench.add(f"join {name}: packets lost", seen[0].lost, lost)


def long_way(bench: Bench) -> None:
    """150 ms to the hub and back, and between the peers."""
    join(
        bench, "with 150 ms", "cone drop", "cone drop", delay_s=ONE_WAY_S,
        goals=(LONG_WAY_TO_DIRECT, LONG_WAY_AFTER_READY, LONG_WAY_LOST),
    )  # fmt: skip


# --- repair ---


def state_lost(bench: Bench, policy: str) -> None:
    """The NAT of the node that is pinged forgets everything: only what that node sends by itself opens it."""
    goal = STATE_LOST_ACCEPT if policy == "accept" else STATE_LOST
    with bench.pair(f"cone {policy}", "cone drop") as pair:
        for _ in range(bench.slow_runs):
            make_direct(pair)
            with pings_from(pair, 1) as seen:
                time.sleep(2)
                nat_loses_state(pair)
                time.sleep(5)
            bench.add(f"NAT's state lost, {policy}: outage in s", seen[0].outage_s, goal)
            start_over(pair)


def fault(
    bench: Bench,
    name: str,
    happens: Callable[[Pair], None],
    outage: Goal,
    *profiles: str,
    direct: Goal | None = None,
    wait_s: float = 5.0,
) -> None:
    """The longest time without an answer, and until all were direct again, after something happened."""
    with bench.pair(*profiles) as pair:
        for _ in range(bench.slow_runs):
            make_direct(pair)
            with pings(pair) as seen:
                at = time.time()
                happens(pair)
                time.sleep(wait_s)
            bench.add(f"{name}: outage in s", seen[0].outage_s, outage)
            if direct is not None:
                bench.add(f"{name}: s to direct again", max(0.0, seen[0].direct_since - at), direct)
            start_over(pair)


def nat_loses_state(pair: Pair) -> None:
    pair.network.lose_nat_state(pair.sites[0])


def nat_moves_mappings(pair: Pair) -> None:
    pair.network.move_mappings(pair.sites[0])


def nat_gets_another_address(pair: Pair) -> None:
    pair.network.change_address(pair.sites[0])


def another_address(bench: Bench) -> None:
    """A network for each run: a NAT has two addresses only."""
    for _ in range(bench.slow_runs):
        once = dataclasses.replace(bench, slow_runs=1)
        fault(
            once, "NAT's address changed", nat_gets_another_address, MOVED, "cone drop", "cone drop",
            direct=MOVED_DIRECT, wait_s=7,
        )  # fmt: skip
        bench.networks = once.networks


def path_cut(bench: Bench) -> None:
    """The direct path is cut in the middle, for a short and for a long time."""
    with bench.pair("cone drop", "cone reject") as pair:
        a, b = pair.sites
        for cut_s in bench.cuts_s:
            for _ in range(bench.runs_of(cut_s)):
                make_direct(pair)
                with pings(pair) as cut:
                    pair.network.block(a, b)
                    time.sleep(cut_s + 3 * random.random())  # so that it ends at any moment between two tries
                bench.add("path cut: outage in s", cut[0].outage_s, CUT)
                with pings(pair) as over:
                    at = time.time()
                    pair.network.block(a, b, blocked=False)
                    time.sleep(6)
                bench.add(
                    f"path cut for {cut_s:g} s is over: s to direct again", over[0].direct_since - at, HEALED
                )
                bench.add(f"path cut for {cut_s:g} s is over: packets lost", over[0].lost, NOTHING)
                start_over(pair)


def power_lost(bench: Bench) -> None:
    """A node loses power and is back 5 s later."""
    with bench.pair("cone drop", "cone reject") as pair:
        for _ in range(bench.slow_runs):
            make_direct(pair)
            with pings_from(pair, 0) as seen:
                time.sleep(SETTLE_S)
                up_at = pair.reboot(1, 5)
                pair.agents[1].wait_until_said(DIRECT, JOIN_S)
                time.sleep(SETTLE_S)
            first = seen[0].first_answer_after(up_at - 0.2) or float("inf")
            bench.add("power lost for 5 s: s to first reply", first - up_at, POWER_FIRST)
            since = seen[0].direct_since() or float("inf")
            bench.add("power lost for 5 s: s to direct", since - up_at, POWER_DIRECT)
            start_over(pair)


def first_reply(bench: Bench) -> None:
    """A tunnel comes up: its first reply through the hub, without any agent."""
    with bench.pair("cone drop", "cone reject") as pair:
        for _ in range(bench.slow_runs):
            with pings_from(pair, 0) as seen:
                pair.nodes[1].make_interface_anew(1)
                up_at = time.time()
                time.sleep(6)
            first = seen[0].first_answer_after(up_at - 0.2) or float("inf")
            bench.add("tunnel up: s to first reply through the hub", first - up_at, FIRST_REPLY)


@contextlib.contextmanager
def pings_from(pair: Pair, number: int) -> Iterator[list[PingResult]]:
    """In one direction: the other node's own pings would end with its interface."""
    seen: list[PingResult] = []
    with Pinger(pair.nodes[number], pair.nodes[1 - number].address, PING_S) as pinger:
        yield seen
    seen.append(pinger.result)


def hub_stopped(bench: Bench) -> None:
    """The hub's machine is away; meanwhile a NAT loses its state."""
    with bench.pair("cone drop", "cone drop") as pair:
        make_direct(pair)
        with pings(pair) as away:
            pair.hub.end(signal.SIGKILL)
            pair.network.cut_off_hub()
            time.sleep(bench.hub_stopped_s)
        bench.add(f"hub stopped for {bench.hub_stopped_s:g} s: packets lost", away[0].lost, NOTHING)
        for _ in range(bench.slow_runs):
            with pings_from(pair, 1) as seen:
                time.sleep(2)
                nat_loses_state(pair)
                time.sleep(4)
            bench.add("NAT's state lost, hub stopped: outage in s", seen[0].outage_s, STATE_LOST)


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    **{
        f"join-{a}-{b}": lambda bench, a=a, b=b: join(bench, f"{a} x {b}", f"cone {a}", f"cone {b}")  # type: ignore[misc]
        for a, b in (
            ("drop", "drop"),
            ("reject", "reject"),
            ("drop", "reject"),
            ("drop", "accept"),
            ("reject", "accept"),
            ("accept", "accept"),
        )
    },
    "join-one-nat": lambda bench: join(bench, "behind one NAT", "cone drop", behind=[2]),
    "join-ipv6": lambda bench: join(bench, "IPv6", "symmetric drop", "symmetric drop", ipv6="drop"),
    "long-way": long_way,
    "first-reply": first_reply,
    **{
        f"state-{policy}": lambda bench, policy=policy: state_lost(bench, policy)  # type: ignore[misc]
        for policy in ("drop", "reject", "accept")
    },
    "mappings": lambda bench: fault(
        bench,
        "mappings moved",
        nat_moves_mappings,
        MOVED,
        "cone drop",
        "cone drop",
        direct=MOVED_DIRECT,
        wait_s=7,
    ),
    "address": another_address,
    "cut": path_cut,
    "power": power_lost,
    "hub": hub_stopped,
}
