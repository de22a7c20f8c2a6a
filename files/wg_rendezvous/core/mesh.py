# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""All links of one agent: events and the time in, actions out.

This is the loop of the origin (DESIGN section 5, "Without signals").  Once every `interval_s`
there is a *pass*: the hub is asked who is online and where, and every peer gets its probe:

- a link that is not promoted is opened and knocked at.  It fails if no handshake appears before
  the next pass;
- a promoted link is asked for `/statusz` through itself.  Two misses one second apart demote it.

Between passes the device is read often enough that both ends move their AllowedIPs almost
together (fact 14).  `refresh` counts what failed, and says when a fresh port is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from .._wireguard.dump import Device, Peer
from .._wireguard.keys import check_key
from . import actions, events
from .actions import Action, PeerChange
from .candidates import Place, UnacceptableError
from .link import PROMOTED, Effect, Link, LinkEvent, State
from .pacing import TokenBucket
from .refresh import Budget, Policy, Refresh
from .report import Outlook, describe, describe_refused

KEEPALIVE_S = 13
PROBE_TIMEOUT_S = 1.0
PROBE_AGAIN_S = 1.0
CONFIRM_S = 2.0
WATCH_S = 15.0
WATCH_EVERY_S = 0.05
CHECK_EVERY_S = 1.0
SILENCE_S = 2.0
"""A link with traffic is asked when nothing was received for so long."""
KEEPALIVES_BYTES = 64
"""More than this is traffic: a keepalive is 32 bytes."""
HUB_RETRY_S = 0.5
HUB_PATIENCE_S = 1.0
"""A hub that has not answered for so long counts as silent when a link is judged."""
STAGGER_S = 0.5
"""How much later the smaller key knocks in every second try.  Handshake initiations that cross fail both, and
two loops of the same length that are in phase would cross them in every pass."""
CROSSING_S = 1.0
"""So long after a fresh port the hub is asked who took one at the same moment, and so long after the openers
they are knocked at: by then they have opened as well."""
RETRY_MAX_S = 3600.0
RESOLVE_AFTER_S = 30.0
FORGET_AFTER_S = 24 * 3600.0
CONFIGURED = "it is a peer of the interface's own configuration, which is not ours to change"
OPENERS_PER_KNOCK = 3
PACKETS_PER_KNOCK = OPENERS_PER_KNOCK + 1


@dataclass(frozen=True)
class Settings:
    """What the user chooses."""

    interval_s: float = 13.0
    refresh: Policy = Policy.REBIND
    budget: Budget = field(default_factory=Budget)


def _check_key(peer: str) -> None:
    """Raises UnacceptableError if `peer` is no public key."""
    try:
        check_key(peer)
    except ValueError as error:
        raise UnacceptableError(f"the hub names it, but {error}") from None


class Mesh:
    """The links of the agent whose public key is `own_key`, at `place` in the VPN.

    `handle` takes an event and returns the actions to carry out; `wakeup_at` says when it wants a
    `Tick`.  `now_s` is the caller's clock in seconds, which never goes back (CLOCK_BOOTTIME).
    """

    def __init__(self, own_key: str, place: Place, settings: Settings) -> None:
        self.own_key = own_key
        self.place = place
        self.settings = settings
        self.links: dict[str, Link] = {}
        self.refresh = Refresh(own_key, settings.budget)
        self.hub_silent: str | None = "it was not asked yet"
        self.fresh_ports = 0
        self._device = Device(None, 0, 0, {})
        self._owned: dict[str, str] = {}
        self._recorded: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._saved: tuple[Any, ...] = ()
        self._answer: events.HubAnswered | events.HubSilent | None = None
        self._queue: list[str] = []
        self._bucket = TokenBucket()
        self._asking = False
        self._asked_at = 0.0
        self._hub_misses = 0
        self._resolve_at = 0.0
        self._knock_in_s: float | None = None
        self._crossing_until = 0.0
        self._pass_at = 0.0
        self._round_at: float | None = None
        self._watch_until = 0.0
        self._watch_at: float | None = None
        self._openers: list[str] = []
        self._changes: list[PeerChange] = []
        self._after: list[Action] = []
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            events.Started: self._on_started,
            events.Tick: self._on_tick,
            events.HubAnswered: self._on_hub,
            events.HubSilent: self._on_hub,
            events.DeviceSeen: self._on_device_seen,
            events.ProbeAnswered: self._on_probe_answered,
            events.ProbeMissed: self._on_probe_missed,
            events.PortTaken: self._on_port_taken,
            events.Stopping: self._on_stopping,
        }
        self._effects: dict[Effect, Callable[[Link, float], None]] = {
            Effect.OPEN: self._open,
            Effect.KNOCK: self._knock,
            Effect.PROMOTE: self._promote,
            Effect.PROBE: self._probe,
            Effect.PROBE_SOON: self._probe_soon,
            Effect.CONFIRM: self._confirm,
            Effect.ASK: self._ask,
            Effect.FOLLOW: self._follow,
            Effect.REMOVE: self._remove,
        }

    # -- the edge ---------------------------------------------------------------------------

    def handle(self, event: events.Event, now_s: float) -> list[Action]:
        """Take one event and return what to do about it, in order."""
        self._handlers[type(event)](event, now_s)
        self._knock_queued(now_s)
        self._schedule_watch(now_s)
        return self._flush()

    def wakeup_at(self, now_s: float) -> float:
        """The time at which the next `Tick` is wanted."""
        due_ats = [at for link in self.links.values() for at in (link.probe_due_at, link.knock_due_at)]
        times = [at for at in due_ats if at is not None]
        if not self._asking:
            times.append(self._pass_at)
        if self._watch_at is not None:
            times.append(self._watch_at)
        if self._queue:
            times.append(self._bucket.available_at(PACKETS_PER_KNOCK, now_s))
        return min(times, default=now_s + self.settings.interval_s)

    def status(self, now_s: float) -> list[dict[str, Any]]:
        """One JSON object for every peer that the hub named, with why its link is what it is."""
        outlook = Outlook(self.refresh, self.settings.refresh, now_s)
        links = [describe(link, outlook, self._endpoint(link)) for link in self.links.values()]
        refused = [
            describe_refused(peer, why) for peer, why in self._refused.items() if peer not in self.links
        ]
        return sorted(links + refused, key=lambda entry: str(entry["peer"]))

    def _endpoint(self, link: Link) -> str | None:
        """Where packets to the peer go, if they go to it directly; else where the hub sees it."""
        entry = self._device.peers.get(link.peer)
        return entry.endpoint if link.promoted and entry is not None else link.endpoint

    def restore(self, state: Mapping[str, Any], saved_at_s: float) -> None:
        """Take over the `SaveState` of an earlier run, saved at `saved_at_s` on this clock.

        Raises KeyError, TypeError or ValueError if it is none; nothing is changed then.
        """
        links = {
            str(peer): Link(str(peer), str(known["address"]), str(known["endpoint"]), online=True)
            for peer, known in state["links"].items()
        }
        self.refresh.restore(state["refresh"], saved_at_s)
        self.links = links

    # -- events -----------------------------------------------------------------------------

    def _on_started(self, event: events.Started, now_s: float) -> None:
        self._device = event.device
        self._recorded = dict(event.owned)
        self._pass_at = now_s
        for link in self.links.values():
            link.since_at = link.named_at = now_s
        for peer, address in event.owned.items():
            entry = event.device.peers.get(peer)
            if entry is None:
                continue
            self._owned[peer] = address
            link = self.links.setdefault(
                peer, Link(peer, address, entry.endpoint, since_at=now_s, online=True)
            )
            if link.address == address and address in entry.allowed_ips:
                link.why = "taken over from the agent's last run"
                self._feed(link, LinkEvent.ADOPTED, now_s)

    def _on_tick(self, _event: events.Tick, now_s: float) -> None:
        if now_s >= self._pass_at and not self._asking:
            self._asking, self._asked_at = True, now_s
            self._pass_at = now_s + self.settings.interval_s
            self._after.append(actions.AskHub())
        elif self._watch_at is not None and now_s >= self._watch_at:
            self._watch_at = None
            self._after.append(actions.ReadDevice())
        for link in self.links.values():
            if link.probe_due_at is not None and now_s >= link.probe_due_at:
                self._probe(link, now_s)
            if link.knock_due_at is not None and now_s >= link.knock_due_at:
                self._feed(link, LinkEvent.KNOCK_DUE, now_s)

    def _on_hub(self, event: events.HubAnswered | events.HubSilent, _now_s: float) -> None:
        """A pass looks at the device before it acts: a handshake may have come while the hub was asked."""
        self._asking = False
        self._answer = event
        self._after.append(actions.ReadDevice())

    def _on_hub_answered(self, event: events.HubAnswered, now_s: float) -> None:
        self._hub_misses = 0
        if self.hub_silent is not None:
            self.hub_silent = None
            self._say("info", "the hub answers", peers=len(event.records))
        for link in list(self.links.values()):
            if link.peer not in event.records:
                self._went_offline(link, now_s)
        self._refused = {}
        for peer, record in event.records.items():
            if peer != self.own_key:
                self._learn(peer, record, now_s)
        peer_due = self.refresh.due(
            link.peer for link in self.links.values() if link.online and not link.promoted
        )
        if peer_due and self._take_fresh_port(peer_due, now_s):
            return
        if now_s < self._crossing_until:
            self._round_of_crossed(now_s)
        else:
            self._round(now_s)

    def _on_hub_silent(self, event: events.HubSilent, now_s: float) -> None:
        if self._hub_misses == 0:
            self._resolve_at = now_s + RESOLVE_AFTER_S
            self._say("warning", "the hub does not answer; going on with what is known", reason=event.reason)
        self.hub_silent = event.reason
        if now_s >= self._resolve_at:
            self._resolve_at = now_s + RESOLVE_AFTER_S
            self._after.append(actions.ResolveHub())
        backoff_s = min(self.settings.interval_s, HUB_RETRY_S * 2**self._hub_misses)
        self._hub_misses = min(self._hub_misses + 1, 30)
        self._pass_at = now_s + backoff_s
        if self._round_at is None or now_s - self._round_at >= self.settings.interval_s:
            self._round(now_s)

    def _on_device_seen(self, event: events.DeviceSeen, now_s: float) -> None:
        self._device = event.device
        for peer in event.configured & self._owned.keys():
            self._disown(peer, now_s)
        for link in list(self.links.values()):
            entry = event.device.peers.get(link.peer)
            if link.state is State.KNOCKING and entry is not None:
                if entry.latest_handshake_at:
                    link.why = f"handshake with {entry.endpoint}; no answer through the link yet"
                    self._feed(link, LinkEvent.HANDSHAKE, now_s)
            elif link.state is State.KNOCKING or (
                link.promoted and (entry is None or link.address not in entry.allowed_ips)
            ):
                self._lost(link, now_s)
            elif link.promoted and entry is not None:
                self._listen(link, entry, now_s)
        answer, self._answer = self._answer, None
        if isinstance(answer, events.HubAnswered):
            self._on_hub_answered(answer, now_s)
        elif answer is not None:
            self._on_hub_silent(answer, now_s)

    def _disown(self, peer: str, now_s: float) -> None:
        """The admin has put a peer of ours into the configuration: it is theirs now, as it stands."""
        del self._owned[peer]
        self._refuse(peer, CONFIGURED, now_s)

    def _listen(self, link: Link, entry: Peer, now_s: float) -> None:
        """A link that we send on and that is silent is asked: no reason to demote yet (fact 13)."""
        if entry.rx_bytes != link.rx_bytes:
            link.rx_bytes, link.tx_bytes, link.heard_at = entry.rx_bytes, entry.tx_bytes, now_s
        elif entry.tx_bytes - link.tx_bytes > KEEPALIVES_BYTES and now_s - link.heard_at >= SILENCE_S:
            link.tx_bytes, link.heard_at = entry.tx_bytes, now_s
            if link.state is State.DIRECT and not link.probing:
                self._feed(link, LinkEvent.TRY, now_s)

    def _on_probe_answered(self, event: events.ProbeAnswered, now_s: float) -> None:
        link = self.links.get(event.peer)
        if link is None or link.attempt != event.attempt or not link.promoted:
            return
        link.probing = False
        link.rtt_s = event.rtt_s
        link.unproven, link.retry_at = 0, 0.0
        link.why = "it answers through the link"
        self.refresh.succeeded(link.peer)
        self._feed(link, LinkEvent.ANSWERED, now_s)

    def _on_probe_missed(self, event: events.ProbeMissed, now_s: float) -> None:
        link = self.links.get(event.peer)
        if link is None or link.attempt != event.attempt or not link.promoted:
            return
        link.probing = False
        waited_s = now_s - self._asked_at if self._asking else 0.0
        blind = self.hub_silent is not None or waited_s > HUB_PATIENCE_S
        if link.state is State.PROVISIONAL:
            self._not_proven(
                link, f"handshake, but nothing came back through the link: {event.reason}", now_s
            )
        elif link.state is State.DIRECT or blind:
            link.why = f"a probe through the link was not answered: {event.reason}"
        else:
            link.why = f"two probes in a row through the link were not answered: {event.reason}"
        self._feed(link, LinkEvent.MISSED_BLIND if blind else LinkEvent.MISSED, now_s)

    def _on_port_taken(self, event: events.PortTaken, now_s: float) -> None:
        self.fresh_ports += 1
        self._say("info", "listening on a fresh port", listen_port=event.listen_port)
        self._round(now_s, knock_in_s=0.0)
        self._after.append(actions.GreetHub())
        self._pass_at = now_s + self._crossing_s
        self._crossing_until = now_s + 2 * self._crossing_s

    def _on_stopping(self, event: events.Stopping, now_s: float) -> None:
        if event.hub_answers:
            for link in self.links.values():
                if link.peer in self._owned:
                    link.why = "the agent stops"
                    self._feed(link, LinkEvent.WITHDRAW, now_s)
        else:
            self._say("warning", "the hub is silent: the links stay as they are")
        self._save(now_s)

    # -- a pass -----------------------------------------------------------------------------

    def _learn(self, peer: str, record: events.PeerRecord, now_s: float) -> None:
        """Believe what the hub says of `peer`, or say why not."""
        try:
            _check_key(peer)
            address = self.place.host_route(record.allowed_ips)
            endpoint = self.place.endpoint(record.endpoint)
            self._check_unclaimed(peer, address)
        except UnacceptableError as refusal:
            self._refuse(peer, str(refusal), now_s)
            return
        link = self.links.get(peer)
        if link is not None and link.address != address:
            link.why = f"its address changed from {link.address} to {address}"
            self._feed(link, LinkEvent.WITHDRAW, now_s)
            link.address = address
        if link is None:
            link = self.links[peer] = Link(peer, address, since_at=now_s)
        link.online, link.named_at = True, now_s
        link.followed = link.followed or endpoint
        self._count(link, endpoint, now_s)
        if link.endpoint != endpoint:
            link.endpoint, link.unproven, link.retry_at = endpoint, 0, 0.0

    def _check_unclaimed(self, peer: str, address: str) -> None:
        """Raises UnacceptableError if `peer` is in the device but not ours, or `address` is another one's."""
        if peer in self._device.peers and peer not in self._owned:
            raise UnacceptableError(CONFIGURED)
        for other in self.links.values():
            if other.address == address and other.peer != peer and other.online:
                raise UnacceptableError(f"{address} belongs to {other.peer}, which is online")

    def _refuse(self, peer: str, why: str, now_s: float) -> None:
        self._refused[peer] = why
        self.refresh.counts.pop(peer, None)
        link = self.links.pop(peer, None)
        if link is not None:
            link.why = why
            self._feed(link, LinkEvent.WITHDRAW, now_s)
            self._say("warning", "the link is given up", peer=peer, why=why)

    def _count(self, link: Link, endpoint: str, now_s: float) -> None:
        """Count the knock of the last pass as a failed probe."""
        self.refresh.seen(link.peer, endpoint)
        if link.state is not State.KNOCKING or link.knocked_at is None:
            return
        if now_s - link.knocked_at >= self._counts_after_s:
            failures = self.refresh.failed(link.peer, moved=endpoint != link.endpoint)
            self._say(
                "info" if failures == 1 else "debug",
                "no handshake since the last knock",
                peer=link.peer,
                endpoint=link.endpoint,
                failures=failures,
                limit=self.refresh.limit(link.peer),
            )

    @property
    def _counts_after_s(self) -> float:
        return self.settings.interval_s / 2

    def _went_offline(self, link: Link, now_s: float) -> None:
        """The hub does not name it: a link that answers stays, any other is given up."""
        if link.online:
            self._say("info", "the peer went offline", peer=link.peer, address=link.address)
        link.online = False
        self.refresh.interrupted(link.peer)
        if not link.promoted and now_s - link.named_at > FORGET_AFTER_S:
            del self.links[link.peer]
            self.refresh.counts.pop(link.peer, None)
        if not link.promoted:
            link.why = "the hub says it is offline"
            if link.peer in self._owned:
                self._feed(link, LinkEvent.WITHDRAW, now_s)

    def _round(self, now_s: float, knock_in_s: float | None = None) -> None:
        """Give every peer its probe; knocks come so long after their openers, or else staggered."""
        self._knock_in_s = knock_in_s
        self._round_at = now_s
        self._probe_promoted(now_s)
        self._queue = [
            link.peer
            for link in self.links.values()
            if not link.promoted and link.online and link.endpoint and now_s >= link.retry_at
        ]
        self._save(now_s)

    def _probe_promoted(self, now_s: float) -> None:
        for link in self.links.values():
            if link.promoted and not link.probing:
                self._feed(link, LinkEvent.TRY, now_s)

    @property
    def _crossing_s(self) -> float:
        return min(CROSSING_S, self.settings.interval_s / 3)

    def _round_of_crossed(self, now_s: float) -> None:
        """Go on with those peers that took a fresh port when we did: we knocked at where they no longer were.

        A pass later would be too late for a firewall that learns only in the first seconds, and a knock
        before the other end has opened could undo what its fresh port is for (fact 1).  They do the same now.
        """
        self._crossing_until = 0.0
        self._knock_in_s = self._crossing_s
        self._probe_promoted(now_s)
        self._queue += [
            link.peer
            for link in self.links.values()
            if link.online and link.state is State.KNOCKING and link.endpoint != link.followed
        ]
        self._save(now_s)

    def _knock_queued(self, now_s: float) -> None:
        """Open towards the peers that wait for it, and knock, as fast as pacing permits."""
        while self._queue and self._bucket.take(PACKETS_PER_KNOCK, now_s):
            link = self.links.get(self._queue.pop(0))
            if link is None or link.promoted or not link.online:
                continue
            self._feed(link, LinkEvent.TRY, now_s)
            link.tries += 1
            knock_in_s = self._stagger_s(link) if self._knock_in_s is None else self._knock_in_s
            if knock_in_s:
                link.knock_due_at = now_s + knock_in_s
            else:
                self._feed(link, LinkEvent.KNOCK_DUE, now_s)

    def _stagger_s(self, link: Link) -> float:
        staggered = link.tries % 2 == 0 and not self.refresh.is_larger(link.peer)
        return min(STAGGER_S, self.settings.interval_s / 8) if staggered else 0.0

    def _take_fresh_port(self, peer: str, now_s: float) -> bool:
        """The restart condition holds for `peer`: take a fresh port, if that is allowed now."""
        if self.settings.refresh is Policy.OFF or self.refresh.allowed_at(now_s) > now_s:
            return False
        self._say(
            "warning",
            "restart condition: taking a fresh port",
            peer=peer,
            address=self.links[peer].address,
            reason=self.refresh.reason(peer),
            how=self.settings.refresh.value,
        )
        self.refresh.taken(now_s)
        self._save(now_s)
        restart = self.settings.refresh is Policy.RESTART
        self._after.append(actions.RestartClient() if restart else actions.TakeFreshPort())
        return True

    def _lost(self, link: Link, now_s: float) -> None:
        """Something else changed our peer: start over at once."""
        if link.peer not in self._device.peers:
            self._owned.pop(link.peer, None)
        if link.state is State.PROVISIONAL:
            self._not_proven(link, "", now_s)
        self._feed(link, LinkEvent.LOST, now_s)
        link.why = "something else removed the peer or its AllowedIPs from the interface"
        self._say("warning", "the link was taken away", peer=link.peer, why=link.why)
        if link.online and link.endpoint and now_s >= link.retry_at:
            self._queue.append(link.peer)

    def _not_proven(self, link: Link, why: str, now_s: float) -> None:
        """A promotion came to nothing.  Each of them costs a second of traffic: the first is
        tried again with the next pass, any other waits longer every time."""
        link.unproven += 1
        link.retry_at = now_s + min(
            RETRY_MAX_S, self.settings.interval_s * (2 ** min(link.unproven - 1, 16) - 1)
        )
        link.why = why
        self.refresh.interrupted(link.peer)

    # -- effects ----------------------------------------------------------------------------

    def _feed(self, link: Link, event: LinkEvent, now_s: float) -> None:
        """Put an event into the link's machine and do what it asks for."""
        before = link.state
        for effect in link.on(event, now_s):
            self._effects[effect](link, now_s)
        if not link.promoted:
            link.probing, link.probe_due_at = False, None
        if link.promoted or link.state is State.RELAYED:
            link.knock_due_at = None
        if link.state is not before:
            self._say_state(link, before)

    def _open(self, link: Link, _now_s: float) -> None:
        if link.endpoint:
            self._openers.append(link.endpoint)

    def _knock(self, link: Link, now_s: float) -> None:
        self._owned[link.peer] = link.address
        link.knocked_at, link.knock_due_at, link.followed = now_s, None, link.endpoint
        self._watch_until = now_s + WATCH_S
        self._change(
            link, fresh=True, endpoint=link.endpoint, persistent_keepalive_s=KEEPALIVE_S, allowed_ips=()
        )

    def _promote(self, link: Link, now_s: float) -> None:
        link.heard_at = now_s
        self._change(link, allowed_ips=(link.address,))

    def _remove(self, link: Link, _now_s: float) -> None:
        if link.peer in self._owned:
            del self._owned[link.peer]
            self._change(link, remove=True)

    def _probe(self, link: Link, _now_s: float) -> None:
        link.probe_due_at = None
        link.attempt += 1
        link.probing = True
        host = link.address.partition("/")[0]
        self._after.append(actions.Probe(link.peer, host, link.attempt, PROBE_TIMEOUT_S))

    def _probe_soon(self, link: Link, now_s: float) -> None:
        link.probe_due_at = now_s + PROBE_AGAIN_S

    def _confirm(self, link: Link, now_s: float) -> None:
        link.probe_due_at = now_s + CONFIRM_S

    def _ask(self, _link: Link, now_s: float) -> None:
        self._pass_at = now_s

    def _follow(self, link: Link, _now_s: float) -> None:
        """The peer took a fresh port: our NAT has to be opened towards it before it can be heard."""
        # Not if only the entry has another one: a NAT that maps dependently shows us one of its own.
        if link.endpoint and link.endpoint != link.followed:
            link.followed = link.endpoint
            self._openers.append(link.endpoint)
            self._change(link, endpoint=link.endpoint)

    def _change(self, link: Link, **settings: Any) -> None:
        self._changes.append(PeerChange(link.peer, **settings))

    def _schedule_watch(self, now_s: float) -> None:
        """Read the device every 50 ms after a knock, every second while a link is promoted."""
        knocking = any(link.state is State.KNOCKING for link in self.links.values())
        if knocking and now_s < self._watch_until:
            every_s = WATCH_EVERY_S
        elif any(link.promoted for link in self.links.values()):
            every_s = CHECK_EVERY_S
        else:
            self._watch_at = None
            return
        if self._watch_at is None or self._watch_at > now_s + every_s:
            self._watch_at = now_s + every_s

    def _flush(self) -> list[Action]:
        """The collected actions in their order: owners first, openers before knocks, probes last."""
        out: list[Action] = []
        during = {**self._recorded, **self._owned} if self._changes else self._owned
        if during != self._recorded:
            out.append(actions.RecordOwned(dict(during)))
        if self._openers:
            out.append(actions.SendOpeners(tuple(self._openers)))
        if self._changes:
            out.append(actions.SetPeers(tuple(self._changes)))
        if during != self._owned:
            out.append(actions.RecordOwned(dict(self._owned)))
        self._recorded = dict(self._owned)
        out += self._after
        self._openers, self._changes, self._after = [], [], []
        return out

    # -- words ------------------------------------------------------------------------------

    def _say(self, level: str, message: str, **fields: Any) -> None:
        self._after.append(actions.Say(level, message, fields))

    def _say_state(self, link: Link, before: State) -> None:
        moved = link.state is State.DIRECT or before in PROMOTED
        level = "info" if moved else "debug"
        self._say(
            level,
            f"link {before.value} -> {link.state.value}",
            peer=link.peer,
            address=link.address,
            endpoint=link.endpoint,
            why=link.why,
        )

    def _save(self, now_s: float) -> None:
        """Ask for the state to be persisted, if it is another one than last time."""
        links = {
            link.peer: {"address": link.address, "endpoint": link.endpoint}
            for link in self.links.values()
            if link.endpoint
        }
        refresh = self.refresh.to_state(now_s)
        essence = (links, refresh["counts"], tuple(self.refresh.taken_ats))
        if essence != self._saved:
            self._saved = essence
            self._after.append(actions.SaveState({"links": links, "refresh": refresh}))
