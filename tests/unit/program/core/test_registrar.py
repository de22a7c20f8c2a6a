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
        assert sent.registrar.failed(number, True, now_s) is (number == 1)
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
    sent.registrar.failed(1, True, 1.0)
    sent.registrar.tick(2.0)
    sent.registrar.succeeded(2, 3.2)  # it takes 1.2 s
    sent.want(now_s=10.0)
    assert sent.patience_s == pytest.approx([PATIENCE_S, 2 * PATIENCE_S, 3.6])
    for number in range(3, 6):
        sent.registrar.failed(number, True, 20.0 * number)
        sent.registrar.tick(20.0 * number + 15.0)
    assert sent.patience_s[-1] == PATIENCE_MAX_S


def test_an_answer_that_may_never_come_is_not_awaited_any_more() -> None:
    """The hub answers at the port that this node has left. What was to be said is said again."""
    sent = Sent()
    sent.want("a", now_s=0.0)
    sent.want("b", now_s=0.1)
    sent.registrar.renew()
    sent.want(now_s=0.2)
    assert sent.peers == {1: {"a"}, 2: {"a", "b"}}
    assert not sent.registrar.succeeded(1, 0.3), "that was before"
    assert not sent.registrar.failed(1, True, 0.3)
    sent.want("c", now_s=0.3)
    assert len(sent.peers) == 2
    assert sent.registrar.succeeded(2, 0.4)


def test_who_is_in_a_hurry_does_not_wait_for_the_next_try() -> None:
    sent = Sent()
    sent.want("a", now_s=0.0)
    sent.registrar.failed(1, True, 1.0)
    sent.want(now_s=1.0)
    assert len(sent.peers) == 1
    sent.registrar.hurry()
    sent.want(now_s=1.0)
    assert sent.peers[2] == {"a"}
    assert sent.patience_s == [PATIENCE_S, 2 * PATIENCE_S]


def test_nor_for_long_if_that_of_what_is_under_way() -> None:
    sent = Sent()
    sent.want("a", now_s=0.0)
    for number in range(1, 7):
        sent.registrar.failed(number, True, 20.0 * number)
        sent.registrar.tick(20.0 * number + 15.0)
    sent.registrar.hurry()
    sent.registrar.failed(7, True, 140.0)
    assert sent.registrar.wakeup_at() == pytest.approx(140.0 + AGAIN_S)
    sent.registrar.tick(141.0)
    sent.registrar.failed(8, True, 146.0)
    assert sent.registrar.wakeup_at() == pytest.approx(146.0 + AGAIN_MAX_S)


def test_what_the_hub_will_never_take_is_not_said_again() -> None:
    """It would keep the others from being registered as well."""
    sent = Sent()
    sent.want("a", now_s=0.0)
    sent.registrar.failed(1, True, 0.1)
    sent.registrar.tick(1.0)
    assert sent.registrar.failed(2, False, 1.1), "people should know"
    assert sent.registrar.wakeup_at() == float("inf")
    sent.want("b", now_s=20.0)
    assert sent.peers[3] == {"b"}


@given(st.lists(st.sampled_from(["want", "succeeded", "failed", "renew", "wait"]), max_size=60))
def test_everything_is_said_in_the_end_and_one_at_a_time(happenings: list[str]) -> None:
    sent, now_s, under_way = Sent(), 0.0, False
    wanted, taken = set[str](), set[str]()
    for nth, happening in enumerate([*happenings, *(["wait", "succeeded"] * 2)]):
        now_s += 20.0 if happening == "wait" else 0.1
        if happening == "want":
            wanted.add(str(nth))
            sent.registrar.want(frozenset([str(nth)]))
        elif happening == "succeeded" and sent.registrar.succeeded(len(sent.peers), now_s):
            taken |= sent.peers[len(sent.peers)]
            under_way = False
        elif happening == "failed" and under_way:
            sent.registrar.failed(len(sent.peers), True, now_s)
            under_way = False
        elif happening == "renew":
            sent.registrar.renew()
            under_way = False
        before = len(sent.peers)
        sent.registrar.tick(now_s)
        assert len(sent.peers) - before <= (0 if under_way else 1)
        under_way = under_way or len(sent.peers) > before
    assert wanted == taken
