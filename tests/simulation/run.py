# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""One run: agents behind NATs, what happens to them, and what is checked of every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tests.nat_profiles import PROFILES
from tests.simulation.agents import Agent, HubModel, Journal
from tests.simulation.courtesy import Courtesy
from tests.simulation.monitor import Node, PathMonitor
from tests.simulation.network import Link
from tests.simulation.origin import OriginAgent
from tests.simulation.processors import Processors, SharingAgent
from tests.simulation.signals import SignalHub
from tests.simulation.wireguard import Device, Inner
from tests.simulation.world import World

from wg_rendezvous.core.mesh import Settings

if TYPE_CHECKING:
    from tests.simulation.faults import Fault

AGENTS_START_AT = 10.0
"""All nodes talk to the hub from 0 on: every learning window has passed by then."""

PROBE_TIMEOUT_S = 1.0
PACKET_EVERY_S = 0.4
"""As heartbeats: traffic itself repairs nothing sooner than the agents do."""
SAMPLE_S = 0.1
"""The paths of a star are looked at so often, and not at every change: there may be a hundred of them."""
IDLE, ONE_WAY, BOTH_WAYS = "idle", "one way", "both ways"


@dataclass(frozen=True)
class Case:
    """What a run is made from: the scenario, how long after one agent the next one starts, whose key is the
    largest, and the seed."""

    scenario: str
    offset_s: float
    larger: str
    seed: int

    @property
    def command(self) -> str:
        """What to type to see this run again."""
        return (
            f"python3 tests/simulation/replay.py '{self.scenario}' "
            f"--offset-s {self.offset_s:g} --larger {self.larger} --seed {self.seed}"
        )


@dataclass(frozen=True)
class Strike:
    """A fault that strikes `one`, on its path to `other`, from `begin` to `end`."""

    fault: Fault
    one: Agent
    other: Agent
    begin: float
    end: float


class Run:
    """Agents A, B and so on, set up as the case says; `monitors` watch A's paths.

    `agents` are our own of the `nodes`, not those of the origin. A and B are there from the start, their
    agents start `offset_s` apart; the others come later.
    """

    def __init__(self, case: Case, scenario: Scenario) -> None:
        self.case = case
        self.scenario = scenario
        self.journal = Journal()
        self.world = World(case.seed)
        self.engine = self.world.engine
        self.hub = HubModel(self.world.hub, scenario.signals)
        random = self.engine.random
        self.loss = random.choice((0.0, 0.0, 0.01, 0.03)) if scenario.loss is None else scenario.loss
        self.agents: dict[str, Agent] = {}
        self.world.network.observers.append(Courtesy(self.agents).see)
        self.truths: dict[str, str] = {}
        self.strikes: list[Strike] = []
        self.disturbed = False
        self._processors = Processors(self.engine, scenario.processors) if scenario.processors else None
        self.cut_at = self.healed_at = float("inf")
        self.finish: Callable[[], None] = lambda: None
        self._addresses = iter(f"192.0.2.{number}" for number in range(1, 250))
        self.nodes = [self._add(nth) for nth in range(len(scenario.nats))]
        self.engine.run_until(AGENTS_START_AT - 0.001)
        for node in self.nodes:
            node.device.host.link.loss = self.loss
        watched = range(len(self.nodes)) if scenario.signals and not scenario.star else (0,)
        if scenario.star:
            center = self.nodes[0].device.public_key
            self.signal_hub.is_told = lambda about, to: center in (about, to)
        every_s = SAMPLE_S if scenario.star else None
        self.monitors = [
            PathMonitor(self.world, self.nodes[one], other, self.journal, self._apart_s(nth), every_s)
            for one in watched
            for nth, other in enumerate(self.nodes)
            if nth > one
        ]
        for monitor in self.monitors if scenario.traffic != IDLE else ():
            self._flow(monitor.one.device, monitor.other.device)
            if scenario.traffic == BOTH_WAYS:
                self._flow(monitor.other.device, monitor.one.device)

    def _add(self, nth: int) -> Node:
        """The nth node: its tunnel comes up when it joins, its agent runs 10 s later."""
        random = self.engine.random
        name = chr(ord("A") + nth)
        link = Link(
            random.uniform(self.scenario.least_delay_s, self.scenario.delay_s), random.choice((0.0, 0.005))
        )
        key_number = 250 if name == self.case.larger else 10 + nth
        nat = self.world.nat(self.world.nodes["A"]) if self.scenario.lan and nth else None
        profile, ipv6 = PROFILES[self.scenario.nats[nth]], name in self.scenario.ipv6
        device = self.world.add_node(name, profile, key_number, link, nat, ipv6)
        self.truths[device.public_key] = device.address
        node: Node
        if name in self.scenario.origins:
            node = OriginAgent(self.world, device, self.journal)
        else:
            signals = self.scenario.signals and name not in self.scenario.polling
            of_agent = (self.world, device, self.scenario.settings, self.truths, self.journal, signals)
            if self._processors is None:
                node = Agent(*of_agent)
            else:
                node = SharingAgent(self._processors, *of_agent)
            self.agents[name] = node
        joins_at = self._joins_at(nth)
        self.engine.call_in(joins_at, partial(self.world.connect, device))
        self.engine.call_in(joins_at + AGENTS_START_AT + min(nth, 1) * self.case.offset_s, node.start)
        return node

    def _flow(self, one: Device, other: Device) -> None:
        """A packet from one to the other, again and again."""

        def send() -> None:
            if one.host.up:
                one.send(Inner(one.address, other.address, "traffic"))
            self.engine.post(PACKET_EVERY_S, send)

        self.engine.call_in(self.engine.random.uniform(0, PACKET_EVERY_S), send)

    def _joins_at(self, nth: int) -> float:
        return max(0, nth - 1) * self.scenario.newcomer_every_s

    def _apart_s(self, nth: int) -> float:
        """How far the passes of A and the nth node are apart, at most half an interval."""
        interval_s = self.scenario.settings.interval_s
        apart_s = (self._joins_at(nth) + self.case.offset_s) % interval_s
        return min(apart_s, interval_s - apart_s)

    @property
    def signal_hub(self) -> SignalHub:
        """The hub's program, where it takes signals."""
        assert self.hub.signals is not None
        return self.hub.signals

    def fresh_address(self) -> str:
        """A public address that nobody has."""
        return next(self._addresses)

    def strike(self, fault: Fault, one: Agent, other: Agent, after_s: float, span_s: float = 0.0) -> None:
        """Let a fault strike the first of two agents, seconds after the agents started."""
        begin = self.engine.now + after_s
        self.strikes.append(Strike(fault, one, other, begin, begin + span_s))
        words = f"{fault.name}, {one.name} ({other.name})"
        self.plan(after_s, words, partial(fault.strike, self, one, other))
        if fault.end is not None:
            self.plan(after_s + span_s, f"over: {words}", partial(fault.end, self, one, other))

    def go(self) -> None:
        """Let it run, and check what has to hold in this scenario. Raises AssertionError."""
        self.scenario.happenings(self)
        self.engine.run_for(self.scenario.run_for_s)
        for monitor in self.monitors:
            monitor.finish()
        for agent in self.agents.values():
            check_budget(agent)
        self.scenario.check(self)

    def plan(self, after_s: float, what: str, happening: Callable[[], object]) -> None:
        """Let something happen, seconds after the agents started."""

        def happen() -> None:
            self.journal.write(self.engine.now, "event", what)
            happening()

        self.engine.call_in(after_s, happen)

    @property
    def a(self) -> Agent:
        """The one that starts first."""
        return self.agents["A"]

    @property
    def b(self) -> Agent:
        """The other one."""
        return self.agents["B"]

    @property
    def monitor(self) -> PathMonitor:
        """The one of A and B."""
        return self.monitors[0]

    @property
    def fired(self) -> tuple[int, ...]:
        """How many fresh ports each of our agents took."""
        return tuple(len(agent.fresh_ports_at) for agent in self.agents.values())

    @property
    def one_sided_s(self) -> float:
        """How long it takes, without signals, until an end notices that the other one went back to the relay:
        a pass and two missed probes."""
        return self.scenario.settings.interval_s + 4 * PROBE_TIMEOUT_S


@dataclass(frozen=True)
class Scenario:
    """`nats` are names in `tests/nat_profiles.py`, one an agent; `check` asserts what must be true at the
    end, `happenings` plans what happens meanwhile. From the third agent on, one joins every
    `newcomer_every_s`. Those named in `origins` are agents of the origin's protocol, those in `polling` are
    ours without signals. With `signals` the hub takes signals, and all pairs are watched. `traffic` is what
    each pair has; links take
    `least_delay_s` to `delay_s`, one way to the core, and lose `loss`, None: chosen at
    random. In a `star` A has links to all others, and they have none with one another; with
    `lan` all are behind A's NAT; all agents have so many `processors` together, 0: what they do takes no
    time; those named in `ipv6` have an address of IPv6 alone, and no NAT."""

    nats: tuple[str, ...]
    check: Callable[[Run], None]
    run_for_s: float = 250.0
    settings: Settings = field(default_factory=Settings)
    happenings: Callable[[Run], None] = lambda _run: None
    newcomer_every_s: float = 0.0
    origins: tuple[str, ...] = ()
    polling: tuple[str, ...] = ()
    signals: bool = False
    star: bool = False
    lan: bool = False
    processors: int = 0
    ipv6: tuple[str, ...] = ()
    traffic: str = IDLE
    least_delay_s: float = 0.001
    delay_s: float = 0.06
    loss: float | None = None


def check_budget(agent: Agent) -> None:
    """No more fresh ports in any minute and any hour than the budget allows."""
    budget = agent.settings.budget
    for span_s, most in ((60.0, budget.per_minute), (3600.0, budget.per_hour)):
        for first in agent.fresh_ports_at:
            taken = sum(first <= at < first + span_s for at in agent.fresh_ports_at)
            assert taken <= most, f"{agent.name} took {taken} fresh ports within {span_s:g} s"


def check_never_without_path(run: Run, besides_s: float = 0.0) -> None:
    """No outage is longer than that of a promotion and `besides_s`; where packets are lost, one end may go
    back to the relay alone."""
    for monitor in run.monitors:
        allowed_s = monitor.promotion_s + besides_s + (0.0 if run.loss == 0 else run.one_sided_s)
        assert monitor.longest_s <= allowed_s, (
            f"{monitor.name} without a path for {monitor.longest_s:.3f} s, {allowed_s:.3f} s are allowed"
        )


def check_direct(run: Run) -> None:
    """All of A's traffic is on direct paths."""
    for monitor in run.monitors:
        assert monitor.direct, f"{monitor.name} is not direct in the end"
