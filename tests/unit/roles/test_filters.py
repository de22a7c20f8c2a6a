# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What the roles and playbooks compute with filters."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.rendezvous.wireguard.plugins.filter.host_route import host_route
from ansible_collections.rendezvous.wireguard.plugins.filter.network import network


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
