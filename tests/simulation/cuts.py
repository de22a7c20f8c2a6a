# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The direct paths of a node are cut while the hub stays in reach: relayed meanwhile, direct as soon as
the cut ends, however long it was up to ten minutes and however many links there are, and hardly a fresh
port is spent on what no port can heal."""

from __future__ import annotations

from functools import partial

from tests.simulation.chaos import agree, change_s
from tests.simulation.faults import CUT_S
from tests.simulation.run import BOTH_WAYS, ONE_WAY, SAMPLE_S, Run, Scenario

CUT_AFTER_S, JOINED_AFTER_S = 75.0, 10.0
JOINS_PER_S = 4.0
"""So many links of a node become direct in a second, at addresses that have proven nothing (20 packets)."""
DIRECT_AGAIN_S = 5.0


def _begins_s(links: int) -> float:
    """When it begins: all are direct by then, and one link alone has outlived a learning window."""
    return (CUT_AFTER_S if links == 1 else JOINED_AFTER_S) + links / JOINS_PER_S


def _cut_all(span_s: float, run: Run) -> None:
    others = [node for node in run.nodes if node is not run.a]
    run.cut_at = run.case.offset_s + _begins_s(len(others)) + run.engine.now
    run.healed_at = run.cut_at + span_s

    def each(change: str) -> None:
        for other in others:
            getattr(run.world.network, change)(run.a.name, other.name)
            getattr(run.world.network, change)(other.name, run.a.name)

    run.plan(run.cut_at - run.engine.now, "A's direct paths are cut", partial(each, "cut"))
    run.plan(run.healed_at - run.engine.now, "A's direct paths are back", partial(each, "heal"))


def check_direct_again(run: Run) -> None:
    """All of them were direct and are again; lost are the packets until the cut was noticed, and none
    later."""
    for monitor in run.monitors:
        assert agree(monitor), f"{monitor.name}: only one end has moved"
        assert monitor.was_direct_at(run.cut_at), f"{monitor.name} was not direct before the cut"
        assert monitor.direct_since is not None, f"{monitor.name} is not direct again"
        after_s = monitor.direct_since - run.healed_at
        assert 0 <= after_s <= DIRECT_AGAIN_S, (
            f"{monitor.name} is direct again {after_s:.2f} s after the cut's end"
        )
        for outage in monitor.outages:
            noticed_s = CUT_S if run.cut_at <= outage.begin <= run.cut_at + SAMPLE_S else 0.0
            allowed_s = change_s(run, monitor) + noticed_s + SAMPLE_S
            lost_s = outage.end - outage.begin
            assert lost_s <= allowed_s, (
                f"{monitor.name} without a path for {lost_s:.2f} s at {outage.begin:.3f}"
            )
    for agent in run.agents.values():
        ports = sum(at >= run.cut_at for at in agent.fresh_ports_at)
        assert ports <= 1, f"{agent.name} spent {ports} fresh ports on a cut"
    assert run.signal_hub.refused == 0, f"the hub refused {run.signal_hub.refused} signals"


def _cut(nats: tuple[str, ...], span_s: float, traffic: str = ONE_WAY) -> Scenario:
    return Scenario(
        nats,
        check_direct_again,
        _begins_s(len(nats) - 1) + span_s + 10.0,
        happenings=partial(_cut_all, span_s),
        signals=True,
        star=len(nats) > 2,
        traffic=traffic,
        loss=0.0,
        delay_s=0.02,
    )


MIXED_NATS = ("cone drop", "cone reject", "cone drop", "cone accept")

CUTS = {
    **{
        f"cut for {span_s} s: {one} x {other}": _cut((one, other), span_s, BOTH_WAYS)
        for span_s in (10, 120, 600)
        for one, other in (("cone drop", "cone reject"), ("learning window drop", "cone drop"))
    },
    "cut for 300 s, 3 links": _cut(MIXED_NATS, 300.0),
}
STARS = {
    "cut for 120 s, 20 links": _cut(MIXED_NATS * 5 + ("cone drop",), 120.0),
    "cut for 30 s, 60 links": _cut(MIXED_NATS * 15 + ("cone drop",), 30.0),
}
"""The costliest of all: once is enough."""
