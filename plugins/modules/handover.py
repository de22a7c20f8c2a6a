#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Peers of the hub get from an old key to a new one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: handover
short_description: Hand a peer of the hub over from its old key to its new one
version_added: 0.2.0
description:
  - The hub's half of a key rotation; M(rendezvous.wireguard.rotate_key) is the other one.
  - A key that is announced becomes a peer without AllowedIPs, with the name of the one that it replaces, and
    with its preshared key unless O(from_mesh_secret). As soon as it has shaken hands, the AllowedIPs move to
    it; if the old key shakes hands again, they move back. When it is confirmed, the old key is removed.
  - Whatever is interrupted, the peer is reached with the key that it really uses; run again, the module goes
    on where it was.
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
  announced:
    description:
      - New keys. The old ones have to be peers in the file.
    type: list
    elements: dict
    default: []
    suboptions:
      public_key:
        description: The new key.
        type: str
        required: true
      replaces:
        description: The old one.
        type: str
        required: true
  confirmed:
    description:
      - Keys that are known to run on their hosts. Those that replace nothing are left alone. This comes
        before what is announced.
    type: list
    elements: str
    default: []
  from_mesh_secret:
    description:
      - Derive the preshared key of an announced key from the newest mesh secret of the interface; without
        one it has none.
    type: bool
    default: false
  watch_s:
    description:
      - Stay for so many seconds, and hand over within a twentieth of a second after a handshake. Ends sooner
        when everything is confirmed by other runs. Meant for C(async).
      - With V(0), those are handed over that have shaken hands already.
    type: float
    default: 0
  await_watch_s:
    description:
      - If something is announced, wait until another run watches, for so many seconds at most. Do this before
        anybody uses a new key, since that run takes a while to begin.
    type: float
    default: 0
seealso:
  - module: rendezvous.wireguard.rotate_key
  - module: rendezvous.wireguard.peers
"""

EXAMPLES = r"""
- name: The hub learns the next key
  rendezvous.wireguard.handover:
    announced:
      - public_key: "{{ rotation.next_public_key }}"
        replaces: "{{ rotation.public_key }}"
  delegate_to: hub.example.net

- name: The hub hands over whoever shakes hands
  rendezvous.wireguard.handover:
    watch_s: 300
  delegate_to: hub.example.net
  run_once: true
  async: 310
  poll: 0

- name: It does
  rendezvous.wireguard.handover:
    await_watch_s: 10
  delegate_to: hub.example.net
  run_once: true
"""

RETURN = r"""
pending:
  description: Peers that have been announced and not confirmed.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The name, V(null) if it has none.
      type: str
    public_key:
      description: The new key.
      type: str
  sample: []
announced:
  description: The keys that were announced now, as peers of the file.
  type: list
  elements: dict
  returned: success
  contains:
    public_key:
      description: The new key.
      type: str
    preshared_key_id:
      description: The id of its preshared key, V(null) without one.
      type: str
  sample: []
mesh_secrets:
  description: The ids of the interface's mesh secrets, the newest first.
  type: list
  elements: str
  returned: success
  sample: [d0b1e66a9a9fd3fc]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._handover import Announcement, handover
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module


def main() -> None:
    announcement = {
        "public_key": {"type": "str", "required": True, "no_log": False},
        "replaces": {"type": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0"},
            "announced": {"type": "list", "elements": "dict", "default": [], "options": announcement},
            "confirmed": {"type": "list", "elements": "str", "default": []},
            "from_mesh_secret": {"type": "bool", "default": False},
            "watch_s": {"type": "float", "default": 0},
            "await_watch_s": {"type": "float", "default": 0},
            "directory": {"type": "path", "default": DIRECTORY},
        },
        supports_check_mode=True,
    )
    given = module.params
    node = Node(module, given["interface"], given["directory"])
    announced = [Announcement(one["public_key"], one["replaces"]) for one in given["announced"]]
    options = (given["watch_s"], given["await_watch_s"], given["from_mesh_secret"])
    run_module(module, lambda: handover(node, announced, given["confirmed"], *options))


if __name__ == "__main__":
    main()
