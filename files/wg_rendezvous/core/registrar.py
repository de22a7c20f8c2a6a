# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Registering beside the stream: one registration is under way at a time.

What changes meanwhile goes with the next one, and one that fails is said again a little later, unless the hub
refuses it for good, so that a hub that is slow is asked less often, not more.  It is also waited for longer:
a hub that has more to do than it can would only do in vain what nobody waits for any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from .pacing import doubled_s

PATIENCE_S, PATIENCE_MAX_S = 1.0, 5.0
TIMES_THE_LAST = 3
"""An answer may take so many times what the last one took."""
AGAIN_S, AGAIN_MAX_S = 0.2, 13.0


@dataclass(frozen=True)
class _UnderWay:
    number: int
    peers: frozenset[str]
    since_at: float


class Registrar:
    """`send(number, peers, patience_s)` registers, with the links to these peers."""

    def __init__(self, send: Callable[[int, frozenset[str], float], None]) -> None:
        self._send = send
        self._numbers = 0
        self._failures = 0
        self._took_s = 0.0
        self._wanted: frozenset[str] | None = None
        self._again_at = float("-inf")
        self._hurried = False
        self._under_way: _UnderWay | None = None

    def next_number(self) -> int:
        """The number of a new registration, also of one that comes with a stream."""
        self._numbers += 1
        return self._numbers

    def want(self, peers: frozenset[str]) -> None:
        """Something is to be said, of the links to these peers among others."""
        self._wanted = peers if self._wanted is None else self._wanted | peers

    def renew(self) -> None:
        """Whatever is under way may be answered at an endpoint that this node has left, or on a path that is
        gone: say it again, and now."""
        if self._under_way is not None:
            self.want(self._under_way.peers)
        self._under_way = None
        self.hurry()

    def hurry(self) -> None:
        """How the hub sees this node is wanted now, also after failures; once more, if that of what is under
        way."""
        self._again_at = float("-inf")
        self._hurried = self._under_way is not None

    def tick(self, now_s: float) -> None:
        """Register, if something is to be said and nothing is in the way."""
        if self._wanted is None or self._under_way is not None or now_s < self._again_at:
            return
        number = self.next_number()
        self._under_way, self._wanted = _UnderWay(number, self._wanted, now_s), None
        patience_s = max(PATIENCE_S, TIMES_THE_LAST * self._took_s)
        self._send(number, self._under_way.peers, doubled_s(patience_s, PATIENCE_MAX_S, self._failures))

    def wakeup_at(self) -> float:
        """When `tick` is wanted."""
        return float("inf") if self._wanted is None or self._under_way is not None else self._again_at

    def succeeded(self, number: int, now_s: float) -> bool:
        """That registration was taken.  Returns whether it is the one under way."""
        if self._under_way is None or self._under_way.number != number:
            return False
        self._took_s = now_s - self._under_way.since_at
        self._under_way, self._failures, self._hurried = None, 0, False
        return True

    def failed(self, number: int, again: bool, now_s: float) -> bool:
        """That registration was not taken; it is said `again`, unless it never will be.  Returns whether
        people should know: it is the first in a row, or what it was to say is lost."""
        if self._under_way is None or self._under_way.number != number:
            return False
        if again:
            self.want(self._under_way.peers)
        pause_s = AGAIN_S if self._hurried else doubled_s(AGAIN_S, AGAIN_MAX_S, self._failures)
        self._under_way, self._hurried, self._again_at = None, False, now_s + pause_s
        self._failures += 1
        return self._failures == 1 or not again
