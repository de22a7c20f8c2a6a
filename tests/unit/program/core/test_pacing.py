# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How fast something may be done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.pacing import LATE_MAX_S, LATE_TIMES, Pace, TokenBucket, Turns, signal_limits


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 4)), max_size=200))
def test_in_no_second_more_than_30_packets_go_to_unproven_addresses(steps: list[tuple[float, int]]) -> None:
    bucket, now_s, taken = TokenBucket(), 0.0, []
    for wait_s, count in steps:
        now_s += wait_s
        if bucket.take(count, now_s):
            taken.append((now_s, count))
    for first_s, _ in taken:
        assert sum(count for at_s, count in taken if first_s <= at_s < first_s + 1.0) <= 30


def test_a_hub_takes_more_signals_of_one_peer_where_there_are_many() -> None:
    assert signal_limits(2) == signal_limits(20) == (20.0, 60.0)
    assert signal_limits(100) == (100.0, 300.0)


def test_who_has_to_wait_is_told_when_to_come_and_is_not_overtaken() -> None:
    turns = Turns(TokenBucket(rate_per_s=20.0, burst=10.0), 4)
    assert [turns.comes_at(None, 0.0) for _ in range(2)] == [0.0, 0.0]
    waiting = [turns.comes_at(None, 0.0) for _ in range(5)]
    assert waiting == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert turns.comes_at(waiting[1], 0.05) == waiting[1], "too early"
    for at in waiting:
        late_s = at + 0.05
        assert turns.comes_at(None, late_s) > late_s, "a newcomer goes first"
        assert turns.comes_at(at, late_s) == late_s


def test_turns_of_those_who_do_not_come_stop_nobody_for_longer_than_they_take() -> None:
    turns = Turns(TokenBucket(rate_per_s=20.0, burst=10.0), 4)
    for _ in range(2 + 5):
        turns.comes_at(None, 0.0)
    assert turns.comes_at(None, 0.95) == 0.95


def test_who_is_on_time_begins_the_next_at_once() -> None:
    pace = Pace()
    for _ in range(100):
        pace.late(0.01)
    pace.begun(5.0)
    assert pace.free_at == 5.0


def test_the_later_a_node_is_the_later_it_begins_the_next() -> None:
    free_ats = []
    for late_s in (0.03, 0.1, LATE_MAX_S, 100.0):
        pace = Pace()
        for _ in range(100):
            pace.late(late_s)
        pace.begun(5.0)
        free_ats.append(pace.free_at)
    assert 5.0 < free_ats[0] < free_ats[1] < free_ats[2] == free_ats[3] < 5.0 + LATE_TIMES * LATE_MAX_S


def test_one_delay_says_little() -> None:
    pace = Pace()
    pace.late(0.05)
    pace.begun(5.0)
    assert pace.free_at == 5.0


def test_a_node_that_is_on_time_again_waits_no_longer() -> None:
    pace = Pace()
    for _ in range(100):
        pace.late(LATE_MAX_S)
    pace.begun(5.0)
    for _ in range(12):
        pace.late(0.0)
    assert pace.free_at == 5.0
