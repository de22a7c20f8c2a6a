# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which candidate pairs are tried, in which order."""

from __future__ import annotations

import ipaddress

import pytest

from wg_rendezvous.core.candidates import Place
from wg_rendezvous.core.events import PeerView
from wg_rendezvous.core.ladder import HOST, REFLEXIVE, Rung, rungs

PLACE = Place(
    (ipaddress.ip_interface("192.168.7.5/24"),),
    ipaddress.ip_address("192.168.7.1"),
    (ipaddress.ip_network("192.168.7.0/24"),),
)
MINE, YOURS = "198.51.100.2:1111", "198.51.100.10:2222"


def ladder(
    mine: list[str], yours: list[str], my_endpoint: str = MINE, your_endpoint: str = YOURS
) -> list[Rung]:
    own = PeerView("192.168.7.5/32", my_endpoint, True, candidates=tuple(mine))
    other = PeerView("192.168.7.6/32", your_endpoint, True, candidates=tuple(yours))
    return rungs(PLACE, own, other)


def test_without_candidates_there_are_the_reflexive_endpoints() -> None:
    assert ladder([], []) == [Rung(REFLEXIVE, MINE, YOURS)]


def test_private_addresses_are_tried_behind_the_same_reflexive_address_only() -> None:
    mine, yours = ["10.0.0.2:1111"], ["10.0.0.3:2222"]
    assert ladder(mine, yours) == [Rung(REFLEXIVE, MINE, YOURS)]
    same = "198.51.100.2:2222"
    assert ladder(mine, yours, your_endpoint=same) == [
        Rung(HOST, "10.0.0.2:1111", "10.0.0.3:2222"),
        Rung(REFLEXIVE, MINE, same),
    ]


@pytest.mark.parametrize(
    ("mine", "yours"),
    [
        ("[2a01:4f8::2]:1111", "[2600:1f18::3]:2222"),
        # Not is_private of ipaddress, which is true of these: of documentation, and of transition mechanisms.
        ("[2001:db8:1::2]:1111", "[2001:db8:2::3]:2222"),
        ("[2002:c000:204::2]:1111", "[2001:10:ffff::3]:2222"),
        ("[fd00:1:2::2]:1111", "[fd00:1:2:3::3]:2222"),
    ],
)
def test_global_ipv6_addresses_are_tried_and_unique_local_ones_of_the_same_site(
    mine: str, yours: str
) -> None:
    assert ladder([mine], [yours])[0] == Rung(HOST, mine, yours)


def test_unique_local_addresses_of_another_site_are_not_tried() -> None:
    assert ladder(["[fd00:1:2::2]:1111"], ["[fd00:1:3::2]:2222"]) == [Rung(REFLEXIVE, MINE, YOURS)]
    assert ladder(["[2a01:4f8::2]:1111"], ["[fd00:1:3::2]:2222"]) == [Rung(REFLEXIVE, MINE, YOURS)]
