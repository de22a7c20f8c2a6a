# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The restart condition, its tie-break and its budget."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.refresh import HOUR_S, MINUTE_S, Budget, Refresh

LARGE = base64.b64encode(b"\xff" * 32).decode()
SMALL = base64.b64encode(b"\x00" * 32).decode()
OTHER = base64.b64encode(b"\x77" * 32).decode()
HERE, THERE = "203.0.113.7:51820", "203.0.113.7:40000"


def failing(own: str, peer: str, times: int, endpoint: str = HERE) -> Refresh:
    refresh = Refresh(own)
    refresh.seen(peer, endpoint)
    for _ in range(times):
        refresh.failed(peer)
    return refresh


@pytest.mark.parametrize(("own", "peer", "limit"), [(LARGE, SMALL, 3), (SMALL, LARGE, 5)])
def test_it_holds_after_3_failures_for_the_larger_key_and_5_for_the_smaller(
    own: str, peer: str, limit: int
) -> None:
    assert failing(own, peer, limit - 1).due([peer]) is None
    assert failing(own, peer, limit).due([peer]) == peer


def test_the_tie_break_compares_raw_bytes_not_base64() -> None:
    slash, upper = base64.b64encode(b"\xfc" * 32).decode(), base64.b64encode(b"\x00" * 32).decode()
    assert slash < upper or slash[0] in "/+9"  # "/" sorts before letters as text, and is the largest digit
    assert failing(slash, upper, 0).limit(upper) == 3


def test_a_new_endpoint_of_the_other_side_starts_the_count_again() -> None:
    refresh = failing(LARGE, SMALL, 2)
    refresh.seen(SMALL, THERE)
    refresh.failed(SMALL)
    assert refresh.due([SMALL]) is None


def test_the_same_endpoint_seen_again_does_not() -> None:
    refresh = failing(LARGE, SMALL, 2)
    refresh.seen(SMALL, HERE)
    refresh.failed(SMALL)
    assert refresh.due([SMALL]) == SMALL


def test_a_peer_that_goes_on_moving_does_not_put_it_off_for_ever() -> None:
    refresh = Refresh(LARGE)
    for number in range(6):
        assert refresh.due([SMALL]) is None
        refresh.seen(SMALL, f"203.0.113.7:{number + 1}")
        refresh.failed(SMALL, moved=True)
    assert refresh.due([SMALL]) == SMALL
    assert "one endpoint after another" in refresh.reason(SMALL)


def test_a_success_or_an_absence_ends_the_row() -> None:
    for end in (Refresh.succeeded, Refresh.interrupted):
        refresh = failing(LARGE, SMALL, 2)
        end(refresh, SMALL)
        refresh.failed(SMALL)
        assert refresh.due([SMALL]) is None


def test_after_a_fresh_port_the_limit_is_four_times_as_high_and_doubles_from_there() -> None:
    refresh = failing(LARGE, SMALL, 3)
    limits = []
    for number in range(4):
        refresh.taken(number * HOUR_S)
        limits.append(refresh.limit(SMALL))
        refresh.failed(SMALL)
    assert limits == [12, 24, 48, 96]


def test_one_fresh_port_serves_every_peer_that_was_failing_and_not_the_newcomer() -> None:
    refresh = failing(LARGE, SMALL, 3)
    refresh.seen(OTHER, HERE)
    refresh.failed(OTHER)
    refresh.taken(0.0)
    assert (refresh.limit(SMALL), refresh.limit(OTHER)) == (12, 12)
    newcomer = base64.b64encode(b"\x01" * 32).decode()
    refresh.seen(newcomer, HERE)
    assert refresh.limit(newcomer) == 3


def test_proof_brings_the_limit_back() -> None:
    refresh = failing(LARGE, SMALL, 3)
    refresh.taken(0.0)
    refresh.succeeded(SMALL)
    assert refresh.limit(SMALL) == 3


@given(
    gaps_s=st.lists(st.integers(0, 2000), min_size=1, max_size=60),  # whole, so that sums are exact
    per_minute=st.integers(1, 3),
    per_hour=st.integers(1, 8),
)
def test_the_budget_is_kept_and_names_the_earliest_time(
    gaps_s: list[int], per_minute: int, per_hour: int
) -> None:
    refresh = Refresh(LARGE, Budget(per_minute, per_hour))
    taken: list[float] = []
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        allowed_at = refresh.allowed_at(now_s)
        assert allowed_at >= now_s
        if allowed_at == now_s:
            refresh.taken(now_s)
            taken.append(now_s)
        else:
            assert refresh.allowed_at(allowed_at) == allowed_at
    for at in taken:
        assert sum(at - MINUTE_S < other <= at for other in taken) <= per_minute
        assert sum(at - HOUR_S < other <= at for other in taken) <= per_hour


def test_counts_and_budget_survive_a_restart() -> None:
    refresh = failing(LARGE, SMALL, 3)
    refresh.taken(1000.0)
    refresh.failed(SMALL)
    later = Refresh(LARGE)
    later.restore(json.loads(json.dumps(refresh.to_state(1010.0))), 5010.0)
    assert later.limit(SMALL) == 12
    assert later.counts[SMALL].failures == 1
    assert later.allowed_at(5010.0) == pytest.approx(5060.0)


@pytest.mark.parametrize(
    "damaged", [{}, {"taken_ages_s": ["x"], "counts": {}}, {"taken_ages_s": [], "counts": {"k": {}}}]
)
def test_a_damaged_state_changes_nothing(damaged: dict[str, object]) -> None:
    refresh = failing(LARGE, SMALL, 2)
    with pytest.raises((KeyError, TypeError, ValueError)):
        refresh.restore(damaged, 0.0)
    assert refresh.counts[SMALL].failures == 2
