# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The restart condition: when this node has to take a fresh port ("restart its VPN client").

A firewall that learned the wrong thing about our port, or that stopped learning, is cured by a
port it has not seen (DESIGN fact 1).  The condition, from the origin's protocol: the hub says
that the peer is online, its endpoint has not changed, and so many probes in a row failed.

How many is the tie-break, so that two agents do not chase one another, each moving away from
where the other one looks: 3 for the larger key and 5 for the smaller.  A new endpoint of the other
side starts the count again, as it may just have cured what was wrong; a peer that goes on moving (the
origin's agents restart at every miss) does not put it off for ever: twice the number, at whatever
endpoints, will do.  After an own fresh port the
number is four times as high, and doubles from there: a port that did not help will not
help sooner the next time.

A fresh port is felt by every peer, so it is budgeted, and one of them serves every peer that was
failing when it was taken.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FAILURES_LARGER_KEY = 3
FAILURES_SMALLER_KEY = 5
FIRST_FACTOR = 4
ANYWHERE = 2
"""How many times the limit have to fail if the other side moved in between."""
MINUTE_S = 60.0
HOUR_S = 3600.0


class Policy(enum.Enum):
    """How a fresh port is taken."""

    REBIND = "rebind"  # `wg set IF listen-port`, the interface stays up
    RESTART = "restart"  # the whole unit, as the origin did
    OFF = "off"  # never: the port is pinned


@dataclass(frozen=True)
class Budget:
    """At most so many fresh ports in any minute, and in any hour."""

    per_minute: int = 1
    per_hour: int = 6


@dataclass
class Count:
    """The failed probes of one peer in a row: `failures` at its `endpoint` of now, `row` at any
    endpoint; `factor` raises the limit."""

    endpoint: str
    failures: int = 0
    row: int = 0
    factor: int = 1


@dataclass
class Refresh:
    """Counts failed probes and says when a fresh port is due.

    `taken_ats` are the times of the fresh ports of the last hour.
    """

    own_key: str
    budget: Budget = field(default_factory=Budget)
    counts: dict[str, Count] = field(default_factory=dict)
    taken_ats: list[float] = field(default_factory=list)

    def is_larger(self, peer: str) -> bool:
        """Whether our key is the larger one, as raw bytes."""
        return base64.b64decode(self.own_key) > base64.b64decode(peer)

    def limit(self, peer: str) -> int:
        """The number of probes of `peer` that have to fail in a row (the tie-break, see above)."""
        base = FAILURES_LARGER_KEY if self.is_larger(peer) else FAILURES_SMALLER_KEY
        count = self.counts.get(peer)
        return base * (count.factor if count else 1)

    def seen(self, peer: str, endpoint: str) -> None:
        """The hub names this endpoint; another one than before starts the count again."""
        count = self.counts.setdefault(peer, Count(endpoint))
        if count.endpoint != endpoint:
            count.endpoint, count.failures = endpoint, 0

    def failed(self, peer: str, moved: bool = False) -> int:
        """One more probe in a row was not answered; `moved` if the peer has another endpoint by now.
        Returns how many that makes at its endpoint."""
        count = self.counts[peer]
        count.row += 1
        if not moved:
            count.failures += 1
        return count.failures

    def succeeded(self, peer: str) -> None:
        """The direct path is proven: nothing counted before means anything now."""
        count = self.counts.get(peer)
        if count:
            count.failures, count.row, count.factor = 0, 0, 1

    def interrupted(self, peer: str) -> None:
        """The hub no longer says that the peer is online: a row of failures ends there."""
        count = self.counts.get(peer)
        if count:
            count.failures = count.row = 0

    def due(self, peers: Iterable[str]) -> str | None:
        """The first of `peers` for which the restart condition holds, or None."""
        for peer in peers:
            count = self.counts.get(peer)
            limit = self.limit(peer)
            if count and (count.failures >= limit or count.row >= ANYWHERE * limit):
                return peer
        return None

    def reason(self, peer: str) -> str:
        """Why a fresh port is due for `peer`: a sentence."""
        count = self.counts[peer]
        if count.failures >= self.limit(peer):
            return (
                f"the hub says that it is online, its endpoint {count.endpoint} has not changed, "
                f"and {count.failures} probes in a row failed"
            )
        return (
            "the hub says that it is online, and "
            f"{count.row} probes in a row failed at one endpoint after another"
        )

    def allowed_at(self, now_s: float) -> float:
        """The earliest time from `now_s` on at which the budget has a fresh port left."""
        earliest = now_s
        for span_s, most in ((MINUTE_S, self.budget.per_minute), (HOUR_S, self.budget.per_hour)):
            recent = sorted(at for at in self.taken_ats if at > now_s - span_s)
            if len(recent) >= most:
                earliest = max(earliest, recent[-most] + span_s)
        return earliest

    def taken(self, now_s: float) -> None:
        """A fresh port was taken; it serves every peer that was failing."""
        self.taken_ats = [at for at in self.taken_ats if at > now_s - HOUR_S] + [now_s]
        for count in self.counts.values():
            if count.row:
                count.factor = FIRST_FACTOR if count.factor == 1 else count.factor * 2
                count.failures = count.row = 0

    def to_state(self, now_s: float) -> dict[str, Any]:
        """What has to survive a restart, in JSON types; times as ages in seconds."""
        return {
            "taken_ages_s": [round(now_s - at, 3) for at in self.taken_ats],
            "counts": {
                peer: {
                    "endpoint": c.endpoint,
                    "failures": c.failures,
                    "row": c.row,
                    "factor": c.factor,
                }
                for peer, c in self.counts.items()
            },
        }

    def restore(self, state: Mapping[str, Any], now_s: float) -> None:
        """Take over what `to_state` returned in an earlier run.

        Raises KeyError, TypeError or ValueError if it is not that; nothing is changed then.
        """
        taken_ats = [now_s - max(0.0, float(age_s)) for age_s in state["taken_ages_s"]]
        counts = {
            str(peer): Count(str(c["endpoint"]), int(c["failures"]), int(c["row"]), int(c["factor"]))
            for peer, c in state["counts"].items()
        }
        self.taken_ats, self.counts = sorted(taken_ats), counts
