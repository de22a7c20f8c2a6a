# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which candidate pairs are tried, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.program.core.driven import PLACE

from wg_rendezvous.core.events import PeerView
from wg_rendezvous.core.ladder import HOST, HOST_RUNGS, REFLEXIVE, Rung, endpoints_of, rungs, why_none


def view(endpoint: str | None, *candidates: str) -> PeerView:
    return PeerView("192.168.7.9/32", endpoint, online=True, signals=True, candidates=candidates)


def strategies(own: PeerView, other: PeerView) -> list[str]:
    return [rung.strategy for rung in rungs(PLACE, own, other)]


def test_the_reflexive_endpoints_come_last() -> None:
    own = view("203.0.113.1:1000", "10.0.0.5:51820")
    other = view("203.0.113.1:2000", "10.0.0.6:51821")
    assert rungs(PLACE, own, other) == [
        Rung(HOST, "10.0.0.5:51820", "10.0.0.6:51821"),
        Rung(REFLEXIVE, "203.0.113.1:1000", "203.0.113.1:2000"),
    ]


def test_private_addresses_are_for_those_behind_one_reflexive_address() -> None:
    own = view("203.0.113.1:1000", "10.0.0.5:51820")
    assert strategies(own, view("203.0.113.2:1000", "10.0.0.6:51820")) == [REFLEXIVE]


def test_ipv6_is_for_everybody_who_has_it_and_a_ula_for_its_own_site() -> None:
    own = view("203.0.113.1:1000", "[2001:db8:1::5]:51820", "[fd00:1::5]:51820")
    assert strategies(own, view("203.0.113.2:1", "[2001:db8:2::6]:51820")) == [HOST, REFLEXIVE]
    assert strategies(own, view("203.0.113.2:1", "[fd00:1::6]:51820")) == [HOST, REFLEXIVE]
    assert strategies(view("203.0.113.1:1", "[fd00:1::5]:1"), view("203.0.113.2:1", "[fd00:2::6]:1")) == [
        REFLEXIVE
    ]


def test_without_an_endpoint_there_is_nothing_to_try() -> None:
    assert rungs(PLACE, view(None), view("203.0.113.2:1")) == []
    assert rungs(PLACE, view("203.0.113.1:1"), view(None)) == []


def test_an_endpoint_that_is_not_acceptable_is_not_tried() -> None:
    assert rungs(PLACE, view("203.0.113.1:1"), view("127.0.0.1:1")) == []
    assert rungs(PLACE, view("203.0.113.1:1"), view("192.168.7.77:1")) == [], "inside the VPN"


@given(
    st.lists(
        st.ip_addresses().map(lambda one: f"[{one}]:51820" if one.version == 6 else f"{one}:51820"),
        max_size=8,
    ),
    st.sampled_from(["203.0.113.1:1", "203.0.113.2:1"]),
)
def test_whatever_a_peer_claims_few_addresses_are_tried_and_all_of_them_are_named(
    claimed: list[str], endpoint: str
) -> None:
    own = view("203.0.113.1:1000", "10.0.0.5:51820", "[2001:db8:1::5]:51820")
    other = view(endpoint, *claimed)
    found = rungs(PLACE, own, other)
    assert len(found) <= HOST_RUNGS + 1
    assert {rung.yours for rung in found} <= set(endpoints_of(PLACE, own, other))
    assert {rung.yours for rung in found} <= {*claimed, endpoint}


CANDIDATE = st.one_of(
    st.integers(1, 4).map(lambda n: f"10.0.0.{n}:51820"),
    st.integers(1, 4).map(lambda n: f"192.168.{n}.1:51820"),
    st.integers(1, 4).map(lambda n: f"[2001:db8:{n}::1]:51820"),
    st.integers(1, 4).map(lambda n: f"[fd00:{n}::1]:51820"),
)


@given(st.lists(CANDIDATE, max_size=4), st.lists(CANDIDATE, max_size=4))
def test_whatever_one_end_offers_the_other_one_names(mine: list[str], yours: list[str]) -> None:
    """Each has its own order: what one of them tries is not always among the first of the other one."""
    own, other = view("203.0.113.1:1000", *mine), view("203.0.113.1:2000", *yours)
    assert {rung.mine for rung in rungs(PLACE, own, other)} <= set(endpoints_of(PLACE, other, own))


def test_reflexive_endpoints_of_two_ip_families_are_no_pair_and_it_says_so() -> None:
    own, other = view("203.0.113.1:1000", "10.0.0.5:51820"), view("[2001:db8:2::6]:51820")
    for one, another in ((own, other), (other, own)):
        assert rungs(PLACE, one, another) == []
        assert endpoints_of(PLACE, one, another) == []
        assert "no common IP family" in why_none(PLACE, one, another)


def test_host_candidates_of_one_family_are_tried_where_the_reflexive_ones_differ() -> None:
    own = view("203.0.113.1:1000", "[2001:db8:1::5]:51820")
    assert strategies(own, view("[2001:db8:2::6]:1", "[2001:db8:2::6]:51820")) == [HOST]


def test_what_is_no_endpoint_at_all_is_no_pair_and_no_error() -> None:
    own = view("203.0.113.1:1000")
    assert rungs(PLACE, own, view("nonsense")) == []
    assert "nonsense" in why_none(PLACE, own, view("nonsense"))
    assert "names no endpoint of it" in why_none(PLACE, own, view(None))
    assert "names no endpoint of this node" in why_none(PLACE, view(None), own)
