# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The links of one agent to the peers that send signals (`rendezvous` tells what happens to one of them).

What is heard of peers, signals, the device and the heartbeats become events of a pair's machine here.  Its
effects are carried out by `moves` (the device), `outbox` (signals), `vigil` (heartbeats) and `retries` (when
to try again).
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, Callable

from .._wireguard.dump import Peer
from . import admission, events, ladder
from .admission import Admission
from .candidates import UnacceptableError
from .events import PeerView
from .fresh_port import FreshPort
from .giving_back import GivingBack
from .hub import Hub
from .ladder import REFLEXIVE, Rung
from .moves import Moves, smoothed_s
from .node import Node
from .outbox import Outbox
from .rendezvous import NOT_TRIED, TRANSITIONS, TRYING, Effect, Pair, PairEvent, Phase
from .retries import RETRY_DIRECT_S, Retries
from .secrets import NONE
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
from .vigil import Vigil

WATCH_EVERY_S, WATCH_TOLD_S = 0.05, 0.3
"""How often the device is read while a handshake is awaited, and while the other end would tell of it."""
REPORT_AFTER_S = 0.25
TRIP_MAX_S = 5.0
"""No answer to an offer is believed to have taken longer: one of the ends slept."""

SIGNAL_EVENTS = {
    OPENED: PairEvent.OPENED,
    VERIFIED: PairEvent.OTHER_VERIFIED,
    PROMOTE: PairEvent.PROMOTE,
    REFUSED: PairEvent.REFUSED,
    WITHDRAW: PairEvent.WITHDRAW,
    WITHDRAWN: PairEvent.WITHDRAWN,
}


class Pairs:
    """The links of `node`, whose hub is `hub`, to peers that send signals.  `instance` is the random id of
    this run, 16 hexadecimal digits or more; sessions are counted from it."""

    def __init__(self, node: Node, hub: Hub, instance: str) -> None:
        self.node = node
        self.hub = hub
        self.pairs: dict[str, Pair] = {}
        self.refused: dict[str, str] = {}
        self.stopping = False
        self._session = int(instance[:16], 16)
        self._vigil = Vigil(node, hub, self._feed)
        self._moves = Moves(node, hub)
        self._outbox = Outbox(node, hub, self.pairs)
        self._giving_back = GivingBack(self._outbox, self._feed)
        self.port = FreshPort(node, hub, self._giving_back, self.pairs)
        self._retries = Retries(node, self.port)
        self._admission = Admission(node, hub, self.port)
        self._due_ats: dict[str, float] = {}
        self._paced: set[str] = set()
        self._dirty: set[str] = set()
        self._report_at: float | None = None
        self._effects: dict[Effect, Callable[[Pair, float], None]] = {
            Effect.OPEN: self._moves.open,
            Effect.ADD: self._moves.add,
            Effect.KNOCK: self._moves.knock,
            Effect.KNOCK_LATER: self._moves.knock_later,
            Effect.READ: self._moves.read,
            Effect.PROMOTE: self._moves.promote,
            Effect.PROMOTE_LATER: self._moves.promote_later,
            Effect.REPEAT_LATER: self._moves.repeat_later,
            Effect.BEAT: self._vigil.beat,
            Effect.CONFIRM: self._vigil.confirm,
            Effect.ASK: self._moves.ask,
            Effect.REMOVE: self._moves.remove,
            Effect.FAIL: self._retries.fail,
            Effect.RETRY: self._retries.lost,
            Effect.PAUSE: self._retries.pause,
            Effect.UNPROVEN: self._retries.unproven,
            Effect.SEND_OFFER: self._outbox.offer,
            Effect.SEND_OPENED: self._outbox.opened,
            Effect.SEND_VERIFIED: self._outbox.verified,
            Effect.SEND_PROMOTE: self._outbox.promote,
            Effect.SEND_WITHDRAW: self._outbox.withdraw,
            Effect.SEND_WITHDRAWN: self._outbox.withdrawn,
        }

    @property
    def refused_signals(self) -> collections.Counter[str]:
        """By reason, how many signals were not acted on."""
        return self._admission.refused

    # -- who there is -----------------------------------------------------------------------

    def adopt(self, peer: str, address: str, why: str, now_s: float) -> Pair:
        """Have a link to `peer`; it is promoted if the device says so."""
        pair = Pair(peer, address, controlling=not self.node.refresh.is_larger(peer), since_at=now_s, why=why)
        self._admission.give_budget(pair, now_s)
        pair.retry_at = now_s
        self.pairs[peer] = pair
        self._report_soon(pair, now_s)
        self.node.claim(peer, address)
        entry = self.node.device.peers.get(peer)
        if entry is not None and peer in self.node.owned:
            if self.node.is_moved(address, entry):
                pair.why = "it was direct when the agent began to signal" if why == NOT_TRIED else why
                self._vigil.count_anew(pair, entry)
                self._feed(pair, PairEvent.ADOPTED, now_s)
            else:
                self.node.remove(peer)
        memory = self.node.memories.get(peer)
        if memory is not None and not pair.promoted:
            pair.remember(memory)
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
        self.node.claim(peer, address)
        before, pair.view = pair.view, view
        if view.endpoint:
            self.node.refresh.seen(peer, view.endpoint)
            self.node.known[peer] = (address, view.endpoint)
        self._compare(pair, before, view, now_s)
        self._agree(pair, now_s)

    def _compare(self, pair: Pair, before: PeerView | None, view: PeerView, now_s: float) -> None:
        """What follows from what has changed."""
        another = view.instance is not None and view.instance != pair.instance
        if view.instance is not None:
            pair.instance = view.instance
        if another and not view.linked:
            pair.why = "its agent was started anew"
            self._feed(pair, PairEvent.RESTARTED, now_s)
            pair.retry_at = now_s
        elif view.signals and view.linked and (before is None or not before.signals):
            if pair.phase is Phase.RELAYED:
                pair.why = "the other end says that it is direct, and this one is not"
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

    def secrets_changed(self, now_s: float) -> None:
        """This node has other mesh secrets; without the hub there is nothing that a link could go back to."""
        for pair in self.pairs.values() if self.hub.stream_open else ():
            self._agree(pair, now_s)

    def _agree(self, pair: Pair, now_s: float) -> None:
        """Is there a mesh secret that both ends have?  If not, the link is given back to the hub.  If it is
        another one than the link's, the controlling end does that, and opens it anew, since an entry of the
        device keeps its preshared key.
        """
        if pair.peer not in self.node.secrets.announced:
            return
        before, agreed = pair.disagreement, NONE
        try:
            agreed, pair.disagreement = self.node.secrets.agree(pair.peer, pair.controlling), ""
        except UnacceptableError as refusal:
            pair.disagreement = str(refusal)
        if pair.promoted or pair.phase in TRYING:
            is_another = agreed != self.node.secrets.used.get(pair.peer, NONE)
            # Whose agent is away could not take the link back, and has the secrets that it had.
            if pair.signals and (pair.disagreement or (pair.controlling and is_another)):
                pair.retry_at = now_s
                why = pair.disagreement or "the mesh secret is rotated"
                self._giving_back.begin([pair], why, now_s)
        elif pair.phase is Phase.RELAYED and pair.disagreement != before:
            pair.why, pair.retry_at = pair.disagreement or NOT_TRIED, now_s
            self._report_soon(pair, now_s)

    def _moved(self, pair: Pair, now_s: float) -> None:
        """The hub names another endpoint than before: a relayed link may be possible now, and a direct one
        may have lost its path."""
        pair.rungs, pair.unproven, pair.refusals = [], 0, 0
        pair.vain.clear()
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
            self.node.memories.pop(peer, None)
            self.node.known.pop(peer, None)
            self.node.refresh.counts.pop(peer, None)
            self.node.say("warning", "the link is given up", peer=peer, why=why)

    def forget(self, peer: str) -> Pair | None:
        """Have no link to this peer any more; the device stays as it is."""
        self.touch(peer)
        pair = self.pairs.pop(peer, None)
        if pair is not None:
            self._giving_back.leave_out(pair)
            self.node.unclaim(peer, pair.address)
        return pair

    def forget_refusals(self, peer: str) -> None:
        """Nor is there anything to be said of this peer, which the hub does not know any more."""
        self.refused.pop(peer, None)
        self.node.memories.pop(peer, None)
        self._admission.forget(peer)

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
            admission.check_side(pair, signal)
            if signal.type == OFFER:
                self._take_offer(pair, signal, now_s)
            else:
                self._take(pair, signal, now_s)
        except SignalError as error:
            self._admission.refuse(peer, str(error))

    def _take(self, pair: Pair, signal: Signal, now_s: float) -> None:
        """Any signal but an offer."""
        admission.check_rate(pair, signal, now_s)
        if None not in (signal.session, pair.session) and signal.session != pair.session:
            if signal.type == WITHDRAW:  # an old one, repeated: confirmed all the same
                self._outbox.confirm(pair, signal, now_s)
            else:
                self._admission.refuse(pair.peer, f"its {signal.type} is of another session", "info")
            return
        if signal.type == WITHDRAW and signal.session is None and pair.phase in TRYING:
            self._outbox.confirm(pair, signal, now_s)  # of an earlier run's link: nothing is moved yet
            return
        event = SIGNAL_EVENTS[signal.type]
        if (pair.phase, event) not in TRANSITIONS:  # late, doubled, or out of turn
            self._admission.refuse(pair.peer, f"its {signal.type} is not awaited", "info")
        if signal.type in (WITHDRAW, REFUSED) and not (signal.type == REFUSED and pair.promoted):
            pair.why = f"the other end: {signal.why}" if signal.why else "the other end has gone back"
        if signal.type == OPENED and pair.offered_at is not None:  # also if it is too late
            pair.trips_s = smoothed_s(pair.trips_s, min(TRIP_MAX_S, now_s - pair.offered_at))
            pair.offered_at = None
        was_trying = pair.phase in TRYING
        self._feed(pair, event, now_s)
        if signal.pause_s and was_trying and signal.type == REFUSED:
            self._retries.named(pair, signal.pause_s, now_s)
        elif signal.pause_s and pair.retry_at is not None:
            pair.retry_at = max(pair.retry_at, now_s + signal.pause_s)

    def _take_offer(self, pair: Pair, signal: Signal, now_s: float) -> None:
        """The other end has opened towards us: do the same, or say why not."""
        if admission.is_late(signal.session, pair.session):
            return
        why, pause_s = self._admission.objection(pair, signal, self.stopping, now_s)
        if why:
            self._outbox.refuse(pair, signal, why, pause_s, now_s)
            return
        pair.offer_taken_at = now_s
        pair.session, pair.secret = signal.session, signal.secret
        pair.rung = Rung(signal.strategy, self.hub.own.endpoint or "", signal.endpoint)
        pair.why = f"opened towards {signal.endpoint} ({signal.strategy})"
        self._feed(pair, PairEvent.OFFER, now_s)

    def signal_failed(self, event: events.SignalFailed, now_s: float) -> None:
        """A signal of ours did not get there."""
        pair = self.pairs.get(event.peer)
        if pair is None or event.signal.get("session") != pair.session:
            return
        if event.retry_in_s is not None:
            self._outbox.refused(event, now_s)
        if not event.undeliverable:
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
            elif pair.promoted and (entry is None or not self.node.is_moved(pair.address, entry)):
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
            self._vigil.count_anew(pair, entry)
            self._feed(pair, PairEvent.HANDSHAKE, now_s)

    def _lost(self, pair: Pair, entry: Peer | None, now_s: float) -> None:
        """Something else changed our peer."""
        if entry is None:
            self.node.remove(pair.peer)  # if it was added since that reading, it would be nobody's
        pair.why = "something else removed the peer or its AllowedIPs from the interface"
        self.node.say("warning", "the link was taken away", peer=pair.peer, why=pair.why)
        self._feed(pair, PairEvent.LOST, now_s)

    def seen_by_hub(self, now_s: float, asked: bool) -> None:
        """The hub sees us as `hub.own` says; unless it was `asked`, it may not know of a fresh port yet."""
        if asked:
            self.port.seen()
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

    def stream_opened(self, now_s: float) -> None:
        """The hub may be another run, which knows nothing of the links that are not direct, nor why."""
        for pair in self.pairs.values():
            self._report_soon(pair, now_s)

    def port_taken(self, now_s: float) -> None:
        """WireGuard listens on a fresh port; the hub has to see it before anything is offered."""
        self.port.taken(now_s)
        for pair in self.pairs.values():
            if not pair.promoted:
                pair.rungs, pair.retry_at = [], now_s

    def network_changed(self, now_s: float) -> None:
        """This node has other addresses: every direct link may have lost its path, every other may be
        possible."""
        for pair in self.pairs.values():
            if pair.phase is Phase.DIRECT:
                pair.why = "this node's addresses have changed"
                self._feed(pair, PairEvent.MISSED, now_s)
            elif pair.phase is Phase.RELAYED:
                pair.rungs, pair.retry_at, pair.unproven = [], now_s, 0
                pair.vain.clear()

    def woke(self, for_long: bool, now_s: float) -> None:
        """This node slept: no answer to a heartbeat is awaited any more, and another one is sent to those
        that it was awaited from; after a while to all, since every link may have lost its path."""
        for pair in self.pairs.values():
            since = pair.watch.waiting_since()
            was_awaited = since is not None and since < now_s
            pair.watch.forget()
            if pair.phase is Phase.PROVISIONAL:
                pair.since_at = now_s
            elif pair.phase is Phase.DIRECT and (for_long or was_awaited):
                pair.why = "this node slept"
                self._feed(pair, PairEvent.MISSED, now_s)

    def stop(self, now_s: float) -> None:
        """Give every link back at both ends."""
        self.stopping = True
        self._giving_back.begin(self.pairs.values(), "the agent stops", now_s)

    @property
    def quiet(self) -> bool:
        """No withdrawal waits to be sent, or to be confirmed."""
        withdrawing = any(pair.phase is Phase.WITHDRAWING for pair in self.pairs.values())
        return self._outbox.empty and not self._giving_back.under_way and not withdrawing

    @property
    def give_up_at(self) -> float:
        """Until when to wait for `quiet`."""
        return self._giving_back.give_up_at

    # -- what is due ------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Do what is due, first of all for those that wait for the longest time to be tried."""
        if self._paced and now_s >= self.node.pace.free_at:
            for peer in self._paced:
                self.touch(peer)
            self._paced.clear()
        due = [pair for pair in self.pairs.values() if now_s >= self._due_ats.get(pair.peer, now_s)]
        for pair in sorted(due, key=lambda pair: pair.retry_at or now_s):
            self.touch(pair.peer)
            self._tick(pair, now_s)
        self._outbox.tick(now_s)
        self._giving_back.tick(now_s)
        if self.port.under_way:
            self.port.tick(self.quiet, now_s)
            self.touch()
        if self._report_at is not None and now_s >= self._report_at:
            self._report(now_s)
            self._remember(now_s)

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
            if rung is not None and pair.may_knock(rung.yours, self.node.turns, now_s):
                self._start(pair, now_s)

    def why_waits(self, now_s: float, pair: Pair) -> str:
        """Why a link that is due to be tried is not: "" if it is, or is not due."""
        return self.node.pace.why_not(now_s) if self._is_due(pair, now_s) else ""

    def _may_start(self, pair: Pair, now_s: float) -> bool:
        return self._is_due(pair, now_s) and now_s >= self.node.pace.free_at

    def _is_due(self, pair: Pair, now_s: float) -> bool:
        return self._wants_start(pair) and now_s >= self._start_due_at(pair)

    def _start_due_at(self, pair: Pair) -> float:
        """When a link that may be tried is to be, if this node is not late."""
        return float("inf") if pair.retry_at is None else max(pair.retry_at, self.port.ready_at)

    def _wants_start(self, pair: Pair) -> bool:
        return (
            pair.controlling
            and pair.phase is Phase.RELAYED
            and pair.signals
            and self.hub.stream_open
            and not pair.disagreement
            and not self.stopping
            and not self.port.under_way
        )

    def _next_rung(self, pair: Pair, now_s: float) -> Rung | None:
        """The candidate pair to be tried now, that of a link that was lost first; None if there is none."""
        if not pair.rungs and pair.view is not None:
            found = ladder.rungs(self.node.place, self.hub.own, pair.view)
            pair.rungs = sorted(found, key=lambda rung: not pair.is_proven(rung.yours, now_s))
            pair.began_at = now_s
        while pair.rungs and pair.may_try_at(pair.rungs[0].yours, now_s) > now_s:
            del pair.rungs[0]
        if not pair.rungs:
            pair.retry_at = max(now_s + RETRY_DIRECT_S, pair.claims.available_at(1, now_s))
            return None
        return pair.rungs[0]

    def _start(self, pair: Pair, now_s: float) -> None:
        """Offer the next candidate pair."""
        self.node.pace.begun(now_s)
        pair.rung = pair.rungs.pop(0)
        self._session = (self._session + 1) % 2**64
        pair.session = f"{self._session:016x}"
        pair.secret = self.node.secrets.choose(pair.peer, pair.controlling)
        pair.offered_at = now_s
        pair.why = f"opened towards {pair.rung.yours} ({pair.rung.strategy})"
        self._feed(pair, PairEvent.START, now_s)

    def watching(self, now_s: float) -> bool:
        """Whether links carry traffic, so that the hub is to be watched too."""
        return any(self._vigil.has_traffic(pair, now_s) and pair.promoted for pair in self.pairs.values())

    def watch_every_s(self, now_s: float) -> float | None:
        """How often the device has to be read; None if nothing is to be seen there."""
        every_s = None
        for pair in self.pairs.values():
            if pair.phase in TRYING:
                of_pair = WATCH_EVERY_S if _looks(pair) else WATCH_TOLD_S
            elif pair.promoted:
                of_pair = self._vigil.look_every_s(pair, now_s)
            else:
                continue
            every_s = of_pair if every_s is None else min(every_s, of_pair)
        return every_s

    def wakeup_at(self, now_s: float) -> float:
        """When `tick` is wanted."""
        earliest = min(
            self._outbox.wakeup_at(now_s), self._giving_back.wakeup_at(now_s), self.port.wakeup_at()
        )
        if self._report_at is not None:
            earliest = min(earliest, self._report_at)
        earliest = min(earliest, self._pairs_due_at(now_s))
        if self._paced:
            earliest = min(earliest, self.node.pace.free_at)
        return max(now_s, earliest)

    def _pairs_due_at(self, now_s: float) -> float:
        """When the first of the pairs has to be looked at."""
        earliest = float("inf")
        for peer, pair in self.pairs.items():
            due_at = self._due_ats.get(peer)
            if due_at is None:
                due_at = self._due_ats[peer] = self._due_at(pair, now_s)
            if due_at < earliest:
                earliest = due_at
        return earliest

    def _due_at(self, pair: Pair, now_s: float) -> float:
        """When this pair has to be looked at; sooner than needed does no harm."""
        dues = (pair.expires_at, pair.knock_due_at, pair.promote_due_at, pair.repeat_at)
        times = [at for at in dues if at is not None]
        if pair.promoted:
            times += self._vigil.due_ats(pair, now_s)
        elif self._is_due(pair, now_s) and now_s < self.node.pace.free_at:
            self._paced.add(pair.peer)  # what it waits for changes with every look at the clock
        elif self._wants_start(pair):
            times.append(max(self._start_due_at(pair), pair.turn_at or 0.0))
        return min(times, default=float("inf"))

    # -- effects ----------------------------------------------------------------------------

    def _feed(self, pair: Pair, event: PairEvent, now_s: float) -> None:
        """Put an event into the pair's machine and do what it asks for."""
        self.touch(pair.peer)
        before, was_promoted = pair.phase, pair.promoted
        effects = pair.on(event, now_s)
        if pair.phase is not before:
            self._moves.entered(pair, now_s)
        for effect in effects:
            self._effects[effect](pair, now_s)
        if pair.phase is not before:
            self._say_phase(pair, before, was_promoted)
            self._report_soon(pair, now_s)

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

    def _report(self, now_s: float) -> None:
        """Tell the hub of the links that have changed, if it hears us; of all after a new stream."""
        self._report_at = None
        dirty, self._dirty = self._dirty, set()
        if self.hub.stream_open and not self.stopping:
            self.hub.report(dirty, now_s)

    def _remember(self, now_s: float) -> None:
        """Keep what outlives the links that are lost."""
        for pair in self.pairs.values():
            self.node.remember(pair.peer, pair.memory(now_s))
        self.node.save(now_s)


def _looks(pair: Pair) -> bool:
    """Whether this end is the one to look for the handshake: the controlled one, which knocks first and tells
    the other, and then that one."""
    return pair.phase is Phase.HEARD or (pair.phase is Phase.KNOCKING and not pair.controlling)


def _due(at: float | None, now_s: float) -> bool:
    return at is not None and now_s >= at


def _expired(pair: Pair) -> str:
    """Why a link is where it is when nothing came."""
    where = f" at {pair.rung.yours} ({pair.rung.strategy})" if pair.rung else ""
    if pair.phase is Phase.OFFERED:
        return "the other agent did not answer an offer"
    if pair.phase is Phase.HEARD:
        return f"the other end sees a handshake{where}, and this one does not"
    if pair.phase is Phase.VERIFIED:
        return f"there was a handshake{where}, but the other end did not go on"
    return f"opened and knocked{where}: no handshake"
