# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is believed of what the hub says."""

from __future__ import annotations

import ipaddress

import pytest

from wg_rendezvous.core.candidates import Place, UnacceptableError

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
