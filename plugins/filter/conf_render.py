# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The text of a WireGuard configuration from data."""

from __future__ import annotations

DOCUMENTATION = r"""
name: conf_render
short_description: The text of a WireGuard configuration from data
version_added: 0.2.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Writes the text of a C(wg0.conf), as C(wg-quick) takes it, from what
    P(rendezvous.wireguard.conf_parse#filter) returns, or from the same written by hand.
  - Every value is checked as M(rendezvous.wireguard.interface) and M(rendezvous.wireguard.peers) check
    theirs.
  - If there is a private or preshared key in it, it is in the text too.
options:
  _input:
    description: C(interface), a dictionary, and C(peers), a list of them; see the filter
      P(rendezvous.wireguard.conf_parse#filter).
    type: dict
    required: true
seealso:
  - plugin: rendezvous.wireguard.conf_parse
    plugin_type: filter
"""

EXAMPLES = r"""
- name: A file for a device that Ansible does not manage, without its private key
  ansible.builtin.copy:
    dest: phone.conf
    mode: '0600'
    content: "{{ configuration | rendezvous.wireguard.conf_render }}"
  vars:
    configuration:
      interface:
        address: [192.168.7.9/24]
        other:
          DNS: [192.168.7.1]
      peers:
        - name: hub
          public_key: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
          allowed_ips: [192.168.7.0/24]
          endpoint: hub.example.net:51820
          persistent_keepalive_s: 25
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def conf_render(data: Mapping[str, Any]) -> str:
    """The text of an IF.conf. AnsibleFilterError names what cannot be."""
    # Here, since Ansible reads the files of all filters to find one, in every task of every host.
    from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _conf_data

    if not isinstance(data, Mapping):
        raise AnsibleFilterError(f"conf_render takes a dictionary, not {type(data).__name__}")
    try:
        return _conf_data.render(data)
    except ValueError as error:
        raise AnsibleFilterError(f"conf_render: {error}") from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"conf_render": conf_render}
