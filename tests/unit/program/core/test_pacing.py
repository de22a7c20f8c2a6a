# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How fast something may be done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.pacing import TokenBucket, signal_limits


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
