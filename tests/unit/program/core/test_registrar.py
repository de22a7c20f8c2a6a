# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""When an agent registers beside its stream, and what it says then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.registrar import AGAIN_MAX_S, AGAIN_S, PATIENCE_MAX_S, PATIENCE_S, Registrar


class Sent:
    """A registrar, and what it has sent: numbers, the peers of each, how long it waits."""

    def __init__(self) -> None:
        self.peers: dict[int, set[str]] = {}
        self.patience_s: list[float] = []
        self.registrar = Registrar(self._send)

    def _send(self, number: int, peers: frozenset[str], patience_s: float) -> None:
        self.peers[number] = set(peers)
        self.patience_s.append(patience_s)

    def want(self, *peers: str, now_s: float) -> None:
        self.registrar.want(frozenset(peers))
        self.registrar.tick(now_s)


def test_what_changes_while_one_is_under_way_goes_with_the_next() -> None:
    sent = Sent()
    sent.want("a", now_s=0.0)
    for nth, peer in enumerate("bcb"):
        sent.want(peer, now_s=0.1 * nth)
    assert sent.peers == {1: {"a"}}
    assert sent.registrar.wakeup_at() == float("inf")
    sent.registrar.succeeded(1, 0.5)
    assert sent.registrar.wakeup_at() <= 0.5
    sent.registrar.tick(0.5)
    assert sent.peers == {1: {"a"}, 2: {"b", "c"}}
    sent.registrar.succeeded(2, 0.6)
    sent.registrar.tick(0.6)
    assert len(sent.peers) == 2


def test_one_that_failed_is_said_again_ever_more_seldom_with_what_came_meanwhile() -> None:
    """What was lost with it was never told: a direct link looked relayed from the hub for good."""
    sent, now_s, waits_s = Sent(), 0.0, []
    sent.want("a", now_s=now_s)
    for number in range(1, 11):
        now_s += sent.patience_s[-1]
        assert sent.registrar.failed(number, now_s) is (number == 1)
        sent.want(str(number), now_s=now_s)
        assert len(sent.peers) == number, "not at once"
        waits_s.append(sent.registrar.wakeup_at() - now_s)
        now_s = sent.registrar.wakeup_at()
        sent.registrar.tick(now_s)
    assert sent.peers[11] == {"a", *map(str, range(1, 11))}
    assert waits_s == pytest.approx(sorted(waits_s))
    assert waits_s[0] == pytest.approx(AGAIN_S)
    assert waits_s[-1] == pytest.approx(AGAIN_MAX_S)


def test_a_slow_hub_is_waited_for_longer() -> None:
    sent = Sent()
    sent.want(now_s=0.0)
    sent.registrar.failed(1, 1.0)
    sent.registrar.tick(2.0)
    sent.registrar.succeeded(2, 3.2)  # it takes 1.2 s
    sent.want(now_s=10.0)
    assert sent.patience_s == pytest.approx([PATIENCE_S, 2 * PATIENCE_S, 3.6])
    for number in range(3, 6):
        sent.registrar.failed(number, 20.0 * number)
        sent.registrar.tick(20.0 * number + 15.0)
    assert sent.patience_s[-1] == PATIENCE_MAX_S


def test_with_a_new_stream_what_was_to_be_said_and_asked_before_is_obsolete() -> None:
    sent = Sent()
    sent.want("a", now_s=0.0)
    sent.want("b", now_s=0.0)
    sent.registrar.forget()
    sent.registrar.tick(0.0)
    assert not sent.registrar.failed(1, 1.0)
    sent.registrar.succeeded(1, 1.0)
    sent.want("c", now_s=1.0)
    assert sent.peers == {1: {"a"}, 2: {"c"}}
    assert sent.patience_s[-1] == PATIENCE_S, "the late answer of another one says nothing"
    sent.registrar.succeeded(None, 1.0)
    sent.want("d", now_s=1.0)
    assert len(sent.peers) == 2, "what the stream says of itself is no answer"


@given(st.lists(st.sampled_from(["want", "succeeded", "failed", "wait"]), max_size=60))
def test_everything_is_said_in_the_end_and_one_at_a_time(happenings: list[str]) -> None:
    sent, now_s, taken, under_way = Sent(), 0.0, set[str](), False
    wanted = set[str]()
    for nth, happening in enumerate([*happenings, *(["wait", "succeeded"] * 2)]):
        now_s += 0.1 if happening != "wait" else 20.0
        if happening == "want":
            wanted.add(str(nth))
            sent.registrar.want(frozenset([str(nth)]))
        elif happening == "succeeded" and under_way:
            taken |= sent.peers[len(sent.peers)]
            sent.registrar.succeeded(len(sent.peers), now_s)
            under_way = False
        elif happening == "failed" and under_way:
            sent.registrar.failed(len(sent.peers), now_s)
            under_way = False
        before = len(sent.peers)
        sent.registrar.tick(now_s)
        assert len(sent.peers) - before <= (0 if under_way else 1)
        under_way = under_way or len(sent.peers) > before
    assert wanted == taken
