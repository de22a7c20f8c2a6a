# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is believed of what the hub says."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.candidates import Place, UnacceptableError, host_candidates

PLACE = Place(
    own=(ipaddress.ip_interface("192.168.7.5/24"), ipaddress.ip_interface("fd07::5/64")),
    hub=ipaddress.ip_address("192.168.7.1"),
    relayed=(ipaddress.ip_network("192.168.7.0/25"), ipaddress.ip_network("fd07::/64")),
)


@pytest.mark.parametrize(
    ("claimed", "route"),
    [
        ("192.168.7.6/32", "192.168.7.6/32"),
        ("192.168.7.6/255.255.255.255", "192.168.7.6/32"),
        ("192.168.7.6", "192.168.7.6/32"),
        ("fd07::6/128", "fd07::6/128"),
    ],
)
def test_a_host_route_inside_the_network_is_believed(claimed: str, route: str) -> None:
    assert PLACE.host_route(claimed) == route


@pytest.mark.parametrize(
    ("claimed", "reason"),
    [
        ("192.168.7.0/24", "host route"),
        ("0.0.0.0/0", "host route"),
        ("10.0.0.1/32", "outside"),
        ("192.168.7.1/32", "hub's own"),
        ("192.168.7.5/32", "this node's own"),
        ("192.168.7.200/32", "fall back"),
        ("(none)", "which is none"),
        ("", "which is none"),
    ],
)
def test_any_other_claim_is_refused_with_its_reason(claimed: str, reason: str) -> None:
    with pytest.raises(UnacceptableError, match=reason):
        PLACE.host_route(claimed)


@pytest.mark.parametrize("endpoint", ["203.0.113.7:51820", "10.1.2.3:1", "[2001:db8::7]:65535"])
def test_an_endpoint_outside_of_the_vpn_may_be_tried(endpoint: str) -> None:
    assert PLACE.endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:51820",
        "[::1]:51820",
        "224.0.0.1:5",
        "0.0.0.0:5",
        "169.254.1.1:5",
        "[fe80::1]:5",
        "192.168.7.9:51820",
        "203.0.113.7:0",
        "203.0.113.7:65536",
        "203.0.113.7",
        "hub.example.net:51820",
        "",
    ],
)
def test_other_endpoints_are_never_sent_to(endpoint: str) -> None:
    with pytest.raises(UnacceptableError):
        PLACE.endpoint(endpoint)


# --- host candidates ---

VPN = tuple(interface.network for interface in PLACE.own)


@pytest.mark.parametrize(
    "text",
    [
        "10.1.2.3:51820",
        "172.31.255.255:1",
        "192.168.1.5:65535",
        "100.64.0.1:51820",
        "[2a00:1450::5]:51820",
        "[fd08::5]:51820",
    ],
)
def test_a_host_candidate_is_private_shared_global_ipv6_or_unique_local(text: str) -> None:
    assert host_candidates([text], VPN) == (text,)


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.7:51820",
        "172.32.0.1:51820",
        "100.128.0.1:51820",
        "127.0.0.1:51820",
        "0.0.0.0:51820",
        "169.254.1.1:51820",
        "224.0.0.1:51820",
        "255.255.255.255:51820",
        "192.168.7.9:51820",
        "[fd07::9]:51820",
        "[::1]:51820",
        "[fe80::1]:51820",
        "[fe80::1%eth0]:51820",
        "[fd08::5%eth0]:51820",
        "[ff02::1]:51820",
        "[::ffff:10.0.0.1]:51820",
        "fd08::5:51820",
        "[10.0.0.1]:51820",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:051820",
        "10.0.0.1: 51820",
        "10.0.0.1:\N{DEVANAGARI DIGIT FIVE}",
        "10.0.0.1:51820\n",
        "010.0.0.1:51820",
        "host.example.net:51820",
        "",
    ],
)
def test_nothing_else_is_a_host_candidate(text: str) -> None:
    assert host_candidates([text], VPN) == ()


def test_at_most_four_host_candidates_count_each_once_and_all_with_one_port() -> None:
    texts = ["8.8.8.8:1", *(f"10.0.0.{number}:51820" for number in (1, 1, 2, 3, 4, 5))]

    assert host_candidates(texts, VPN) == tuple(f"10.0.0.{number}:51820" for number in (1, 2, 3, 4))
    assert host_candidates(["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:1"], VPN) == ("10.0.0.1:1", "10.0.0.3:1")


def test_host_candidates_are_written_as_wireguard_writes_them() -> None:
    assert host_candidates(["[FD08:0:0::5]:51820", "[fd08::5]:51820"], VPN) == ("[fd08::5]:51820",)


@given(st.lists(st.one_of(st.text(max_size=30), st.from_regex(r"[0-9.]{7,15}:[0-9]{1,5}", fullmatch=True))))
def test_whatever_is_accepted_as_host_candidates_is_accepted_again(texts: list[str]) -> None:
    accepted = host_candidates(texts, VPN)

    assert host_candidates(accepted, VPN) == accepted
    assert len(accepted) <= 4
