# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""One run: agents behind NATs, what happens to them, and whether there always was a path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.nat_profiles import PROFILES
from tests.simulation.agents import Agent, HubModel, Journal
from tests.simulation.network import Link
from tests.simulation.origin import OriginAgent
from tests.simulation.world import World

from wg_rendezvous.core.mesh import Settings

AGENTS_START_AT = 10.0
"""All nodes talk to the hub from 0 on: every learning window has passed by then."""

WATCH_EVERY_S = 0.05
PROBE_TIMEOUT_S = 1.0


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


@dataclass
class PathMonitor:
    """Watches the path of a pair at every change, from the first time on that there is one: when it was
    missing, and since when it is direct."""

    world: World
    one: Agent | OriginAgent
    other: Agent | OriginAgent
    journal: Journal
    outages: list[tuple[float, float]] = field(default_factory=list)
    direct_since: float | None = None
    lost_at: float | None = None
    _connected: bool = False

    def __post_init__(self) -> None:
        self.name = f"{self.one.name}-{self.other.name}"
        self.world.engine.watchers.append(self._look)
        self._look()

    @property
    def direct(self) -> bool:
        """Traffic goes both ways and not through the hub, now."""
        return self.direct_since is not None

    def finish(self) -> None:
        """Count an outage that still lasts."""
        if self.lost_at is not None:
            self.outages.append((self.lost_at, self.world.engine.now))

    @property
    def longest_s(self) -> float:
        """The longest outage."""
        return max((end - begin for begin, end in self.outages), default=0.0)

    def _look(self) -> None:
        now = self.world.engine.now
        direct = self.world.is_direct(self.one.device, self.other.device)
        if direct != self.direct:
            self.direct_since = now if direct else None
            self.journal.write(now, self.name, "direct" if direct else "not direct any more")
        passes = direct or self.world.has_path(self.one.device, self.other.device)
        self._connected = self._connected or passes
        if not passes and self.lost_at is None and self._connected:
            self.lost_at = now
            self.journal.write(now, self.name, "NO PATH")
        elif passes and self.lost_at is not None:
            if now > self.lost_at:
                self.outages.append((self.lost_at, now))
            self.journal.write(now, self.name, f"path again after {now - self.lost_at:.3f} s")
            self.lost_at = None


class Run:
    """Agents A, B and so on, set up as the case says; `monitors` watch A's paths.

    `agents` are our own, not those of the origin. A and B are there from the start, their agents start
    `offset_s` apart; the others come later.
    """

    def __init__(self, case: Case, scenario: Scenario) -> None:
        self.case = case
        self.scenario = scenario
        self.journal = Journal()
        self.world = World(case.seed)
        self.engine = self.world.engine
        self.hub = HubModel(self.world.hub)
        random = self.engine.random
        self.loss = random.choice((0.0, 0.0, 0.01, 0.03))
        self.one_way_s = 0.0
        self.agents: dict[str, Agent] = {}
        truths: dict[str, str] = {}
        nodes: list[Agent | OriginAgent] = []
        for nth, profile in enumerate(scenario.nats):
            name = chr(ord("A") + nth)
            link = Link(random.uniform(0.001, 0.06), random.choice((0.0, 0.005)))
            self.one_way_s += link.delay_s + link.jitter_s
            device = self.world.add_node(
                name, PROFILES[profile], 99 if name == case.larger else 10 + nth, link
            )
            truths[device.public_key] = device.address
            agent: Agent | OriginAgent
            if name in scenario.origins:
                agent = OriginAgent(self.world, device, self.journal)
            else:
                agent = self.agents[name] = Agent(self.world, device, scenario.settings, truths, self.journal)
            nodes.append(agent)
            joins_at = max(0, nth - 1) * scenario.newcomer_every_s
            self.engine.call_in(joins_at, partial(self.world.connect, device))
            self.engine.call_in(joins_at + AGENTS_START_AT + min(nth, 1) * case.offset_s, agent.start)
        self.engine.run_until(AGENTS_START_AT - 0.001)
        for node in nodes:
            node.device.host.link.loss = self.loss
        self.monitors = [PathMonitor(self.world, nodes[0], other, self.journal) for other in nodes[1:]]

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
    def in_phase(self) -> bool:
        """The passes of A and B happen within a few round trips of one another."""
        apart_s = self.case.offset_s % self.scenario.settings.interval_s
        return min(apart_s, self.scenario.settings.interval_s - apart_s) < 0.4

    @property
    def brief_s(self) -> float:
        """How long the pair may be without a path by what the agents do.

        Without loss that is a promotion: both ends look at the device every 50 ms, and one of them sees the
        handshake a trip later than the other (facts 4 and 14). If both pass at almost the same time, the
        knock of one may end the session that the other has just seen, and it takes another round trip. Where
        packets are lost, one end may go back to the relay alone, and without signals the other notices at its
        next pass, by two missed probes.
        """
        brief_s = WATCH_EVERY_S + self.one_way_s + 0.01 + (2 * self.one_way_s if self.in_phase else 0.0)
        one_sided_s = self.scenario.settings.interval_s + 4 * PROBE_TIMEOUT_S
        return brief_s if self.loss == 0 else brief_s + one_sided_s


@dataclass(frozen=True)
class Scenario:
    """`nats` are names in `tests/nat_profiles.py`, one an agent; `check` asserts what must be true at the
    end, `happenings` plans what happens meanwhile. From the third agent on, one joins every
    `newcomer_every_s`. Those named in `origins` are agents of the origin's protocol."""

    nats: tuple[str, ...]
    check: Callable[[Run], None]
    run_for_s: float = 250.0
    settings: Settings = field(default_factory=Settings)
    happenings: Callable[[Run], None] = lambda _run: None
    newcomer_every_s: float = 0.0
    origins: tuple[str, ...] = ()


def check_budget(agent: Agent) -> None:
    """No more fresh ports in any minute and any hour than the budget allows."""
    budget = agent.settings.budget
    for span_s, most in ((60.0, budget.per_minute), (3600.0, budget.per_hour)):
        for first in agent.fresh_ports_at:
            taken = sum(first <= at < first + span_s for at in agent.fresh_ports_at)
            assert taken <= most, f"{agent.name} took {taken} fresh ports within {span_s:g} s"


def check_never_without_path(run: Run, besides_s: float = 0.0) -> None:
    """Every outage is as brief as `Run.brief_s` says, or `besides_s` longer."""
    for monitor in run.monitors:
        allowed_s = run.brief_s + besides_s
        assert monitor.longest_s <= allowed_s, (
            f"{monitor.name} without a path for {monitor.longest_s:.3f} s, {allowed_s:.3f} s are allowed"
        )


def check_direct(run: Run) -> None:
    """All of A's traffic is on direct paths."""
    for monitor in run.monitors:
        assert monitor.direct, f"{monitor.name} is not direct in the end"
