# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What can go wrong with a link between agents that signal, and how long each may leave it without a path.

A fault strikes a node or a pair, lasts, and is over.  While it makes a path impossible, and for the stated
time of its detection, there may be none: its *excuse*.  Everything else is an outage that nothing excuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.agents import Agent
from tests.simulation.nat import Nat

if TYPE_CHECKING:
    from tests.simulation.run import Run

CUT_S, HEALED_S, MOVED_S = 2.5, 1.5, 2.5
"""The issue's figures: a cut path, a NAT that lost its state (drop, reject), mappings or addresses that
moved."""
REHANDSHAKE_S = 38.0
"""An idle agent misses its stream after 12 s; then WireGuard notices after 15 s that its hub does not know
the session any more, and may have to retry after 5 s."""


@dataclass(frozen=True)
class Fault:
    """`strike(run, victim, other)` begins it, `end` ends it after `span_s` (from, to).

    There may be no path for `detection_s` after it began, or, if `impossible` while it lasts, after it ended.
     With `hub` it is the hub that is struck: only pairs whose traffic it relays may be without a path.
    """

    name: str
    strike: Callable[[Run, Agent, Agent], object]
    end: Callable[[Run, Agent, Agent], object] | None = None
    span_s: tuple[float, float] = (0.0, 0.0)
    detection_s: float = 0.0
    impossible: bool = False
    hub: bool = False
    repaired_s: float = 5.0
    """Direct again so soon after the end, where the NATs permit it."""


def _cut(run: Run, one: Agent, other: Agent) -> None:
    _cut_one_way(run, one, other)
    _cut_one_way(run, other, one)


def _heal(run: Run, one: Agent, other: Agent) -> None:
    _heal_one_way(run, one, other)
    _heal_one_way(run, other, one)


def _cut_one_way(run: Run, one: Agent, other: Agent) -> None:
    run.world.network.cut(one.name, other.name)


def _heal_one_way(run: Run, one: Agent, other: Agent) -> None:
    run.world.network.heal(one.name, other.name)


def _lose_state(run: Run, one: Agent, _other: Agent) -> None:
    run.world.nat(one.device).lose_state()


def _move_mappings(run: Run, one: Agent, _other: Agent) -> None:
    run.world.nat(one.device).move_mappings()


def _renumber(run: Run, one: Agent, _other: Agent) -> None:
    run.world.network.renumber(one.device.host, run.fresh_address())


def _roam(run: Run, one: Agent, _other: Agent) -> None:
    profile = run.world.nat(one.device).profile
    one.roam(Nat(run.engine, run.fresh_address(), profile))


def _suspend(_run: Run, one: Agent, _other: Agent) -> None:
    one.suspend()


def _resume(_run: Run, one: Agent, _other: Agent) -> None:
    one.resume()


def _unplug(_run: Run, one: Agent, _other: Agent) -> None:
    one.plug(False, "unplugged")


def _plug(_run: Run, one: Agent, _other: Agent) -> None:
    one.plug(True, "unplugged")


def _lose_power(_run: Run, one: Agent, _other: Agent) -> None:
    one.lose_power()


def _boot(_run: Run, one: Agent, _other: Agent) -> None:
    one.boot()


def _kill(_run: Run, one: Agent, _other: Agent) -> None:
    one.kill()


def _start(_run: Run, one: Agent, _other: Agent) -> None:
    if not one.running and one.device.host.up:
        one.start()


def _stop(_run: Run, one: Agent, _other: Agent) -> None:
    one.stop()


def _reload(_run: Run, one: Agent, _other: Agent) -> None:
    one.reload()


def _stop_hub(run: Run, _one: Agent, _other: Agent) -> None:
    run.signal_hub.stop()


def _start_hub(run: Run, _one: Agent, _other: Agent) -> None:
    run.signal_hub.start()


def _start_hub_of_the_origin(run: Run, _one: Agent, _other: Agent) -> None:
    run.signal_hub.stop()
    run.signal_hub.start(supported=False)


def _start_hub_anew(run: Run, _one: Agent, _other: Agent) -> None:
    run.signal_hub.stop()
    run.signal_hub.start()


def _unplug_hub(run: Run, _one: Agent, _other: Agent) -> None:
    run.world.hub.host.up = False
    run.engine.changed()


def _plug_hub(run: Run, _one: Agent, _other: Agent) -> None:
    run.world.hub.host.up = True
    run.engine.changed()


def _boot_hub(run: Run, one: Agent, other: Agent) -> None:
    """Its sessions are gone."""
    run.signal_hub.stop()
    for key, address in run.truths.items():
        run.world.hub.remove_peer(key)
        run.world.hub.set_peer(key, allowed_ips=(f"{address}/32",))
    _plug_hub(run, one, other)
    run.signal_hub.start()


def _remove_at_hub(run: Run, one: Agent, _other: Agent) -> None:
    run.world.hub.remove_peer(one.device.public_key)


def _add_at_hub(run: Run, one: Agent, _other: Agent) -> None:
    run.world.hub.set_peer(one.device.public_key, allowed_ips=(f"{one.device.address}/32",))


def _clock_ahead(_run: Run, one: Agent, _other: Agent) -> None:
    one.device.clock_ahead_s = 3600.0


def _clock_back(_run: Run, one: Agent, _other: Agent) -> None:
    one.device.clock_ahead_s = 0.0


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("path cut", _cut, _heal, (2.0, 20.0), CUT_S),
        Fault("one direction cut", _cut_one_way, _heal_one_way, (2.0, 20.0), CUT_S),
        Fault("short cut", _cut, _heal, (0.1, 2.0), CUT_S),
        Fault("NAT state lost", _lose_state, detection_s=HEALED_S),
        Fault("mappings moved", _move_mappings, detection_s=MOVED_S),
        Fault("NAT address changed", _renumber, detection_s=MOVED_S),
        Fault("roamed", _roam, detection_s=MOVED_S),
        Fault("suspended", _suspend, _resume, (0.5, 30.0), CUT_S, True, repaired_s=15.0),
        Fault("unplugged", _unplug, _plug, (0.5, 30.0), CUT_S, True, repaired_s=15.0),
        Fault("power lost", _lose_power, _boot, (3.0, 10.0), CUT_S, impossible=True),
        Fault("agent killed", _kill, _start, (0.2, 12.0)),
        Fault("agent stopped", _stop, _start, (1.5, 12.0)),
        Fault("reloaded", _reload, detection_s=1.0),
        Fault("hub's program restarted", _stop_hub, _start_hub, (0.2, 5.0), repaired_s=15.0),
        Fault("hub unplugged", _unplug_hub, _plug_hub, (0.5, 20.0), CUT_S, True, True, 20.0),
        Fault("hub rebooted", _unplug_hub, _boot_hub, (2.0, 8.0), REHANDSHAKE_S, True, True, 40.0),
    )
}
"""What a link comes back from within seconds: the chaos is made of these."""

RARE = {
    fault.name: fault
    for fault in (
        Fault("hub of the origin for a while", _start_hub_of_the_origin, _start_hub_anew, (30.0, 30.0)),
        Fault("removed at the hub", _remove_at_hub, _add_at_hub, (3.0, 3.0), REHANDSHAKE_S, True),
        Fault("clock ahead and back", _clock_ahead, _clock_back, (300.0, 300.0)),
    )
}
