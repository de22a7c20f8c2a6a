# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How fast something may be done: an agent may send to addresses that have not proven anything, the hub may
read its device, a peer may signal."""

from __future__ import annotations

from dataclasses import dataclass

UNPROVEN_PACKETS_PER_S, UNPROVEN_AT_ONCE = 20.0, 10.0
"""In no second more than 30: those that are kept, and those that come meanwhile."""
CALLS_PER_S, CALLS_AT_ONCE = 20.0, 60.0
"""The hub takes so many signals, and registrations, of one peer: each of them is told to others."""
SIGNALS_PER_S_AND_PEER, SIGNALS_AT_ONCE_AND_PEER = 1.0, 3.0
"""With many peers it takes more signals: a node signals about each of its links, and after a cut of its
network they are all tried again every 3 s."""
LATE_TIMES = 20
"""Between two rendezvous that a node begins lies so many times what it is late by."""
NOT_LATE_S, LATE_MAX_S = 0.02, 0.3
"""So little is not late, and nothing counts for more."""
LATE_SMOOTHING, LATE_LASTS_S = 0.25, 1.0
"""The most that one delay weighs, and how long they count for: of many that follow one another each weighs
less."""
ROUNDING = 1e-6
"""What `available_at` may be early by, in tokens."""


@dataclass
class TokenBucket:
    """A token bucket: `rate_per_s` tokens come in a second, and at most `burst` are kept.

    It is full at first.
    """

    rate_per_s: float = UNPROVEN_PACKETS_PER_S
    burst: float = UNPROVEN_AT_ONCE
    filled_at: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def take(self, count: int, now_s: float) -> bool:
        """Take `count` tokens if they are there."""
        self.tokens = min(self.burst, self.tokens + (now_s - self.filled_at) * self.rate_per_s)
        self.filled_at = now_s
        if self.tokens < count - ROUNDING:
            return False
        self.tokens -= count
        return True

    def available_at(self, count: int, now_s: float) -> float:
        """The time at which `count` tokens will be there."""
        self.take(0, now_s)
        return now_s + max(0.0, count - self.tokens) / self.rate_per_s


def doubled_s(first_s: float, most_s: float, times: int) -> float:
    """A wait that was doubled so many times, and is never longer than `most_s`."""
    return min(most_s, first_s * 2.0 ** min(times, 16))


def signal_limits(peers: int) -> tuple[float, float]:
    """How many signals of one peer a hub with so many peers takes: in a second, and at once."""
    return (
        max(CALLS_PER_S, SIGNALS_PER_S_AND_PEER * peers),
        max(CALLS_AT_ONCE, SIGNALS_AT_ONCE_AND_PEER * peers),
    )


class Pace:
    """How soon after one another a node begins rendezvous: at once, unless it is late with what it does.

    A rendezvous takes several steps at both ends, each with a time limit. Where more are begun than a node,
    or its neighbours on the same processors, can go through in time, most come to nothing and are begun anew.
    RFC 8445, section 14.2, paces checks for the network's sake; this does it for that of the processors.
    """

    def __init__(self) -> None:
        self._late_s = 0.0
        self._late_at = float("-inf")
        self._begun_at = float("-inf")

    def late(self, late_s: float, now_s: float) -> None:
        """Something was done so much later than at its time, which may be 0."""
        weight = min(LATE_SMOOTHING, (now_s - self._late_at) / LATE_LASTS_S)
        self._late_s += weight * (min(late_s, LATE_MAX_S) - self._late_s)
        self._late_at = now_s

    def begun(self, now_s: float) -> None:
        """A rendezvous is begun."""
        self._begun_at = now_s

    @property
    def free_at(self) -> float:
        """Before that none is to be begun."""
        return self._begun_at + LATE_TIMES * self._too_late_s

    def why_not(self, now_s: float) -> str:
        """Why none is to be begun now: what a link does and why, "" if one may be."""
        if now_s >= self.free_at:
            return ""
        return f"waits for its turn, since this node is {self._late_s:.2f} s late with what it does"

    @property
    def slack_s(self) -> float:
        """So much longer than elsewhere an answer may take: it waits where it is given, and where it is taken
        in."""
        return 2 * self._too_late_s

    @property
    def _too_late_s(self) -> float:
        return max(0.0, self._late_s - NOT_LATE_S)


class Turns:
    """Turns at `bucket`, for many who want `count` tokens each: who has to wait is told when to come, and is
    not overtaken by those who come later."""

    def __init__(self, bucket: TokenBucket, count: int) -> None:
        self.bucket = bucket
        self.count = count
        self._last_at = float("-inf")

    def comes_at(self, turn_at: float | None, now_s: float) -> float:
        """Whose turn is at `turn_at`, None if there is none yet, takes the tokens if it has come: `now_s`;
        or else the time of the turn."""
        has_come = now_s >= (self._last_at if turn_at is None else turn_at)
        if has_come and self.bucket.take(self.count, now_s):
            return now_s
        if turn_at is not None and not has_come:
            return turn_at
        next_at = self._last_at + self.count / self.bucket.rate_per_s
        self._last_at = max(next_at, self.bucket.available_at(self.count, now_s))
        return self._last_at
