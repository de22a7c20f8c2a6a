# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""All links of one agent: events and the time in, actions out.

Links to peers whose agents send signals are `pairs`' business, all others are the origin's loop's.  Which
peer is whose is decided here, by what the hub says: a peer that has registered sends signals, and a hub that
takes no registration has none that do.  A link that changes hands stays as it is in the device.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from . import actions, events, ladder
from .actions import Action, Registration
from .candidates import Place
from .events import PeerView
from .hub import Hub, Kind
from .link import Link
from .loop import Loop
from .node import Node, Settings
from .pairs import Pairs
from .rendezvous import Pair, Phase
from .report import Outlook, describe_pair, describe_refused, report, say_agent_away

__all__ = ["Mesh", "Settings"]

ABOUT_SOME_PAIRS = (events.Tick, events.DeviceSeen, events.BeatAnswered, events.StreamHeard)
"""Events that change nothing for most pairs; of all others the pairs may depend in many ways."""
SLEPT_S = 1.0
"""Who is so much later than it wanted to be slept, or was stopped: no answer to a heartbeat is awaited."""
PATHS_LAST_S = 4.0
"""After so long every link may have lost its path.  Firewalls are known that learn for 5 s only (DESIGN
section 3), and a busy node that asked at all its links sooner would only be later."""
REST_TIMES, LOOK_MAX_S = 6, 0.09
"""After a look at the device comes a rest of so many times what looks take of late, so that a node with more
to do than it can has time for other things.  No look counts for more: handshakes are awaited for 0.8 s, in
which a rest and a whole look have to fit."""
SMOOTHING = 0.25
"""The weight of what the latest look took."""
GRACE_S = 60.0
"""A peer that sent signals and does not any more is left in peace for so long: its agent may be on its way
back."""
UNKNOWN_TO_HUB = "the hub does not know it any more"
GO_ON_WITHOUT_HUB_S = 30.0
"""A hub that is away for so long: relayed links are tried by the loop, which needs no signals."""


class Mesh:
    """The links of the agent whose public key is `own_key`, at `place` in the VPN.

    `handle_all` takes events and returns the actions to carry out; `wakeup_at` says when it wants a
    `Tick`.  `now_s` is the caller's clock in seconds, which never goes back (CLOCK_BOOTTIME).
    `instance` is the random id of this run, 16 hexadecimal digits or more.
    """

    def __init__(self, own_key: str, place: Place, settings: Settings, instance: str) -> None:
        self.node = Node(own_key, place, settings)
        self.instance = instance
        self.fresh_ports = 0
        self.hub = Hub(self.node, self._registration)
        self.pairs = Pairs(self.node, self.hub, instance)
        self.loop = Loop(self.node, self._ask, self.pairs.port.take_for)
        self._views: dict[str, PeerView] = {}
        self._signalled_at: dict[str, float] = {}
        self._agents_heard_at: dict[str, float] = {}
        self._addresses: tuple[str, ...] = ()
        self._listen_port = 0
        self._pass_waits = False
        self._started = False
        self._watch_at: float | None = None
        self._look_s = 0.0
        self._rest_until = float("-inf")
        self._expected_at = float("inf")
        self._handled_at = float("-inf")
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            events.Started: self._on_started,
            events.SecretsSeen: self._on_secrets_seen,
            events.Tick: self._on_tick,
            events.HubAnswered: self._on_hub_answered,
            events.HubSilent: self.loop.handle,
            events.DeviceSeen: self._on_device_seen,
            events.ProbeAnswered: self._on_probe_answered,
            events.ProbeMissed: self._on_probe_missed,
            events.PortTaken: self._on_port_taken,
            events.Stopping: self._on_stopping,
            events.Stopped: self._on_stopped,
            events.Snapshot: self._on_snapshot,
            events.PeerChanged: self._on_peer_changed,
            events.PeerGone: self._on_peer_gone,
            events.SignalReceived: self._on_signal,
            events.SignalFailed: self._on_signal_failed,
            events.StreamHeard: self._on_stream_heard,
            events.StreamClosed: self._on_stream_closed,
            events.Registered: self._on_registered,
            events.RegistrationFailed: self._on_registration_failed,
            events.BeatAnswered: self._on_beat_answered,
            events.AddressesSeen: self._on_addresses_seen,
        }

    # -- the edge ---------------------------------------------------------------------------

    def handle(self, event: events.Event, now_s: float) -> list[Action]:
        """Take one event and return what to do about it, in order."""
        return self.handle_all((event,), now_s)

    def handle_all(self, batch: Iterable[events.Event], now_s: float) -> list[Action]:
        """Take events that came one after the other, and return what to do about all of them, in order: the
        device is changed once for all that they change in it."""
        late_s = self._late_by(now_s)
        for event in batch:
            if not isinstance(event, ABOUT_SOME_PAIRS):
                self.pairs.touch()
            self._handlers[type(event)](event, now_s)
        if late_s > SLEPT_S:
            self._wake(late_s, now_s)
        if self._started:
            self.hub.tick(self.pairs.watching(now_s), now_s)
            self.pairs.tick(now_s)
        self._schedule_watch(now_s)
        self._expected_at = self._earliest_at(now_s) if self._started else float("inf")
        return self.node.flush()

    def _late_by(self, now_s: float) -> float:
        """Take in how much later it is than this node wanted to do something, if it has done nothing since,
        and return it."""
        handled_at, self._handled_at = self._handled_at, now_s
        if now_s < self._expected_at:
            return 0.0
        late_s = now_s - max(self._expected_at, handled_at)
        if late_s < PATHS_LAST_S:  # else it slept, and has no more to do than others
            self.node.pace.late(late_s, now_s)
        return late_s

    def _wake(self, late_s: float, now_s: float) -> None:
        """Go on after a delay.  What was answered meanwhile has been taken in."""
        self.pairs.touch()
        self.hub.woke(late_s >= PATHS_LAST_S, now_s)
        self.pairs.woke(late_s >= PATHS_LAST_S, now_s)

    @property
    def wakeup_at(self) -> float:
        """The time at which the next `Tick` is wanted, if no event comes before."""
        return self._expected_at

    def _earliest_at(self, now_s: float) -> float:
        hub_at = self.hub.wakeup_at(self.pairs.watching(now_s), now_s)
        times = [self.loop.wakeup_at(now_s), self.pairs.wakeup_at(now_s), hub_at]
        if self._watch_at is not None:
            times.append(self._watch_at)
        return min(times)

    def restore(self, state: Mapping[str, Any], saved_at_s: float) -> None:
        """Take over the `SaveState` of an earlier run, saved at `saved_at_s` on this clock.

        Raises KeyError, TypeError or ValueError if it is none; nothing is changed then.
        """
        self.node.restore(state, saved_at_s)

    # -- what others want to know -----------------------------------------------------------

    @property
    def own_key(self) -> str:
        """The public key of this node."""
        return self.node.own_key

    @property
    def quiet(self) -> bool:
        """Nothing is awaited that an agent that stops should wait for."""
        return self.pairs.quiet

    @property
    def give_up_at(self) -> float:
        """Until when an agent that stops should wait for `quiet`."""
        return self.pairs.give_up_at

    @property
    def links(self) -> dict[str, Link | Pair]:
        """All links, by the key of the peer."""
        return {**self.loop.links, **self.pairs.pairs}

    @property
    def hub_silent(self) -> str | None:
        """Why the hub is not heard, None if it is."""
        if self.hub.kind is Kind.SIGNALS:
            return None if self.hub.stream_open else self.hub.silent
        return self.loop.hub_silent

    def status(self, now_s: float) -> list[dict[str, Any]]:
        """One JSON object for every peer that the hub named, with why its link is what it is."""
        outlook = self._outlook(now_s)
        entries = self.loop.status(now_s)
        entries += [describe_pair(pair, outlook, self._endpoint(pair)) for pair in self.pairs.pairs.values()]
        for entry in entries:
            peer = entry["peer"]
            if entry["address"] is not None and self._is_without_agent(peer):
                say_agent_away(entry, self._agents_heard_at.get(peer), now_s)
        entries += [describe_refused(peer, why) for peer, why in self.pairs.refused.items()]
        return sorted(entries, key=lambda entry: str(entry["peer"]))

    def _outlook(self, now_s: float) -> Outlook:
        why_none = functools.partial(ladder.why_none, self.node.place, self.hub.own)
        why_waits = functools.partial(self.pairs.why_waits, now_s)
        return Outlook(self.node.refresh, self.node.settings.refresh, now_s, why_none, why_waits)

    def _endpoint(self, pair: Pair) -> str | None:
        """Where packets to the peer go, if they go to it directly; else where the hub sees it."""
        entry = self.node.device.peers.get(pair.peer)
        if pair.promoted and entry is not None:
            return entry.endpoint
        return pair.view.endpoint if pair.view else None

    def _registration(self, number: int, peers: Iterable[str] | None) -> Registration:
        """What the hub is told: the links to `peers`, or all that are promoted."""
        links = self.links
        if peers is None:
            peers = [peer for peer, link in links.items() if link.promoted]
        reports: dict[str, Mapping[str, Any] | None] = {
            peer: self._report(links[peer]) if peer in links else None for peer in peers
        }
        return Registration(self.instance, number, self._candidates(), reports, self.node.secrets.own)

    def _report(self, link: Link | Pair) -> dict[str, Any]:
        """What the hub is told; what will be tried when is counted from when the link's state began."""
        return report(link, self._outlook(link.since_at), self._endpoint_of(link.peer))

    def _endpoint_of(self, peer: str) -> str | None:
        entry = self.node.device.peers.get(peer)
        return entry.endpoint if entry else None

    def _candidates(self) -> tuple[str, ...]:
        """The host candidates (RFC 8445, section 5.1.1): own addresses with WireGuard's port."""
        return tuple(
            f"[{address}]:{self._listen_port}" if ":" in address else f"{address}:{self._listen_port}"
            for address in self._addresses
        )

    # -- start and end ----------------------------------------------------------------------

    def _on_started(self, event: events.Started, now_s: float) -> None:
        self.node.device = event.device
        self.node.recorded = dict(event.owned)
        self.node.secrets.used = dict(event.used)
        self._listen_port = event.device.listen_port
        self.loop.restore(self.node.known, now_s)
        for peer, address in event.owned.items():
            if peer in event.device.peers:
                self.node.own(peer, address)
                self.loop.release(peer)
                self.pairs.adopt(peer, address, "taken over from the agent's last run", now_s)
                self._signalled_at[peer] = now_s
        self._started = True
        self.loop.handle(event, now_s)
        self.hub.start(now_s)

    def _on_secrets_seen(self, event: events.SecretsSeen, now_s: float) -> None:
        self.node.secrets.own = event.ids
        if self._started:
            self.node.say("info", "this node has other mesh secrets", ids=list(event.ids))
            self.hub.report((), now_s)
            self.pairs.secrets_changed(now_s)

    def _on_stopping(self, event: events.Stopping, now_s: float) -> None:
        if event.hub_answers:
            self.loop.handle(event, now_s)
            self.pairs.stop(now_s)
        else:
            self.node.say("warning", "the hub is silent: the links stay as they are")
        self.node.save(now_s)

    def _on_stopped(self, _event: events.Stopped, _now_s: float) -> None:
        if self.pairs.stopping:
            for peer in list(self.node.owned):
                self.node.remove(peer)

    def _on_tick(self, event: events.Tick, now_s: float) -> None:
        self.loop.handle(event, now_s)
        if self._watch_at is not None and now_s >= self._watch_at:
            self._watch_at = None
            self.node.do(actions.ReadDevice())

    # -- the device -------------------------------------------------------------------------

    def _on_device_seen(self, event: events.DeviceSeen, now_s: float) -> None:
        self.node.device, self.node.configured = event.device, event.configured
        self._look_s += SMOOTHING * (min(event.took_s, LOOK_MAX_S) - self._look_s)
        self._rest_until = now_s + REST_TIMES * self._look_s
        foreign = [peer for key, peer in event.device.peers.items() if key not in self.node.owned]
        place = self.node.place.seen(foreign)
        if place != self.node.place:
            self.node.place = place
            for peer, view in list(self._views.items()):  # what is relayed may be direct, or no longer
                self._take_in(peer, view, now_s)
        self.pairs.device_seen(event, now_s)
        self.loop.handle(event, now_s)

    def _on_port_taken(self, event: events.PortTaken, now_s: float) -> None:
        self.fresh_ports += 1
        self.node.say("info", "listening on a fresh port", listen_port=event.listen_port)
        self._listen_port = event.listen_port
        self.node.device = dataclasses.replace(self.node.device, listen_port=event.listen_port)
        self.loop.handle(event, now_s)
        self.hub.show_port(now_s)
        if self.hub.stream_open:
            self.pairs.port_taken(now_s)
        else:
            self.node.do(actions.GreetHub())

    def _on_addresses_seen(self, event: events.AddressesSeen, now_s: float) -> None:
        """Other addresses, or the same ones and another way to the hub: this node may have roamed."""
        self._addresses = event.addresses
        if self._started:
            self.node.say("info", "this node's network has changed", addresses=list(event.addresses))
            self.hub.ask(now_s)
            self.pairs.network_changed(now_s)

    # -- answers through links --------------------------------------------------------------

    def _on_beat_answered(self, event: events.BeatAnswered, now_s: float) -> None:
        if event.peer is None:
            self.pairs.touch()
            self.hub.beat_answered(event.number, event.rtt_s, now_s)
        else:
            self.pairs.beat_answered(event.peer, event.number, event.rtt_s, now_s)

    def _on_probe_answered(self, event: events.ProbeAnswered, now_s: float) -> None:
        if event.peer in self.pairs.pairs:
            self.pairs.beat_answered(event.peer, event.attempt, event.rtt_s, now_s)
        else:
            self.loop.handle(event, now_s)

    def _on_probe_missed(self, event: events.ProbeMissed, now_s: float) -> None:
        if event.peer not in self.pairs.pairs:  # theirs are judged by time
            self.loop.handle(event, now_s)

    # -- the hub ----------------------------------------------------------------------------

    def _ask(self, now_s: float) -> None:
        """The loop's pass: ask a hub of the origin, and answer from what is known of another one."""
        if self.hub.kind is Kind.ORIGIN or self.hub.may_be_origin:
            self.node.do(actions.AskHub())
        elif self.hub.stream_open:
            self._hand_over_the_silent(now_s)
            self.loop.handle(events.HubAnswered(self._records(), self._without_agent()), now_s)
        elif self.hub.silent_since is None:
            self._pass_waits = True  # the first stream is being opened
        else:
            self._go_on_without_hub(now_s)
            self.loop.handle(events.HubSilent(self.hub.silent or "its stream is closed"), now_s)

    def _records(self) -> dict[str, events.PeerRecord]:
        """What the loop is to know: every online peer whose agent is one of the origin.

        Not one that has no agent at all, or none yet: knocking at it would be in vain, and might take the
        tuple that it needs when its agent starts (fact 1).
        """
        return {
            peer: events.PeerRecord(view.endpoint, view.address)
            for peer, view in self._views.items()
            if view.online and view.endpoint and view.address and view.polls and not _is_signalling(view)
            if peer not in self.pairs.pairs
        }

    def _without_agent(self) -> frozenset[str]:
        return frozenset(peer for peer in self._views if self._is_without_agent(peer))

    def _is_without_agent(self, peer: str) -> bool:
        """Whether the hub says that the peer is online, and that nothing is heard of its agent."""
        view = self._views.get(peer)
        return self.hub.stream_open and view is not None and view.online and not (view.signals or view.polls)

    def _resume_pass(self, now_s: float) -> None:
        if self._pass_waits:
            self._pass_waits = False
            self._ask(now_s)

    def _hand_over_the_silent(self, now_s: float) -> None:
        """Peers whose agents do not signal any more, though they are online: the loop's from now on."""
        for pair in list(self.pairs.pairs.values()):
            silent = pair.view is not None and pair.view.instance is None and pair.online
            if silent and now_s - self._signalled_at.get(pair.peer, now_s) >= GRACE_S:
                self._to_loop(pair, now_s)

    def _go_on_without_hub(self, now_s: float) -> None:
        if self.hub.silent_since is None or now_s - self.hub.silent_since < GO_ON_WITHOUT_HUB_S:
            return
        for pair in list(self.pairs.pairs.values()):
            # Nobody will confirm a withdrawal either.
            if pair.phase in (Phase.RELAYED, Phase.WITHDRAWING) and pair.peer in self.node.known:
                self._to_loop(pair, now_s)

    def _all_to_loop(self, now_s: float) -> None:
        """The hub is one of the origin: nobody signals."""
        self.node.say("info", "the hub takes no signals: it is asked as one of the origin")
        for pair in list(self.pairs.pairs.values()):
            self._to_loop(pair, now_s)
        self._views.clear()

    def _to_loop(self, pair: Pair, now_s: float) -> None:
        self.pairs.forget(pair.peer)
        _address, endpoint = self.node.known.get(pair.peer, (pair.address, None))
        link = Link(pair.peer, pair.address, endpoint, since_at=now_s, named_at=now_s, online=True)
        link.why = pair.why
        self.loop.adopt(link, now_s)

    def _on_hub_answered(self, event: events.HubAnswered, now_s: float) -> None:
        if self.hub.kind is Kind.SIGNALS:  # since it was asked
            event = events.HubAnswered(self._records(), self._without_agent())
        elif self.hub.kind is Kind.UNKNOWN:
            self.hub.kind = Kind.ORIGIN
            self._all_to_loop(now_s)
        if self.loop.hub_silent is not None and self.loop.links:
            self.hub.look_again(now_s)
        self.loop.handle(event, now_s)

    def _on_snapshot(self, event: events.Snapshot, now_s: float) -> None:
        if self.hub.kind is not Kind.SIGNALS:
            self.node.say("info", "the hub takes signals", peers=len(event.peers))
        self.hub.opened(event.own, now_s, event.rtt_s)
        # Not only those that this run was told of: also what an earlier run left in the device and on disk.
        remembered = {**self._views, **self.links, **self.node.known, **self.node.refresh.counts}
        for peer in [peer for peer in remembered if peer not in event.peers]:
            self._forget(peer, now_s)
        for peer, view in event.peers.items():
            self._take_in(peer, view, now_s)
        self.pairs.seen_by_hub(now_s, asked=True)
        self.pairs.stream_opened(now_s)
        self._resume_pass(now_s)
        self.node.save(now_s)

    def _on_peer_changed(self, event: events.PeerChanged, now_s: float) -> None:
        self.hub.stream_heard(now_s)
        self._take_in(event.peer, event.view, now_s)
        for peer in list(self.pairs.refused):  # an address may be free now
            if peer != event.peer and peer in self._views:
                self._take_in(peer, self._views[peer], now_s)
        self.node.save(now_s)

    def _take_in(self, peer: str, view: PeerView, now_s: float) -> None:
        before = self._views.get(peer)
        self._views[peer] = view
        if view.signals or (before is not None and before.signals):
            self._agents_heard_at[peer] = now_s
        if peer == self.node.own_key:
            return
        if view.instance is not None:  # an agent that is away has the secrets that it had
            self.node.secrets.announced[peer] = view.secrets
        if _is_signalling(view):
            self._signalled_at[peer] = now_s
            self.loop.release(peer)
            self.pairs.update(peer, view, now_s)
        elif peer in self.pairs.pairs and view.polls:
            self._to_loop(self.pairs.pairs[peer], now_s)
            self.loop.pass_now(now_s)
        elif peer in self.pairs.pairs:
            self.pairs.update(peer, view, now_s)
        elif view.polls and (before is None or not before.polls):
            self.loop.pass_now(now_s)

    def _on_peer_gone(self, event: events.PeerGone, now_s: float) -> None:
        self.hub.stream_heard(now_s)
        self._forget(event.peer, now_s)
        self.node.save(now_s)

    def _forget(self, peer: str, now_s: float) -> None:
        """The hub does not know this peer any more: there is to be nothing left of it, since its key may have
        been removed because somebody else has it."""
        self._views.pop(peer, None)
        if peer in self.pairs.pairs:
            self.pairs.refuse(peer, UNKNOWN_TO_HUB, now_s)
        self.pairs.forget_refusals(peer)
        self.loop.forget(peer, UNKNOWN_TO_HUB, now_s)
        self.node.known.pop(peer, None)
        self.node.refresh.counts.pop(peer, None)
        self.node.secrets.announced.pop(peer, None)
        self._signalled_at.pop(peer, None)
        self._agents_heard_at.pop(peer, None)
        self.loop.pass_now(now_s)

    def _on_signal(self, event: events.SignalReceived, now_s: float) -> None:
        self.hub.stream_heard(now_s)
        self.pairs.signal(event.peer, event.signal, now_s)

    def _on_signal_failed(self, event: events.SignalFailed, now_s: float) -> None:
        if event.undeliverable:
            self.hub.heard(now_s)
        self.pairs.signal_failed(event, now_s)

    def _on_stream_heard(self, _event: events.StreamHeard, now_s: float) -> None:
        self.hub.stream_heard(now_s)

    def _on_stream_closed(self, event: events.StreamClosed, now_s: float) -> None:
        if self.hub.silent is None:
            self.node.say("warning", "the stream of the hub is closed", reason=event.reason)
        self.hub.closed(event.reason, event.unsupported, now_s)
        if self.hub.kind is Kind.ORIGIN:
            self._all_to_loop(now_s)
        self._resume_pass(now_s)

    def _on_registered(self, event: events.Registered, now_s: float) -> None:
        if self.hub.registered(event.own, event.number, now_s):
            self.pairs.seen_by_hub(now_s, asked=event.number is not None)

    def _on_registration_failed(self, event: events.RegistrationFailed, now_s: float) -> None:
        self.hub.not_registered(event, now_s)

    # -- when to look -----------------------------------------------------------------------

    def _schedule_watch(self, now_s: float) -> None:
        """Read the device as often as one of the links needs it."""
        wanted = (self.loop.watch_every_s(now_s), self.pairs.watch_every_s(now_s))
        every_s = min((span_s for span_s in wanted if span_s is not None), default=None)
        if every_s is None:
            self._watch_at = None
            return
        at = now_s + every_s if self._watch_at is None else min(self._watch_at, now_s + every_s)
        self._watch_at = max(at, self._rest_until)


def _is_signalling(view: PeerView) -> bool:
    """Whether the peer's agent is one that signals: it has registered, and did not turn into one of the
    origin."""
    return view.instance is not None and (view.signals or not view.polls)
