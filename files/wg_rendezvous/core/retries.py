# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""When a link that is relayed is tried again: at once with the next candidate pair, soon if it was direct,
ever more seldom if it never was, and later if moving it cost traffic for nothing.
"""

from __future__ import annotations

from .fresh_port import FreshPort
from .ladder import REFLEXIVE
from .node import Node
from .pacing import doubled_s
from .rendezvous import Pair
from .vigil import RETRY_DIRECT_FOR_S

RETRY_DIRECT_S = 3.0
COUNT_EVERY_S = 2.0
"""Tries of an honest peer are further apart; another one must not make this node take a fresh port sooner."""
QUICK_TRIES = 10
BACKOFF_S, BACKOFF_GROWTH, BACKOFF_GROWTH_ONCE_DIRECT = 60.0, 3, 2
"""A path that was there once is more likely to be there again."""
BACKOFF_MAX_S = 3600.0
PAUSE_S = 0.25
PAUSE_MAX_S = 30.0
BELIEVED_REFUSALS = 6
"""So many in a row may name the time of the next offer; later ones only put it off."""


class Retries:
    """Decides for the links of `node`; `port` is asked when a failure counts towards the restart
    condition."""

    def __init__(self, node: Node, port: FreshPort) -> None:
        self.node = node
        self._port = port

    def fail(self, pair: Pair, now_s: float) -> None:
        """This candidate pair came to nothing."""
        if pair.rung is not None:
            pair.vain[pair.rung.yours] = pair.rung.mine
        if pair.rung is not None and pair.rung.strategy != REFLEXIVE:
            self._fail_host(pair, now_s)
            return
        if pair.view is not None and pair.rung is not None and pair.view.endpoint != pair.rung.yours:
            pair.retry_at = now_s  # it has moved meanwhile
            return
        if now_s < pair.direct_until:
            self._fail_lost(pair, now_s)
            return
        pair.tries += 1
        self._count(pair, now_s)
        pair.retry_at = now_s + _backoff_s(pair)

    def _fail_lost(self, pair: Pair, now_s: float) -> None:
        """It was direct, and is not back: it may need a fresh port, and no second before it was direct
        again."""
        pair.lost_tries += 1
        if not pair.port_tried and pair.lost_tries > self._port.lost_tries_before(pair, now_s):
            self._count(pair, now_s)
        pair.retry_at = now_s if pair.rungs else max(now_s, pair.began_at + RETRY_DIRECT_S)

    def _count(self, pair: Pair, now_s: float) -> None:
        """One failure more towards the restart condition; who offers more often is not counted more."""
        counts = pair.online and pair.peer in self.node.refresh.counts
        if counts and now_s - pair.counted_at >= COUNT_EVERY_S:
            pair.counted_at = now_s
            self.node.refresh.failed(pair.peer)
            self._port.consider(pair, now_s)

    def _fail_host(self, pair: Pair, now_s: float) -> None:
        """The next candidate pair is tried at once; when all of them have failed often enough they take
        turns.  A fresh port does nothing for them."""
        direct_before = now_s < pair.direct_until
        if pair.rungs and (direct_before or pair.tries < QUICK_TRIES):
            pair.retry_at = now_s
            return
        pair.tries += not direct_before
        pair.retry_at = now_s + (RETRY_DIRECT_S if direct_before else _backoff_s(pair))

    def lost(self, pair: Pair, now_s: float) -> None:
        """It was direct: try again at once, and go on trying."""
        pair.rungs, pair.retry_at = [], now_s
        pair.direct_until = now_s + RETRY_DIRECT_FOR_S

    def pause(self, pair: Pair, now_s: float) -> None:
        """Not now: ask again, ever more seldom."""
        pair.rungs = []
        pair.retry_at = now_s + doubled_s(PAUSE_S, PAUSE_MAX_S, pair.refusals)
        pair.refusals += 1

    def named(self, pair: Pair, pause_s: float, now_s: float) -> None:
        """The other end, which has refused, says when to ask again: that is better known there."""
        named_at = now_s + max(PAUSE_S, pause_s)
        believed = pair.refusals <= BELIEVED_REFUSALS
        pair.retry_at = named_at if believed else max(named_at, pair.retry_at or now_s)

    def unproven(self, pair: Pair, now_s: float) -> None:
        """It was moved for nothing, which cost traffic: a long pause."""
        pair.unproven += 1
        pair.rungs = []
        interval_s = self.node.settings.interval_s
        pair.retry_at = now_s + doubled_s(interval_s, BACKOFF_MAX_S, pair.unproven - 1)


def _backoff_s(pair: Pair) -> float:
    """Between two tries of a link that is not direct by rights."""
    if pair.tries < QUICK_TRIES:
        return RETRY_DIRECT_S
    growth = BACKOFF_GROWTH if pair.proven is None else BACKOFF_GROWTH_ONCE_DIRECT
    return float(min(BACKOFF_MAX_S, BACKOFF_S * growth ** min(pair.tries - QUICK_TRIES, 16)))
