#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node without an interface, as if it had never been there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: uninstall
short_description: Remove an interface and all that runs for it from a node
version_added: 0.2.0
description:
  - Stops and disables the tunnel, the hub or agent, and what belongs to them, and removes their files. With
    the last interface of the node go the program and its units.
  - M(rendezvous.wireguard.firewall) with C(state=absent) is to take back before what the firewall was told.
  - The configuration and the keys stay, unless O(forget_key=true). Packages stay, and so do sysctls that run,
    until the next boot.
  - The hub is told nothing. M(rendezvous.wireguard.remove_peer) lets it forget the node.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes
  - rendezvous.wireguard.attributes.action_group
options:
  interface:
    description:
      - The interface.
    type: str
    default: wg0
  directory:
    description:
      - Where the configuration and the keys of the interface are.
    type: path
    default: /etc/wireguard
  forget_key:
    description:
      - Remove C(IF.conf), C(IF.key), C(IF.key.next), C(IF.mesh-secret) and C(IF.removed) as well. A key that
        is lost is not made again; the node would come back as another peer.
    type: bool
    default: false
seealso:
  - module: rendezvous.wireguard.firewall
  - module: rendezvous.wireguard.remove_peer
"""

EXAMPLES = r"""
- name: This node leaves the network
  rendezvous.wireguard.uninstall:
    interface: wg0
"""

RETURN = r"""
last:
  description: Whether no other interface of the node uses the program, so that it was removed as well.
  type: bool
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module
from ansible_collections.rendezvous.wireguard.plugins.module_utils._uninstall import Place, uninstall


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0"},
            "forget_key": {"type": "bool", "default": False, "no_log": False},
            "directory": {"type": "path", "default": DIRECTORY},
        },
        supports_check_mode=True,
    )
    given = module.params
    place = Place(Node(module, given["interface"], given["directory"]))
    run_module(module, lambda: uninstall(place, given["forget_key"]))


if __name__ == "__main__":
    main()
