# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The fresh port that a link asks for when its restart condition holds (`refresh`): all direct links are
given back first, at both ends, so that a port for one peer costs the others no packet.

What cannot be given back stands in the way of it: a link whose other end would not hear of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from .giving_back import CONFIRMED_WITHIN_S, GivingBack
from .hub import Hub
from .ladder import is_same_address
from .node import Node
from .rendezvous import TRYING, Pair
from .vigil import RETRY_DIRECT_FOR_S

LOST_TRIES, LOST_TRIES_SMALLER_KEY = 5, 20
"""A path that was lost and is not back after so many tries may need a fresh port, like one that never was."""
ABOUT_TO = "a fresh port is about to be taken"


class FreshPort:
    """Takes fresh ports for the links of `node`; `pairs` are those that can be given back."""

    def __init__(self, node: Node, hub: Hub, giving_back: GivingBack, pairs: Mapping[str, Pair]) -> None:
        self.node = node
        self.hub = hub
        self._giving_back = giving_back
        self._pairs = pairs
        self._for: tuple[str, str] | None = None
        self._seen_by = float("-inf")
        self._said: str | None = None

    @property
    def under_way(self) -> bool:
        """Whether links are given back for one."""
        return self._for is not None

    @property
    def ready_at(self) -> float:
        """Before that nothing is to be offered: the hub has to see the port first."""
        return self._seen_by

    def lost_tries_before(self, pair: Pair, now_s: float) -> float:
        """After how many tries in vain a port is worth it for a link that was direct.  It heals a tuple that
        was taken (facts 1 and 12), but no cut, and which of them it is shows by one port."""
        return self._tries_of_end(pair) * self._price(now_s)

    def _tries_of_end(self, pair: Pair) -> float:
        """One port is enough, whichever end takes it: the larger key does, and the other one waits for
        that, unless its firewall is known to learn for a while only, its own mapping has moved (the hub's
        packets took a tuple too), or the other end is somewhere else now."""
        endpoint = pair.view.endpoint if pair.view else None
        if self.node.refresh.is_larger(pair.peer) or pair.port_helped or not (endpoint and pair.proven):
            return LOST_TRIES
        if self.hub.own.endpoint != pair.proven_mine:
            return LOST_TRIES
        if endpoint == pair.proven:
            return LOST_TRIES_SMALLER_KEY  # it has not taken one
        return float("inf") if is_same_address(endpoint, pair.proven) else LOST_TRIES

    def _price(self, now_s: float) -> float:
        """What a port for a lost link costs, at least 1: all direct links are made anew for it, and the more
        of them there are for each that is lost, the more likely it is the other end that is cut off."""
        direct = sum(pair.promoted for pair in self._pairs.values())
        lost = sum(now_s < pair.direct_until and not pair.promoted for pair in self._pairs.values())
        return 1 + direct / max(1, lost)

    def consider(self, pair: Pair, now_s: float) -> None:
        """Take one if the restart condition holds for this link, or say why not in its `why`."""
        due = self.node.refresh.due([pair.peer]) is not None
        if not due or self.under_way or not self.node.may_take_fresh_port(now_s):
            return
        objection = self._of_the_loop() or self.objection()
        if objection:
            pair.why = f"{pair.why}; a fresh port is due, but {objection}"
            if objection != self._said:
                self.node.say("info", "no fresh port now", peer=pair.peer, why=objection)
            self._said = objection
            return
        self._begin(pair.peer, pair.address, now_s)

    def take_for(self, peer: str, address: str, now_s: float) -> bool:
        """The restart condition holds for a link of the origin's loop, whose own direct links are not given
        back: nobody could be told.  Returns whether a port is taken, now or in a moment."""
        if self.under_way:
            return True
        if not self.node.may_take_fresh_port(now_s):
            return False
        if any(pair.promoted for pair in self._pairs.values()) and self.objection():
            return False
        self._begin(peer, address, now_s)
        return True

    def objection(self) -> str:
        """Why a direct link could not be given back now, "" if all could."""
        if not self.hub.stream_open:
            return "without a stream to the hub no link can be given back first"
        for pair in self._pairs.values():
            if pair.promoted and not pair.signals:
                return f"the agent of {pair.peer} is away, and nobody would take that link back at its end"
        return ""

    def _of_the_loop(self) -> str:
        """The same for links that are not pairs: to agents of the origin, or to one that the hub has lost."""
        for peer, entry in self.node.device.peers.items():
            if peer in self.node.owned and entry.allowed_ips and peer not in self._pairs:
                return f"the link to {peer} is direct without signals, so that it cannot be given back first"
        return ""

    def _begin(self, peer: str, address: str, now_s: float) -> None:
        self._for, self._said = (peer, address), None
        moving = [pair for pair in self._pairs.values() if pair.promoted or pair.phase in TRYING]
        for pair in moving:
            if pair.promoted:
                pair.direct_until = now_s + RETRY_DIRECT_FOR_S
            pair.retry_at = now_s
        self._giving_back.begin(moving, ABOUT_TO, now_s)

    def tick(self, quiet: bool, now_s: float) -> None:
        """Take the port when all is given back: when it is `quiet`, or nobody is waited for any more; and not
        if the peer was removed meanwhile, or is somewhere else."""
        if self._for is not None and (quiet or now_s >= self._giving_back.give_up_at):
            (peer, address), self._for = self._for, None
            if self.node.refresh.due([peer]):
                self._tried(now_s)
                self.node.take_fresh_port(peer, address, now_s)

    def _tried(self, now_s: float) -> None:
        """A port is tried for all links that were lost; the one who takes it may be the next run."""
        for pair in self._pairs.values():
            pair.port_tried = pair.port_tried or (not pair.promoted and pair.lost_tries > 0)
            self.node.remember(pair.peer, pair.memory(now_s))

    def wakeup_at(self) -> float:
        """When `tick` is wanted."""
        return self._giving_back.give_up_at if self.under_way else float("inf")

    def taken(self, now_s: float) -> None:
        """WireGuard listens on it."""
        self._seen_by = now_s + CONFIRMED_WITHIN_S

    def seen(self) -> None:
        """The hub sees this node, at whatever port."""
        self._seen_by = float("-inf")
