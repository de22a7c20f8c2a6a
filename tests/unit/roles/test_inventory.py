# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What is wrong with an inventory is said with the host's name and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._inventory import (
    Host,
    problems_of_host,
    problems_of_network,
)

HUB = Host("hub", frozenset({"hub"}), "192.168.7.1/24", "hub.example.net:51820")
ALICE = Host("alice", frozenset({"peer"}), "192.168.7.5/24")
BOB = Host("bob", frozenset({"peer"}), ["192.168.7.6/24"])
KEY = "zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM="


def said(*hosts: Host) -> list[str]:
    return [text for host in hosts for text in problems_of_host(host)] + list(problems_of_network(hosts))


def assert_said(problems: Sequence[str], host: str, *words: str) -> None:
    assert len(problems) == 1
    assert problems[0].startswith(f"{host}: ")
    for word in words:
        assert word in problems[0]


def test_nothing_is_said_about_a_network_that_can_work() -> None:
    assert said(HUB, ALICE, BOB) == []


def test_nothing_is_said_about_two_address_families() -> None:
    hub = replace(HUB, addresses=["192.168.7.1/24", "fd00:7::1/64"], endpoint="[2001:db8::1]:51820")
    assert said(hub, replace(ALICE, addresses=["192.168.7.5/24", "fd00:7::5/64"]), BOB) == []


def test_a_missing_hub() -> None:
    assert_said(said(ALICE, BOB), "alice, bob", "no hub", "[wireguard_hub]", "wg_hub_endpoint=")


def test_two_hubs() -> None:
    other = replace(HUB, name="other", addresses="192.168.7.2/24")
    assert_said(said(HUB, other, ALICE), "hub, other", "only one host can be the hub", "[wireguard_peers]")


def test_a_host_in_both_groups() -> None:
    both = replace(HUB, groups=frozenset({"hub", "peer"}))
    assert_said(said(both, ALICE), "hub", "wireguard_hub and in wireguard_peers")


@pytest.mark.parametrize("missing", [None, "", []])
def test_a_missing_address(missing: object) -> None:
    assert_said(
        said(HUB, replace(ALICE, addresses=missing)), "alice", "wg_interface_address is missing", "/24"
    )


def test_an_address_without_prefix() -> None:
    alice = replace(ALICE, addresses="192.168.7.5")
    assert_said(said(HUB, alice), "alice", "has no prefix", "192.168.7.5/24")


def test_an_address_that_is_none() -> None:
    assert_said(said(HUB, replace(ALICE, addresses="192.168.7.256/24")), "alice", "192.168.7.256/24")


def test_an_address_outside_of_the_network() -> None:
    alice = replace(ALICE, addresses="192.168.8.5/24")
    assert_said(said(HUB, alice), "alice", "192.168.8.5/24", "outside", "192.168.7.0/24")


def test_an_address_of_a_family_that_the_hub_does_not_have() -> None:
    assert_said(said(HUB, replace(ALICE, addresses="fd00:7::5/64")), "alice", "outside", "192.168.7.0/24")


def test_an_address_twice() -> None:
    bob = replace(BOB, addresses="192.168.7.5/24")
    assert_said(said(HUB, ALICE, bob), "bob", "192.168.7.5", "alice", "write another one")


@pytest.mark.parametrize("key", [KEY[:-2] + "=", "hunter2", KEY[:-1], "", None])
def test_a_key_that_is_not_32_bytes_of_base64(key: str | None) -> None:
    hub = replace(HUB, peers=[{"name": "phone", "public_key": key, "allowed_ips": ["192.168.7.9/32"]}])
    assert_said(said(hub, ALICE), "hub", "wg_interface_peers", "public_key", "wg pubkey")


def test_a_bad_preshared_key_is_not_repeated() -> None:
    peer = {"public_key": KEY, "preshared_key": "hunter2", "allowed_ips": ["192.168.7.9/32"]}
    problems = said(replace(HUB, peers=[peer]))
    assert_said(problems, "hub", "preshared_key", "wg genpsk")
    assert "hunter2" not in problems[0]


def test_a_peer_by_hand_with_the_address_of_a_host() -> None:
    hub = replace(HUB, peers=[{"name": "phone", "public_key": KEY, "allowed_ips": ["192.168.7.5/32"]}])
    assert_said(said(hub, ALICE), "hub", "192.168.7.5/32", "phone", "alice")


def test_a_peer_by_hand_that_is_removed_has_no_address() -> None:
    gone = {"public_key": KEY, "allowed_ips": ["192.168.7.5/32"], "state": "absent"}
    assert said(replace(HUB, peers=[gone]), ALICE) == []


def test_a_hub_without_endpoint() -> None:
    assert_said(
        said(replace(HUB, endpoint=None), ALICE), "hub", "no public endpoint", "wg_hub_endpoint=hub:51820"
    )


@pytest.mark.parametrize(
    "endpoint", ["hub.example.net", "hub.example.net:", ":51820", "hub.example.net:99999"]
)
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    assert_said(said(replace(HUB, endpoint=endpoint), ALICE), "hub", "wg_hub_endpoint", "host:port")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:51820", "192.168.7.1:51820", "0.0.0.0:51820", "[::1]:51820"])
def test_an_endpoint_that_no_peer_can_reach(endpoint: str) -> None:
    assert_said(said(replace(HUB, endpoint=endpoint), ALICE), "hub", endpoint, "public address")


def test_exclusive_peers_in_a_mesh() -> None:
    assert_said(said(HUB, replace(ALICE, exclusive=True)), "alice", "wg_interface_peers_exclusive")


def test_all_problems_are_said_at_once() -> None:
    assert len(said(replace(HUB, endpoint=None), replace(ALICE, addresses="192.168.7.5"))) == 2
