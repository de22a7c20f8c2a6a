# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Draw docs/link.md from the tables of core/rendezvous.py and core/link.py:
`PYTHONPATH=files python3 docs/draw_link.py > docs/link.md`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from wg_rendezvous.core import link, rendezvous

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Copyright the rendezvous.wireguard authors -->
<!-- Drawn from core/rendezvous.py and core/link.py by docs/draw_link.py; a test holds them equal. -->
# One link
"""
SIGNALLED = """
## To a peer that sends signals

What each phase means is told at the top of `files/wg_rendezvous/core/rendezvous.py`.  What leads back to
`relayed` from everywhere is in the table, not in the diagram.
"""
POLLED = """
## To a peer that sends none

What each state means is told at the top of `files/wg_rendezvous/core/link.py`.
"""
FROM_EVERYWHERE = frozenset(
    {
        rendezvous.PairEvent.EXPIRED,
        rendezvous.PairEvent.REFUSED,
        rendezvous.PairEvent.WITHDRAW,
        rendezvous.PairEvent.LOST,
        rendezvous.PairEvent.RESTARTED,
        rendezvous.PairEvent.STOP,
    }
)

Table = Mapping[Any, tuple[enum.Enum, tuple[enum.Enum, ...]]]


def _diagram(table: Table, first: enum.Enum, left_out: frozenset[enum.Enum] = frozenset()) -> list[str]:
    """A mermaid state diagram of the transitions that change the state; several events on one arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), (following, _effects) in table.items():
        offered = event is rendezvous.PairEvent.OFFER and state is not first
        if following is not state and event not in left_out and not offered:
            arrows.setdefault((state.value, following.value), []).append(event.value)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.value}"]
    lines += [f"    {one} --> {other}: {', '.join(events)}" for (one, other), events in arrows.items()]
    return [*lines, "```"]


def _table(table: Table) -> list[str]:
    lines = ["", "| state | event | next state | effects |", "|---|---|---|---|"]
    for (state, event), (following, effects) in table.items():
        done = ", ".join(effect.value for effect in effects) or "-"
        lines.append(f"| {state.value} | {event.value} | {following.value} | {done} |")
    return lines


def page() -> str:
    """The page: of either machine a diagram, and a table of all transitions."""
    lines = [HEAD.rstrip("\n"), SIGNALLED]
    lines += _diagram(rendezvous.TRANSITIONS, rendezvous.Phase.RELAYED, FROM_EVERYWHERE)
    lines += _table(rendezvous.TRANSITIONS)
    lines += [POLLED]
    lines += _diagram(link.TRANSITIONS, link.State.RELAYED)
    lines += _table(link.TRANSITIONS)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
