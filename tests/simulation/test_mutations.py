# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The simulation fails when the core is broken on purpose, each time where it should.

Without these a scenario could hold for no reason at all.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulation.scenarios import simulate_all
from tests.simulation.test_restart_condition import cases

from wg_rendezvous.core.events import HubAnswered, PeerRecord
from wg_rendezvous.core.link import TRANSITIONS, Effect, LinkEvent, State
from wg_rendezvous.core.loop import Loop
from wg_rendezvous.core.mesh import Mesh
from wg_rendezvous.core.refresh import FAILURES_LARGER_KEY, Count, Refresh

pytestmark = pytest.mark.sim


def check_fails(scenario: str, because: str) -> None:
    """Some case of `scenario` fails, with these words, and says how to replay it."""
    with pytest.raises(AssertionError, match=f"(?s)({because}).*replay: .*--seed"):
        simulate_all(cases(scenario, "A") + cases(scenario, "B"))


def test_never_firing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refresh, "due", lambda *_: None)
    check_fails("learning window", "not direct in the end")


def test_firing_although_the_endpoint_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(refresh: Refresh, peer: str, endpoint: str) -> None:
        refresh.counts.setdefault(peer, Count(endpoint)).endpoint = endpoint

    monkeypatch.setattr(Refresh, "seen", seen)
    check_fails("endpoint changing", "although B's endpoint kept changing")


def test_missing_tie_break_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(refresh: Refresh, peer: str) -> int:
        count = refresh.counts.get(peer)
        return FAILURES_LARGER_KEY * (count.factor if count else 1)

    monkeypatch.setattr(Refresh, "limit", limit)
    check_fails("learning window", "in the end|fresh port")


def test_forgotten_budget_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refresh, "allowed_at", lambda _refresh, now_s: now_s)
    check_fails("newcomers", "fresh ports within 60 s")


def test_fresh_ports_that_do_not_get_rarer_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Refresh.taken

    def taken_without_factor(refresh: Refresh, now_s: float) -> None:
        taken(refresh, now_s)
        for count in refresh.counts.values():
            count.factor = 1

    monkeypatch.setattr(Refresh, "taken", taken_without_factor)
    check_fails("symmetric", "after one that did not help")


def test_forgotten_state_across_restarts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mesh, "restore", lambda *_: None)
    check_fails("symmetric, unit restarted", "restarted|fresh ports within")


def test_probe_over_the_relay_that_counts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Refresh.failed

    def answered_over_the_relay(refresh: Refresh, peer: str, *args: Any, **settings: Any) -> int:
        failures = failed(refresh, peer, *args, **settings)
        refresh.succeeded(peer)
        return failures

    monkeypatch.setattr(Refresh, "failed", answered_over_the_relay)
    check_fails("learning window", "not direct in the end")


def test_promotion_before_the_handshake_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    early = (State.PROVISIONAL, (Effect.OPEN, Effect.KNOCK, Effect.PROMOTE, Effect.PROBE))
    monkeypatch.setitem(TRANSITIONS, (State.RELAYED, LinkEvent.TRY), early)
    check_fails("healthy drop", "without a path|not direct")


def test_knock_that_waits_for_the_next_pass_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    round_ = Loop._round
    port_taken = Loop._on_port_taken

    def on_port_taken(loop: Loop, event: Any, now_s: float) -> None:
        monkeypatch.setattr(Loop, "_round", lambda *_args, **_settings: None)
        port_taken(loop, event, now_s)
        monkeypatch.setattr(Loop, "_round", round_)

    monkeypatch.setattr(Loop, "_on_port_taken", on_port_taken)
    check_fails("learning window", "in the end|fresh port|without a path")


def test_firing_for_an_offline_peer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that goes on with what the hub said earlier."""
    answered = Loop._on_hub_answered
    remembered: dict[int, dict[str, PeerRecord]] = {}

    def on_hub_answered(loop: Loop, event: HubAnswered, now_s: float) -> None:
        records = remembered.setdefault(id(loop), {})
        records.update(event.records)
        answered(loop, HubAnswered(dict(records)), now_s)

    monkeypatch.setattr(Loop, "_on_hub_answered", on_hub_answered)
    check_fails("offline", "although the peer is offline")


def test_promotion_that_is_believed_without_proof_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handshake is seen, nothing comes back, and the link stays all the same."""
    for event in (LinkEvent.MISSED, LinkEvent.MISSED_BLIND):
        for state in (State.PROVISIONAL, State.DIRECT, State.DOUBTFUL):
            monkeypatch.setitem(TRANSITIONS, (state, event), (State.DIRECT, ()))
    check_fails("agent stopped", "without a path|no path")
