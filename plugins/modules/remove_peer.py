#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Peers that go for good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remove_peer
short_description: Remove peers from the hub for good
version_added: 0.2.0
description:
  - Removes peers by name or key from C(/etc/wireguard/IF.conf) and from the running interface, and notes
    their keys in C(/etc/wireguard/IF.removed), so that M(rendezvous.wireguard.peers) refuses them from then
    on. Delete the line of a key there to allow it again.
  - The agents of the other peers forget a peer by themselves when the hub does not know it any more.
  - One that was removed before is left alone. One that never was there is an error.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes
  - rendezvous.wireguard.attributes.action_group
  - rendezvous.wireguard.interface
options:
  interface:
    description:
      - The interface.
    type: str
    default: wg0
  peers:
    description:
      - Names or public keys of those that go. A name stands for all keys that have it.
    type: list
    elements: str
    required: true
  kept:
    description:
      - Names or keys of peers that must not go, and for each of them where it is written down, for people.
    type: dict
    default: {}
seealso:
  - module: rendezvous.wireguard.peers
"""

EXAMPLES = r"""
- name: Bob's laptop was stolen
  rendezvous.wireguard.remove_peer:
    interface: wg0
    peers: [bob]
"""

RETURN = r"""
removed:
  description: The peers that were removed now.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The name, V(null) if it had none.
      type: str
    public_key:
      description: The public key.
      type: str
  sample:
    - name: bob
      public_key: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module
from ansible_collections.rendezvous.wireguard.plugins.module_utils._removal import remove_peers


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0"},
            "peers": {"type": "list", "elements": "str", "required": True},
            "kept": {"type": "dict", "default": {}},
            "directory": {"type": "path", "default": DIRECTORY},
        },
        supports_check_mode=True,
    )
    given = module.params
    node = Node(module, given["interface"], given["directory"])
    run_module(module, lambda: remove_peers(node, given["peers"], given["kept"]))


if __name__ == "__main__":
    main()
