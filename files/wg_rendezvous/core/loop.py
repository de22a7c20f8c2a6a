# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The loop of the origin, for the peers that send no signals (DESIGN section 5, "Without signals").

Once every `interval_s` there is a *pass*: the hub is asked who is online and where, and every peer gets its
probe:

- a link that is not promoted is opened and knocked at.  It fails if no handshake appears before
  the next pass;
- a promoted link is asked for `/statusz` through itself.  Two misses one second apart demote it.

Between passes the device is read often enough that both ends move their AllowedIPs almost
together (fact 14).  `refresh` counts what failed, and says when a fresh port is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from .._wireguard.dump import Peer
from . import actions, events
from .candidates import UnacceptableError, host, moved
from .link import PROMOTED, Effect, Link, LinkEvent, State
from .node import CONFIGURED, KEEPALIVE_S, PACKETS_PER_KNOCK, Node
from .report import AGENT_AWAY, OFFLINE, Outlook, describe, describe_refused

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


class Loop:
    """The links of `node` to the peers that send no signals.

    `handle` takes an event; what is to be done about it is collected by `node`.  `ask` is called in every
    pass, and its answer comes back as `HubAnswered` or `HubSilent`.  `take_fresh_port(peer, address, now_s)`
    says whether one is taken for that peer, now or in a moment.
    """

    def __init__(
        self,
        node: Node,
        ask: Callable[[float], None],
        take_fresh_port: Callable[[str, str, float], bool],
    ) -> None:
        self.node = node
        self.links: dict[str, Link] = {}
        self.hub_silent: str | None = "it was not asked yet"
        self.refused: dict[str, str] = {}
        self._ask_hub = ask
        self._take_fresh_port = take_fresh_port
        self._answer: events.HubAnswered | events.HubSilent | None = None
        self._queue: list[str] = []
        self._asking = False
        self._asked_at = 0.0
        self._hub_misses = 0
        self._resolve_at = 0.0
        self._knock_in_s: float | None = None
        self._crossing_until = 0.0
        self._pass_at = 0.0
        self._round_at: float | None = None
        self._watch_until = 0.0
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

    def handle(self, event: events.Event, now_s: float) -> None:
        """Take one event."""
        self._handlers[type(event)](event, now_s)
        self._knock_queued(now_s)

    def wakeup_at(self, now_s: float) -> float:
        """The time at which the next `Tick` is wanted."""
        times = [] if self._asking else [self._pass_at]
        for link in self.links.values():
            times += [at for at in (link.probe_due_at, link.knock_due_at) if at is not None]
        if self._queue:
            times.append(self.node.bucket.available_at(PACKETS_PER_KNOCK, now_s))
        return min(times, default=now_s + self.node.settings.interval_s)

    def watch_every_s(self, now_s: float) -> float | None:
        """How often the device has to be read: every 50 ms after a knock, every second while a link is
        promoted, else not at all."""
        if now_s < self._watch_until and any(link.state is State.KNOCKING for link in self.links.values()):
            return WATCH_EVERY_S
        return CHECK_EVERY_S if any(link.promoted for link in self.links.values()) else None

    def status(self, now_s: float) -> list[dict[str, Any]]:
        """One JSON object for every peer of this loop, with why its link is what it is."""
        outlook = Outlook(self.node.refresh, self.node.settings.refresh, now_s)
        links = [describe(link, outlook, self._endpoint(link)) for link in self.links.values()]
        refused = [
            describe_refused(peer, why) for peer, why in self.refused.items() if peer not in self.links
        ]
        return links + refused

    def pass_now(self, now_s: float) -> None:
        """Begin the next pass at once."""
        self._pass_at = now_s

    def release(self, peer: str) -> Link | None:
        """Forget the link to a peer that sends signals from now on; the device stays as it is."""
        link = self.links.pop(peer, None)
        if link is not None:
            self._unclaim(link)
        return link

    def forget(self, peer: str, why: str, now_s: float) -> None:
        """There is no such peer any more."""
        if peer in self.links:
            self._refuse(peer, why, now_s)
        self.refused.pop(peer, None)

    def adopt(self, link: Link, now_s: float) -> None:
        """Take over a link that was not this loop's; it is promoted if the device says so."""
        self.links[link.peer] = link
        self.node.claim(link.peer, link.address)
        entry = self.node.device.peers.get(link.peer)
        if entry is not None and self.node.is_moved(link.address, entry):
            self._feed(link, LinkEvent.ADOPTED, now_s)

    def _endpoint(self, link: Link) -> str | None:
        """Where packets to the peer go, if they go to it directly; else where the hub sees it."""
        entry = self.node.device.peers.get(link.peer)
        return entry.endpoint if link.promoted and entry is not None else link.endpoint

    def restore(self, known: Mapping[str, tuple[str, str]], now_s: float) -> None:
        """Take over the peers that an earlier run knew: address and endpoint of each."""
        for peer, (address, endpoint) in known.items():
            self.links[peer] = Link(peer, address, endpoint, online=True, since_at=now_s, named_at=now_s)
            self.node.claim(peer, address)

    # -- events -----------------------------------------------------------------------------

    def _on_started(self, _event: events.Started, now_s: float) -> None:
        self._pass_at = now_s

    def _on_tick(self, _event: events.Tick, now_s: float) -> None:
        if now_s >= self._pass_at and not self._asking:
            self._asking, self._asked_at = True, now_s
            self._pass_at = now_s + self.node.settings.interval_s
            self._ask_hub(now_s)
        for link in self.links.values():
            if link.probe_due_at is not None and now_s >= link.probe_due_at:
                self._probe(link, now_s)
            if link.knock_due_at is not None and now_s >= link.knock_due_at:
                self._feed(link, LinkEvent.KNOCK_DUE, now_s)

    def _on_hub(self, event: events.HubAnswered | events.HubSilent, _now_s: float) -> None:
        """A pass looks at the device before it acts: a handshake may have come while the hub was asked."""
        self._asking = False
        self._answer = event
        self.node.do(actions.ReadDevice())

    def _on_hub_answered(self, event: events.HubAnswered, now_s: float) -> None:
        self._hub_misses = 0
        if self.hub_silent is not None:
            self.hub_silent = None
            self._say("info", "the hub answers", peers=len(event.records))
        for link in list(self.links.values()):
            if link.peer not in event.records:
                self._went_offline(link, link.peer in event.without_agent, now_s)
        self.refused = {}
        for peer, record in event.records.items():
            if peer != self.node.own_key:
                self._learn(peer, record, now_s)
        peer_due = self.node.refresh.due(
            link.peer for link in self.links.values() if link.online and not link.promoted
        )
        if peer_due and self._take_fresh_port(peer_due, self.links[peer_due].address, now_s):
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
            self.node.do(actions.ResolveHub())
        backoff_s = min(self.node.settings.interval_s, HUB_RETRY_S * 2**self._hub_misses)
        self._hub_misses = min(self._hub_misses + 1, 30)
        self._pass_at = now_s + backoff_s
        if self._round_at is None or now_s - self._round_at >= self.node.settings.interval_s:
            self._round(now_s)

    def _on_device_seen(self, event: events.DeviceSeen, now_s: float) -> None:
        for peer in event.configured & self.node.owned.keys() & self.links.keys():
            self._disown(peer, now_s)
        for link in list(self.links.values()):
            entry = event.device.peers.get(link.peer)
            if link.state is State.KNOCKING and entry is not None:
                if entry.latest_handshake_at:
                    link.why = f"handshake with {entry.endpoint}; no answer through the link yet"
                    self._feed(link, LinkEvent.HANDSHAKE, now_s)
            elif link.state is State.KNOCKING or (
                link.promoted and (entry is None or not self.node.is_moved(link.address, entry))
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
        del self.node.owned[peer]
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
        self.node.refresh.succeeded(link.peer)
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

    def _on_port_taken(self, _event: events.PortTaken, now_s: float) -> None:
        self._round(now_s, knock_in_s=0.0)
        self._pass_at = now_s + self._crossing_s
        self._crossing_until = now_s + 2 * self._crossing_s

    def _on_stopping(self, event: events.Stopping, now_s: float) -> None:
        if event.hub_answers:
            for link in self.links.values():
                if link.peer in self.node.owned:
                    link.why = "the agent stops"
                    self._feed(link, LinkEvent.WITHDRAW, now_s)

    # -- a pass -----------------------------------------------------------------------------

    def _learn(self, peer: str, record: events.PeerRecord, now_s: float) -> None:
        """Believe what the hub says of `peer`, or say why not."""
        try:
            address = self.node.check(peer, record.allowed_ips)
            endpoint = self.node.place.endpoint(record.endpoint)
            self._check_secret(peer)
        except UnacceptableError as refusal:
            self._refuse(peer, str(refusal), now_s)
            return
        link = self.links.get(peer)
        if link is not None and link.address != address:
            link.why = f"its address changed from {link.address} to {address}"
            self._feed(link, LinkEvent.WITHDRAW, now_s)
            self._unclaim(link)
            link.address = address
        if link is None:
            link = self.links[peer] = Link(peer, address, since_at=now_s)
        self.node.claim(peer, address)
        link.online, link.named_at = True, now_s
        link.followed = link.followed or endpoint
        self._count(link, endpoint, now_s)
        if link.endpoint != endpoint:
            link.endpoint, link.unproven, link.retry_at = endpoint, 0, 0.0
        self.node.known[peer] = (address, endpoint)

    def _check_secret(self, peer: str) -> None:
        """Raises UnacceptableError if the two ends have no mesh secret in common."""
        self.node.secrets.agree(peer, not self.node.refresh.is_larger(peer))

    def _agrees(self, link: Link) -> bool:
        """The same for a link that is known already: without the hub nobody else asks."""
        try:
            self._check_secret(link.peer)
        except UnacceptableError as refusal:
            link.why = str(refusal)
            return False
        return True

    def _unclaim(self, link: Link) -> None:
        self.node.unclaim(link.peer, link.address)

    def _refuse(self, peer: str, why: str, now_s: float) -> None:
        self.refused[peer] = why
        self.node.refresh.counts.pop(peer, None)
        link = self.links.pop(peer, None)
        if link is not None:
            link.why = why
            self._feed(link, LinkEvent.WITHDRAW, now_s)
            self._unclaim(link)
            self.node.known.pop(peer, None)
            self._say("warning", "the link is given up", peer=peer, why=why)

    def _count(self, link: Link, endpoint: str, now_s: float) -> None:
        """Count the knock of the last pass as a failed probe."""
        self.node.refresh.seen(link.peer, endpoint)
        if link.state is not State.KNOCKING or link.knocked_at is None:
            return
        if now_s - link.knocked_at >= self._counts_after_s:
            failures = self.node.refresh.failed(link.peer, moved=endpoint != link.endpoint)
            self._say(
                "info" if failures == 1 else "debug",
                "no handshake since the last knock",
                peer=link.peer,
                endpoint=link.endpoint,
                failures=failures,
                limit=self.node.refresh.limit(link.peer),
            )

    @property
    def _counts_after_s(self) -> float:
        return self.node.settings.interval_s / 2

    def _went_offline(self, link: Link, away: bool, now_s: float) -> None:
        """The hub does not name it, or no agent of it: a link that answers stays, any other is given up."""
        if link.online:
            message = "the peer's agent does not answer" if away else "the peer went offline"
            self._say("info", message, peer=link.peer, address=link.address)
        link.online = False
        self.node.refresh.interrupted(link.peer)
        if not link.promoted:
            self._unclaim(link)
        if not link.promoted and now_s - link.named_at > FORGET_AFTER_S:
            del self.links[link.peer]
            self.node.known.pop(link.peer, None)
            self.node.refresh.counts.pop(link.peer, None)
        if not link.promoted:
            link.why = AGENT_AWAY if away else OFFLINE
            if link.peer in self.node.owned:
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
            if self._agrees(link)
        ]
        self.node.save(now_s)

    def _probe_promoted(self, now_s: float) -> None:
        for link in self.links.values():
            if link.promoted and not link.probing:
                self._feed(link, LinkEvent.TRY, now_s)

    @property
    def _crossing_s(self) -> float:
        return min(CROSSING_S, self.node.settings.interval_s / 3)

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
        self.node.save(now_s)

    def _knock_queued(self, now_s: float) -> None:
        """Open towards the peers that wait for it, and knock, as fast as pacing permits."""
        while self._queue and self.node.bucket.take(PACKETS_PER_KNOCK, now_s):
            link = self.links.get(self._queue.pop(0))
            if link is None or link.promoted or not link.online:
                continue
            self._feed(link, LinkEvent.TRY, now_s)
            link.tries += 1
            knock_in_s = self._knock_wait_s(link)
            if knock_in_s:
                link.knock_due_at = now_s + knock_in_s
            else:
                self._feed(link, LinkEvent.KNOCK_DUE, now_s)

    def _knock_wait_s(self, link: Link) -> float:
        """How long after its openers: whatever both ends do at the same time, the smaller key does later."""
        smaller_s = (
            0.0
            if self.node.refresh.is_larger(link.peer)
            else min(STAGGER_S, self.node.settings.interval_s / 8)
        )
        if self._knock_in_s is None:
            return smaller_s if link.tries % 2 == 0 else 0.0
        return self._knock_in_s + smaller_s if self._knock_in_s else 0.0

    def _lost(self, link: Link, now_s: float) -> None:
        """Something else changed our peer: start over at once."""
        if link.peer not in self.node.device.peers:
            self.node.owned.pop(link.peer, None)
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
            RETRY_MAX_S, self.node.settings.interval_s * (2 ** min(link.unproven - 1, 16) - 1)
        )
        link.why = why
        self.node.refresh.interrupted(link.peer)

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
            self.node.open(link.endpoint)

    def _knock(self, link: Link, now_s: float) -> None:
        self.node.own(link.peer, link.address)
        link.knocked_at, link.knock_due_at, link.followed = now_s, None, link.endpoint
        self._watch_until = now_s + WATCH_S
        self._change(
            link,
            fresh=True,
            endpoint=link.endpoint,
            persistent_keepalive_s=KEEPALIVE_S,
            allowed_ips=(),
            secret=self.node.secrets.choose(link.peer, not self.node.refresh.is_larger(link.peer)),
        )

    def _promote(self, link: Link, now_s: float) -> None:
        link.heard_at = now_s
        self._change(link, allowed_ips=moved(link.address))

    def _remove(self, link: Link, _now_s: float) -> None:
        self.node.remove(link.peer)

    def _probe(self, link: Link, _now_s: float) -> None:
        link.probe_due_at = None
        link.attempt += 1
        link.probing = True
        self.node.do(actions.Probe(link.peer, host(link.address), link.attempt, PROBE_TIMEOUT_S))

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
            self.node.open(link.endpoint)
            self._change(link, endpoint=link.endpoint)

    def _change(self, link: Link, **settings: Any) -> None:
        self.node.change(link.peer, **settings)

    # -- words ------------------------------------------------------------------------------

    def _say(self, level: str, message: str, **fields: Any) -> None:
        self.node.say(level, message, **fields)

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
