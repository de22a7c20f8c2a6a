# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The scenarios: which NATs, what happens, and what has to be true of it (run.py says what a run is)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from itertools import pairwise

from tests.simulation import chaos
from tests.simulation.agents import RESTART_S, Agent
from tests.simulation.cuts import STARS
from tests.simulation.run import (
    AGENTS_START_AT,
    Case,
    Run,
    Scenario,
    check_direct,
    check_never_without_path,
)
from tests.simulation.signalled import SIGNALLED

from wg_rendezvous.core.mesh import Settings
from wg_rendezvous.core.refresh import FAILURES_LARGER_KEY, FAILURES_SMALLER_KEY, Budget, Policy

INTERVAL_S = 13.0
TWO_PASSES_S = 2 * INTERVAL_S
HAPPENS_AFTER_S = 60.0
"""By then a healthy pair is direct."""


# The restart condition: who needs a fresh port takes one, and nobody else does.


def _never_fires(run: Run) -> None:
    assert sum(run.fired) == 0, f"fired {run.fired} times without need"
    check_direct(run)
    check_never_without_path(run)


def _b_needs_it(run: Run) -> None:
    a, b = run.fired
    restart_s = RESTART_S + 1.0 if run.scenario.settings.refresh is Policy.RESTART else 0.0
    check_direct(run)
    check_never_without_path(run, besides_s=restart_s)
    assert b == 1, f"B needs a fresh port once, and took {b}"
    assert a <= 1, f"A needs no fresh port, and took {a}"


def _needs_it_after_a_collision(run: Run) -> None:
    """Whoever accepts unsolicited packets and was knocked at before it had opened needs a fresh port, unless
    the other one's fresh port gave it a second chance to open first."""
    check_direct(run)
    check_never_without_path(run)
    needed = sum(run.world.nat(agent.device).collisions > 0 for agent in (run.a, run.b))
    assert max(run.fired) <= 1, f"fired {run.fired} times"
    if needed:
        assert sum(run.fired) >= needed, f"a collision, and nobody took a fresh port: {run.fired}"
    else:
        assert sum(run.fired) == 0, f"fired {run.fired} times without need"


def _b_needs_it_if_a_came_first(run: Run) -> None:
    if run.loss == 0 and not run.monitor.in_phase:
        _b_needs_it(run)
    else:
        _needs_it_after_a_collision(run)


def _hopeless(run: Run) -> None:
    assert not any(monitor.direct for monitor in run.monitors), "direct, which the table says is impossible"
    assert sum(run.fired) >= 1, "never fired, although the condition held"
    _within_budget(run)


def _within_budget(run: Run) -> None:
    check_never_without_path(run)
    for agent in run.agents.values():
        _check_quiet(run, agent)


def _restarts_within_budget(run: Run) -> None:
    check_never_without_path(run, besides_s=RESTART_S + 1.0)
    assert 1 <= sum(run.fired) <= 5, f"restarted {run.fired} times"


def _rarer_and_rarer(run: Run) -> None:
    """After a fresh port that did not help, four times as many probes fail before the next, then twice
    as many."""
    _hopeless(run)
    for agent in run.agents.values():
        fired_at = [AGENTS_START_AT, *agent.fresh_ports_at]
        spans_s = [later - earlier for earlier, later in pairwise(fired_at)]
        for nth, (earlier_s, later_s) in enumerate(pairwise(spans_s)):
            least_s = 12 * INTERVAL_S if nth == 0 else 1.8 * earlier_s
            assert later_s >= least_s, (
                f"{agent.name} took a fresh port {later_s:.0f} s after one that did not help"
            )


def _check_quiet(run: Run, agent: Agent) -> None:
    """An agent without hope opens once a pass and once a fresh port for each peer, and no more."""
    passes = run.scenario.run_for_s / INTERVAL_S + 2 + len(agent.fresh_ports_at)
    most = passes * (len(run.agents) - 1)
    assert len(agent.opened_at) <= most, (
        f"{agent.name} opened {len(agent.opened_at)} times in {passes:.0f} passes"
    )


def _unplug_b(run: Run) -> None:
    after_s = run.engine.random.uniform(30.0, 60.0)
    run.plan(run.case.offset_s + after_s, "B is unplugged", lambda: _plug(run, False))


def _plug(run: Run, up: bool) -> None:
    run.b.device.host.up = up
    run.engine.changed()


def _nobody_fires(run: Run) -> None:
    assert run.monitor.outages, "the link was not lost"
    assert sum(run.fired) == 0, f"fired {run.fired} times, although the peer is offline"


def _b_moves_again_and_again(run: Run) -> None:
    period_s = run.engine.random.uniform(15.0, 24.0)
    addresses = iter(f"192.0.2.{number}" for number in range(1, 250))

    def move() -> None:
        run.world.network.renumber(run.b.device.host, next(addresses))
        run.plan(period_s, "B gets another public address", move)

    run.plan(period_s, "B gets another public address", move)


def _a_waits_longer(run: Run) -> None:
    """While B keeps moving, A waits for twice the number of probes, at whatever endpoints."""
    assert not run.monitor.direct
    limit = FAILURES_LARGER_KEY if run.case.larger == "A" else FAILURES_SMALLER_KEY
    for fired_at in run.a.fresh_ports_at[:1]:
        after_s = fired_at - AGENTS_START_AT
        assert after_s >= 2 * limit * INTERVAL_S - 1.0, (
            f"A fired after {after_s:.0f} s, although B's endpoint kept changing"
        )
    assert run.fired[0] <= 1, f"A fired {run.fired[0]} times, although B's endpoint kept changing"


def _newcomer_costs_one_port(run: Run) -> None:
    """A needs a port for B, and another for C, who joins later; that one breaks A's link to B for a while."""
    check_direct(run)
    check_never_without_path(run, TWO_PASSES_S)
    a, *others = run.fired
    assert a == 2, f"A needs two fresh ports, and took {a}"
    assert max(others) <= 1, f"the others need none, and took {others}"


RESTART_CONDITION = {
    "healthy drop": Scenario(("cone drop", "cone drop"), _never_fires, 120.0),
    "healthy reject": Scenario(("cone reject", "cone reject"), _never_fires, 120.0),
    "A accepts, A first": Scenario(("cone accept", "cone drop"), _needs_it_after_a_collision),
    "B accepts, A first": Scenario(("cone drop", "cone accept"), _b_needs_it_if_a_came_first),
    "learning window": Scenario(("cone drop", "learning window drop"), _b_needs_it),
    "learning window, unit restarted": Scenario(
        ("cone drop", "learning window drop"), _b_needs_it, settings=Settings(refresh=Policy.RESTART)
    ),
    "newcomer, A behind a learning window": Scenario(
        ("learning window drop", "cone drop", "cone drop"),
        _newcomer_costs_one_port,
        400.0,
        newcomer_every_s=150.0,
    ),
    "healthy, six of them": Scenario(
        ("cone drop", "cone reject", "cone drop") * 2, _never_fires, 150.0, newcomer_every_s=20.0
    ),
    "offline": Scenario(("cone drop", "cone drop"), _nobody_fires, 180.0, happenings=_unplug_b),
    "endpoint changing": Scenario(
        ("symmetric drop", "cone drop"), _a_waits_longer, 150.0, happenings=_b_moves_again_and_again
    ),
}

HOPELESS = {
    "symmetric": Scenario(("symmetric drop", "symmetric drop"), _rarer_and_rarer, 800.0),
    "symmetric, unit restarted": Scenario(
        ("symmetric drop", "symmetric drop"),
        _restarts_within_budget,
        500.0,
        Settings(refresh=Policy.RESTART),
    ),
    "symmetric, tight budget": Scenario(
        ("symmetric drop", "symmetric drop"), _hopeless, 400.0, Settings(budget=Budget(1, 1))
    ),
    "symmetric and port-restricted": Scenario(("symmetric drop", "cone drop"), _rarer_and_rarer, 300.0),
    "newcomers": Scenario(("symmetric drop",) * 5, _hopeless, 180.0, newcomer_every_s=25.0),
    "learning windows": Scenario(("learning window drop", "learning window drop"), _within_budget, 300.0),
    "both accept": Scenario(("cone accept", "cone accept"), _within_budget, 300.0),
}
"""No direct path without signals (the last two: but by luck). The relay carries the traffic, and fresh ports
stay within the budget."""


# What can happen to a link: nothing is left half moved for good, and nobody fires for it.


def _b_happens(what: str, *steps: tuple[float, Callable[[Run], object]]) -> Callable[[Run], None]:
    """Something happens to B while the link is direct; later steps after seconds each."""

    def happenings(run: Run) -> None:
        at_s = HAPPENS_AFTER_S + run.case.offset_s
        for after_s, step in steps:
            at_s += after_s
            run.plan(at_s, what, lambda step=step: step(run))  # type: ignore[misc] # bound now

    return happenings


def _back(besides_s: float) -> Callable[[Run], None]:
    """Direct again in the end, never longer without a path than `besides_s` beyond the usual."""

    def check(run: Run) -> None:
        check_direct(run)
        check_never_without_path(run, besides_s)
        assert sum(run.fired) == 0, f"fired {run.fired} times without need"

    return check


def _relay_takes_over(run: Run) -> None:
    assert not run.monitor.direct, "direct, although B's agent stopped"
    assert run.monitor.lost_at is None, "no path in the end"
    check_never_without_path(run, TWO_PASSES_S)


def _healthy(happenings: Callable[[Run], None], check: Callable[[Run], None]) -> Scenario:
    return Scenario(("cone drop", "cone drop"), check, 150.0, happenings=happenings)


UNPLUGGED_S = 40.0

LIFE = {
    "agent killed": _healthy(_b_happens("B's agent is killed", (0, lambda run: run.b.kill())), _back(0.0)),
    "agent killed and started": _healthy(
        _b_happens(
            "B's agent is killed, started", (0, lambda run: run.b.kill()), (9.0, lambda run: run.b.start())
        ),
        _back(0.0),
    ),
    "agent stopped": _healthy(
        _b_happens("B's agent is stopped", (0, lambda run: run.b.stop())), _relay_takes_over
    ),
    "agent stopped and started": _healthy(
        _b_happens(
            "B's agent is stopped, started", (0, lambda run: run.b.stop()), (9.0, lambda run: run.b.start())
        ),
        _back(TWO_PASSES_S),
    ),
    "peers removed": _healthy(
        _b_happens(
            "B's peers are removed", (0, lambda run: run.b.device.remove_peer(run.a.device.public_key))
        ),
        _back(TWO_PASSES_S),
    ),
    "NAT state lost": _healthy(
        _b_happens("B's NAT forgets", (0, lambda run: run.world.nat(run.b.device).lose_state())),
        _back(INTERVAL_S + 1.0),
    ),
    "hub gone": _healthy(
        _b_happens(
            "the hub goes, comes",
            (0, lambda run: setattr(run.world.hub.host, "up", False)),
            (UNPLUGGED_S, lambda run: setattr(run.world.hub.host, "up", True)),
        ),
        _back(0.0),
    ),
    "unplugged for a while": _healthy(
        _b_happens(
            "B is unplugged, plugged",
            (0, lambda run: _plug(run, False)),
            (UNPLUGGED_S, lambda run: _plug(run, True)),
        ),
        _back(UNPLUGGED_S + TWO_PASSES_S),
    ),
}
"""A direct link between healthy NATs, and what happens to B."""

# With agents of the origin's protocol.


def _direct_and_steady(run: Run) -> None:
    check_direct(run)
    since_s = run.engine.now - (run.monitor.direct_since or 0.0)
    assert since_s > TWO_PASSES_S, f"direct only since {since_s:.1f} s"
    assert sum(run.fired) <= 1, f"fired {run.fired} times"


def _direct_unless_it_moved_while_our_firewall_learned(run: Run) -> None:
    """The origin's agent takes a port every 15 s: in one of three fresh ports of ours it may do so while our
    firewall learns, and the next one is far away."""
    window_s = 5.0
    (ours,) = run.agents.values()
    assert ours.fresh_ports_at, "we need a fresh port, and took none"
    took_at = ours.fresh_ports_at[0]
    moved = any(-1.0 < at - took_at < window_s for at in run.nodes[0].fresh_ports_at)
    assert run.monitor.direct or moved, "not direct in the end"


ORIGIN = {
    "origin's agent first": Scenario(("cone drop", "cone drop"), _direct_and_steady, 150.0, origins=("A",)),
    "origin's agent second": Scenario(("cone drop", "cone drop"), _direct_and_steady, 150.0, origins=("B",)),
    "origin's agent behind a learning window": Scenario(
        ("cone drop", "learning window drop"), _direct_and_steady, 250.0, origins=("B",)
    ),
    "learning window, origin's agent opposite": Scenario(
        ("cone drop", "learning window drop"),
        _direct_unless_it_moved_while_our_firewall_learned,
        250.0,
        origins=("A",),
    ),
}
"""The other end leaves the relay by itself, so there are times without a path that are not ours."""

SCENARIOS = {**RESTART_CONDITION, **HOPELESS, **LIFE, **ORIGIN, **SIGNALLED, **STARS}


def scenario_of(case: Case) -> Scenario:
    """Its scenario; chaos is another one with every seed."""
    return chaos.scenario(case.seed) if case.scenario == chaos.CHAOS else SCENARIOS[case.scenario]


def simulate(case: Case) -> Run:
    """Run `case` to its end. Raises AssertionError that tells how to replay it."""
    gc.collect(1)  # the run before this one
    gc.disable()  # a run is garbage as a whole, and nothing of it sooner
    try:
        run = Run(case, scenario_of(case))
        run.go()
    except AssertionError as error:
        raise AssertionError(f"{error}\nreplay: {case.command}") from error
    finally:
        gc.enable()
    return run


def simulate_all(cases: Iterable[Case]) -> None:
    """Run `cases` one after the other. Raises AssertionError for the first that fails."""
    for case in cases:
        simulate(case)
