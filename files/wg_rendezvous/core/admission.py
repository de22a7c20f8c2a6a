# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which signals of a peer are acted on: what it may say at all, how often it may offer, and which of its
offers are taken.

What is not acted on is counted, and said once.
"""

from __future__ import annotations

import collections

from . import ladder
from .fresh_port import FreshPort
from .hub import Hub
from .ladder import HOST_RUNGS, REFLEXIVE
from .node import Node
from .pacing import TokenBucket
from .rendezvous import Pair, Phase
from .signals import OFFER, OPENED, PROMOTE, VERIFIED, WITHDRAW, Signal, SignalError

OFFER_EVERY_S = 0.25
OFFERS_PER_S, OFFERS_AT_ONCE = 1.0, 4.0
ANSWERED_PER_S, ANSWERED_AT_ONCE = 4.0, 4.0
"""Of one peer, offers and what else is answered: whoever signals in vain all the time must not use up what
there is for all, of packets to unproven addresses and of signals to answer with."""
CLAIMED_AT_ONCE, CLAIMED_EVERY_S = float(HOST_RUNGS), 30.0
"""Tries at addresses that only the peer itself names: it may name a victim's, and to every node of the
network, so that the packets of all of them add up there."""
LONG_PAUSE_S = 30.0
"""After what does not change by itself: the other end is told when it does."""
BUSY = "busy with others: one after the other"
TOO_OFTEN = "it offers too often"
TRIED_OFTEN = "addresses that only you name were tried often enough of late"

SESSIONS_OF_A_RUN = 2**32
"""Fewer than these; two runs begin to count at random numbers."""

OF_CONTROLLING = frozenset({OFFER, PROMOTE})
OF_CONTROLLED = frozenset({OPENED, VERIFIED})


class Admission:
    """Judges what peers signal to `node`.  `refused` counts what was not acted on, by reason."""

    def __init__(self, node: Node, hub: Hub, port: FreshPort) -> None:
        self.node = node
        self.hub = hub
        self.refused: collections.Counter[str] = collections.Counter()
        self._port = port
        self._logged: dict[str, set[str]] = {}
        self._budgets: dict[str, tuple[TokenBucket, TokenBucket, TokenBucket]] = {}

    def refuse(self, peer: str, why: str, level: str = "warning") -> None:
        """A signal is not acted on."""
        self.refused[why] += 1
        if why not in self._logged.setdefault(peer, set()):
            self._logged[peer].add(why)
            self.node.say(level, "a signal is not acted on", peer=peer, why=why)

    def give_budget(self, pair: Pair, now_s: float) -> None:
        """How many signals of this peer are answered, and how often what it claims is tried: as often as at
        an earlier link to it.  Who is offered a try does not refuse what the other end may offer."""
        share = 1.0 if pair.controlling else 2.0
        budgets = (
            TokenBucket(OFFERS_PER_S, OFFERS_AT_ONCE, now_s),
            TokenBucket(ANSWERED_PER_S, ANSWERED_AT_ONCE, now_s),
            TokenBucket(share / CLAIMED_EVERY_S, share * CLAIMED_AT_ONCE, now_s),
        )
        pair.offers, pair.answers, pair.claims = self._budgets.setdefault(pair.peer, budgets)

    def forget(self, peer: str) -> None:
        """The hub does not know this peer any more."""
        self._logged.pop(peer, None)
        self._budgets.pop(peer, None)

    def objection(self, pair: Pair, offer: Signal, stopping: bool, now_s: float) -> tuple[str, float]:
        """Why an offer is not taken now, and how long the other end is to wait; "" if it is taken.

        Raises SignalError for one that is not worth an answer.
        """
        if now_s - pair.offer_taken_at < OFFER_EVERY_S or not pair.offers.take(1, now_s):
            if pair.phase is Phase.RELAYED:
                pair.why = f"{TOO_OFTEN}: more than {OFFERS_PER_S:g} in a second is not answered"
            raise SignalError(TOO_OFTEN)
        if pair.view is None or offer.endpoint not in ladder.endpoints_of(
            self.node.place, self.hub.own, pair.view
        ):
            self.refuse(pair.peer, "it offers an endpoint that the hub does not name")
            return "the hub does not name that endpoint of yours", 0.0
        objection = self.node.secrets.objection(offer.secret)
        if objection:
            return objection, LONG_PAUSE_S
        if stopping:
            return "the agent stops", LONG_PAUSE_S
        if now_s < self._port.ready_at or self._port.under_way:
            return "it is about to take a fresh port", 0.0
        if offer.strategy == REFLEXIVE and offer.target not in ("", self.hub.own.endpoint):
            return "your openers went to an endpoint that is not ours any more", 0.0  # ours would collide
        return self._put_off(pair, offer, now_s)

    def _put_off(self, pair: Pair, offer: Signal, now_s: float) -> tuple[str, float]:
        """The same, of an offer that may be made again later as it is."""
        may_try_at = pair.may_try_at(offer.endpoint, now_s)
        if may_try_at > now_s:
            return TRIED_OFTEN, may_try_at - now_s
        if pair.unproven and pair.retry_at is not None and pair.retry_at > now_s:
            return pair.why, pair.retry_at - now_s
        if not pair.may_knock(offer.endpoint, self.node.turns, now_s):
            return BUSY, (pair.turn_at or now_s) - now_s
        return "", 0.0


def check_rate(pair: Pair, signal: Signal, now_s: float) -> None:
    """Raises SignalError for a signal that wants an answer although nothing is moved here, if there were too
    many of them."""
    if signal.type in (WITHDRAW, PROMOTE) and not pair.promoted and not pair.answers.take(1, now_s):
        raise SignalError(f"its {signal.type} comes too often")


def check_side(pair: Pair, signal: Signal) -> None:
    """Raises SignalError for a signal that only the other end of a rendezvous may send."""
    if signal.type in (OF_CONTROLLED if not pair.controlling else OF_CONTROLLING):
        raise SignalError(f"{signal.type} is for the other one to say")


def is_late(offered: str | None, session: str | None) -> bool:
    """Whether an offer is the present one once more, or one of before: each run of an agent counts its
    sessions."""
    if offered is None or session is None:
        return False
    return (int(session, 16) - int(offered, 16)) % 2**64 < SESSIONS_OF_A_RUN
