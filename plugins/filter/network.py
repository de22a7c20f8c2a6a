# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The network of an interface's address, "192.168.7.5/24" -> "192.168.7.0/24"."""

from __future__ import annotations

DOCUMENTATION = r"""
name: network
short_description: The network of an interface's address
version_added: 0.1.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Turns an address with prefix into the network, V(192.168.7.5/24) into V(192.168.7.0/24).
options:
  _input:
    description: An IPv4 or IPv6 address with prefix.
    type: str
    required: true
  default:
    description: What to return for what is no address. Without it, that is an error.
    type: str
    version_added: 0.2.0
"""

EXAMPLES = r"""
- name: The network of an interface's address
  ansible.builtin.debug:
    msg: "{{ '192.168.7.5/24' | rendezvous.wireguard.network }}"  # 192.168.7.0/24
"""

RETURN = r"""
_value:
  description: In CIDR notation.
  type: str
"""

import ipaddress
from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def network(address: Any, default: str | None = None) -> str:
    """ "192.168.7.5/24" -> "192.168.7.0/24". What is no address gives the default, or AnsibleFilterError."""
    try:
        return str(ipaddress.ip_interface(str(address)).network)
    except ValueError as error:
        if default is not None:
            return default
        raise AnsibleFilterError(f"{error}: write an address with prefix, such as 192.168.7.5/24") from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"network": network}
