# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A mesh in the simplest world: a device that takes every change, a hub and peers that a test sets."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
from typing import Any

from wg_rendezvous._wireguard.dump import Device, Peer
from wg_rendezvous.core import actions, events
from wg_rendezvous.core.candidates import Place
from wg_rendezvous.core.link import State
from wg_rendezvous.core.mesh import Mesh, Settings


def key(byte: int) -> str:
    return base64.b64encode(bytes([byte]) * 32).decode()


OWN, HUB, PEER, OTHER = key(0x80), key(0x01), key(0x40), key(0xC0)
INSTANCE = "0123456789abcdef"
ADDRESS, ENDPOINT = "192.168.7.6/32", "203.0.113.7:51820"
PLACE = Place(
    (ipaddress.ip_interface("192.168.7.5/24"),),
    ipaddress.ip_address("192.168.7.1"),
    (ipaddress.ip_network("192.168.7.0/24"),),
)
HUB_PEER = Peer(HUB, "198.51.100.1:51820", ("192.168.7.0/24",), 1, 0, 0, 13)


class Driven:
    """Drives a `Mesh`.  `records` is what the hub says (None: it is silent), `answering` the peers that
    answer probes, `shaking` those whose handshake succeeds at once; `told`: whether it says that it knows no
    streams, or just closes the connection.  `late_s` is how late the node gets to do what it wants."""

    def __init__(self, settings: Settings | None = None, own: str = OWN, place: Place = PLACE) -> None:
        self.mesh = Mesh(own, place, settings or Settings(), INSTANCE)
        self.now_s = 1000.0
        self.peers: dict[str, Peer] = {HUB: HUB_PEER}
        self.records: dict[str, events.PeerRecord] | None = {PEER: events.PeerRecord(ENDPOINT, ADDRESS)}
        self.told = True
        self.answering: set[str] = set()
        self.shaking: set[str] = set()
        self.probe_takes_s = 0.01
        self.read_takes_s = 0.0
        self.late_s = 0.0
        self.beat_bytes: dict[str, tuple[int, int]] = {}
        self.configured: frozenset[str] = frozenset()
        self.done: list[tuple[float, actions.Action]] = []
        self.later: list[tuple[float, events.Event]] = []

    def start(self, owned: dict[str, str] | None = None) -> Driven:
        self.give(events.Started(self.device(), owned or {}))
        return self

    def device(self) -> Device:
        return Device(OWN, 51820, 0, dict(self.peers))

    def give(self, event: events.Event) -> None:
        for action in self.mesh.handle(event, self.now_s):
            self.done.append((self.now_s, action))
            self._carry_out(action)

    def run(self, seconds: float) -> Driven:
        """Let the time pass, event by event."""
        end_s = self.now_s + seconds
        while True:
            wakeup_at = max(self.now_s, self.mesh.wakeup_at + self.late_s)
            due = min([at for at, _ in self.later], default=end_s + 1)
            if min(wakeup_at, due) > end_s:
                self.now_s = max(self.now_s, end_s)
                return self
            self.now_s = min(wakeup_at, due)
            if due <= wakeup_at:
                entry = min(self.later, key=lambda pair: pair[0])
                self.later.remove(entry)
                self.give(entry[1])
            else:
                self.give(events.Tick())

    def state(self, peer: str = PEER) -> State:
        return self.mesh.links[peer].state

    def all_done(self, kind: type[Any]) -> list[Any]:
        return [action for _, action in self.done if isinstance(action, kind)]

    def said(self, word: str) -> list[actions.Say]:
        return [action for action in self.all_done(actions.Say) if word in action.message]

    def changes(self, peer: str = PEER) -> list[actions.PeerChange]:
        return [
            change
            for action in self.all_done(actions.SetPeers)
            for change in action.changes
            if change.peer == peer
        ]

    def _carry_out(self, action: actions.Action) -> None:
        if isinstance(action, actions.SetPeers):
            for change in action.changes:
                self._change(change)
        elif isinstance(action, actions.ReadDevice):
            self.now_s += self.read_takes_s
            beats, took_s = dict(self.beat_bytes), self.read_takes_s
            self.give(events.DeviceSeen(self.device(), self.configured, beats, took_s=took_s))
        elif isinstance(action, actions.OpenStream):
            closed = events.StreamClosed("404", unsupported=self.told and self.records is not None)
            self.later.append((self.now_s + 0.001, closed))
        elif isinstance(action, actions.AskHub):
            silent = events.HubSilent("timed out")
            answer = silent if self.records is None else events.HubAnswered(dict(self.records))
            self.later.append((self.now_s + 0.01, answer))
        elif isinstance(action, actions.Probe):
            answered = action.peer in self.answering
            event = (
                events.ProbeAnswered(action.peer, action.attempt, self.probe_takes_s)
                if answered
                else events.ProbeMissed(action.peer, action.attempt, "timed out")
            )
            self.later.append((self.now_s + (self.probe_takes_s if answered else action.timeout_s), event))
        elif isinstance(action, actions.TakeFreshPort):
            self.give(events.PortTaken(40000))

    def _change(self, change: actions.PeerChange) -> None:
        if change.remove or change.fresh:
            self.peers.pop(change.peer, None)
        if change.remove:
            return
        peer = self.peers.get(change.peer) or Peer(change.peer, None, (), 0, 0, 0, 0)
        if change.endpoint is not None:
            peer = dataclasses.replace(peer, endpoint=change.endpoint)
        if change.persistent_keepalive_s is not None:
            peer = dataclasses.replace(peer, persistent_keepalive_s=change.persistent_keepalive_s)
        if change.allowed_ips is not None:
            peer = dataclasses.replace(peer, allowed_ips=change.allowed_ips)
        if change.fresh and change.peer in self.shaking:
            peer = dataclasses.replace(peer, latest_handshake_at=1)
        self.peers[change.peer] = peer
