# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Draw docs/link.md from core/link.py: `PYTHONPATH=files python3 docs/draw_link.py > docs/link.md`."""

from __future__ import annotations

from wg_rendezvous.core.link import TRANSITIONS, State

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Copyright the rendezvous.wireguard authors -->
<!-- Drawn from core/link.py by docs/draw_link.py; a test holds the two equal. -->
# One link

What each state means is told at the top of `files/wg_rendezvous/core/link.py`.
"""


def page() -> str:
    """The page: a mermaid state diagram of the transitions that change the state, and a table of all."""
    lines = [HEAD, "```mermaid", "stateDiagram-v2", f"    [*] --> {State.RELAYED.value}"]
    for (state, event), outcome in TRANSITIONS.items():
        if outcome[0] is not state:
            lines.append(f"    {state.value} --> {outcome[0].value}: {event.value}")
    lines += ["```", "", "| state | event | next state | effects |", "|---|---|---|---|"]
    for (state, event), (following, effects) in TRANSITIONS.items():
        done = ", ".join(effect.value for effect in effects) or "-"
        lines.append(f"| {state.value} | {event.value} | {following.value} | {done} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
