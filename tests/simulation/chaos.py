# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Schedules of faults made from a seed: which NATs, how far apart, what traffic, what strikes whom and when;
and what has to hold whatever it was.

In every second schedule the faults keep their distance, so that each has to be noticed in its own stated
time; in the others one strikes while another is being repaired, and their times add up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from tests.simulation.agents import Agent
from tests.simulation.faults import FAULTS
from tests.simulation.monitor import Node, Outage, PathMonitor
from tests.simulation.network import Link
from tests.simulation.run import BOTH_WAYS, IDLE, ONE_WAY, Run, Scenario, Strike
from tests.simulation.world import KEEPALIVE_S

CHAOS = "chaos"
NATS = ("cone drop", "cone drop", "cone reject", "cone accept", "learning window drop", "symmetric drop")
BEGIN_S = 6.0
"""By then the agents have joined."""
FRESH_PORT_S = 10.0
"""A fresh port has the links of its node made anew."""
IDLE_S = 32.0
"""An idle link is asked only every 30 s."""
TUPLE_S = 90.0
"""Behind a router that accepts, a tuple that was taken is free again after 30 s of silence (fact 1), of one
end or of the other."""
HANDSHAKE_AGAIN_S = 5.5
"""A lost handshake of WireGuard's is tried again after 5 s and jitter."""
UNPROVEN_S = 14.0
"""What strikes while a link is moved makes it wait for so long: moving it for nothing cost traffic."""
GIVEN_BACK_S = 1.0
"""So long whoever takes a fresh port waits for those that do not confirm."""
STEADY_S = 3.0


def scenario(seed: int) -> Scenario:
    """The schedule of this seed."""
    dice = random.Random(seed)
    count = dice.choice((2, 2, 2, 2, 2, 2, 2, 3, 3, 4))
    kinds = NATS if dice.random() < 0.5 else NATS[:4]
    return Scenario(
        tuple(dice.choice(kinds) for _ in range(count)),
        check,
        signals=True,
        traffic=dice.choice((BOTH_WAYS, BOTH_WAYS, BOTH_WAYS, ONE_WAY, ONE_WAY, IDLE)),
        delay_s=dice.choice((0.003, 0.003, 0.02, 0.06, 0.15)),
        loss=dice.choice((0.0, 0.0, 0.0, 0.01, 0.03)),
        run_for_s=0.0,
        happenings=partial(_schedule, dice),
    )


def _schedule(dice: random.Random, run: Run) -> None:
    """Let things happen, and wait until all is as it has to be again."""
    apart = run.case.seed % 2 == 0
    if dice.random() < 0.3:
        run.disturbed = True
        run.signal_hub.disturb = partial(_disturb, run, dice)
    at_s = BEGIN_S
    agents = list(run.agents.values())
    for _ in range(dice.randint(1, 4)):
        fault = FAULTS[dice.choice(list(FAULTS))]
        one, other = dice.sample(agents, 2)
        span_s = dice.uniform(*fault.span_s)
        run.strike(fault, one, other, at_s, span_s)
        if apart:
            detected_s = fault.detection_s + slow_s(run) + (IDLE_S if run.scenario.traffic == IDLE else 0.0)
            at_s += span_s + detected_s + fault.repaired_s + dice.uniform(0.0, 3.0)
        else:
            at_s += dice.choice((0.0, dice.uniform(0.0, 1.0), dice.uniform(0.0, 10.0)))
    last = max(strike.end for strike in run.strikes)
    run.engine.run_until(last)
    for agent in agents:
        if not agent.running:
            agent.start()
    longest_s = max(strike.fault.repaired_s for strike in run.strikes)
    until = run.engine.now + repair_s(run) + longest_s
    while run.engine.now < until:
        run.engine.run_until(until, lambda: _all_direct(run))
        run.engine.run_for(STEADY_S)
        if _all_direct(run) and all(agree(monitor) for monitor in run.monitors):
            return


def _disturb(run: Run, dice: random.Random, deliver: Callable[[], None]) -> None:
    """Signals come twice, late, or never."""
    lot = dice.random()
    if lot < 0.02:
        return
    deliver()
    if lot > 0.9:
        run.engine.call_in(dice.choice((0.0, 0.05, 0.5, 3.0)), deliver)


def slow_s(run: Run) -> float:
    """What the round trips add to the stated times: answers are awaited for five of them, then it is
    signalled."""
    way_s = max(link.delay_s + link.jitter_s for link in _links(run))
    lost_s = 0.0 if run.loss == 0 else HANDSHAKE_AGAIN_S
    return 2 * 2 * way_s * 8 + lost_s if way_s > 0.01 else 0.2 + lost_s


def _links(run: Run) -> Iterable[Link]:
    return (node.device.host.link for node in run.nodes)


def repair_s(run: Run) -> float:
    """How long after the last fault every pair that can be direct has to be."""
    nats = [run.world.nat(node.device).profile for node in run.nodes]
    accepting = any(nat.input_policy == "accept" for nat in nats)
    learning = any(nat.learning_window_s is not None for nat in nats)
    idle_s = IDLE_S if run.scenario.traffic == IDLE else 0.0
    return (
        10.0
        + UNPROVEN_S
        + 2 * slow_s(run)
        + idle_s
        + (TUPLE_S if accepting else 0.0)
        + (150.0 if learning else 0.0)
    )


def has_to_be_direct(run: Run, monitor: PathMonitor) -> bool:
    """What the table says: cones with one another, and one learning window at most."""
    nats = [run.world.nat(node.device).profile for node in (monitor.one, monitor.other)]
    cones = all(nat.mapping == "endpoint-independent" for nat in nats)
    return cones and sum(nat.learning_window_s is not None for nat in nats) == 0


def _all_direct(run: Run) -> bool:
    return all(monitor.direct for monitor in run.monitors if has_to_be_direct(run, monitor))


@dataclass(frozen=True)
class Excuse:
    """From `begin` to `end` the pairs with one of `names` may be without a path, all if there are none; only
    relayed ones with `relayed`."""

    begin: float
    end: float
    names: frozenset[str]
    relayed: bool

    def covers(self, monitor: PathMonitor, outage: Outage) -> bool:
        """Whether it is one for this pair."""
        if self.relayed and outage.was_direct:
            return False
        return not self.names or bool(self.names & {monitor.one.name, monitor.other.name})

    def until(self, outage: Outage) -> float:
        """A relayed pair whose nodes have nothing to say to the hub is healed by their keepalives."""
        return self.end + (0.0 if outage.was_direct else KEEPALIVE_S)


def excuses(run: Run) -> list[Excuse]:
    """Those that the strikes give; where they overlap they add up."""
    besides_s = slow_s(run) + (IDLE_S if run.scenario.traffic == IDLE else 0.0)
    found: list[Excuse] = []
    cluster: list[Strike] = []
    until = float("-inf")
    for strike in [*sorted(run.strikes, key=lambda one: one.begin), None]:
        if cluster and (strike is None or strike.begin > until):
            found += _excuses_of(cluster, besides_s, list(run.agents.values()))
            cluster = []
        if strike is not None:
            cluster.append(strike)
            until = max(until, strike.end + strike.fault.detection_s + besides_s + strike.fault.repaired_s)
    return found


def _excuses_of(cluster: list[Strike], besides_s: float, agents: list[Agent]) -> list[Excuse]:
    if len(cluster) == 1:
        (strike,) = cluster
        fault = strike.fault
        if not fault.detection_s:
            return []
        names = frozenset() if fault.hub else frozenset({strike.one.name})
        last = strike.end if fault.impossible else strike.begin
        # A link that was just given back for a fresh port cannot be had back when the hub is gone.
        fresh = any(-1.0 < at - strike.begin < 3.0 for agent in agents for at in agent.fresh_ports_at)
        found = [Excuse(strike.begin, last + fault.detection_s + besides_s, names, fault.hub and not fresh)]
        if fault.hub:  # whose stream is not back yet hears late that a link is given back for a fresh port
            found += [
                Excuse(at - GIVEN_BACK_S, at + fault.detection_s, frozenset({agent.name}), False)
                for agent in agents
                for at in agent.fresh_ports_at
                if strike.begin < at < strike.end + fault.repaired_s
            ]
        return found
    times_s = sum(strike.fault.detection_s + strike.fault.repaired_s + besides_s for strike in cluster)
    return [Excuse(cluster[0].begin, max(strike.end for strike in cluster) + times_s, frozenset(), False)]


def unexcused_s(monitor: PathMonitor, outage: Outage, given: list[Excuse]) -> float:
    """The longest part of an outage that nothing excuses."""
    longest_s, at = 0.0, outage.begin
    for excuse in sorted(given, key=lambda one: one.begin):
        if excuse.covers(monitor, outage) and excuse.until(outage) > at:
            longest_s = max(longest_s, min(excuse.begin, outage.end) - at)
            at = excuse.until(outage)
    return max(longest_s, outage.end - at)


def check(run: Run) -> None:
    """What has to hold in every schedule."""
    given = excuses(run)
    for monitor in run.monitors:
        allowed_s = change_s(run, monitor)
        for outage in monitor.outages:
            missing_s = unexcused_s(monitor, outage, given)
            assert missing_s <= allowed_s, (
                f"{monitor.name} without a path for {missing_s:.3f} s at {outage.begin:.3f}; "
                f"{allowed_s:.3f} s are allowed"
            )
        assert agree(monitor), f"{monitor.name}: only one end has moved"
        fresh_ats = [at for agent in run.agents.values() for at in agent.fresh_ports_at]
        if has_to_be_direct(run, monitor) and all(at < run.engine.now - FRESH_PORT_S for at in fresh_ats):
            assert monitor.direct, f"{monitor.name} did not stay direct"


def change_s(run: Run, monitor: PathMonitor) -> float:
    """How long a promotion or a withdrawal may leave a pair without a path: until the other end heard of
    it."""
    way_s = sum(
        node.device.host.link.delay_s + 2 * node.device.host.link.jitter_s
        for node in (monitor.one, monitor.other)
    )
    disturbed_s = 3.0 if run.loss or run.disturbed else 0.0
    fresh_s = 0.3 if any(agent.fresh_ports_at for agent in run.agents.values()) else 0.0
    return 0.07 + way_s + fresh_s + disturbed_s


def agree(monitor: PathMonitor) -> bool:
    """Both ends have moved the traffic of a pair, or none has."""
    return moved(monitor.one, monitor.other) == moved(monitor.other, monitor.one)


def moved(one: Node, other: Node) -> bool:
    """Whether this end has moved the other one's address to a direct peer."""
    owner = one.device.owner(other.device.address)
    return owner is not None and owner.key == other.device.public_key
