# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is behind each of these hosts, read once for all who are to reach it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: subnets_behind
short_description: The subnets behind each of these hosts
version_added: 0.3.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Reads C(wg_interface_subnets) of hosts in the inventory, once for all peers, instead of on each of them.
  - What has no value, or is no network, is left out, since the preflight of its own host says what is wrong
    with it.
extends_documentation_fragment:
  - rendezvous.wireguard.hosts
"""

EXAMPLES = r"""
- name: Read once for all what is behind whom
  ansible.builtin.set_fact:
    behind: "{{ groups['wireguard_peers'] | rendezvous.wireguard.subnets_behind(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: By host, its subnets. Hosts without any are not in it.
  type: dict
"""

import ipaddress
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Callable

from ansible.errors import AnsibleError
from jinja2.exceptions import UndefinedError


def subnets_behind(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """By host, in the order of the hosts."""
    found = {host: _subnets(hostvars[host]) for host in hosts}
    return {host: subnets for host, subnets in found.items() if subnets}


def _subnets(variables: Mapping[str, Any]) -> list[str]:
    """Those that are networks. What has no value is an error of the second kind in ansible-core 2.19, and its
    own template in 2.18."""
    try:
        written = variables.get("wg_interface_subnets") or []
        listed = [str(subnet) for subnet in ([written] if isinstance(written, str) else written)]
    except (AnsibleError, UndefinedError, TypeError):
        return []
    return list(filter(_is_network, listed))


def _is_network(text: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_network(text))
    return False


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"subnets_behind": subnets_behind}
