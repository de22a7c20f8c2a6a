# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The route to nothing but an address, "192.168.7.5/24" -> "192.168.7.5/32"."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_route
short_description: The route to nothing but an address
version_added: 0.1.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Turns an address with prefix into the host route, V(192.168.7.5/24) into V(192.168.7.5/32).
options:
  _input:
    description: An IPv4 or IPv6 address with prefix.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: The route to nothing but an address
  ansible.builtin.debug:
    msg: "{{ '192.168.7.5/24' | rendezvous.wireguard.host_route }}"  # 192.168.7.5/32
"""

RETURN = r"""
_value:
  description: In CIDR notation.
  type: str
"""

import ipaddress
from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def host_route(address: str) -> str:
    """ "192.168.7.5/24" -> "192.168.7.5/32". AnsibleFilterError if it is no address."""
    try:
        return str(ipaddress.ip_network(ipaddress.ip_interface(address).ip))
    except ValueError as error:
        raise AnsibleFilterError(f"{error}: write an address with prefix, such as 192.168.7.5/24") from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"host_route": host_route}
