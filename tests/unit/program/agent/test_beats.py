# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which ping a pong answers."""

from __future__ import annotations

from wg_rendezvous.agent.beats import Pings
from wg_rendezvous.core.actions import SendBeat
from wg_rendezvous.core.events import BeatAnswered

A, B = "192.168.7.5", "192.168.7.6"


def test_a_pong_gives_the_peer_and_the_round_trip_once() -> None:
    pings = Pings()
    pings.sent(SendBeat("bob", B, 7), 100.0)
    assert pings.answered(B, 7, 100.25) == BeatAnswered("bob", 7, 0.25)
    assert pings.answered(B, 7, 100.5) is None


def test_a_pong_from_another_address_is_not_believed() -> None:
    pings = Pings()
    pings.sent(SendBeat("bob", B, 7), 100.0)
    assert pings.answered(A, 7, 100.1) is None
    assert pings.answered(B, 8, 100.1) is None
    assert pings.answered(B, 7, 100.1) is not None


def test_the_hub_is_no_peer() -> None:
    pings = Pings()
    pings.sent(SendBeat(None, A, 1), 0.0)
    assert pings.answered(A, 1, 1.0) == BeatAnswered(None, 1, 1.0)


def test_an_ipv6_address_is_one_in_any_spelling() -> None:
    pings = Pings()
    pings.sent(SendBeat("bob", "FD07:0::6", 1), 0.0)
    assert pings.answered("fd07::6", 1, 1.0) is not None


def test_old_pings_are_forgotten_and_a_repeated_one_is_young_again() -> None:
    pings = Pings()
    for number in range(1000):
        pings.sent(SendBeat("bob", B, number), float(number))
    assert len(pings) <= 11
    pings.sent(SendBeat("bob", B, 995), 1000.0)
    pings.sent(SendBeat("bob", B, 1000), 1009.0)
    assert pings.answered(B, 995, 1009.5) == BeatAnswered("bob", 995, 9.5)
    assert pings.answered(B, 1000, 1030.0) is None
