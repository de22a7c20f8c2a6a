# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The text of a WireGuard configuration as data."""

from __future__ import annotations

DOCUMENTATION = r"""
name: conf_parse
short_description: The text of a WireGuard configuration as data
version_added: 0.2.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Reads the text of a C(wg0.conf), as C(wg-quick) takes it, with the names that
    M(rendezvous.wireguard.interface) and M(rendezvous.wireguard.peers) have for the settings.
  - Private and preshared keys are left out, also those in hooks and comments, unless O(secrets) is set.
options:
  _input:
    description: The text.
    type: str
    required: true
  secrets:
    description:
      - Keep the private and the preshared keys.
      - What is on the controller can end in a log or a cache of facts; the modules need no key there.
    type: bool
    default: false
seealso:
  - plugin: rendezvous.wireguard.conf_render
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Take over the peers of a hub that was made by hand
  rendezvous.wireguard.peers:
    peers: "{{ (lookup('ansible.builtin.file', 'old/wg0.conf') | rendezvous.wireguard.conf_parse).peers }}"
"""

RETURN = r"""
_value:
  description: What the text sets; what it does not set is not there.
  type: dict
  contains:
    interface:
      description:
        - The section C([Interface]) with C(address), C(listen_port), C(mtu), C(fwmark), C(table), C(pre_up),
          C(post_up), C(pre_down), C(post_down), C(public_key), which belongs to the private key, and with
          O(secrets) C(private_key).
        - C(other) has the settings that have no name of their own, such as C(DNS), each with the list of its
          values.
      type: dict
    peers:
      description:
        - The sections C([Peer]) with C(public_key), C(allowed_ips), C(name), C(endpoint),
          C(persistent_keepalive_s), C(other), and with O(secrets) C(preshared_key).
      type: list
      elements: dict
  sample:
    interface:
      address: [192.168.7.1/24]
      listen_port: 51820
      public_key: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
      other:
        DNS: [192.168.7.1]
    peers:
      - name: alice
        public_key: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
        allowed_ips: [192.168.7.5/32]
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError


def conf_parse(text: str, secrets: bool = False) -> dict[str, Any]:
    """The text of an IF.conf as data. AnsibleFilterError says what cannot be read."""
    # Here, since Ansible reads the files of all filters to find one, in every task of every host.
    from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _conf_data

    if not isinstance(text, str):
        raise AnsibleFilterError(f"conf_parse takes the text of a configuration, not {type(text).__name__}")
    try:
        return _conf_data.parse(text, secrets)
    except ValueError as error:
        raise AnsibleFilterError(f"conf_parse: {error}") from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"conf_parse": conf_parse}
