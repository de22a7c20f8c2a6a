# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Many peers start at once: all are direct as soon as the pacing permits, whoever has which key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.chaos import agree
from tests.simulation.run import AGENTS_START_AT, IDLE, Run, Scenario

from wg_rendezvous.core.node import PACKETS_PER_KNOCK
from wg_rendezvous.core.pacing import UNPROVEN_PACKETS_PER_S

JOINED_S = 1.5
"""What the last of them takes when its turn has come."""


BOTH_BUSY = 2.5
"""Where all are busy, an offer that has to wait at its other end has used up a turn at its own."""


def within_s(links: int, star: bool) -> float:
    """So many links of one node, one after the other at addresses that have proven nothing."""
    turns_s = links * PACKETS_PER_KNOCK / UNPROVEN_PACKETS_PER_S
    return JOINED_S + turns_s * (1.0 if star else BOTH_BUSY)


def _check(run: Run) -> None:
    allowed_s = within_s(len(run.nodes) - 1, run.scenario.star)
    for monitor in run.monitors:
        assert agree(monitor), f"{monitor.name}: only one end has moved"
        assert monitor.direct_since is not None, f"{monitor.name} is not direct"
        since_s = monitor.direct_since - AGENTS_START_AT - run.case.offset_s
        assert since_s <= allowed_s, f"{monitor.name} was direct after {since_s:.2f} s, not {allowed_s:.2f}"
    assert sum(len(agent.fresh_ports_at) for agent in run.agents.values()) == 0, "a fresh port without need"


def _crowd(count: int, star: bool) -> Scenario:
    nats = ("cone drop", "cone reject", "cone accept")
    return Scenario(
        tuple(nats[nth % 3] for nth in range(count)),
        _check,
        within_s(count, star) + 2.0,
        signals=True,
        star=star,
        traffic=IDLE,
        loss=0.0,
        delay_s=0.02,
    )


REGISTRATIONS_OF_ONE = 3
"""So many registrations of one agent wait at the hub at most: the one that it waits for, and those that it
has given up."""


def _check_soon(run: Run) -> None:
    """A hub that takes its time is not kept from what it has to do: all are direct as with any other."""
    _check(run)
    _check_hub(run)


def _check_in_the_end(run: Run) -> None:
    """All are direct, though for a while no agent got its answer in time."""
    for monitor in run.monitors:
        assert monitor.direct, f"{monitor.name} is not direct"
    _check_hub(run)


def _check_hub(run: Run) -> None:
    hub, nodes = run.signal_hub, len(run.nodes)
    behind = hub.most_behind_s / hub.registering_s
    assert behind <= REGISTRATIONS_OF_ONE * nodes, f"{behind:.0f} registrations of {nodes} agents waited"
    assert hub.free_at <= run.engine.now, "the hub is still busy"


def _slow_hub(registering_s: float, check: Callable[[Run], None], run_for_s: float) -> Scenario:
    def slow_down(run: Run) -> None:
        run.signal_hub.registering_s = registering_s

    return replace(_crowd(12, star=False), check=check, happenings=slow_down, run_for_s=run_for_s)


RENDEZVOUS_OF_LINK = 1.5
"""So many are begun for each link at most, on average, where no node gets to do what it wants in time."""


def _check_busy(run: Run) -> None:
    """All are direct, and not much was begun that nobody had the time for."""
    for monitor in run.monitors:
        assert monitor.direct, f"{monitor.name} is not direct"
    words = str(run.journal)
    assert "was taken away" not in words, "an agent gives back what it has just moved itself"
    begun = words.count("relayed -> offered")
    allowed = RENDEZVOUS_OF_LINK * len(run.monitors)
    assert begun <= allowed, f"{begun} rendezvous were begun for {len(run.monitors)} links"


SLOW_HUB = "12 with one another, at once, a slow hub"
MUCH_TOO_SLOW_HUB = "12 with one another, at once, a much too slow hub"
BUSY = "16 with one another, at once, on two processors"
CROWDS = {
    "30 with one, at once": _crowd(31, star=True),
    "12 with one another, at once": _crowd(12, star=False),
    BUSY: replace(_crowd(16, star=False), check=_check_busy, processors=2, run_for_s=60.0),
    SLOW_HUB: _slow_hub(0.1, _check_soon, 15.0),
    MUCH_TOO_SLOW_HUB: _slow_hub(0.3, _check_in_the_end, 60.0),
}
