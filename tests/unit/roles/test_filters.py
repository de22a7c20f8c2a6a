# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What the roles and playbooks compute with filters."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.rendezvous.wireguard.plugins.filter.host_route import host_route
from ansible_collections.rendezvous.wireguard.plugins.filter.links_table import links_table
from ansible_collections.rendezvous.wireguard.plugins.filter.network import network

LINK = {
    "peer": "B=",
    "state": "direct",
    "endpoint": "192.0.2.7:4711",
    "strategy": "reflexive",
    "rtt_s": 0.0012,
}


@pytest.mark.parametrize(
    ("address", "its_network", "its_route"),
    [
        ("192.168.7.5/24", "192.168.7.0/24", "192.168.7.5/32"),
        ("fd00:7::5/64", "fd00:7::/64", "fd00:7::5/128"),
        ("192.168.7.5/32", "192.168.7.5/32", "192.168.7.5/32"),
    ],
)
def test_network_and_route_of_an_address(address: str, its_network: str, its_route: str) -> None:
    assert (network(address), host_route(address)) == (its_network, its_route)


@pytest.mark.parametrize("bad", ["", "alice", "192.168.7.256/24", "192.168.7.5/33"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(AnsibleFilterError, match="write an address with prefix"):
        network(bad)
    with pytest.raises(AnsibleFilterError, match="write an address with prefix"):
        host_route(bad)


def test_the_table_has_names_and_says_who_did_not_answer() -> None:
    alice = {"stdout": json.dumps({"node": {"public_key": "A="}, "links": [{**LINK, "why": "it answers"}]})}
    bob = {
        "stdout": json.dumps({"node": {"public_key": "B="}, "links": [{"peer": "C=", "state": "relayed"}]})
    }
    carol = {"stdout": "", "stderr": "wg-rendezvous: wg0: no hub and\nno agent"}

    assert [line.split("  ")[0] for line in links_table({"alice": alice, "bob": bob, "carol": carol})] == [
        "FROM",
        "alice",
        "bob",
        "carol",
    ]
    header, first, second, third = links_table({"alice": alice, "bob": bob, "carol": carol})
    assert header.split() == ["FROM", "TO", "STATE", "ENDPOINT", "STRATEGY", "RTT", "WHY"]
    words = ["alice", "bob", "direct", "192.0.2.7:4711", "reflexive", "1.2", "ms", "it", "answers"]
    assert first.split() == words
    assert second.split() == ["bob", "C=", "relayed", "-", "-", "-", "-"]
    assert third.endswith("no hub and no agent")
