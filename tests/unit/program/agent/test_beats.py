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
    nonce = pings.sent(SendBeat("bob", B, 7), 100.0)
    assert pings.answered(B, nonce, 100.25) == BeatAnswered("bob", 7, 0.25)
    assert pings.answered(B, nonce, 100.5) is None


def test_a_pong_from_another_address_is_not_believed() -> None:
    pings = Pings()
    nonce = pings.sent(SendBeat("bob", B, 7), 100.0)
    assert pings.answered(A, nonce, 100.1) is None
    assert pings.answered(B, nonce ^ 1, 100.1) is None
    assert pings.answered(B, nonce, 100.1) is not None


def test_who_gets_no_pings_cannot_answer_them() -> None:
    """A peer whose outer source is spoofed knows what it was asked before, and has a thousand guesses."""
    pings = Pings()
    nonces = [pings.sent(SendBeat("bob", B, number), 0.0) for number in range(100)]
    for nonce in nonces:
        pings.answered(B, nonce, 0.1)
    for number in range(100, 110):
        pings.sent(SendBeat("bob", B, number), 1.0)
    guesses = [*range(1000), *(max(nonces) + number for number in range(1000))]
    assert not [guess for guess in guesses if pings.answered(B, guess, 1.1)]


def test_the_hub_is_no_peer() -> None:
    pings = Pings()
    nonce = pings.sent(SendBeat(None, A, 1), 0.0)
    assert pings.answered(A, nonce, 1.0) == BeatAnswered(None, 1, 1.0)


def test_an_ipv6_address_is_one_in_any_spelling() -> None:
    pings = Pings()
    nonce = pings.sent(SendBeat("bob", "FD07:0::6", 1), 0.0)
    assert pings.answered("fd07::6", nonce, 1.0) is not None


def test_old_pings_are_forgotten() -> None:
    pings = Pings()
    nonces = [pings.sent(SendBeat("bob", B, number), float(number)) for number in range(1000)]
    assert len(pings) <= 11
    assert pings.answered(B, nonces[995], 1004.5) == BeatAnswered("bob", 995, 9.5)
    assert pings.answered(B, nonces[999], 1030.0) is None
