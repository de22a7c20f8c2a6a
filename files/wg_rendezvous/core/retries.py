# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""When a link that is relayed is tried again: at once with the next candidate pair, soon if it was direct,
ever more seldom if it never was, and later if moving it cost traffic for nothing.
"""

from __future__ import annotations

from typing import Callable

from .ladder import REFLEXIVE
from .node import Node
from .rendezvous import Pair
from .vigil import RETRY_DIRECT_FOR_S

RETRY_DIRECT_S = 3.0
COUNT_EVERY_S = 2.0
"""Tries of an honest peer are further apart; another one must not make this node take a fresh port sooner."""
LOST_TRIES = 5
"""A path that was lost and is not back after so many tries may need a fresh port, like one that never was."""
QUICK_TRIES = 10
BACKOFF_S, BACKOFF_GROWTH = 60.0, 3
BACKOFF_MAX_S = 3600.0
PAUSE_S = 0.25
PAUSE_MAX_S = 30.0


class Retries:
    """Decides for the links of `node`; `consider_port` is asked when a failure counts towards the restart
    condition."""

    def __init__(self, node: Node, consider_port: Callable[[Pair, float], None]) -> None:
        self.node = node
        self._consider_port = consider_port

    def fail(self, pair: Pair, now_s: float) -> None:
        """This candidate pair came to nothing."""
        if pair.rung is not None:
            pair.vain[pair.rung.yours] = pair.rung.mine
        if pair.rungs or (pair.rung is not None and pair.rung.strategy != REFLEXIVE):
            self._fail_host(pair, now_s)
            return
        if pair.view is not None and pair.rung is not None and pair.view.endpoint != pair.rung.yours:
            pair.retry_at = now_s  # it has moved meanwhile
            return
        direct_before = now_s < pair.direct_until
        if direct_before:
            pair.lost_tries += 1
        else:
            pair.tries += 1
        if direct_before and pair.lost_tries <= LOST_TRIES:
            pair.retry_at = now_s + RETRY_DIRECT_S
            return
        counts = pair.online and pair.peer in self.node.refresh.counts
        if counts and now_s - pair.counted_at >= COUNT_EVERY_S:  # who offers more often is not counted more
            pair.counted_at = now_s
            self.node.refresh.failed(pair.peer)
            self._consider_port(pair, now_s)
        pair.retry_at = now_s + (RETRY_DIRECT_S if direct_before else _backoff_s(pair.tries))

    def _fail_host(self, pair: Pair, now_s: float) -> None:
        """The next candidate pair is tried at once; when all of them have failed often enough they take
        turns.  A fresh port does nothing for them."""
        direct_before = now_s < pair.direct_until
        if pair.rungs and (direct_before or pair.tries < QUICK_TRIES):
            pair.retry_at = now_s
            return
        pair.tries += not direct_before
        pair.retry_at = now_s + (RETRY_DIRECT_S if direct_before else _backoff_s(pair.tries))

    def lost(self, pair: Pair, now_s: float) -> None:
        """It was direct: try again at once, and go on trying."""
        pair.rungs, pair.retry_at = [], now_s
        pair.direct_until = now_s + RETRY_DIRECT_FOR_S

    def pause(self, pair: Pair, now_s: float) -> None:
        """Not now: ask again, ever more seldom."""
        pair.rungs = []
        pair.retry_at = now_s + min(PAUSE_MAX_S, PAUSE_S * 2 ** min(pair.refusals, 10))
        pair.refusals += 1

    def unproven(self, pair: Pair, now_s: float) -> None:
        """It was moved for nothing, which cost traffic: a long pause."""
        pair.unproven += 1
        pair.rungs = []
        interval_s = self.node.settings.interval_s
        pair.retry_at = now_s + min(BACKOFF_MAX_S, interval_s * (2 ** min(pair.unproven - 1, 16)))


def _backoff_s(tries: int) -> float:
    """Between two tries of a link that never was direct."""
    if tries < QUICK_TRIES:
        return RETRY_DIRECT_S
    return float(min(BACKOFF_MAX_S, BACKOFF_S * BACKOFF_GROWTH ** min(tries - QUICK_TRIES, 16)))
