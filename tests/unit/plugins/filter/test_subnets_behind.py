# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is behind each host."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleUndefinedVariable
from ansible_collections.rendezvous.wireguard.plugins.filter.subnets_behind import subnets_behind


class Broken(dict[str, Any]):
    """The variables of a host, one of which is a template without a value."""

    def get(self, key: str, default: Any = None) -> Any:
        raise AnsibleUndefinedVariable(f"{key} is undefined, {default}")


def test_only_hosts_that_have_any_are_in_it_in_the_order_of_the_hosts() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "alice": {"wg_interface_subnets": ["10.1.0.0/24", "10.2.0.0/24"]},
        "bob": {"wg_interface_subnets": []},
        "carol": {},
        "dave": {"wg_interface_subnets": "10.3.0.0/24"},
    }
    found = subnets_behind(["dave", "carol", "bob", "alice"], hostvars)
    assert list(found.items()) == [("dave", ["10.3.0.0/24"]), ("alice", ["10.1.0.0/24", "10.2.0.0/24"])]


def test_what_is_no_network_is_left_out() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "alice": {"wg_interface_subnets": ["10.1.0.1/24", "{{ nothing }}", "fd88::/64"]},
        "bob": {"wg_interface_subnets": 10},
    }
    assert subnets_behind(hostvars, hostvars) == {"alice": ["fd88::/64"]}


def test_a_host_whose_variable_has_no_value_does_not_stop_the_others() -> None:
    hostvars = {"alice": Broken(), "bob": {"wg_interface_subnets": ["10.1.0.0/24"]}}
    assert subnets_behind(hostvars, hostvars) == {"bob": ["10.1.0.0/24"]}
