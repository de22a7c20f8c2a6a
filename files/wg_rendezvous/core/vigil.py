# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Watching the links that are moved to a direct path, by heartbeats: many under traffic, hardly any without.

What is judged here becomes an event of the machine of a pair (`rendezvous`): a missed heartbeat, silence
with and without the hub, a path too narrow for large packets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from .._wireguard.dump import Peer
from . import actions
from .candidates import host
from .hub import Hub
from .ladder import is_same_address
from .node import Node
from .rendezvous import Pair, PairEvent, Phase

PROVISIONAL_S = 1.0
"""So long a heartbeat has to come back through a link that was just moved."""
BEAT_PROVISIONAL_S = 0.05
BEAT_DOUBTFUL_S = 0.2
BEAT_TRAFFIC_S = 0.4
BEAT_IDLE_S = 30.0
BEAT_PADDED_S = 60.0
PROBE_EVERY_S = 1.0
"""Between two heartbeats of a link, by what it is; an agent that does not run is asked by TCP instead."""
MISSED_S = 0.4
SILENT_S = 1.2
NARROW_MISSES = 5
NARROW_AGAIN_S = 0.05
BLIND_EVERY_S = 2.0
TRAFFIC_LINGERS_S = 2.0
TRAFFIC_WATCH_S = 0.5
ASSUMED_WATCH_S = 1.0
"""Whether a link that was just moved has traffic is seen by this; its heartbeats do not wait for it."""
IDLE_WATCH_S = 2.0
KEEPALIVES_BYTES = 64
"""More than this, heartbeats not counted, is traffic: a keepalive is 32 bytes."""
HANDSHAKE_EVERY_S, HANDSHAKE_BYTES = 115.0, 148 + 92 + 32
"""A session is renewed after 120 s, which is no traffic either."""
AROUND_IPV4_BYTES, AROUND_IPV6_BYTES = 32 + 8 + 20, 32 + 8 + 40
"""A transport message, UDP and IP around a packet inside the tunnel."""
RETRY_DIRECT_FOR_S = 600.0
"""A link that was direct is tried again and again for so long."""


class Vigil:
    """Judges the promoted links of `node`, and sends their heartbeats; `feed` takes what came of it.

    `beat_bytes` maps VPN addresses to the bytes of heartbeats received from there and sent there so far;
    `mtu_bytes` is the interface's MTU, 0 if it is not known.
    """

    def __init__(self, node: Node, hub: Hub, feed: Callable[[Pair, PairEvent, float], None]) -> None:
        self.node = node
        self.hub = hub
        self.beat_bytes: Mapping[str, tuple[int, int]] = {}
        self.mtu_bytes = 0
        self._feed = feed
        self._number = 0

    # -- traffic ----------------------------------------------------------------------------

    def look_for_traffic(self, pair: Pair, entry: Peer, now_s: float) -> None:
        """Bytes that are neither heartbeats nor keepalives nor a handshake; where there was traffic a moment
        ago, those of a handshake may count as well.

        Heartbeats are counted a moment later than the device is read, so one that comes in between is missing
        in that look, and would be traffic in the next.  Hence the most that was counted lately is compared.
        """
        handshake_before = pair.handshake_at
        added_anew = entry.rx_bytes < pair.rx_bytes or entry.tx_bytes < pair.tx_bytes
        if added_anew or not pair.counted:
            self.count_anew(pair, entry)
        most = [max(counted) for counted in zip(*pair.counted)]
        self._count(pair, entry)
        more = max(now - before for now, before in zip(pair.counted[-1], most))
        idle = not self.has_traffic(pair, now_s)
        if entry.latest_handshake_at != handshake_before:
            pair.shaken_at = now_s
            if idle:
                return
        # One of its messages may be in this reading.
        due = idle and now_s - pair.shaken_at >= HANDSHAKE_EVERY_S
        if more > KEEPALIVES_BYTES + (HANDSHAKE_BYTES if due else 0):
            pair.traffic_at = now_s
            pair.traffic_assumed = False

    def count_anew(self, pair: Pair, entry: Peer) -> None:
        """Begin to count: the device has another entry."""
        pair.counted.clear()
        self._count(pair, entry)

    def _count(self, pair: Pair, entry: Peer) -> None:
        beats = self.beat_bytes.get(host(pair.address), (0, 0))
        pair.rx_bytes, pair.tx_bytes = entry.rx_bytes, entry.tx_bytes
        pair.counted.append((entry.rx_bytes - beats[0], entry.tx_bytes - beats[1]))
        pair.handshake_at = entry.latest_handshake_at

    # -- judging ----------------------------------------------------------------------------

    def answered(self, pair: Pair, number: int, rtt_s: float, now_s: float) -> None:
        """A heartbeat of a promoted link was answered."""
        if not pair.watch.answered(number, rtt_s, now_s):
            return
        if pair.phase is not Phase.DIRECT:
            pair.why = "it answers through the link"
            pair.direct_until = now_s + RETRY_DIRECT_FOR_S
            pair.tries = pair.lost_tries = pair.refusals = 0
            count = self.node.refresh.counts.get(pair.peer)
            pair.port_helped = pair.port_helped or (count is not None and count.factor > 1)
            pair.port_tried = False
            pair.proven = self._proven_endpoint(pair)
            if pair.phase is Phase.PROVISIONAL or pair.proven_mine is None:
                # What heals in place goes on with its old mapping, whatever the hub sees meanwhile.
                pair.proven_mine = self.hub.own.endpoint
            self.node.refresh.succeeded(pair.peer)
        if pair.watch.wide:
            pair.unproven = 0
        self._feed(pair, PairEvent.ANSWERED, now_s)

    def _proven_endpoint(self, pair: Pair) -> str | None:
        """Where it answers.  A peer that named an endpoint and answered from another address has proven
        nothing of the one that it named."""
        entry = self.node.device.peers.get(pair.peer)
        used = entry.endpoint if entry else None
        if pair.rung is None or used is None or is_same_address(used, pair.rung.yours):
            return pair.rung.yours if pair.rung else used
        return None

    def watch(self, pair: Pair, now_s: float) -> None:
        """Judge a promoted link by its heartbeats, and send the next one when it is due."""
        since = pair.watch.waiting_since()
        if pair.phase is Phase.PROVISIONAL and now_s >= pair.since_at + self._provisional_s:
            pair.why = "there was a handshake, but nothing came back through the link"
            self._feed(pair, PairEvent.SILENT, now_s)
        elif pair.phase is Phase.DIRECT and since is not None and now_s >= since + self._missed_s(pair):
            pair.why = "a heartbeat through the link was not answered"
            self._feed(pair, PairEvent.MISSED, now_s)
        elif pair.phase is Phase.DOUBTFUL and since is not None and now_s >= since + self._silent_s(pair):
            self._judge_silence(pair, since, now_s)
        if pair.phase is Phase.DIRECT:
            self._watch_width(pair, now_s)
        if pair.promoted and now_s >= self._beat_at(pair, now_s):
            self.beat(pair, now_s)

    def _judge_silence(self, pair: Pair, since: float, now_s: float) -> None:
        if self.hub.has_answered(since, now_s):
            pair.why = f"heartbeats through the link were not answered for {now_s - since:.1f} s"
            self._feed(pair, PairEvent.SILENT, now_s)
        elif now_s - pair.blind_at >= BLIND_EVERY_S:
            pair.blind_at = now_s
            hub = "the hub has not opened its stream yet" if self.hub.heard_at > since else "nor does the hub"
            pair.why = f"the peer does not answer, {hub}: it is opened again, with what is known"
            self._feed(pair, PairEvent.SILENT_BLIND, now_s)

    def _watch_width(self, pair: Pair, now_s: float) -> None:
        """Large packets too?  Asked after a promotion, and once a minute under traffic."""
        since = pair.watch.padded_since()
        if since is not None and now_s >= since + self._missed_s(pair) and pair.watch.answered_at > since:
            if pair.watch.padded_missed() >= NARROW_MISSES:
                pair.why = self._too_narrow(pair)
                self._feed(pair, PairEvent.NARROW, now_s)
            else:
                self.confirm(pair, now_s)
        elif self.has_traffic(pair, now_s) and now_s - pair.watch.padded_at >= BEAT_PADDED_S:
            self.confirm(pair, now_s)

    def _too_narrow(self, pair: Pair) -> str:
        """What a padded heartbeat needed of the path: the interface's MTU and what WireGuard puts around
        it."""
        if not self.mtu_bytes:
            return "path MTU too small: small heartbeats are answered, those as large as the MTU are not"
        ipv6 = pair.rung is not None and pair.rung.yours.startswith("[")
        needed_bytes = self.mtu_bytes + (AROUND_IPV6_BYTES if ipv6 else AROUND_IPV4_BYTES)
        return (
            f"path MTU below {needed_bytes}: small heartbeats are answered, those as large as the "
            f"interface's MTU of {self.mtu_bytes} are not"
        )

    def _beat_at(self, pair: Pair, now_s: float) -> float:
        """When the next small heartbeat of a promoted link is due."""
        every_s = BEAT_IDLE_S
        if pair.phase is Phase.PROVISIONAL:
            every_s = BEAT_PROVISIONAL_S
        elif pair.phase is Phase.DOUBTFUL:
            every_s = BEAT_DOUBTFUL_S
        elif self.has_traffic(pair, now_s):
            every_s = BEAT_TRAFFIC_S
        elif not pair.controlling:
            return float("inf")  # of an idle link one end is enough
        if not pair.signals and pair.phase is not Phase.PROVISIONAL:
            every_s = max(every_s, PROBE_EVERY_S)
        return pair.watch.sent_at + every_s

    def has_traffic(self, pair: Pair, now_s: float) -> bool:
        """Whether the link carries traffic."""
        return now_s - pair.traffic_at <= TRAFFIC_LINGERS_S

    def look_every_s(self, pair: Pair, now_s: float) -> float:
        """How often the device has to be read for a promoted link."""
        if pair.phase is Phase.DOUBTFUL:
            return TRAFFIC_WATCH_S
        if self.has_traffic(pair, now_s):
            return ASSUMED_WATCH_S if pair.traffic_assumed else TRAFFIC_WATCH_S
        return IDLE_WATCH_S

    def due_ats(self, pair: Pair, now_s: float) -> list[float]:
        """When `watch` is wanted."""
        times = [self._beat_at(pair, now_s)]
        since = pair.watch.waiting_since()
        padded_since = pair.watch.padded_since()
        if pair.phase is Phase.PROVISIONAL:
            times.append(pair.since_at + self._provisional_s)
        elif pair.phase is Phase.DIRECT and since is not None:
            times.append(since + self._missed_s(pair))
        elif pair.phase is Phase.DOUBTFUL and since is not None:
            silent_at = since + self._silent_s(pair)
            times.append(silent_at if silent_at > now_s else now_s + BEAT_DOUBTFUL_S)
        if pair.phase is Phase.DIRECT and padded_since is not None:
            times.append(max(padded_since + self._missed_s(pair), now_s + NARROW_AGAIN_S))
        return times

    # -- heartbeats -------------------------------------------------------------------------

    def beat(self, pair: Pair, now_s: float) -> None:
        """Send a heartbeat now.  Where no agent runs, the kernel answers TCP: it is no reason to demote."""
        self._number += 1
        address = host(pair.address)
        pair.watch.sent(self._number, now_s)
        if pair.signals or pair.phase is Phase.PROVISIONAL:
            self.node.do(actions.SendBeat(pair.peer, address, self._number))
        else:
            self.node.do(actions.Probe(pair.peer, address, self._number, self._probe_s(pair)))

    def confirm(self, pair: Pair, now_s: float) -> None:
        """Send a padded heartbeat, and a small one beside it."""
        if pair.signals:
            self._number += 1
            pair.watch.sent(self._number, now_s, padded=True)
            self.node.do(actions.SendBeat(pair.peer, host(pair.address), self._number, padded=True))
            self.beat(pair, now_s)

    # -- waits, by the measured round trips -------------------------------------------------

    @property
    def _provisional_s(self) -> float:
        return PROVISIONAL_S + self.hub.signal_trips_s + self.node.pace.slack_s

    def _missed_s(self, pair: Pair) -> float:
        missed_s = max(MISSED_S, 3 * (pair.watch.rtt_s or self.hub.signal_trips_s))
        return missed_s + self.node.pace.slack_s

    def _silent_s(self, pair: Pair) -> float:
        slow_s = self.node.pace.slack_s + (0.0 if pair.signals else self._probe_s(pair))
        return max(SILENT_S, 5 * (pair.watch.rtt_s or self.hub.signal_trips_s)) + slow_s

    def _probe_s(self, pair: Pair) -> float:
        """TCP's handshake is a round trip more."""
        return max(PROBE_EVERY_S, 4 * (pair.watch.rtt_s or self.hub.signal_trips_s))
