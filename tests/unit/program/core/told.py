# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A mesh whose hub takes signals: `driven`, and a test sets what the hub says and the others answer."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.unit.program.core.driven import ADDRESS, ENDPOINT, OTHER, OWN, PEER, Driven

from wg_rendezvous.core import actions, events
from wg_rendezvous.core.events import PeerView
from wg_rendezvous.core.mesh import Settings
from wg_rendezvous.core.rendezvous import Pair, Phase

OWN_ENDPOINT = "203.0.113.5:51820"
TRIP_S = 0.01


def view(address: str = ADDRESS, endpoint: str | None = ENDPOINT, **fields: Any) -> PeerView:
    """A peer that is online, and signals."""
    return PeerView(address, endpoint, **{"online": True, "signals": True, "instance": "01" * 8, **fields})


class Told(Driven):
    """`views` is what the hub says of the peers, `answering` are those that answer heartbeats through a
    direct link, `wide` those that answer large ones too; `hub_answers`: whether the hub answers anything.
    The node's key is larger than PEER's and smaller than OTHER's: that one's links it controls."""

    def __init__(self, settings: Settings | None = None, views: dict[str, PeerView] | None = None) -> None:
        super().__init__(settings, OWN)
        self.views = {PEER: view()} if views is None else views
        self.own_view = PeerView("192.168.7.5/32", OWN_ENDPOINT, online=True, signals=True)
        self.wide: set[str] = set()
        self.hub_answers = True
        self.signals: list[tuple[float, str, dict[str, Any]]] = []
        self._sessions = 0

    def pair(self, peer: str = PEER) -> Pair:
        return self.mesh.pairs.pairs[peer]

    def phase(self, peer: str = PEER) -> Phase:
        return self.pair(peer).phase

    def said_to(self, peer: str = PEER) -> list[str]:
        """The types of the signals to a peer."""
        return [signal["type"] for _, to, signal in self.signals if to == peer]

    def hear(self, kind: str, peer: str = PEER, **fields: Any) -> None:
        """A signal of a peer, in the session that there is."""
        session = fields.pop("session", self.pair(peer).session)
        self.give(events.SignalReceived(peer, {"type": kind, "session": session, **fields}))

    def see(self, peer: str = PEER, **fields: Any) -> None:
        """The hub says something else of a peer."""
        self.views[peer] = dataclasses.replace(self.views[peer], **fields)
        self.give(events.PeerChanged(peer, self.views[peer]))

    def offer(self, peer: str = PEER, **fields: object) -> None:
        """A controlling peer offers, in a new session."""
        self._sessions += 1
        endpoint = fields.pop("endpoint", self.views[peer].endpoint)
        session = f"{self._sessions:016x}"
        self.hear("offer", peer, session=session, strategy="reflexive", endpoint=endpoint, **fields)

    def make_direct(self, peer: str = PEER) -> None:
        """A whole rendezvous."""
        self.shaking.add(peer)
        self.answering.add(peer)
        self.wide.add(peer)
        if self.pair(peer).controlling:
            self.run(0.5)
            self.hear("opened", peer)
            self.run(1.0)
            self.hear("verified", peer)
        else:
            self.offer(peer)
            self.run(0.1)
            self.hear("promote", peer)
        self.run(0.5)
        assert self.phase(peer) is Phase.DIRECT, self.pair(peer)

    def _carry_out(self, action: actions.Action) -> None:
        if isinstance(action, actions.OpenStream):
            if not self.hub_answers:
                self.later.append((self.now_s + 1.0, events.StreamClosed("no answer")))
            self._answer(events.Snapshot(self.own_view, dict(self.views)))
        elif isinstance(action, actions.Register):
            self._answer(events.Registered(self.own_view, action.registration.number))
        elif isinstance(action, actions.SendSignal):
            self.signals.append((self.now_s, action.peer, dict(action.signal)))
        elif isinstance(action, actions.SendBeat):
            self._beat(action)
        else:
            super()._carry_out(action)

    def _beat(self, action: actions.SendBeat) -> None:
        answered = events.BeatAnswered(action.peer, action.number, TRIP_S)
        if action.peer is None:
            self._answer(answered)
        elif action.peer in (self.wide if action.padded else self.answering):
            entry = self.peers.get(action.peer)
            if entry is not None and entry.allowed_ips:
                self.later.append((self.now_s + TRIP_S, answered))

    def _answer(self, event: events.Event) -> None:
        if self.hub_answers:
            self.later.append((self.now_s + TRIP_S, event))


def told(*peers: str, settings: Settings | None = None) -> Told:
    """A mesh that was told of these peers, PEER if none is named."""
    views = {
        peer: view(f"192.168.7.{6 + nth}/32", f"203.0.113.{7 + nth}:51820")
        for nth, peer in enumerate(peers or (PEER,))
    }
    mesh = Told(settings, views)
    mesh.start()
    mesh.run(0.1)
    return mesh


__all__ = ["OTHER", "PEER", "Told", "told", "view"]
