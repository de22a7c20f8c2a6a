# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What an agent concludes of its hub: silent or not, which protocol it speaks, when it is asked again."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tests.unit.program.core.driven import OWN, PLACE

from wg_rendezvous.core import actions
from wg_rendezvous.core.events import PeerView, RegistrationFailed
from wg_rendezvous.core.hub import (
    ASK_EVERY_S,
    BACK_S,
    FIRST_ANSWER_S,
    GONE_S,
    RECONNECT_MAX_S,
    SILENT_S,
    STREAM_SILENT_S,
    Hub,
    Kind,
)
from wg_rendezvous.core.node import Node, Settings
from wg_rendezvous.core.registrar import PATIENCE_MAX_S, PATIENCE_S


@pytest.fixture
def node() -> Node:
    return Node(OWN, PLACE, Settings())


@pytest.fixture
def hub(node: Node) -> Hub:
    return heard_hub(node, 0.01)


def heard_hub(node: Node, rtt_s: float) -> Hub:
    """Its stream is open since 0, with registration 1, and a heartbeat was answered."""
    hub = Hub(node, lambda number, _peers: actions.Registration("00", number, ()))
    hub.start(0.0)
    hub.opened(PeerView("192.168.7.5/32"), 0.0)
    hub.beat_answered(1, rtt_s, rtt_s)
    node.flush()
    return hub


def run(hub: Hub, until_s: float) -> float:
    """Tick whenever it wants it, without traffic; returns when that was for the last time."""
    now_s = last_s = 0.0
    while now_s <= until_s:
        last_s = now_s
        hub.tick(False, now_s)
        now_s = hub.wakeup_at(False, now_s)
    return last_s


def opened(node: Node) -> int:
    return sum(isinstance(action, actions.OpenStream) for action in node.flush())


def test_a_hub_that_answers_nothing_for_a_second_gets_a_new_stream(hub: Hub, node: Node) -> None:
    hub.tick(True, 2.0)
    assert hub.wakeup_at(True, 2.0) <= 2.0 + SILENT_S
    hub.tick(True, 2.0 + SILENT_S)
    assert opened(node) == 1
    assert not hub.stream_open


def test_a_lost_heartbeat_is_nothing_when_something_else_was_heard(hub: Hub, node: Node) -> None:
    """It used to wake the agent up again and again, for ever. (Found by the simulation.)"""
    hub.tick(True, 2.0)
    hub.heard(2.1)
    for now_s in (2.1, 2.0 + SILENT_S, 10.0):
        assert hub.wakeup_at(False, now_s) > now_s
        hub.tick(False, now_s)
    assert opened(node) == 0


def test_without_a_single_answered_heartbeat_nothing_is_concluded_from_their_silence(node: Node) -> None:
    hub = Hub(node, lambda number, _peers: actions.Registration("00", number, ()))
    hub.opened(PeerView(None), 0.0)
    assert run(hub, STREAM_SILENT_S - 1.0) <= FIRST_ANSWER_S + 1.0, "it is asked for ever"
    assert opened(node) == 0


def test_a_stream_on_which_nothing_comes_is_opened_anew_also_when_all_links_are_idle(
    hub: Hub, node: Node
) -> None:
    """A NAT that lost its state keeps the hub's signals out until this node sends something (fact 12), and
    TCP tries ever more seldom.  (Found by the simulation's chaos.)"""
    for now_s in (10.0, 20.0, 30.0):  # the hub's comments
        hub.stream_heard(now_s)
        run(hub, now_s)
    assert opened(node) == 0
    run(hub, 30.0 + STREAM_SILENT_S + 1.0)
    assert opened(node) == 1
    assert not hub.stream_open


def test_what_comes_beside_the_stream_says_nothing_of_it(hub: Hub, node: Node) -> None:
    hub.heard(STREAM_SILENT_S - 0.1)
    run(hub, STREAM_SILENT_S + 1.0)
    assert opened(node) == 1


def test_the_first_round_trip_is_asked_for_until_it_is_known(node: Node) -> None:
    """All waits follow it: one lost heartbeat must not leave them at their floor."""
    hub = Hub(node, lambda number, _peers: actions.Registration("00", number, ()))
    hub.opened(PeerView(None), 0.0)
    run(hub, 1.0)
    beats = [action for action in node.flush() if isinstance(action, actions.SendBeat)]
    assert len(beats) >= 3
    hub.beat_answered(beats[-1].number, 0.2, 1.2)
    assert hub.signal_trips_s == pytest.approx(0.4)
    assert hub.wakeup_at(False, 1.2) > STREAM_SILENT_S, "nothing else is due"


def test_a_silence_that_ended_long_ago_is_none(hub: Hub) -> None:
    """What a hub is not asked for because it was away for half a minute counts from this silence."""
    since = []
    for closed_at in (1.0, 600.0):
        hub.closed("it was restarted", False, closed_at)
        since.append(hub.silent_since)
        hub.opened(PeerView(None), closed_at + 1.0)
        since.append(hub.silent_since)
    assert since == [1.0, None, 600.0, None]


def test_it_reconnects_ever_more_seldom(hub: Hub, node: Node) -> None:
    waits_s = []
    now_s = 1.0
    for _ in range(10):
        hub.closed("refused", False, now_s)
        at = hub.wakeup_at(False, now_s)
        waits_s.append(at - now_s)
        now_s = at
        hub.tick(False, now_s)
        assert opened(node) == 1
    assert waits_s == pytest.approx(sorted(waits_s))
    assert max(waits_s) == pytest.approx(RECONNECT_MAX_S)


def silent_for(hub: Hub, span_s: float) -> float:
    """The stream ends at 1, and so many seconds long nothing works; returns when that was over."""
    hub.closed("the hub closed the stream", False, 1.0)
    now_s = hub.wakeup_at(False, 1.0)
    while now_s < 1.0 + span_s:
        hub.tick(False, now_s)
        hub.closed("refused", False, now_s)
        now_s = hub.wakeup_at(False, now_s)
    return 1.0 + span_s


def answer(hub: Hub, node: Node, now_s: float, rtt_s: float = 0.01) -> None:
    """The hub is asked by a heartbeat, and answers; nothing of that is left to be done."""
    hub.ask(now_s - rtt_s)
    beat = next(action for action in node.flush() if isinstance(action, actions.SendBeat))
    hub.beat_answered(beat.number, rtt_s, now_s)


def test_a_hub_that_answers_again_gets_its_stream_at_once_and_then_ever_more_seldom(
    hub: Hub, node: Node
) -> None:
    now_s = silent_for(hub, 8.0)
    answer(hub, node, now_s)
    hub.tick(False, now_s)
    assert opened(node) == 1
    hub.closed("refused", False, now_s + 0.1)
    answer(hub, node, now_s + 1.0)  # its heartbeats are answered, and its HTTP is not
    hub.tick(False, now_s + 1.0)
    assert opened(node) == 0


def test_a_hub_that_was_gone_once_more_gets_its_stream_at_once_once_more(hub: Hub, node: Node) -> None:
    now_s = silent_for(hub, 20.0)
    answer(hub, node, now_s)
    hub.tick(False, now_s)
    hub.closed("refused", False, now_s)
    now_s += GONE_S + 1.0
    answer(hub, node, now_s)
    assert not hub.has_answered(now_s - 1.0, now_s)
    hub.tick(False, now_s)
    assert opened(node) == 1


@pytest.mark.parametrize(
    ("tried_for_s", "rtt_s", "begun"), [(0.1, 0.01, 0), (0.5, 0.01, 1), (0.5, 0.1, 0), (0.9, 0.1, 1)]
)
def test_a_stream_that_was_asked_for_in_the_silence_is_asked_for_anew_unless_that_was_a_moment_ago(
    node: Node, tried_for_s: float, rtt_s: float, begun: int
) -> None:
    hub = heard_hub(node, rtt_s)
    hub.closed("the hub closed the stream", False, 1.0)
    asked_at = hub.wakeup_at(False, 1.0) + SILENT_S
    hub.tick(False, asked_at)
    node.flush()
    answer(hub, node, asked_at + tried_for_s, rtt_s)
    hub.tick(False, asked_at + tried_for_s)
    assert opened(node) == begun


def test_a_hub_that_is_hurried_has_no_less_time_for_it(hub: Hub, node: Node) -> None:
    """It may be slow because all agents come at once."""
    now_s = silent_for(hub, 20.0)
    hub.tick(False, now_s)
    answer(hub, node, now_s)
    hub.tick(False, now_s)
    (stream,) = [action for action in node.flush() if isinstance(action, actions.OpenStream)]
    assert stream.patience_s == PATIENCE_MAX_S


def test_the_beginning_of_a_stream_is_no_reason_to_begin_it_anew(hub: Hub, node: Node) -> None:
    hub.closed("the hub closed the stream", False, 1.0)
    asked_at = hub.wakeup_at(False, 1.0) + SILENT_S
    hub.tick(False, asked_at)
    node.flush()
    hub.stream_heard(asked_at + 0.5)
    hub.tick(False, asked_at + 0.5)
    assert opened(node) == 0


def test_while_the_stream_of_a_silent_hub_is_opened_anew_nothing_goes_back_to_it(
    hub: Hub, node: Node
) -> None:
    hub.tick(True, 2.0)
    hub.tick(True, 2.0 + SILENT_S)
    assert opened(node) == 1
    hub.heard(2.1 + SILENT_S)
    assert not hub.has_answered(2.0, 2.1 + SILENT_S)


def test_traffic_goes_back_to_a_hub_that_has_told_what_it_knows(hub: Hub) -> None:
    hub.heard(0.5)
    assert hub.has_answered(0.4, 0.6)
    assert not hub.has_answered(0.5, 0.6), "it has answered before that"
    now_s = silent_for(hub, 8.0)
    hub.heard(now_s)
    assert not hub.has_answered(2.0, now_s), "it is just back"
    hub.opened(PeerView(None), now_s + 0.1)
    assert hub.has_answered(2.0, now_s + 0.1)
    hub.closed("the hub closed the stream", False, now_s + 10.0)
    hub.heard(now_s + 12.0)
    assert not hub.has_answered(now_s + 11.0, now_s + 12.0), "it was away once more"


def test_traffic_goes_back_to_a_hub_that_answers_and_opens_no_stream_for_long(hub: Hub) -> None:
    now_s = silent_for(hub, 8.0)
    hub.heard(now_s)
    assert not hub.has_answered(2.0, now_s + BACK_S - 0.1)
    assert hub.has_answered(2.0, now_s + BACK_S)


def test_what_was_under_way_when_a_stream_ended_does_not_say_that_the_hub_is_back(hub: Hub) -> None:
    hub.closed("the hub closed the stream", False, 1.0)
    hub.heard(1.0 + SILENT_S / 2)
    assert not hub.has_answered(0.9, 1.0 + SILENT_S / 2 + BACK_S)


def test_a_reason_to_ask_does_not_wait_for_the_repetition_of_what_failed(hub: Hub, node: Node) -> None:
    hub.report(("bob",), 1.0)
    for number in range(2, 5):
        hub.not_registered(RegistrationFailed(number, "no answer within 1.0 s"), 2.0 * number)
        hub.tick(False, 2.0 * number + 1.0)
    hub.not_registered(RegistrationFailed(5, "no answer within 5.0 s"), 10.0)
    node.flush()
    hub.ask(10.0)
    assert registered(node) == 1


def test_a_fresh_port_is_shown_at_once_and_what_the_hub_said_before_proves_nothing(
    hub: Hub, node: Node
) -> None:
    """The answer to what was asked before goes to the former port."""
    hub.report(("bob",), 1.0)
    hub.show_port(1.1)
    assert registered(node) == 2
    former, fresh = (PeerView("192.168.7.5/32", f"203.0.113.5:{port}") for port in (51820, 40000))
    assert not hub.registered(former, 2, 1.2)
    assert hub.own != former
    assert hub.registered(fresh, 3, 1.3)
    assert hub.own == fresh
    assert hub.registered(former, None, 1.4), "the stream says it"


def test_what_was_to_be_said_is_said_when_a_new_stream_is_open(hub: Hub, node: Node) -> None:
    """Its own registration has the promoted links alone."""
    told: list[set[str] | None] = []

    def registration(number: int, peers: Iterable[str] | None) -> actions.Registration:
        told.append(None if peers is None else set(peers))
        return actions.Registration("00", number, ())

    hub = Hub(node, registration)
    hub.start(0.0)
    hub.opened(PeerView(None), 0.0)
    hub.report(("bob",), 1.0)
    hub.closed("gone", False, 1.1)
    hub.tick(False, 2.0)
    hub.opened(PeerView(None), 2.1)
    assert told == [None, {"bob"}, None, {"bob"}]


def test_a_hub_that_opened_no_stream_in_time_gets_more_of_it(hub: Hub, node: Node) -> None:
    """One that needs 2 s would never get to open a stream."""
    now_s = 1.0
    for _ in range(4):
        hub.closed("no answer within 1 s", False, now_s)
        now_s += 20.0
        hub.tick(False, now_s)
    patience_s = [action.patience_s for action in node.flush() if isinstance(action, actions.OpenStream)]
    assert patience_s == [2 * PATIENCE_S, 4 * PATIENCE_S, PATIENCE_MAX_S, PATIENCE_MAX_S]
    hub.opened(PeerView(None), now_s)
    hub.closed("gone", False, now_s)
    hub.tick(False, now_s + 1.0)
    (action,) = [action for action in node.flush() if isinstance(action, actions.OpenStream)]
    assert action.patience_s == 2 * PATIENCE_S


def test_after_a_sleep_it_reconnects_at_once_and_soon_again(hub: Hub, node: Node) -> None:
    """It may be the network that is back."""
    for _ in range(10):
        hub.closed("no route", False, 1.0)
    hub.woke(True, 5.0)
    assert hub.wakeup_at(False, 5.0) == 5.0
    hub.tick(False, 5.0)
    assert opened(node) == 1
    hub.closed("no route", False, 5.1)
    assert hub.wakeup_at(False, 5.1) < 6.0


def test_who_is_only_late_asks_a_silent_hub_no_sooner(hub: Hub) -> None:
    for _ in range(10):
        hub.closed("no route", False, 1.0)
    due_at = hub.wakeup_at(False, 1.0)
    hub.woke(False, 3.0)
    assert hub.wakeup_at(False, 3.0) == due_at > 5.0


def test_a_hub_without_v1_is_one_of_the_origin_and_is_asked_again_later(hub: Hub, node: Node) -> None:
    hub.closed("404", True, 1.0)
    assert hub.kind is Kind.ORIGIN
    at = hub.wakeup_at(False, 1.0)
    assert at > 1.0 + node.settings.interval_s
    hub.tick(False, at)
    assert opened(node) == 1


def registered(node: Node) -> int:
    return sum(isinstance(action, actions.Register) for action in node.flush())


def numbers(todo: Iterable[actions.Action]) -> list[int]:
    registering = [action for action in todo if isinstance(action, (actions.Register, actions.OpenStream))]
    return [action.registration.number for action in registering]


def test_the_registrations_of_streams_and_those_beside_them_are_counted_together(
    hub: Hub, node: Node
) -> None:
    """The hub could not tell which is the later one."""
    hub.report(("bob",), 1.0)
    hub.closed("gone", False, 1.1)
    hub.tick(False, 2.0)
    hub.opened(PeerView(None), 2.1)
    assert numbers(node.flush()) == [2, 3, 4]


def test_a_reason_to_ask_that_comes_too_soon_is_served_a_moment_later(hub: Hub, node: Node) -> None:
    """New candidates were never registered when they came right after another reason to ask."""
    hub.ask(1.0)
    assert registered(node) == 1
    hub.ask(1.1)
    assert registered(node) == 0
    due_s = hub.wakeup_at(False, 1.1)
    assert due_s <= 1.0 + ASK_EVERY_S
    hub.registered(hub.own, 2, 1.2)
    hub.tick(False, due_s)
    assert registered(node) == 1
    hub.tick(False, due_s + ASK_EVERY_S)
    assert registered(node) == 0


def test_a_reason_to_ask_while_the_hub_owes_an_answer_is_served_after_it(hub: Hub, node: Node) -> None:
    """A hub that is slow would be asked ever more."""
    for nth in range(10):
        hub.ask(1.0 + ASK_EVERY_S * nth)
    assert registered(node) == 1
    hub.registered(hub.own, 2, 5.0)
    hub.tick(False, 5.0)
    assert registered(node) == 1


def test_a_registration_that_failed_is_repeated_and_said_once(hub: Hub, node: Node) -> None:
    hub.report(("bob",), 1.0)
    for number in range(2, 5):
        hub.not_registered(RegistrationFailed(number, "no answer within 1.0 s"), 2.0 * number)
        assert 2.0 * number < hub.wakeup_at(False, 2.0 * number) <= 2.0 * number + 1.0
        hub.tick(False, 2.0 * number + 1.0)
    todo = node.flush()
    assert numbers(todo) == [2, 3, 4, 5]
    said = [action for action in todo if isinstance(action, actions.Say)]
    assert [action.message for action in said if "registration" in action.message] == [
        "the hub did not take the registration"
    ]


def test_a_reason_to_ask_while_the_stream_opens_is_served_when_it_is_open(hub: Hub, node: Node) -> None:
    """Its registration was made before there was that reason."""
    hub.closed("gone", False, 1.0)
    hub.tick(False, 2.0)
    assert opened(node) == 1
    hub.ask(2.1)
    assert registered(node) == 0
    hub.opened(PeerView("192.168.7.5/32"), 2.2)
    assert registered(node) == 1


def test_where_heartbeats_are_filtered_the_round_trip_of_http_is_the_measure(node: Node) -> None:
    hub = Hub(node, lambda number, _peers: actions.Registration("00", number, ()))
    hub.start(0.0)
    assert hub.rtt_s == 0.0
    hub.opened(PeerView("192.168.7.5/32"), 0.3, 0.15)
    assert hub.rtt_s == 0.15
    assert hub.signal_trips_s == pytest.approx(0.3)
    hub.beat_answered(1, 0.1, 0.4)
    assert hub.rtt_s == pytest.approx(0.1)
