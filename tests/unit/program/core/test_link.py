# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The state machine of one link."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.link import PROMOTED, TRANSITIONS, Effect, Link, LinkEvent, State

KNOCKED = (LinkEvent.TRY, LinkEvent.KNOCK_DUE)


def walk(*history: LinkEvent) -> Link:
    link = Link("key", "192.168.7.6/32")
    for now_s, event in enumerate(history):
        link.on(event, float(now_s))
    return link


def test_a_link_becomes_direct_by_handshake_and_answer() -> None:
    assert walk(*KNOCKED, LinkEvent.HANDSHAKE).state is State.PROVISIONAL
    assert walk(*KNOCKED, LinkEvent.HANDSHAKE, LinkEvent.ANSWERED).state is State.DIRECT


def test_a_promotion_that_nothing_answers_goes_back() -> None:
    assert walk(*KNOCKED, LinkEvent.HANDSHAKE, LinkEvent.MISSED).state is State.RELAYED


def test_one_miss_does_not_demote_and_two_do() -> None:
    direct = (*KNOCKED, LinkEvent.HANDSHAKE, LinkEvent.ANSWERED)
    assert walk(*direct, LinkEvent.MISSED).promoted
    assert not walk(*direct, LinkEvent.MISSED, LinkEvent.MISSED).promoted
    assert walk(*direct, LinkEvent.MISSED, LinkEvent.ANSWERED, LinkEvent.MISSED).promoted


def test_misses_do_not_demote_while_the_hub_is_silent_as_well() -> None:
    direct = (*KNOCKED, LinkEvent.HANDSHAKE, LinkEvent.ANSWERED)
    assert walk(*direct, *[LinkEvent.MISSED_BLIND] * 5).promoted


@pytest.mark.parametrize("state", list(State))
def test_every_state_can_be_withdrawn_and_that_removes_the_entry(state: State) -> None:
    assert TRANSITIONS[state, LinkEvent.WITHDRAW] == (State.RELAYED, (Effect.REMOVE,))


@pytest.mark.parametrize("state", [state for state in State if state in PROMOTED])
def test_every_promoted_state_goes_back_when_its_entry_is_lost(state: State) -> None:
    assert TRANSITIONS[state, LinkEvent.LOST][0] is State.RELAYED


@given(st.lists(st.sampled_from(list(LinkEvent))))
def test_the_entry_has_allowed_ips_exactly_in_the_promoted_states(history: list[LinkEvent]) -> None:
    """Replays the effects on a model of the device, for any order of events."""
    link = Link("key", "192.168.7.6/32")
    has_allowed_ips = False
    for now_s, event in enumerate(history):
        if event is LinkEvent.LOST:
            has_allowed_ips = False
        adopted = event is LinkEvent.ADOPTED and link.state is State.RELAYED
        for effect in link.on(event, float(now_s)):
            if effect is Effect.PROMOTE:
                has_allowed_ips = True
            elif effect in (Effect.REMOVE, Effect.KNOCK):
                has_allowed_ips = False
        has_allowed_ips = has_allowed_ips or adopted
        if event is not LinkEvent.LOST or not link.promoted:
            assert has_allowed_ips == link.promoted


@given(st.lists(st.sampled_from(list(LinkEvent))))
def test_traffic_moves_to_the_direct_path_only_after_a_handshake(history: list[LinkEvent]) -> None:
    link = Link("key", "192.168.7.6/32")
    for now_s, event in enumerate(history):
        was_promoted = link.promoted
        link.on(event, float(now_s))
        if link.promoted and not was_promoted:
            assert event in (LinkEvent.HANDSHAKE, LinkEvent.ADOPTED)
