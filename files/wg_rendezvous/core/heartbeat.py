# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which heartbeats of a link were answered, and since when none was.

Silence alone proves nothing: a peer with nothing to send is silent (DESIGN fact 13), and received bytes prove
a session, not a path (fact 4).  A heartbeat that is answered through a promoted link proves the path in both
directions, and one that is not, again and again, disproves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SMOOTHING = 0.25
"""The weight of a new round trip, as RFC 6298 does it for TCP (there 1/8, with more samples)."""
MOST_AWAITED = 32


@dataclass(frozen=True)
class Beat:
    """A heartbeat that was sent."""

    at: float
    padded: bool


@dataclass
class Watch:
    """The heartbeats of one link.

    `rtt_s` is the smoothed round trip, None before the first; `answered_at` when the latest answer came;
    `wide` that a padded one was answered since the link was moved.
    """

    rtt_s: float | None = None
    answered_at: float = float("-inf")
    sent_at: float = float("-inf")
    padded_at: float = float("-inf")
    padded_misses: int = 0
    wide: bool = False
    _waiting: dict[int, Beat] = field(default_factory=dict)

    def sent(self, number: int, now_s: float, padded: bool = False) -> None:
        """A heartbeat went out."""
        self._waiting[number] = Beat(now_s, padded)
        if len(self._waiting) > MOST_AWAITED:
            del self._waiting[list(self._waiting)[1]]  # not the first: it tells since when
        if padded:
            self.padded_at = now_s
        else:
            self.sent_at = now_s

    def answered(self, number: int, rtt_s: float, now_s: float) -> bool:
        """An answer came in; whether it is one of this link.  It answers for all that was sent before."""
        beat = self._waiting.get(number)
        if beat is None:
            return False
        self._waiting = {
            later: other
            for later, other in self._waiting.items()
            if other.at > beat.at or (other.padded and not beat.padded)
        }
        self.answered_at = now_s
        if beat.padded:
            self.padded_misses, self.wide = 0, True
        else:
            smoothed = rtt_s if self.rtt_s is None else self.rtt_s + SMOOTHING * (rtt_s - self.rtt_s)
            self.rtt_s = smoothed
        return True

    def waiting_since(self, after: float = float("-inf")) -> float | None:
        """When the oldest small heartbeat was sent that nothing has answered since; None if there is none.
        Only those `after` a time count: something else was heard then."""
        if not self._waiting:
            return None
        sent_ats = (beat.at for beat in self._waiting.values() if not beat.padded and beat.at > after)
        return min(sent_ats, default=None)

    def padded_since(self) -> float | None:
        """The same for a padded one."""
        if not self._waiting:
            return None
        return min((beat.at for beat in self._waiting.values() if beat.padded), default=None)

    def padded_missed(self) -> int:
        """The padded one is given up; how many in a row that makes."""
        self._waiting = {number: beat for number, beat in self._waiting.items() if not beat.padded}
        self.padded_misses += 1
        return self.padded_misses

    def forget(self) -> None:
        """Expect no answers any more: the link was moved, or this node slept."""
        self._waiting.clear()
        self.padded_misses, self.wide = 0, False
