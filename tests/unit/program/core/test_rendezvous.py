# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What holds of the whole table of the rendezvous, whatever the order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.rendezvous import (
    PROMOTED,
    TRANSITIONS,
    TRYING,
    Effect,
    Pair,
    PairEvent,
    Phase,
)

SIGNALS_SENT = {effect for effect in Effect if effect.value.startswith("send ")}
BEFORE_A_HANDSHAKE = {Phase.RELAYED, Phase.OFFERED, Phase.KNOCKING, Phase.WITHDRAWING}


def pair(phase: Phase = Phase.RELAYED) -> Pair:
    return Pair("peer", "192.168.7.6/32", controlling=True, phase=phase)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", [PairEvent.OFFER, PairEvent.WITHDRAW])
def test_every_phase_reacts_to_an_offer_and_to_a_withdrawal(phase: Phase, event: PairEvent) -> None:
    assert (phase, event) in TRANSITIONS


@pytest.mark.parametrize("phase", Phase)
def test_an_offer_begins_anew_and_takes_the_traffic_back(phase: Phase) -> None:
    """The other end has nothing moved when it offers: KNOCK adds the peer afresh, without AllowedIPs."""
    following, effects = TRANSITIONS[phase, PairEvent.OFFER]
    assert following is Phase.KNOCKING
    assert effects == (Effect.OPEN, Effect.KNOCK, Effect.SEND_OPENED)


@pytest.mark.parametrize("phase", Phase)
def test_a_withdrawal_is_confirmed_and_leaves_nothing_moved(phase: Phase) -> None:
    following, effects = TRANSITIONS[phase, PairEvent.WITHDRAW]
    assert following is Phase.RELAYED
    assert Effect.SEND_WITHDRAWN in effects
    assert Effect.REMOVE in effects or phase in (Phase.RELAYED, Phase.WITHDRAWING)


@pytest.mark.parametrize("phase", TRYING)
@pytest.mark.parametrize(
    "event", [PairEvent.EXPIRED, PairEvent.REFUSED, PairEvent.RESTARTED, PairEvent.LOST, PairEvent.STOP]
)
def test_whatever_is_tried_can_end_and_leaves_no_entry(phase: Phase, event: PairEvent) -> None:
    following, effects = TRANSITIONS[phase, event]
    assert following in (Phase.RELAYED, Phase.WITHDRAWING)
    assert Effect.REMOVE in effects or event is PairEvent.LOST


@pytest.mark.parametrize("phase", PROMOTED)
def test_who_goes_back_tells_the_other_end_unless_it_cannot_be_moved(phase: Phase) -> None:
    for event in PairEvent:
        following, effects = TRANSITIONS.get((phase, event), (phase, ()))
        if following not in PROMOTED and event not in (PairEvent.OFFER, PairEvent.RESTARTED):
            assert {Effect.SEND_WITHDRAW, Effect.SEND_WITHDRAWN} & set(effects), (phase, event)


@pytest.mark.parametrize("phase", PROMOTED)
def test_traffic_is_taken_back_whenever_a_promoted_phase_is_left(phase: Phase) -> None:
    for event in PairEvent:
        following, effects = TRANSITIONS.get((phase, event), (phase, ()))
        if following not in PROMOTED and event is not PairEvent.LOST:
            assert {Effect.REMOVE, Effect.KNOCK} & set(effects), (phase, event)


def test_only_a_verified_rendezvous_promotes() -> None:
    for (phase, event), (following, effects) in TRANSITIONS.items():
        if Effect.PROMOTE in effects:
            assert phase in (Phase.VERIFIED, Phase.PROMOTING), (phase, event)
        if following in PROMOTED and phase not in PROMOTED and event is not PairEvent.ADOPTED:
            assert phase not in BEFORE_A_HANDSHAKE, (phase, event)
        if following is Phase.DIRECT and phase not in PROMOTED:
            assert event is PairEvent.ADOPTED


def test_silence_of_the_hub_as_well_moves_nothing() -> None:
    following, effects = TRANSITIONS[Phase.DOUBTFUL, PairEvent.SILENT_BLIND]
    assert following is Phase.DOUBTFUL
    assert Effect.REMOVE not in effects


def test_the_barrier_nobody_knocks_before_both_have_opened() -> None:
    """START only adds a silent entry; whoever got an offer knows that the other end has opened."""
    assert Effect.KNOCK not in TRANSITIONS[Phase.RELAYED, PairEvent.START][1]
    for (phase, event), (_following, effects) in TRANSITIONS.items():
        if Effect.KNOCK in effects:
            assert event is PairEvent.OFFER or (phase, event) == (Phase.KNOCKING, PairEvent.KNOCK_DUE)
            if event is PairEvent.OFFER:
                assert effects.index(Effect.OPEN) < effects.index(Effect.KNOCK)


@given(st.lists(st.sampled_from(list(PairEvent)), max_size=60))
def test_no_order_of_events_moves_traffic_without_a_handshake(order: list[PairEvent]) -> None:
    link = pair()
    shaken = adopted = False
    for event in order:
        effects = link.on(event, 0.0)
        if {Effect.KNOCK, Effect.ADD} & set(effects):
            shaken = adopted = False
        shaken = shaken or event is PairEvent.HANDSHAKE
        adopted = adopted or event is PairEvent.ADOPTED
        assert not link.promoted or shaken or adopted


@given(
    st.lists(st.sampled_from(list(PairEvent)), max_size=60),
    st.sampled_from([PairEvent.WITHDRAW, PairEvent.STOP]),
)
def test_from_everywhere_there_is_a_way_back(order: list[PairEvent], last: PairEvent) -> None:
    link = pair()
    for event in order:
        link.on(event, 0.0)
    link.on(last, 0.0)
    assert link.phase in (Phase.RELAYED, Phase.WITHDRAWING)


@pytest.mark.parametrize("phase", Phase)
def test_waits_end_with_the_phase(phase: Phase) -> None:
    """What was awaited in one phase is not awaited in the next."""
    for event in PairEvent:
        link = pair(phase)
        link.expires_at = link.knock_due_at = link.promote_due_at = link.repeat_at = 1.0
        link.on(event, 0.0)
        left = (link.expires_at, link.knock_due_at, link.promote_due_at, link.repeat_at)
        assert left == ((1.0,) * 4 if link.phase is phase else (None,) * 4)
