#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node changes its private key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotate_key
short_description: Change the private key of a running interface
version_added: 0.2.0
description:
  - The node's half of a key rotation; M(rendezvous.wireguard.handover) is the hub's. The playbook
    C(rendezvous.wireguard.rotate_keys) puts both together.
  - The next key is made on the node, in a file beside the present one, and never leaves it.
  - The running interface keeps its peers, port and addresses. If the hub does not answer to the new key, the
    node goes back to the old one.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes
  - rendezvous.wireguard.attributes.action_group
  - rendezvous.wireguard.interface
attributes:
  idempotent:
    support: partial
    details:
      - A key that is younger than O(min_age_s) is kept, so that a run which follows another one changes
        nothing.
options:
  interface:
    description:
      - The interface. It has to be up.
    type: str
    default: wg0
  state:
    description:
      - What is to be reached.
    type: str
    default: rotated
    choices:
      prepared: There is a next key in a file beside the present one.
      rotated: The key that was prepared is the one that the interface uses. If none was, nothing changes.
  min_age_s:
    description:
      - A key that is younger than this is kept. A rotation that was begun is always brought to its end.
    type: float
    default: 0
  private_key_path:
    description:
      - The file with the private key. The next one is in the same place, with C(.next) at the end.
      - The default is O(interface) with C(.key) in O(directory).
    type: path
  from_mesh_secret:
    description:
      - The preshared key with the hub comes from a mesh secret of the interface, and changes with the key. A
        key whose preshared key is not of the newest secret is changed, however young it is.
    type: bool
    default: false
  preshared_key_id:
    description:
      - With O(from_mesh_secret), the preshared key has to be the one with this id, that
        M(rendezvous.wireguard.handover) has returned; V("") for none. Left out, it is of the newest secret.
    type: str
  hub_address:
    description:
      - The address of the hub inside the VPN. Needed with O(from_mesh_secret).
      - Left out, this is the hub itself. Then its peers have to have been told of the next key by
        M(rendezvous.wireguard.handover) on each of them, and to watch for it; the hub calls them. That is
        refused while the interface has a mesh secret, since all preshared keys would change with the key.
    type: str
  hub_port:
    description:
      - A TCP port there. Anything that comes back shows that the hub knows the new key, also that nobody
        listens.
    type: int
    default: 8080
  unit:
    description:
      - The unit of the agent. If it runs, it is stopped while the key changes, so that it gives the direct
        links back to the hub, and started afterwards.
    type: str
seealso:
  - module: rendezvous.wireguard.handover
  - module: rendezvous.wireguard.keypair
"""

EXAMPLES = r"""
- name: Make the next key
  rendezvous.wireguard.rotate_key:
    state: prepared
  register: rotation

- name: Use it, when the hub has learned it
  rendezvous.wireguard.rotate_key:
    hub_address: 192.168.7.1
    unit: wg-rendezvous-agent@wg0.service
"""

RETURN = r"""
public_key:
  description: The public key that the interface uses.
  type: str
  returned: success
  sample: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
next_public_key:
  description:
    - The public key that comes next, V(null) if there is nothing to do.
    - In check mode, if a key would be made, that of a key which is made up for the occasion and forgotten.
  type: str
  returned: success
  sample: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
age_s:
  description: How long ago the present key was made, in seconds.
  type: float
  returned: success
  sample: 86400.0
mesh_secrets:
  description: The ids of the interface's mesh secrets, the newest first.
  type: list
  elements: str
  returned: success
  sample: [d0b1e66a9a9fd3fc]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module
from ansible_collections.rendezvous.wireguard.plugins.module_utils._rotation import (
    Hub,
    MeshKey,
    Peers,
    prepare,
    rotate,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0"},
            "state": {"type": "str", "default": "rotated", "choices": ["prepared", "rotated"]},
            "min_age_s": {"type": "float", "default": 0},
            "private_key_path": {"type": "path", "no_log": False},
            "from_mesh_secret": {"type": "bool", "default": False, "no_log": False},
            "preshared_key_id": {"type": "str", "no_log": False},
            "hub_address": {"type": "str"},
            "hub_port": {"type": "int", "default": 8080},
            "unit": {"type": "str"},
            "directory": {"type": "path", "default": DIRECTORY},
        },
        required_if=[("from_mesh_secret", True, ("hub_address",))],
        supports_check_mode=True,
    )
    given = module.params
    node = Node(module, given["interface"], given["directory"])
    key_path = given["private_key_path"] or f"{given['directory']}/{given['interface']}.key"
    others = Hub(given["hub_address"], given["hub_port"]) if given["hub_address"] else Peers()
    mesh_key = MeshKey(given["preshared_key_id"]) if given["from_mesh_secret"] else None
    if given["state"] == "prepared":
        run_module(module, lambda: prepare(node, key_path, given["min_age_s"], others, mesh_key))
    run_module(module, lambda: rotate(node, key_path, given["min_age_s"], others, given["unit"], mesh_key))


if __name__ == "__main__":
    main()
