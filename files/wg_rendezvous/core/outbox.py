# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The signals of one agent on their way to the hub, no faster than the hub takes them.

The hub takes so many signals of a peer at once and in a second (`pacing.signal_limits`, docs/protocol.md).
Whoever has many links goes back with all of them when its path is gone: what is too much at once waits here,
in its order, instead of being refused there.  A signal that is refused all the same comes back, and goes out
again when the hub says so.
"""

from __future__ import annotations

import collections
from collections.abc import Sized

from . import actions, events
from .actions import SendSignal
from .hub import Hub
from .node import Node
from .pacing import TokenBucket, doubled_s, signal_limits
from .rendezvous import Pair
from .signals import OFFER, OPENED, PROMOTE, REFUSED, VERIFIED, WITHDRAW, WITHDRAWN, Signal

WITHDRAW_EVERY_S = 0.25
WITHDRAW_SELDOM_S = 2.0
"""A withdrawal that is not confirmed is repeated after the one, ever more seldom, at last after the other."""


class Outbox:
    """Sends the signals of `pairs`, the links of `node`, whose hub is `hub`: it knows them all."""

    def __init__(self, node: Node, hub: Hub, pairs: Sized) -> None:
        self.node = node
        self.hub = hub
        self._pairs = pairs
        self._of_hub = TokenBucket(*signal_limits(0))
        self._waiting: collections.deque[SendSignal] = collections.deque()
        self._hold_until = float("-inf")

    # -- the way to the hub -----------------------------------------------------------------

    def send(self, pair: Pair, signal: Signal, now_s: float) -> None:
        """Send a signal, as soon as the hub takes it; of those that wait it takes the place of its like."""
        action = actions.SendSignal(pair.peer, signal.to_json())
        for nth, other in enumerate(self._waiting):
            if _is_alike(action, other):
                self._waiting[nth] = action
                break
        else:
            self._waiting.append(action)
        self.tick(now_s)

    def refused(self, event: events.SignalFailed, now_s: float) -> None:
        """The hub has taken too many of late: this one goes out first when it takes signals again."""
        self._hold_until = max(self._hold_until, now_s + (event.retry_in_s or 0.0))
        action = actions.SendSignal(event.peer, event.signal)
        if not any(_is_alike(action, other) for other in self._waiting):
            self._waiting.appendleft(action)

    def tick(self, now_s: float) -> None:
        """Send what may be sent by now."""
        while self._waiting and now_s >= self._hold_until and self._bucket().take(1, now_s):
            self.node.do(self._waiting.popleft())

    def _bucket(self) -> TokenBucket:
        """What the hub takes; the more peers there are, the more it is."""
        self._of_hub.rate_per_s, self._of_hub.burst = signal_limits(len(self._pairs))
        return self._of_hub

    def wakeup_at(self, now_s: float) -> float:
        """When `tick` is wanted."""
        if not self._waiting:
            return float("inf")
        return self.room_at(now_s)

    def room_at(self, now_s: float) -> float:
        """When the next signal can go out."""
        return max(now_s, self._hold_until, self._bucket().available_at(1, now_s))

    def has_room(self, now_s: float) -> bool:
        """Whether a signal would go out at once."""
        return not self._waiting and self.room_at(now_s) <= now_s

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    # -- what is sent in a rendezvous -------------------------------------------------------

    def offer(self, pair: Pair, now_s: float) -> None:
        """Our openers towards the other end are out."""
        if pair.rung is not None:
            strategy, mine, yours = pair.rung.strategy, pair.rung.mine, pair.rung.yours
            offer = Signal(OFFER, pair.session, strategy, mine, target=yours, secret=pair.secret)
            self.send(pair, offer, now_s)

    def refuse(self, pair: Pair, offered: Signal, why: str, pause_s: float, now_s: float) -> None:
        """An offer is not taken now."""
        self.send(pair, Signal(REFUSED, offered.session, why=why, pause_s=pause_s), now_s)

    def opened(self, pair: Pair, now_s: float) -> None:
        """So are ours, and we knock."""
        self.send(pair, Signal(OPENED, pair.session), now_s)

    def verified(self, pair: Pair, now_s: float) -> None:
        """The controlled end sees the handshake."""
        if not pair.controlling:
            self.send(pair, Signal(VERIFIED, pair.session), now_s)

    def promote(self, pair: Pair, now_s: float) -> None:
        """Both do: move."""
        self.send(pair, Signal(PROMOTE, pair.session), now_s)

    def withdraw(self, pair: Pair, now_s: float) -> None:
        """Our traffic is back at the hub; to be repeated until that is confirmed."""
        every_s = doubled_s(WITHDRAW_EVERY_S, WITHDRAW_SELDOM_S, pair.withdrawals)
        pair.withdrawals += 1
        pair.repeat_at = self.room_at(now_s) + max(every_s, 2 * self.hub.signal_trips_s)
        pause_s = max(0.0, (pair.retry_at or now_s) - now_s) if pair.unproven else 0.0
        self.send(pair, Signal(WITHDRAW, pair.session, why=pair.why, pause_s=pause_s), now_s)

    def withdrawn(self, pair: Pair, now_s: float) -> None:
        """So is ours."""
        self.send(pair, Signal(WITHDRAWN, pair.session), now_s)

    def confirm(self, pair: Pair, asked: Signal, now_s: float) -> None:
        """There is nothing moved here of what the other end withdraws."""
        self.send(pair, Signal(WITHDRAWN, asked.session), now_s)


def _is_alike(one: SendSignal, other: SendSignal) -> bool:
    """Whether two signals are of one type and to one peer: then the later one is the one that counts."""
    return one.peer == other.peer and one.signal["type"] == other.signal["type"]
