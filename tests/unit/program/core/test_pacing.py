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


def paced(*lates: tuple[float, float]) -> Pace:
    """One that was late by so much, so many seconds after one another."""
    pace, now_s = Pace(), 1000.0
    for late_s, after_s in lates:
        now_s += after_s
        pace.late(late_s, now_s)
    pace.begun(now_s)
    return pace


def pause_s(pace: Pace) -> float:
    return pace.free_at - pace._begun_at


def test_who_is_on_time_begins_the_next_at_once() -> None:
    assert pause_s(paced(*[(0.01, 0.1)] * 100)) == 0.0


def test_the_later_a_node_is_the_later_it_begins_the_next() -> None:
    pauses_s = [pause_s(paced(*[(late_s, 0.5)] * 100)) for late_s in (0.03, 0.1, LATE_MAX_S, 100.0)]
    assert 0.0 < pauses_s[0] < pauses_s[1] < pauses_s[2] == pauses_s[3] < LATE_TIMES * LATE_MAX_S


def test_one_delay_says_little() -> None:
    assert pause_s(paced((0.05, 60.0))) == 0.0


def test_delays_count_by_the_time_between_them() -> None:
    """A node that is late with every tenth thing is late all the same, if the others follow at once."""
    rarely = [(0.3, 0.3), *[(0.001, 0.001)] * 9] * 20
    assert pause_s(paced(*rarely)) > 4.0


def test_a_node_that_is_on_time_again_waits_no_longer() -> None:
    lates = [(LATE_MAX_S, 0.5)] * 100
    assert pause_s(paced(*lates)) > 0.0
    assert pause_s(paced(*lates, *[(0.0, 0.5)] * 12)) == 0.0


def test_why_nothing_is_begun_is_said_as_long_as_nothing_is() -> None:
    pace = paced(*[(0.12, 0.5)] * 100)
    assert "0.12 s late" in pace.why_not(pace.free_at - 0.1)
    assert pace.why_not(pace.free_at) == ""
