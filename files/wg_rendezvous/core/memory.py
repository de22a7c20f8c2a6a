# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is known of a link that was direct and was lost: it outlives the run of the agent, and the time in
which the loop has the link since the hub is away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Memory:
    """The fields of `rendezvous.Pair` by these names; `direct_until` is on the agent's own clock."""

    direct_until: float
    proven: str | None = None
    proven_mine: str | None = None
    port_tried: bool = False
    port_helped: bool = False


def to_state(memories: Mapping[str, Memory], now_s: float) -> dict[str, dict[str, Any]]:
    """What means something at `now_s`, in JSON types; times as seconds from then on."""
    return {
        peer: {
            "for_s": round(memory.direct_until - now_s, 3),
            "proven": memory.proven,
            "proven_mine": memory.proven_mine,
            "port_tried": memory.port_tried,
            "port_helped": memory.port_helped,
        }
        for peer, memory in memories.items()
        if memory.direct_until > now_s
    }


def from_state(state: Mapping[str, Mapping[str, Any]], saved_at_s: float) -> dict[str, Memory]:
    """What `to_state` returned at `saved_at_s`.  Raises KeyError, TypeError or ValueError if it is not
    that."""
    return {
        str(peer): Memory(
            saved_at_s + float(lost["for_s"]),
            _text(lost["proven"]),
            _text(lost["proven_mine"]),
            bool(lost["port_tried"]),
            bool(lost["port_helped"]),
        )
        for peer, lost in dict(state).items()
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)
