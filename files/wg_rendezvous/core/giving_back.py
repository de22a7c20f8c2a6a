# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Giving many links back at both ends: the agent stops, takes a fresh port, or has other mesh secrets.

Each link goes back in the moment in which its withdrawal goes out, since until the other end has heard of it
everything is lost (DESIGN fact 4): with more links than the hub takes signals at once, those that have to
wait stay direct meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable

from .outbox import Outbox
from .rendezvous import TRYING, Pair, PairEvent

CONFIRMED_WITHIN_S = 1.0
"""How long the last of the other ends has to confirm."""


class GivingBack:
    """The links that are to be given back; `feed` takes the events that do it."""

    def __init__(self, outbox: Outbox, feed: Callable[[Pair, PairEvent, float], None]) -> None:
        self._outbox = outbox
        self._feed = feed
        self._queue: dict[Pair, str] = {}  # with the reason, in the order in which they go
        self._last_at = float("-inf")

    def begin(self, pairs: Iterable[Pair], why: str, now_s: float) -> None:
        """Give these links back as fast as the hub permits, and give up what is only tried, which comes
        first: it must not be moved any more."""
        self._queue.update((pair, why) for pair in sorted(pairs, key=lambda pair: pair.phase not in TRYING))
        self._last_at = now_s
        self.tick(now_s)

    def tick(self, now_s: float) -> None:
        """Give back what may be given back by now."""
        while self._queue:
            pair = next(iter(self._queue))
            if _is_told(pair) and not self._outbox.has_room(now_s):
                return
            pair.why = self._queue.pop(pair)
            self._last_at = now_s
            self._feed(pair, PairEvent.STOP, now_s)

    def leave_out(self, pair: Pair) -> None:
        """This link is somebody else's now."""
        self._queue.pop(pair, None)

    def wakeup_at(self, now_s: float) -> float:
        """When `tick` is wanted."""
        return self._outbox.room_at(now_s) if self._queue else float("inf")

    @property
    def under_way(self) -> bool:
        """Whether some links wait for their turn."""
        return bool(self._queue)

    @property
    def give_up_at(self) -> float:
        """Who has not confirmed by then will not: not known before the last withdrawal is out."""
        return float("inf") if self._queue else self._last_at + CONFIRMED_WITHIN_S


def _is_told(pair: Pair) -> bool:
    """Whether the other end has to hear of it."""
    return pair.promoted or pair.phase in TRYING
