# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What of a signal is understood, and that nothing else gets any further."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.signals import (
    OFFER,
    PAUSE_MAX_S,
    TYPES,
    WHY_LENGTH,
    WITHDRAW,
    WITHDRAWN,
    Signal,
    SignalError,
    parse,
)

SESSION = "0123456789abcdef"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=5,
)
FIELDS = ("type", "session", "strategy", "endpoint", "why", "pause_s")


@given(
    st.builds(
        Signal,
        st.sampled_from(sorted(TYPES)),
        st.just(SESSION),
        st.sampled_from(["", "host", "reflexive"]),
        st.sampled_from(["", "203.0.113.7:51820"]),
        st.text(alphabet="abc, ", max_size=50),
        st.integers(0, 3600).map(float),
    )
)
def test_what_is_sent_is_what_is_understood(signal: Signal) -> None:
    assert parse(signal.to_json()) == signal


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), JSON, max_size=8))
def test_garbage_is_refused_and_nothing_else_happens(raw: dict[str, Any]) -> None:
    try:
        signal = parse(raw)
    except SignalError:
        return
    if signal is not None:
        assert signal.type in TYPES
        assert signal.session is None or len(signal.session) == 16
        assert len(signal.why) <= WHY_LENGTH
        assert signal.why.isprintable()
        assert 0 <= signal.pause_s <= PAUSE_MAX_S


def test_a_type_of_a_newer_agent_is_ignored() -> None:
    assert parse({"type": "birthday", "session": 7}) is None


@pytest.mark.parametrize("session", [None, "", "0123", SESSION.upper(), SESSION + "0", 7, SESSION + "\n"])
def test_an_offer_needs_a_session(session: Any) -> None:
    with pytest.raises(SignalError, match="session"):
        parse({"type": OFFER, "session": session})


@pytest.mark.parametrize("kind", [WITHDRAW, WITHDRAWN])
def test_a_withdrawal_of_whatever_there_is_needs_none(kind: str) -> None:
    assert parse({"type": kind}) == Signal(kind)


@pytest.mark.parametrize("pause_s", [True, -1, PAUSE_MAX_S + 1, float("nan"), "5", None])
def test_a_pause_is_a_number_of_seconds_up_to_an_hour(pause_s: Any) -> None:
    with pytest.raises(SignalError, match="pause_s"):
        parse({"type": WITHDRAW, "pause_s": pause_s})


def test_reasons_are_shown_to_people_so_control_characters_are_left_out() -> None:
    signal = parse({"type": WITHDRAW, "why": "so\x1b[31m it\nis" + "x" * 1000})
    assert signal is not None
    assert signal.why.startswith("so[31m itis")
    assert len(signal.why) <= WHY_LENGTH
