# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is believed of what the hub says."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.candidates import Place, UnacceptableError, host, host_candidates, moved

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
    assert PLACE.address(claimed) == route


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
        PLACE.address(claimed)


ROUTED = Place(
    PLACE.own,
    PLACE.hub,
    (
        *PLACE.relayed,
        *(
            ipaddress.ip_network(text)
            for text in ("10.1.0.0/24", "10.2.0.0/16", "10.2.3.0/25", "10.9.9.9/32")
        ),
    ),
)
"""A node that reaches subnets behind other peers."""


@pytest.mark.parametrize(
    ("claimed", "address"),
    [
        ("fd07::6/128,192.168.7.6/32", "fd07::6/128,192.168.7.6/32"),
        ("192.168.7.6/32,10.1.0.0/24", "192.168.7.6/32,10.1.0.0/24"),
        ("10.1.0.0/24,192.168.7.6/32", "192.168.7.6/32,10.1.0.0/24"),
        ("192.168.7.6/32,10.2.4.0/24,10.3.0.0/16,2001:db8::/32", "192.168.7.6/32,10.2.4.0/24"),
    ],
)
def test_what_this_node_reaches_through_the_hub_may_be_direct(claimed: str, address: str) -> None:
    assert ROUTED.address(claimed) == address
    assert host(address) in ("192.168.7.6", "fd07::6")


@pytest.mark.parametrize(
    ("claimed", "reason"),
    [
        ("192.168.7.6/32,192.168.7.64/26", "host route"),
        ("192.168.7.6/32,0.0.0.0/0", "host route"),
        ("192.168.7.6/32,192.168.7.1/32", "hub's own"),
        ("192.168.7.6/32,fd07::5/128", "this node's own"),
        ("192.168.7.6/32,10.2.3.0/24", "10.2.3.0/25 itself"),
        ("192.168.7.6/32,10.9.9.9/32", "10.9.9.9/32 itself"),
        ("192.168.7.6/32,10.1.0.1/24", "which is none"),
        ("10.1.0.0/24", "host route"),
    ],
)
def test_what_could_not_fall_back_keeps_a_peer_relayed(claimed: str, reason: str) -> None:
    with pytest.raises(UnacceptableError, match=reason):
        ROUTED.address(claimed)


def test_a_subnet_moves_in_halves_so_that_the_hub_peer_keeps_it() -> None:
    assert moved("192.168.7.6/32,10.1.0.0/24,fd08::/127") == (
        *("192.168.7.6/32", "10.1.0.0/25", "10.1.0.128/25", "fd08::/128", "fd08::1/128"),
    )


@pytest.mark.parametrize("endpoint", ["10.1.0.7:51820", "10.2.200.1:1"])
def test_an_endpoint_that_is_reached_through_the_tunnel_is_never_sent_to(endpoint: str) -> None:
    with pytest.raises(UnacceptableError, match="inside the VPN"):
        ROUTED.endpoint(endpoint)
    assert host_candidates([endpoint], ROUTED.inside) == ()


def test_a_full_tunnel_does_not_put_the_whole_internet_inside_the_vpn() -> None:
    place = Place(PLACE.own, PLACE.hub, (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
    assert place.endpoint("203.0.113.7:51820") == "203.0.113.7:51820"
    assert place.address("192.168.7.6/32,10.1.0.0/24") == "192.168.7.6/32,10.1.0.0/24"


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
