# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What a rendezvous does to the device, and how long it waits for what.

Every wait scales with the measured round trip to the hub.
"""

from __future__ import annotations

from . import actions
from .candidates import moved
from .hub import Hub
from .node import KEEPALIVE_S, Node
from .rendezvous import TRYING, Pair, Phase

OFFERED_S = 1.0
KNOCKING_S = 0.8
VERIFIED_S = 3.0
STAGGER_S = 0.1
REPEAT_S = 0.2
"""The waits of a rendezvous; more where the round trip to the hub is long."""


class Moves:
    """Carries out effects of the pairs of `node`, whose hub is `hub`."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self.node = node
        self.hub = hub

    # -- waits ------------------------------------------------------------------------------

    def entered(self, pair: Pair, now_s: float) -> None:
        """What is awaited in the phase of `pair`, which is a new one, and until when."""
        if pair.phase is Phase.OFFERED:
            pair.expires_at = now_s + self._patience_s(pair, OFFERED_S)
        elif pair.phase is Phase.VERIFIED and not pair.controlling:
            # The session is proven, and how far the other end is from the hub is not known here.
            pair.expires_at = now_s + self._patience_s(pair, VERIFIED_S)
        elif pair.phase in TRYING and pair.phase is not Phase.PROMOTING:
            pair.expires_at = now_s + self._patience_s(pair, KNOCKING_S)
        if pair.phase is Phase.PROVISIONAL:
            pair.watch.forget()

    def _patience_s(self, pair: Pair, floor_s: float) -> float:
        """How long the next step of a rendezvous may take; the other end may be farther from the hub, and
        this node late."""
        trips_s = max(self.hub.signal_trips_s, pair.trips_s or 0.0)
        return max(floor_s, 3 * trips_s) + self.node.pace.slack_s

    # -- effects ----------------------------------------------------------------------------

    def open(self, pair: Pair, now_s: float) -> None:
        """Send low-TTL openers to the target.  Where they were in vain before and nothing has changed, one
        will do, and none where the knock follows at once, which opens as well."""
        if pair.rung is None:
            return
        hopeless = pair.vain.get(pair.rung.yours) == pair.rung.mine and now_s >= pair.direct_until
        if not hopeless or pair.controlling:
            self.node.open(pair.rung.yours, single=hopeless)

    def add(self, pair: Pair, _now_s: float) -> None:
        """The target as a silent entry."""
        self._enter(pair, None)

    def knock(self, pair: Pair, now_s: float) -> None:
        """The target afresh, with a keepalive: a handshake starts now."""
        self._enter(pair, KEEPALIVE_S)
        if pair.rung is not None:
            pair.expires_at = now_s + self._patience_s(pair, KNOCKING_S)

    def _enter(self, pair: Pair, keepalive_s: int | None) -> None:
        if pair.rung is not None:
            self.node.own(pair.peer, pair.address)
            self.node.change(
                pair.peer,
                fresh=True,
                endpoint=pair.rung.yours,
                persistent_keepalive_s=keepalive_s,
                allowed_ips=(),
                secret=pair.secret,
            )

    def knock_later(self, pair: Pair, now_s: float) -> None:
        """The other end's handshake takes as long as a signal and its answer: a knock would end it."""
        pair.knock_due_at = now_s + STAGGER_S + (pair.trips_s or 0.0)

    def read(self, _pair: Pair, _now_s: float) -> None:
        """Look at the device now."""
        self.node.do(actions.ReadDevice())

    def promote(self, pair: Pair, now_s: float) -> None:
        """Give the entry its AllowedIPs."""
        pair.traffic_at = pair.shaken_at = now_s
        pair.traffic_assumed = True  # until it is known better
        pair.why = "both ends see the handshake; an answer through the link is awaited"
        self.node.change(pair.peer, persistent_keepalive_s=KEEPALIVE_S, allowed_ips=moved(pair.address))

    def promote_later(self, pair: Pair, now_s: float) -> None:
        """When the signal should have arrived."""
        pair.promote_due_at = now_s + (pair.trips_s or self.hub.signal_trips_s) / 2

    def repeat_later(self, pair: Pair, now_s: float) -> None:
        """When a heartbeat should have come back: as long as the other end has not moved, none can."""
        pair.repeat_at = now_s + max(REPEAT_S, pair.trips_s or self.hub.signal_trips_s)

    def ask(self, _pair: Pair, now_s: float) -> None:
        """Does the hub answer?"""
        self.hub.ask(now_s)

    def remove(self, pair: Pair, _now_s: float) -> None:
        """Take the entry out of the device: the hub has the traffic."""
        self.node.remove(pair.peer)
        pair.watch.forget()


def smoothed_s(before_s: float | None, trips_s: float) -> float:
    """The time of a signal and its answer: a shorter one is believed at once, as a longer one had to wait for
    something, and both ends have to move together."""
    return trips_s if before_s is None else min(trips_s, before_s + (trips_s - before_s) / 4)
