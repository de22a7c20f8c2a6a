#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A running WireGuard interface as data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: interface_info
short_description: Describe a running WireGuard interface and its peers
version_added: 0.1.0
description:
  - Returns the running interface and its peers as data, without private or preshared keys.
  - Works where the interface is down or WireGuard is not installed yet.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes.info
  - rendezvous.wireguard.attributes.action_group
  - rendezvous.wireguard.interface.info
seealso:
  - module: rendezvous.wireguard.interface
  - module: rendezvous.wireguard.peers
"""

EXAMPLES = r"""
- name: Look at the interface
  rendezvous.wireguard.interface_info:
    interface: wg0
  register: wireguard

- name: The direct links of this node
  ansible.builtin.debug:
    msg: "{{ wireguard.interface.peers | selectattr('managed_by', 'eq', 'agent') }}"
"""

RETURN = r"""
interface:
  description: The interface.
  type: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
    up:
      description: Whether it is there. If not, only RV(interface.name) and empty lists are returned with it.
      type: bool
    public_key:
      description: Its public key, V(null) if it has no private key.
      type: str
      returned: if up
    listen_port:
      description: Its UDP port.
      type: int
      returned: if up
    fwmark:
      description: The mark of its packets, V(0) for none.
      type: int
      returned: if up
    mtu:
      description: Its MTU.
      type: int
      returned: if up
    addresses:
      description: Its addresses with prefixes, without those of scope link.
      type: list
      elements: str
    peers:
      description: Its peers.
      type: list
      elements: dict
      contains:
        public_key:
          description: The public key.
          type: str
        name:
          description: The name in the file, V(null) if it has none.
          type: str
        managed_by:
          description: V(file) for a peer in the configuration, V(agent) for one of the agent, else V(nobody).
          type: str
        allowed_ips:
          description: Its networks.
          type: list
          elements: str
        endpoint:
          description: Where it was last, V(null) if that is not known.
          type: str
        persistent_keepalive_s:
          description: The keepalive in seconds, V(0) for off.
          type: int
        latest_handshake_at:
          description: The Unix time of the last handshake in seconds, V(0) for never.
          type: int
        rx_bytes:
          description: Bytes received.
          type: int
        tx_bytes:
          description: Bytes sent.
          type: int
        has_preshared_key:
          description: Whether it has a preshared key.
          type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._info import interface_info
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0"},
            "directory": {"type": "path", "default": DIRECTORY},
        },
        supports_check_mode=True,
    )
    node = Node(module, module.params["interface"], module.params["directory"])
    run_module(module, lambda: interface_info(node))


if __name__ == "__main__":
    main()
