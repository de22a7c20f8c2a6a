#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""May these keys be in the network?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: admission
short_description: Ask the hub which keys were removed from it
version_added: 0.2.0
description:
  - Tells which of the keys M(rendezvous.wireguard.remove_peer) has removed from this hub, before anything is
    changed. Without keys it only shows that the hub can be reached, and whether it has been deployed.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes.info
  - rendezvous.wireguard.attributes.action_group
options:
  interface:
    description:
      - The interface of the hub.
    type: str
    default: wg0
  public_keys:
    description:
      - The keys of the peers that have one already.
    type: list
    elements: str
    default: []
  directory:
    description:
      - Where the configuration of the interface is.
    type: path
    default: /etc/wireguard
seealso:
  - module: rendezvous.wireguard.remove_peer
"""

EXAMPLES = r"""
- name: Was the key of this peer removed?
  rendezvous.wireguard.admission:
    interface: wg0
    public_keys: ["{{ wireguard_key.public_key }}"]
  delegate_to: hub.example.net
"""

RETURN = r"""
reachable:
  description: Whether the hub could be reached. If not, the task has failed, so that C(run_once) can be used.
  type: bool
  returned: always
  sample: true
deployed:
  description: Whether the interface of the hub has a key already.
  type: bool
  returned: success
  sample: true
refused:
  description: Of the keys that were removed, why they are not let in again, and what to do.
  type: dict
  returned: success
present_mesh_secrets:
  description: The same as RV(mesh_secrets), by the name that M(rendezvous.wireguard.preflight) has for it.
  type: list
  elements: str
  returned: success
mesh_secrets:
  description: The ids of the interface's mesh secrets, the newest first.
  type: list
  elements: str
  returned: success
  sample: [d0b1e66a9a9fd3fc]
public_key:
  description: The public key of the interface of the hub, V(null) if it has none yet.
  type: str
  returned: success
  sample: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
preshared_key_ids:
  description:
    - By the public key of each peer that the hub has, the id of the preshared key with it as of
      M(rendezvous.wireguard.peers), V("") for none.
  type: dict
  returned: success
  sample:
    zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=: ""
claims:
  description:
    - By each network that the hub routes to a peer, the C(name) and C(public_key) of that peer; in C(also)
      its other keys while it changes from one to another.
  type: dict
  returned: success
  sample:
    192.168.7.5/32:
      name: alice
      public_key: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
      also: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module
from ansible_collections.rendezvous.wireguard.plugins.module_utils._removal import check_admission


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0"},
            "public_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "directory": {"type": "path", "default": DIRECTORY},
        },
        supports_check_mode=True,
    )
    given = module.params
    node = Node(module, given["interface"], given["directory"])
    run_module(module, lambda: check_admission(node, given["public_keys"]))


if __name__ == "__main__":
    main()
