# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The simulation fails when the core is broken on purpose, each time where it should.

Without these a scenario could hold for no reason at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from tests.simulation.crowds import BUSY, CROWDS, SLOW_HUB
from tests.simulation.cuts import CUTS
from tests.simulation.run import Case
from tests.simulation.scenarios import SCENARIOS, simulate_all
from tests.simulation.signalled import HOPELESS_SIGNALLED, JOIN, REPAIR
from tests.simulation.test_restart_condition import cases

from wg_rendezvous.core import retries, vigil
from wg_rendezvous.core.events import HubAnswered, PeerRecord
from wg_rendezvous.core.hub import Hub
from wg_rendezvous.core.link import TRANSITIONS, Effect, LinkEvent, State
from wg_rendezvous.core.loop import Loop
from wg_rendezvous.core.mesh import Mesh
from wg_rendezvous.core.moves import Moves
from wg_rendezvous.core.pacing import Pace, TokenBucket
from wg_rendezvous.core.pairs import Pairs
from wg_rendezvous.core.refresh import FAILURES_LARGER_KEY, Count, Refresh
from wg_rendezvous.core.registrar import Registrar
from wg_rendezvous.core.rendezvous import TRANSITIONS as RENDEZVOUS
from wg_rendezvous.core.rendezvous import Effect as Does
from wg_rendezvous.core.rendezvous import PairEvent, Phase

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
    # Those that only rebind meet a second later all the same; those that restart the client do not.
    check_fails("learning window, unit restarted", "in the end|fresh port")


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


# The rendezvous of agents that signal


def check_some_fails(scenarios: Iterable[str], because: str) -> None:
    """Some case of these scenarios fails, with these words, and says how to replay it."""
    some = [
        Case(scenario, 0.07, larger, 1000 * list(SCENARIOS).index(scenario) + nth)
        for scenario in scenarios
        for nth, larger in enumerate("AB")
    ]
    with pytest.raises(AssertionError, match=f"(?s)({because}).*replay: .*--seed"):
        simulate_all(some)


def mutate(
    monkeypatch: pytest.MonkeyPatch, *changes: tuple[Phase, PairEvent, Phase, tuple[Does, ...]]
) -> None:
    for phase, event, following, effects in changes:
        monkeypatch.setitem(RENDEZVOUS, (phase, event), (following, effects))


def without(effect: Does, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transition asks for this any more."""
    for pair, (following, effects) in list(RENDEZVOUS.items()):
        monkeypatch.setitem(RENDEZVOUS, pair, (following, tuple(one for one in effects if one is not effect)))


def test_dropped_barrier_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controlling end knocks when it offers, before the other one has opened."""
    started = (Does.OPEN, Does.KNOCK, Does.SEND_OFFER)
    mutate(monkeypatch, (Phase.RELAYED, PairEvent.START, Phase.OFFERED, started))
    check_some_fails(JOIN, "direct|fresh port without need")


def test_openers_left_out_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(Does.OPEN, monkeypatch)
    check_some_fails(JOIN, "direct|fresh port without need")


def test_promotion_of_one_end_alone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controlled end moves as soon as it sees the handshake."""
    early = (Does.SEND_VERIFIED, Does.PROMOTE, Does.BEAT)
    mutate(monkeypatch, (Phase.KNOCKING, PairEvent.HANDSHAKE, Phase.PROVISIONAL, early))
    check_some_fails(JOIN, "without a path|not direct")


def test_demotion_of_one_end_alone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(Does.SEND_WITHDRAW, monkeypatch)
    check_some_fails(REPAIR, "without a path|only one end has moved|direct")


def test_forgotten_budget_of_agents_that_signal_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refresh, "allowed_at", lambda _refresh, now_s: now_s)
    monkeypatch.setattr(
        Refresh, "taken", lambda refresh, _now_s: [refresh.succeeded(peer) for peer in refresh.counts]
    )
    check_some_fails(HOPELESS_SIGNALLED, "fresh ports within 60 s")


def test_skipped_provisional_heartbeat_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(
        monkeypatch,
        (Phase.VERIFIED, PairEvent.PROMOTE, Phase.DIRECT, (Does.PROMOTE, Does.BEAT)),
        (Phase.PROMOTING, PairEvent.PROMOTE_DUE, Phase.DIRECT, (Does.PROMOTE, Does.BEAT)),
    )
    check_some_fails(["only handshakes pass"], "for a link that never answered")


def test_ignored_instances_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer that is back sees that its link is claimed, and withdraws it: a way to the hub later."""
    for phase in Phase:
        monkeypatch.delitem(RENDEZVOUS, (phase, PairEvent.RESTARTED), raising=False)
    check_some_fails(["power lost, idle"], "after it came back")


def test_demotion_while_the_hub_is_silent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    back = (Does.REMOVE, Does.SEND_WITHDRAW, Does.RETRY)
    mutate(monkeypatch, (Phase.DOUBTFUL, PairEvent.SILENT_BLIND, Phase.WITHDRAWING, back))
    check_some_fails(["hub gone, path cut meanwhile"], "without a path")


def test_heartbeats_that_are_not_sent_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "BEAT_TRAFFIC_S", 30.0)
    check_some_fails(REPAIR, "without a path|not direct again")


def test_waits_that_do_not_follow_the_round_trip_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moves, "_patience_s", lambda _moves, _pair, floor_s: floor_s)
    monkeypatch.setattr(vigil.Vigil, "_missed_s", lambda _vigil, _pair: vigil.MISSED_S)
    check_some_fails(
        ["signals: far away, heartbeats pass"], "tries|doubted|not direct|stay direct|was direct"
    )


def test_round_trips_that_only_heartbeats_measure_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "rtt_s", property(lambda hub: hub.watch.rtt_s or 0.0))
    check_some_fails(
        ["signals: far away, heartbeats to the hub filtered"],
        "tries|doubted|not direct|stay direct|was direct",
    )


def test_pacing_that_is_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenBucket, "take", lambda *_: True)
    check_some_fails(["signals: ten of them"], "packets to unproven addresses in a second")


def test_knocks_again_and_again_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(
        monkeypatch,
        (Phase.KNOCKING, PairEvent.KNOCK_DUE, Phase.KNOCKING, (Does.KNOCK, Does.KNOCK_LATER)),
    )
    check_some_fails(HOPELESS_SIGNALLED, "initiations to .* in one rendezvous")


def test_openers_for_every_knock_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, (Phase.KNOCKING, PairEvent.KNOCK_DUE, Phase.KNOCKING, (Does.OPEN, Does.KNOCK)))
    check_some_fails(HOPELESS_SIGNALLED, "openers to .* in one rendezvous")


def test_a_busy_end_that_does_not_say_when_to_come_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries.Retries, "named", lambda *_: None)
    check_some_fails(CROWDS, "was direct after|is not direct")


def test_fresh_ports_for_a_cut_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one end again and again."""
    port_taken = Pairs.port_taken

    def forget(links: Pairs, now_s: float) -> None:
        port_taken(links, now_s)
        for pair in links.pairs.values():
            pair.port_tried = False

    monkeypatch.setattr(Pairs, "port_taken", forget)
    check_some_fails(["cut for 600 s: cone drop x cone reject"], "fresh ports on a cut")


def test_lost_links_that_are_tried_more_seldom_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRY_DIRECT_S", 30.0)
    check_some_fails(
        [name for name in CUTS if name.endswith("reject")], "is direct again|is not direct again"
    )


def test_asking_a_slow_hub_again_before_it_has_answered_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = Registrar.tick

    def impatient(registrar: Registrar, now_s: float) -> None:
        registrar._under_way, registrar._again_at = None, now_s
        tick(registrar, now_s)

    monkeypatch.setattr(Registrar, "tick", impatient)
    check_some_fails({SLOW_HUB}, "registrations of 12 agents waited|was direct after|is not direct")


def test_a_busy_node_that_begins_everything_at_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "free_at", float("-inf"))
    check_some_fails({BUSY}, "rendezvous were begun|is not direct")
