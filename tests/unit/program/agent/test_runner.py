# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""From the core's words to those of `wg`, and what an agent needs before it can start."""

from __future__ import annotations

import ipaddress

import pytest

from wg_rendezvous._wireguard.dump import Device, Peer
from wg_rendezvous.agent import runner
from wg_rendezvous.core import events
from wg_rendezvous.core.actions import PeerChange
from wg_rendezvous.wg.device import PeerCommand

KEY = "//////////////////////////////////////////8="
HUB = Peer(KEY, "198.51.100.1:51820", ("192.168.7.0/24", "fd07::/64"), 0, 0, 0, 13)
ADDRESSES: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface] = [
    ipaddress.ip_interface("192.168.7.5/24")
]


def test_a_fresh_peer_is_removed_and_added_in_one_call() -> None:
    change = PeerChange(KEY, fresh=True, endpoint="203.0.113.7:1", persistent_keepalive_s=13, allowed_ips=())
    assert runner.commands(change) == [
        PeerCommand(KEY, remove=True),
        PeerCommand(KEY, endpoint="203.0.113.7:1", persistent_keepalive_s=13, allowed_ips=()),
    ]


def test_a_removal_sets_nothing() -> None:
    assert runner.commands(PeerChange(KEY, remove=True)) == [PeerCommand(KEY, remove=True)]


def test_the_hub_peer_is_the_one_whose_allowed_ips_cover_the_hub() -> None:
    key, place = runner.find_place("http://192.168.7.1:8080", Device(KEY, 1, 0, {KEY: HUB}), ADDRESSES)
    assert key == KEY
    assert place.hub == ipaddress.ip_address("192.168.7.1")
    assert ipaddress.ip_network("192.168.7.0/24") in place.relayed


@pytest.mark.parametrize(
    ("url", "addresses", "remedy"),
    [
        ("http://10.0.0.1:8080", ADDRESSES, "AllowedIPs"),
        ("http://hub.example.net:8080", ADDRESSES, "not a name"),
        ("http://192.168.7.5:8080", ADDRESSES, "this node itself"),
        ("http://192.168.7.1:8080", [], "no address"),
    ],
)
def test_a_node_where_the_agent_cannot_work_is_told_why(
    url: str, addresses: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface], remedy: str
) -> None:
    with pytest.raises(runner.StartError, match=remedy):
        runner.find_place(url, Device(KEY, 1, 0, {KEY: HUB}), addresses)


@pytest.mark.parametrize(
    ("event", "asks"),
    [
        (events.StreamClosed("404", unsupported=True), True),
        (events.StreamClosed("silent"), False),
        (events.Snapshot(events.PeerView(None), {KEY: events.PeerView(None, polls=True)}), True),
        (events.Snapshot(events.PeerView(None), {KEY: events.PeerView(None, instance="0" * 16)}), False),
        (events.Tick(), False),
    ],
)
def test_whoever_probes_by_statusz_is_answered_at_once(event: events.Event, asks: bool) -> None:
    assert runner.asks_for_statusz(event) == asks
