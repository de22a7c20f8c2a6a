# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which heartbeats were answered, and what may be concluded from those that were not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.heartbeat import MOST_AWAITED, Watch


def test_an_answer_answers_for_all_that_was_sent_before() -> None:
    watch = Watch()
    for number, at in enumerate((0.0, 0.4, 0.8)):
        watch.sent(number, at)
    assert watch.answered(1, 0.02, 0.82)
    assert watch.waiting_since() == 0.8
    assert watch.rtt_s == 0.02
    assert not watch.answered(0, 0.02, 0.9), "it was answered for already"


def test_a_small_answer_says_nothing_of_large_packets() -> None:
    watch = Watch()
    watch.sent(1, 0.0, padded=True)
    watch.sent(2, 0.1)
    watch.answered(2, 0.02, 0.2)
    assert watch.padded_since() == 0.0
    assert [watch.padded_missed(), watch.padded_missed()] == [1, 2]
    watch.sent(3, 1.0, padded=True)
    assert watch.answered(3, 0.02, 1.1)
    assert watch.padded_misses == 0


def test_what_was_sent_before_something_else_was_heard_does_not_count_as_silence() -> None:
    watch = Watch()
    watch.sent(1, 0.0)
    watch.sent(2, 1.0)
    assert watch.waiting_since(after=0.5) == 1.0
    assert watch.waiting_since(after=1.0) is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=200))
def test_it_is_known_since_when_nothing_was_answered_however_much_is_awaited(
    steps: list[tuple[bool, bool]],
) -> None:
    watch = Watch()
    oldest: float | None = None
    for number, (answered, padded) in enumerate(steps):
        watch.sent(number, float(number), padded)
        if answered and not padded:
            watch.answered(number, 0.1, number + 0.1)
            oldest = None
        elif not padded and oldest is None:
            oldest = float(number)
        if oldest is None:
            assert watch.waiting_since() is None
        else:
            since = watch.waiting_since()
            assert since == oldest
    assert len(watch._waiting) <= MOST_AWAITED
