#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The peers of a WireGuard interface, in its file and running."""

from __future__ import annotations

DOCUMENTATION = r"""
module: peers
short_description: Configure the peers of a WireGuard interface, in its file and while it runs
version_added: 0.1.0
description:
  - Brings the C([Peer]) sections of C(/etc/wireguard/IF.conf) and the peers of the running interface to the
    wanted state. Peers that are not listed are left alone unless O(exclusive) is set.
  - Several hosts can delegate this module to the same node at the same time.
  - A running endpoint is only replaced when the endpoint in the file changes, since WireGuard follows its
    peers.
  - Routes are added and removed as C(wg-quick) would, except for a default route, which waits for its
    restart.
  - A key that M(rendezvous.wireguard.remove_peer) has removed is refused.
  - A peer that was announced to M(rendezvous.wireguard.handover) as the successor of another has taken over
    when it is listed here, and its old key is removed.
  - If anything fails, file and running interface are put back as they were.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes
  - rendezvous.wireguard.attributes.action_group
  - rendezvous.wireguard.interface
  - rendezvous.wireguard.interface.peers
options:
  interface:
    description:
      - The interface.
    type: str
    default: wg0
  peers:
    required: true
  exclusive:
    description:
      - Remove all peers that are not listed, except for those that the agent of the node has added.
    type: bool
    default: false
seealso:
  - module: rendezvous.wireguard.interface
  - module: rendezvous.wireguard.handover
  - module: rendezvous.wireguard.remove_peer
"""

EXAMPLES = r"""
- name: The hub knows this host
  rendezvous.wireguard.peers:
    interface: wg0
    peers:
      - name: "{{ inventory_hostname }}"
        public_key: "{{ wireguard_key.public_key }}"
        allowed_ips: 192.168.7.5/32
  delegate_to: hub.example.net

- name: A peer reaches the others through the hub
  rendezvous.wireguard.peers:
    interface: wg0
    peers:
      - name: hub
        public_key: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
        allowed_ips: 192.168.7.0/24
        endpoint: hub.example.net:51820
        persistent_keepalive_s: 13

- name: A peer goes
  rendezvous.wireguard.peers:
    interface: wg0
    peers:
      - public_key: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
        state: absent
"""

RETURN = r"""
public_key:
  description:
    - The public key of the interface itself, for those that are to be its peers, V(null) if it has none.
    - In check mode, if the interface would first have to be made, that of a key which is made up.
  type: str
  returned: success
  sample: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
peers:
  description: The peers in the file, in its order.
  type: list
  elements: dict
  returned: success
  contains:
    public_key:
      description: The public key.
      type: str
    name:
      description: The name, V(null) if it has none.
      type: str
    allowed_ips:
      description: The networks.
      type: list
      elements: str
    endpoint:
      description: The endpoint in the file, V(null) if it has none.
      type: str
    persistent_keepalive_s:
      description: The keepalive in the file, V(null) if it has none.
      type: int
    has_preshared_key:
      description: Whether there is a preshared key.
      type: bool
    preshared_key_id:
      description: What tells it from others, V(null) without one. It cannot be found from that.
      type: str
    replaces:
      description:
        - The key that the same host had before, while M(rendezvous.wireguard.handover) moves it from one to
          the other, else V(null).
      type: str
  sample:
    - public_key: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
      name: hub
      allowed_ips: [192.168.7.0/24]
      endpoint: hub.example.net:51820
      persistent_keepalive_s: 13
      has_preshared_key: false
      preshared_key_id:
      replaces:
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module
from ansible_collections.rendezvous.wireguard.plugins.module_utils._peers import PEER_SPEC, ensure_peers


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0"},
            "peers": {"type": "list", "elements": "dict", "required": True, "options": PEER_SPEC},
            "exclusive": {"type": "bool", "default": False},
            "one_key_a_name": {"type": "bool", "default": False, "no_log": False},
            "directory": {"type": "path", "default": DIRECTORY},
        },
        supports_check_mode=True,
    )
    given = module.params
    node = Node(module, given["interface"], given["directory"])
    how = (given["exclusive"], given["one_key_a_name"])
    run_module(module, lambda: ensure_peers(node, given["peers"], *how))


if __name__ == "__main__":
    main()
