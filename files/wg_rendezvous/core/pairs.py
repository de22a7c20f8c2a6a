# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The links of one agent to the peers that send signals (`rendezvous` tells what happens to one of them).

Signals, the device and the heartbeats become events of a pair's machine here, and its effects become changes
of the device, signals and heartbeats.  Every wait scales with the measured round trip to the hub.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, Callable

from .._wireguard.dump import Peer
from . import actions, events, ladder
from .candidates import UnacceptableError
from .events import PeerView
from .hub import Hub
from .ladder import REFLEXIVE, Rung
from .node import KEEPALIVE_S, PACKETS_PER_KNOCK, Node
from .pacing import TokenBucket
from .rendezvous import NOT_TRIED, TRANSITIONS, TRYING, Effect, Pair, PairEvent, Phase
from .signals import (
    OFFER,
    OPENED,
    PROMOTE,
    REFUSED,
    VERIFIED,
    WITHDRAW,
    WITHDRAWN,
    Signal,
    SignalError,
    parse,
)
from .vigil import RETRY_DIRECT_FOR_S, Vigil

WATCH_EVERY_S = 0.05
TRAFFIC_WATCH_S = 0.5
IDLE_WATCH_S = 2.0
"""How often the device is read: for a handshake, with traffic on a direct link, without."""

OFFERED_S = 1.0
KNOCKING_S = 0.8
VERIFIED_S = 3.0
STAGGER_S = 0.1
WITHDRAW_EVERY_S = 0.25
WITHDRAWING_S = 10.0
"""The waits of a rendezvous; more where the round trip to the hub is long."""

RETRY_DIRECT_S = 3.0
COUNT_EVERY_S = 2.0
"""Tries of an honest peer are further apart; another one must not make this node take a fresh port sooner."""
LOST_TRIES = 5
"""A path that was lost and is not back after so many tries may need a fresh port, like one that never was."""
LOST_TRIES_SMALLER_KEY = 20
QUICK_TRIES = 10
BACKOFF_S = 60.0
BACKOFF_MAX_S = 3600.0
PAUSE_S = 0.25
PAUSE_MAX_S = 30.0
OFFER_EVERY_S = 0.25
OFFERS_PER_S, OFFERS_AT_ONCE = 1.0, 4.0
"""Of one peer: whoever offers in vain all the time must not use up what there is for all."""
REPORT_AFTER_S = 0.25
PORT_WITHIN_S = 1.0
"""How long the other ends have to confirm that a link is withdrawn before the port is changed."""

SESSIONS_OF_A_RUN = 2**32
"""Fewer than these; two runs begin to count at random numbers."""

SIGNAL_EVENTS = {
    OPENED: PairEvent.OPENED,
    VERIFIED: PairEvent.OTHER_VERIFIED,
    PROMOTE: PairEvent.PROMOTE,
    REFUSED: PairEvent.REFUSED,
    WITHDRAW: PairEvent.WITHDRAW,
    WITHDRAWN: PairEvent.WITHDRAWN,
}
OF_CONTROLLING = frozenset({OFFER, PROMOTE})
OF_CONTROLLED = frozenset({OPENED, VERIFIED})


class Pairs:
    """The links of `node`, whose hub is `hub`, to peers that send signals.  `instance` is the random id of
    this run, 16 hexadecimal digits or more; sessions are counted from it."""

    def __init__(self, node: Node, hub: Hub, instance: str) -> None:
        self.node = node
        self.hub = hub
        self.pairs: dict[str, Pair] = {}
        self.refused: dict[str, str] = {}
        self.refused_signals: collections.Counter[str] = collections.Counter()
        """By reason, how many signals were not acted on."""
        self.stopping = False
        self._session = int(instance[:16], 16)
        self._vigil = Vigil(node, hub, self._feed)
        self._due_ats: dict[str, float] = {}
        self._logged: set[tuple[str, str]] = set()
        self._dirty: set[str] = set()
        self._report_at: float | None = None
        self._port_for: str | None = None
        self._port_at = 0.0
        self._hold_until = float("-inf")
        self._effects: dict[Effect, Callable[[Pair, float], None]] = {
            Effect.OPEN: self._open,
            Effect.ADD: self._add,
            Effect.KNOCK: self._knock,
            Effect.KNOCK_LATER: self._knock_later,
            Effect.READ: self._read,
            Effect.PROMOTE: self._promote,
            Effect.PROMOTE_LATER: self._promote_later,
            Effect.BEAT: self._vigil.beat,
            Effect.CONFIRM: self._vigil.confirm,
            Effect.ASK: self._ask,
            Effect.REMOVE: self._remove,
            Effect.FAIL: self._fail,
            Effect.RETRY: self._retry,
            Effect.PAUSE: self._pause,
            Effect.UNPROVEN: self._unproven,
            Effect.SEND_OFFER: self._send_offer,
            Effect.SEND_OPENED: self._send_opened,
            Effect.SEND_VERIFIED: self._send_verified,
            Effect.SEND_PROMOTE: self._send_promote,
            Effect.SEND_WITHDRAW: self._send_withdraw,
            Effect.SEND_WITHDRAWN: self._send_withdrawn,
        }

    # -- who there is -----------------------------------------------------------------------

    def adopt(self, peer: str, address: str, why: str, now_s: float) -> Pair:
        """Have a link to `peer`; it is promoted if the device says so."""
        pair = Pair(peer, address, controlling=not self.node.refresh.is_larger(peer), since_at=now_s, why=why)
        pair.offers = TokenBucket(OFFERS_PER_S, OFFERS_AT_ONCE, now_s)
        pair.retry_at = now_s
        self.pairs[peer] = pair
        self.node.claims.setdefault(address, peer)
        entry = self.node.device.peers.get(peer)
        if entry is not None and peer in self.node.owned:
            if address in entry.allowed_ips:
                pair.why = "it was direct when the agent began to signal" if why == NOT_TRIED else why
                self._vigil.count(pair, entry)
                self._feed(pair, PairEvent.ADOPTED, now_s)
            else:
                self.node.remove(peer)
        return pair

    def update(self, peer: str, view: PeerView, now_s: float) -> None:
        """Take in what the hub says of a peer that has an agent that signals."""
        try:
            address = self.node.check(peer, view.address or "")
        except UnacceptableError as refusal:
            self.refuse(peer, str(refusal), now_s)
            return
        self.refused.pop(peer, None)
        pair = self.pairs.get(peer)
        if pair is not None and pair.address != address:
            self.refuse(peer, f"its address changed from {pair.address} to {address}", now_s)
            pair = None
        if pair is None:
            pair = self.adopt(peer, address, NOT_TRIED, now_s)
        self.node.claims[address] = peer
        before, pair.view = pair.view, view
        if view.endpoint:
            self.node.refresh.seen(peer, view.endpoint)
            self.node.known[peer] = (address, view.endpoint)
        self._compare(pair, before, view, now_s)

    def _compare(self, pair: Pair, before: PeerView | None, view: PeerView, now_s: float) -> None:
        """What follows from what has changed."""
        another = view.instance is not None and view.instance != pair.instance
        if view.instance is not None:
            pair.instance = view.instance
        if another and view.signals and not view.linked:
            pair.why = "its agent was started anew"
            self._feed(pair, PairEvent.RESTARTED, now_s)
            pair.retry_at = now_s
        elif view.signals and view.linked and (before is None or not before.signals):
            self._feed(pair, PairEvent.CLAIMED, now_s)
        if before is None or (before.endpoint, before.candidates) != (view.endpoint, view.candidates):
            self._moved(pair, now_s)
        elif view.signals and not before.signals:
            pair.retry_at = now_s
        if pair.promoted and before is not None and before.signals and not view.signals:
            pair.watch.forget()  # nobody is there any more to answer; from now on the kernel is asked
        if not view.online and pair.phase in TRYING:
            pair.why = "the hub says that it is offline"
            self._feed(pair, PairEvent.STOP, now_s)
            self.node.refresh.interrupted(pair.peer)

    def _moved(self, pair: Pair, now_s: float) -> None:
        """The hub names another endpoint than before: a relayed link may be possible now, and a direct one
        may have lost its path."""
        pair.rungs, pair.unproven, pair.refusals = [], 0, 0
        if pair.phase is Phase.RELAYED:
            pair.retry_at = now_s
        elif (
            pair.rung is not None
            and pair.rung.strategy == REFLEXIVE
            and pair.view is not None
            and pair.rung.yours != pair.view.endpoint
        ):
            pair.why = f"the hub sees it at {pair.view.endpoint} now"
            self._feed(pair, PairEvent.MISSED, now_s)

    def refuse(self, peer: str, why: str, now_s: float) -> None:
        """There is to be no link to this peer."""
        self.refused[peer] = why
        pair = self.pairs.get(peer)
        if pair is not None:
            pair.why = why
            self._feed(pair, PairEvent.STOP, now_s)
            self.forget(peer)
            self.node.known.pop(peer, None)
            self.node.refresh.counts.pop(peer, None)
            self.node.say("warning", "the link is given up", peer=peer, why=why)

    def forget(self, peer: str) -> Pair | None:
        """Have no link to this peer any more; the device stays as it is."""
        self.touch(peer)
        pair = self.pairs.pop(peer, None)
        if pair is not None and self.node.claims.get(pair.address) == peer:
            del self.node.claims[pair.address]
        return pair

    # -- events -----------------------------------------------------------------------------

    def signal(self, peer: str, raw: Mapping[str, Any], now_s: float) -> None:
        """A signal came in."""
        try:
            signal = parse(raw)
            pair = self.pairs.get(peer)
            if signal is None:
                return
            if pair is None:
                raise SignalError("there is no link to it")
            if signal.type in (OF_CONTROLLED if not pair.controlling else OF_CONTROLLING):
                raise SignalError(f"{signal.type} is for the other one to say")
            if signal.type == OFFER:
                self._take_offer(pair, signal, now_s)
            else:
                self._take(pair, signal, now_s)
        except SignalError as error:
            self._refuse_signal(peer, str(error))

    def _take(self, pair: Pair, signal: Signal, now_s: float) -> None:
        """Any signal but an offer."""
        if None not in (signal.session, pair.session) and signal.session != pair.session:
            if signal.type == WITHDRAW:  # an old one, repeated: confirmed all the same
                self._send(pair, Signal(WITHDRAWN, signal.session))
            else:
                self._refuse_signal(pair.peer, f"its {signal.type} is of another session", "info")
            return
        if signal.type == WITHDRAW and signal.session is None and pair.phase in TRYING:
            self._send(pair, Signal(WITHDRAWN))  # of an earlier run's link: nothing is moved yet
            return
        event = SIGNAL_EVENTS[signal.type]
        if (pair.phase, event) not in TRANSITIONS:  # late, doubled, or out of turn
            self._refuse_signal(pair.peer, f"its {signal.type} is not awaited", "info")
        if signal.type in (WITHDRAW, REFUSED):
            pair.why = f"the other end: {signal.why}" if signal.why else "the other end has gone back"
        if signal.type == OPENED and pair.phase is Phase.OFFERED:
            pair.trips_s = _smoothed_s(pair.trips_s, now_s - pair.offered_at)
        self._feed(pair, event, now_s)
        if signal.pause_s and pair.retry_at is not None:
            pair.retry_at = max(pair.retry_at, now_s + signal.pause_s)

    def _take_offer(self, pair: Pair, signal: Signal, now_s: float) -> None:
        """The other end has opened towards us: do the same, or say why not."""
        if _is_late(signal.session, pair.session):
            return
        why, pause_s = self._objection(pair, signal, now_s)
        if why:
            self._send(pair, Signal(REFUSED, signal.session, why=why, pause_s=pause_s))
            return
        pair.offer_taken_at = now_s
        pair.session = signal.session
        pair.rung = Rung(signal.strategy, self.hub.own.endpoint or "", signal.endpoint)
        pair.why = f"opened towards {signal.endpoint} ({signal.strategy})"
        self._feed(pair, PairEvent.OFFER, now_s)

    def _objection(self, pair: Pair, signal: Signal, now_s: float) -> tuple[str, float]:
        """Why an offer is not taken now, and how long the other end is to wait; "" if it is taken.

        Raises SignalError for one that is not acceptable at all.
        """
        if pair.view is None or signal.endpoint not in ladder.endpoints_of(
            self.node.place, self.hub.own, pair.view
        ):
            self._refuse_signal(pair.peer, "it offers an endpoint that the hub does not name")
            return "the hub does not name that endpoint of yours", 0.0
        if now_s - pair.offer_taken_at < OFFER_EVERY_S or not pair.offers.take(1, now_s):
            raise SignalError("it offers too often")
        if self.stopping:
            return "the agent stops", PAUSE_MAX_S
        if now_s < self._hold_until or self._port_for is not None:
            return "it is about to take a fresh port", 0.0
        if pair.unproven and pair.retry_at is not None and pair.retry_at > now_s:
            return pair.why, pair.retry_at - now_s
        if not self._may_send(pair, signal.endpoint, now_s):
            return "busy with others", 0.0
        return "", 0.0

    def signal_failed(self, event: events.SignalFailed, now_s: float) -> None:
        """A signal of ours did not get there."""
        pair = self.pairs.get(event.peer)
        if pair is None or not event.undeliverable or event.signal.get("session") != pair.session:
            return
        if pair.phase in TRYING:
            pair.why = event.reason
        self._feed(pair, PairEvent.REFUSED, now_s)

    def beat_answered(self, peer: str, number: int, rtt_s: float, now_s: float) -> None:
        """A heartbeat was answered."""
        pair = self.pairs.get(peer)
        if pair is not None and pair.promoted:
            self.touch(peer)
            self._vigil.answered(pair, number, rtt_s, now_s)

    def device_seen(self, event: events.DeviceSeen, now_s: float) -> None:
        """Look for handshakes, for traffic, and for what something else changed."""
        self._vigil.beat_bytes, self._vigil.mtu_bytes = event.beat_bytes, event.mtu_bytes
        for peer in event.configured & self.node.owned.keys() & self.pairs.keys():
            del self.node.owned[peer]
            self.node.say("warning", "the peer is the admin's now", peer=peer)
            self.forget(peer)
        for pair in list(self.pairs.values()):
            entry = event.device.peers.get(pair.peer)
            if pair.phase in TRYING:
                self._look_for_handshake(pair, entry, now_s)
            elif pair.promoted and (entry is None or pair.address not in entry.allowed_ips):
                self._lost(pair, entry, now_s)
            elif pair.promoted and entry is not None:
                self._vigil.look_for_traffic(pair, entry, now_s)
                if pair.traffic_at == now_s:
                    self.touch(pair.peer)

    def _look_for_handshake(self, pair: Pair, entry: Peer | None, now_s: float) -> None:
        if entry is None:
            self._lost(pair, entry, now_s)
        elif entry.latest_handshake_at and pair.phase is not Phase.PROMOTING:
            pair.why = f"handshake with {entry.endpoint}; the other end is awaited"
            self._vigil.count(pair, entry)
            self._feed(pair, PairEvent.HANDSHAKE, now_s)

    def _lost(self, pair: Pair, entry: Peer | None, now_s: float) -> None:
        """Something else changed our peer."""
        if entry is None:
            self.node.owned.pop(pair.peer, None)
        pair.why = "something else removed the peer or its AllowedIPs from the interface"
        self.node.say("warning", "the link was taken away", peer=pair.peer, why=pair.why)
        self._feed(pair, PairEvent.LOST, now_s)

    def registered(self, now_s: float) -> None:
        """The hub sees us as `hub.own` says."""
        self._hold_until = float("-inf")
        for pair in self.pairs.values():
            if pair.phase is Phase.RELAYED and pair.rungs and pair.rungs[0].mine != self.hub.own.endpoint:
                pair.rungs = []
            if pair.promoted and pair.rung is not None and pair.rung.strategy == REFLEXIVE:
                self._check_own_endpoint(pair, now_s)

    def _check_own_endpoint(self, pair: Pair, now_s: float) -> None:
        own = self.hub.own.endpoint
        if pair.rung is not None and own and pair.rung.mine not in ("", own):
            pair.rung = Rung(pair.rung.strategy, own, pair.rung.yours)
            if pair.phase is Phase.DIRECT:
                pair.why = f"the hub sees this node at {own} now"
                self._feed(pair, PairEvent.MISSED, now_s)

    def port_taken(self, now_s: float) -> None:
        """WireGuard listens on a fresh port; the hub has to see it before anything is offered."""
        self._hold_until = now_s + PORT_WITHIN_S
        for pair in self.pairs.values():
            if not pair.promoted:
                pair.rungs, pair.retry_at = [], now_s
                pair.port_tried = pair.port_tried or pair.lost_tries > 0

    def network_changed(self, now_s: float) -> None:
        """This node has other addresses: every direct link may have lost its path, every other may be
        possible."""
        for pair in self.pairs.values():
            if pair.phase is Phase.DIRECT:
                pair.why = "this node's addresses have changed"
                self._feed(pair, PairEvent.MISSED, now_s)
            elif pair.phase is Phase.RELAYED:
                pair.rungs, pair.retry_at, pair.unproven = [], now_s, 0

    def woke(self, now_s: float) -> None:
        """This node slept: what was awaited means nothing, and every link may have lost its path."""
        for pair in self.pairs.values():
            pair.watch.forget()
            if pair.phase is Phase.PROVISIONAL:
                pair.since_at = now_s
            elif pair.phase is Phase.DIRECT:
                pair.why = "this node slept"
                self._feed(pair, PairEvent.MISSED, now_s)

    def stop(self, now_s: float) -> None:
        """Give every link back at both ends."""
        self.stopping = True
        for pair in self.pairs.values():
            pair.why = "the agent stops"
            self._feed(pair, PairEvent.STOP, now_s)

    @property
    def quiet(self) -> bool:
        """No confirmation of a withdrawal is awaited."""
        return not any(pair.phase is Phase.WITHDRAWING for pair in self.pairs.values())

    # -- what is due ------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        for pair in list(self.pairs.values()):
            if now_s >= self._due_ats.get(pair.peer, now_s):
                self.touch(pair.peer)
                self._tick(pair, now_s)
        if self._port_for is not None and (self.quiet or now_s >= self._port_at):
            self._take_port(now_s)
        if self._report_at is not None and now_s >= self._report_at:
            self._report()

    def touch(self, peer: str | None = None) -> None:
        """Look at this pair again, or at all of them: what is due may have changed.

        Most of the time nothing does, at most of the links; to go through all of them for every heartbeat of
        one would cost more than anything else.
        """
        if peer is None:
            self._due_ats.clear()
        else:
            self._due_ats.pop(peer, None)

    def _tick(self, pair: Pair, now_s: float) -> None:
        if _due(pair.expires_at, now_s):
            pair.why = _expired(pair)
            self._feed(pair, PairEvent.EXPIRED, now_s)
        if _due(pair.knock_due_at, now_s):
            pair.knock_due_at = None
            self._feed(pair, PairEvent.KNOCK_DUE, now_s)
        if _due(pair.promote_due_at, now_s):
            self._feed(pair, PairEvent.PROMOTE_DUE, now_s)
        if _due(pair.repeat_at, now_s):
            self._feed(pair, PairEvent.REPEAT, now_s)
        if pair.promoted:
            self._vigil.watch(pair, now_s)
        elif self._may_start(pair, now_s):
            rung = self._next_rung(pair, now_s)
            if rung is not None and self._may_send(pair, rung.yours, now_s):
                self._start(pair, now_s)

    def _may_start(self, pair: Pair, now_s: float) -> bool:
        return self._wants_start(pair) and _due(pair.retry_at, now_s) and now_s >= self._hold_until

    def _wants_start(self, pair: Pair) -> bool:
        return (
            pair.controlling
            and pair.phase is Phase.RELAYED
            and pair.signals
            and self.hub.stream_open
            and not self.stopping
            and self._port_for is None
        )

    def _next_rung(self, pair: Pair, now_s: float) -> Rung | None:
        """The candidate pair to be tried now, that of a link that was lost first; None if there is none."""
        if not pair.rungs and pair.view is not None:
            found = ladder.rungs(self.node.place, self.hub.own, pair.view)
            pair.rungs = sorted(found, key=lambda rung: not self._is_proven(pair, rung.yours, now_s))
            pair.began_at = now_s
            if not found:
                pair.why = ladder.why_none(self.hub.own, pair.view)
                pair.retry_at = now_s + RETRY_DIRECT_S
        return pair.rungs[0] if pair.rungs else None

    def _is_proven(self, pair: Pair, endpoint: str, now_s: float) -> bool:
        """Whether the link was direct there lately; another port of that address is no other victim."""
        return (
            now_s < pair.direct_until
            and pair.proven is not None
            and ladder.is_same_address(endpoint, pair.proven)
        )

    def _may_send(self, pair: Pair, endpoint: str, now_s: float) -> bool:
        """Whether to open and knock there now: proven addresses always, of others so many in a second."""
        return self._is_proven(pair, endpoint, now_s) or self.node.bucket.take(PACKETS_PER_KNOCK, now_s)

    def _start(self, pair: Pair, now_s: float) -> None:
        """Offer the next candidate pair."""
        pair.rung = pair.rungs.pop(0)
        self._session = (self._session + 1) % 2**64
        pair.session = f"{self._session:016x}"
        pair.offered_at = now_s
        pair.why = f"opened towards {pair.rung.yours} ({pair.rung.strategy})"
        self._feed(pair, PairEvent.START, now_s)

    def watching(self, now_s: float) -> bool:
        """Whether links carry traffic, so that the hub is to be watched too."""
        return any(pair.promoted and self._vigil.has_traffic(pair, now_s) for pair in self.pairs.values())

    def watch_every_s(self, now_s: float) -> float | None:
        """How often the device has to be read."""
        if any(pair.phase in TRYING for pair in self.pairs.values()):
            return WATCH_EVERY_S
        if any(pair.phase is Phase.DOUBTFUL for pair in self.pairs.values()) or self.watching(now_s):
            return TRAFFIC_WATCH_S
        return IDLE_WATCH_S if any(pair.promoted for pair in self.pairs.values()) else None

    def wakeup_at(self, now_s: float) -> float:
        """When `tick` is wanted."""
        times = [at for at in (self._report_at,) if at is not None]
        if self._port_for is not None:
            times.append(self._port_at)
        for peer, pair in self.pairs.items():
            if peer not in self._due_ats:
                self._due_ats[peer] = self._due_at(pair, now_s)
            times.append(self._due_ats[peer])
        return max(now_s, min(times, default=float("inf")))

    def _due_at(self, pair: Pair, now_s: float) -> float:
        """When this pair has to be looked at; sooner than needed does no harm."""
        dues = (pair.expires_at, pair.knock_due_at, pair.promote_due_at, pair.repeat_at)
        times = [at for at in dues if at is not None]
        if pair.promoted:
            times += self._vigil.due_ats(pair, now_s)
        elif self._wants_start(pair) and pair.retry_at is not None:
            start_at = max(pair.retry_at, self._hold_until)
            if pair.rungs and not self._is_proven(pair, pair.rungs[0].yours, now_s):
                start_at = max(start_at, self.node.bucket.available_at(PACKETS_PER_KNOCK, now_s))
            times.append(start_at)
        return min(times, default=float("inf"))

    # -- effects ----------------------------------------------------------------------------

    def _feed(self, pair: Pair, event: PairEvent, now_s: float) -> None:
        """Put an event into the pair's machine and do what it asks for."""
        self.touch(pair.peer)
        before, was_promoted = pair.phase, pair.promoted
        effects = pair.on(event, now_s)
        if pair.phase is not before:
            self._entered(pair, now_s)
        for effect in effects:
            self._effects[effect](pair, now_s)
        if pair.phase is not before:
            self._say_phase(pair, before, was_promoted)
            self._report_soon(pair, now_s)

    def _entered(self, pair: Pair, now_s: float) -> None:
        """What is awaited in the new phase, and until when."""
        if pair.phase is Phase.OFFERED:
            pair.expires_at = now_s + self._patience_s(pair, OFFERED_S)
        elif pair.phase is Phase.WITHDRAWING:
            pair.expires_at = now_s + WITHDRAWING_S
        elif pair.phase is Phase.VERIFIED and not pair.controlling:
            # The session is proven, and how far the other end is from the hub is not known here.
            pair.expires_at = now_s + self._patience_s(pair, VERIFIED_S)
        elif pair.phase in TRYING and pair.phase is not Phase.PROMOTING:
            pair.expires_at = now_s + self._patience_s(pair, KNOCKING_S)
        if pair.phase is Phase.PROVISIONAL:
            pair.watch.forget()

    def _patience_s(self, pair: Pair, floor_s: float) -> float:
        """How long the next step of a rendezvous may take; the other end may be farther from the hub."""
        return max(floor_s, 3 * self.hub.signal_trips_s, 3 * (pair.trips_s or 0.0))

    def _open(self, pair: Pair, _now_s: float) -> None:
        if pair.rung is not None:
            self.node.open(pair.rung.yours)

    def _add(self, pair: Pair, _now_s: float) -> None:
        if pair.rung is not None:
            self.node.own(pair.peer, pair.address)
            self.node.change(pair.peer, fresh=True, endpoint=pair.rung.yours, allowed_ips=())

    def _knock(self, pair: Pair, now_s: float) -> None:
        if pair.rung is not None:
            self.node.own(pair.peer, pair.address)
            self.node.change(
                pair.peer,
                fresh=True,
                endpoint=pair.rung.yours,
                persistent_keepalive_s=KEEPALIVE_S,
                allowed_ips=(),
            )
            pair.expires_at = now_s + self._patience_s(pair, KNOCKING_S)

    def _knock_later(self, pair: Pair, now_s: float) -> None:
        # The other end's handshake takes as long as a signal and its answer: a knock would end it.
        pair.knock_due_at = now_s + STAGGER_S + (pair.trips_s or 0.0)

    def _read(self, _pair: Pair, _now_s: float) -> None:
        self.node.do(actions.ReadDevice())

    def _promote(self, pair: Pair, now_s: float) -> None:
        pair.traffic_at = pair.shaken_at = now_s  # until it is known better
        self.node.change(pair.peer, persistent_keepalive_s=KEEPALIVE_S, allowed_ips=(pair.address,))

    def _promote_later(self, pair: Pair, now_s: float) -> None:
        pair.promote_due_at = now_s + (pair.trips_s or self.hub.signal_trips_s) / 2

    def _ask(self, _pair: Pair, now_s: float) -> None:
        self.hub.ask(now_s)

    def _remove(self, pair: Pair, _now_s: float) -> None:
        self.node.remove(pair.peer)
        pair.watch.forget()

    def _fail(self, pair: Pair, now_s: float) -> None:
        """This candidate pair came to nothing."""
        if pair.rungs or (pair.rung is not None and pair.rung.strategy != REFLEXIVE):
            pair.retry_at = now_s
            return
        if pair.view is not None and pair.rung is not None and pair.view.endpoint != pair.rung.yours:
            pair.retry_at = now_s  # it has moved meanwhile
            return
        if now_s < pair.direct_until:
            self._fail_lost(pair, now_s)
            return
        pair.tries += 1
        self._count(pair, now_s)
        pair.retry_at = now_s + _backoff_s(pair.tries)

    def _fail_lost(self, pair: Pair, now_s: float) -> None:
        """It was direct, and is not back.  A fresh port heals a tuple that was taken (facts 1 and 12), but
        no cut; which of them it is shows by one port, so there is no second before it was direct again."""
        pair.lost_tries += 1
        if not pair.port_tried and pair.lost_tries > self._tries_before_port(pair) * self._price(now_s):
            self._count(pair, now_s)
        pair.retry_at = max(now_s, pair.began_at + RETRY_DIRECT_S)

    def _tries_before_port(self, pair: Pair) -> float:
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
        return float("inf") if ladder.is_same_address(endpoint, pair.proven) else LOST_TRIES

    def _price(self, now_s: float) -> float:
        """What a fresh port for a lost link costs, at least 1: all direct links are made anew for it, and
        the more of them there are for each that is lost, the more likely it is the other end that is cut
        off."""
        direct = sum(pair.promoted for pair in self.pairs.values())
        lost = sum(now_s < pair.direct_until and not pair.promoted for pair in self.pairs.values())
        return 1 + direct / max(1, lost)

    def _count(self, pair: Pair, now_s: float) -> None:
        """One failure more towards the restart condition; who offers more often is not counted more."""
        counts = pair.online and pair.peer in self.node.refresh.counts
        if counts and now_s - pair.counted_at >= COUNT_EVERY_S:
            pair.counted_at = now_s
            self.node.refresh.failed(pair.peer)
            self._consider_port(pair, now_s)

    def _retry(self, pair: Pair, now_s: float) -> None:
        pair.rungs, pair.retry_at = [], now_s
        pair.direct_until = now_s + RETRY_DIRECT_FOR_S

    def _pause(self, pair: Pair, now_s: float) -> None:
        pair.rungs = []
        pair.retry_at = now_s + min(PAUSE_MAX_S, PAUSE_S * 2 ** min(pair.refusals, 10))
        pair.refusals += 1

    def _unproven(self, pair: Pair, now_s: float) -> None:
        pair.unproven += 1
        pair.rungs = []
        interval_s = self.node.settings.interval_s
        pair.retry_at = now_s + min(BACKOFF_MAX_S, interval_s * (2 ** min(pair.unproven - 1, 16)))

    # -- the restart condition --------------------------------------------------------------

    def _consider_port(self, pair: Pair, now_s: float) -> None:
        """Take a fresh port if the restart condition holds; first the direct links are given back, so that
        nobody loses a packet for it."""
        due = self.node.refresh.due([pair.peer])
        if due is None or self._port_for is not None or not self.node.may_take_fresh_port(now_s):
            return
        if not self.hub.stream_open:
            return  # no link could be given back first
        if any(other.promoted and not other.signals for other in self.pairs.values()):
            return  # nobody would take that link back at its other end
        self._port_for, self._port_at = due, now_s + PORT_WITHIN_S
        self.touch()
        for other in self.pairs.values():
            if other.promoted or other.phase in TRYING:
                if other.promoted:
                    other.direct_until = now_s + RETRY_DIRECT_FOR_S
                other.why = "a fresh port is about to be taken"
                self._feed(other, PairEvent.STOP, now_s)
                other.retry_at = now_s

    def _take_port(self, now_s: float) -> None:
        peer, self._port_for = self._port_for, None
        self.touch()
        pair = self.pairs.get(peer or "")
        if pair is not None:
            self.node.take_fresh_port(pair.peer, pair.address, now_s)

    # -- signals ----------------------------------------------------------------------------

    def _send(self, pair: Pair, signal: Signal) -> None:
        self.node.do(actions.SendSignal(pair.peer, signal.to_json()))

    def _send_offer(self, pair: Pair, _now_s: float) -> None:
        if pair.rung is not None:
            self._send(pair, Signal(OFFER, pair.session, pair.rung.strategy, pair.rung.mine))

    def _send_opened(self, pair: Pair, _now_s: float) -> None:
        self._send(pair, Signal(OPENED, pair.session))

    def _send_verified(self, pair: Pair, _now_s: float) -> None:
        if not pair.controlling:
            self._send(pair, Signal(VERIFIED, pair.session))

    def _send_promote(self, pair: Pair, _now_s: float) -> None:
        self._send(pair, Signal(PROMOTE, pair.session))

    def _send_withdraw(self, pair: Pair, now_s: float) -> None:
        pair.repeat_at = now_s + max(WITHDRAW_EVERY_S, 2 * self.hub.signal_trips_s)
        pause_s = max(0.0, (pair.retry_at or now_s) - now_s) if pair.unproven else 0.0
        self._send(pair, Signal(WITHDRAW, pair.session, why=pair.why, pause_s=pause_s))

    def _send_withdrawn(self, pair: Pair, _now_s: float) -> None:
        self._send(pair, Signal(WITHDRAWN, pair.session))

    def _refuse_signal(self, peer: str, why: str, level: str = "warning") -> None:
        self.refused_signals[why] += 1
        if (peer, why) not in self._logged:
            self._logged.add((peer, why))
            self.node.say(level, "a signal is not acted on", peer=peer, why=why)

    # -- words ------------------------------------------------------------------------------

    def _say_phase(self, pair: Pair, before: Phase, was_promoted: bool) -> None:
        moved = pair.promoted != was_promoted or pair.phase is Phase.DIRECT
        self.node.say(
            "info" if moved and pair.phase is not Phase.PROVISIONAL else "debug",
            f"link {before.value} -> {pair.phase.value}",
            peer=pair.peer,
            address=pair.address,
            endpoint=pair.rung.yours if pair.rung else None,
            why=pair.why,
        )

    def _report_soon(self, pair: Pair, now_s: float) -> None:
        self._dirty.add(pair.peer)
        if self._report_at is None:
            self._report_at = now_s + REPORT_AFTER_S

    def _report(self) -> None:
        """Tell the hub of the links that have changed, if it hears us; a new stream tells of all."""
        self._report_at = None
        dirty, self._dirty = self._dirty, set()
        if self.hub.stream_open and not self.stopping:
            self.hub.report(dirty)


def _due(at: float | None, now_s: float) -> bool:
    return at is not None and now_s >= at


def _is_late(offered: str | None, session: str | None) -> bool:
    """Whether an offer is the present one once more, or one of before: each run of an agent counts its
    sessions."""
    if offered is None or session is None:
        return False
    return (int(session, 16) - int(offered, 16)) % 2**64 < SESSIONS_OF_A_RUN


def _smoothed_s(before_s: float | None, trips_s: float) -> float:
    """The time of a signal and its answer: a shorter one is believed at once, as a longer one had to wait for
    something, and both ends have to move together."""
    return trips_s if before_s is None else min(trips_s, before_s + (trips_s - before_s) / 4)


def _backoff_s(tries: int) -> float:
    """Between two tries of a link that never was direct."""
    if tries < QUICK_TRIES:
        return RETRY_DIRECT_S
    return float(min(BACKOFF_MAX_S, BACKOFF_S * 2 ** min(tries - QUICK_TRIES, 16)))


def _expired(pair: Pair) -> str:
    """Why a link is where it is when nothing came."""
    where = f" at {pair.rung.yours} ({pair.rung.strategy})" if pair.rung else ""
    return {
        Phase.OFFERED: "the other agent did not answer an offer",
        Phase.WITHDRAWING: f"{pair.why}; the other end has not confirmed",
    }.get(pair.phase, f"opened and knocked{where}: no handshake")
