#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A WireGuard interface, in its file and running."""

from __future__ import annotations

DOCUMENTATION = r"""
module: interface
short_description: Configure a WireGuard interface, in its file and while it runs
version_added: 0.1.0
description:
  - Writes the C([Interface]) section of C(/etc/wireguard/IF.conf) and brings the running interface to the
    same state without dropping a session. C(wg-quick) is never called, so that the table and the hooks for
    the way up wait for its restart, which a warning says.
  - The private key comes from its own file on the node, which O(make_key) makes if there is none, and is
    written into the configuration, since C(wg) forgets the key when it reloads a configuration without one.
  - After a change the public key that runs is compared with that of the key file. If it is another one, or
    anything fails, file and running interface are put back as they were.
  - The options say all that there is to be. One that is left out is removed from the file; lines for which
    there is no option, such as C(DNS), are kept. Peers that are not among O(peers) are the business of
    M(rendezvous.wireguard.peers).
extends_documentation_fragment:
  - rendezvous.wireguard.attributes
  - rendezvous.wireguard.attributes.action_group
  - rendezvous.wireguard.interface
  - rendezvous.wireguard.interface.peers
options:
  interface:
    description:
      - The interface.
    version_added: 0.2.0
    type: str
    default: wg0
    aliases: [name]
  address:
    description:
      - The addresses of the interface, each with the prefix of its network.
      - While the interface runs, new ones are added before those that the file named so far are removed.
        Addresses that the file has never named are left alone.
    type: list
    elements: str
    required: true
  listen_port:
    description:
      - The UDP port. Left out, WireGuard takes any free one, and the one that runs is left alone.
    type: int
  mtu:
    description:
      - The MTU. Left out, C(wg-quick) finds it.
    type: int
  fwmark:
    description:
      - The mark of outgoing packets, V(0) for none.
    type: int
  table:
    description:
      - The routing table, V(auto), or V(off) for no routes.
    type: str
  pre_up:
    description:
      - Commands that C(wg-quick) runs before it brings the interface up.
    type: list
    elements: str
    default: []
  post_up:
    description:
      - Commands that C(wg-quick) runs after it has brought the interface up.
    type: list
    elements: str
    default: []
  pre_down:
    description:
      - Commands that C(wg-quick) runs before it takes the interface down.
    type: list
    elements: str
    default: []
  post_down:
    description:
      - Commands that C(wg-quick) runs after it has taken the interface down.
    type: list
    elements: str
    default: []
  mesh_secrets:
    description:
      - The secrets that preshared keys are derived from, as C(wg genpsk) prints them, the newest first; more
        than one only while they are rotated. They are kept in C(IF.mesh-secret) beside the configuration.
      - By themselves they change no peer of the file. M(rendezvous.wireguard.peers) derives the preshared
        keys of new ones, M(rendezvous.wireguard.rotate_key) brings them to the others, and the agent takes
        them for direct links at once.
    version_added: 0.2.0
    type: list
    elements: str
    default: []
  private_key_path:
    description:
      - The file with the private key, as M(rendezvous.wireguard.keypair) makes it.
      - The default is O(interface) with C(.key) in O(directory).
    type: path
  make_key:
    description:
      - Make the private key if there is none, as M(rendezvous.wireguard.keypair) does. A key that is there is
        never replaced.
      - Without a key file, the key of an interface that was made by hand is taken over, from C(IF.conf) or
        from the running interface, so that the other peers need not be told.
    version_added: 0.2.0
    type: bool
    default: false
  former_ports:
    description:
      - UDP ports that O(listen_port) replaces. If the running interface listens on one of them, what arrives
        there is passed on to the new one from the moment of the change, as
        M(rendezvous.wireguard.firewall) describes.
    version_added: 0.2.0
    type: list
    elements: int
    default: []
  peers:
    version_added: 0.3.0
    default: []
  agent:
    description:
      - A unit of systemd that is stopped before an address goes, and not started again. An agent gives its
        direct links back to the hub, since they belong to that address. Start it when the hub knows the new
        one.
    version_added: 0.2.0
    type: str
seealso:
  - module: rendezvous.wireguard.keypair
  - module: rendezvous.wireguard.peers
"""

EXAMPLES = r"""
- name: A hub
  rendezvous.wireguard.interface:
    interface: wg0
    address: 192.168.7.1/24
    listen_port: 51820
    make_key: true

- name: A peer, on any free port
  rendezvous.wireguard.interface:
    interface: wg0
    address:
      - 192.168.7.5/24
      - fd00:7::5/64
    mtu: 1420
  register: wireguard_interface

- name: What cannot be changed while it runs
  ansible.builtin.systemd_service:
    name: wg-quick@wg0
    state: restarted
  when: wireguard_interface.restart_required | length > 0
"""

RETURN = r"""
interface:
  description: The interface.
  type: str
  returned: success
  sample: wg0
public_key:
  description:
    - The public key of the interface. In check mode, if a key would be made, that of one which is made up.
  type: str
  returned: success
  sample: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
listen_port:
  description: The UDP port, V(null) if none is asked for and the interface is down.
  type: int
  returned: success
  sample: 51820
restart_required:
  description: Options whose change waits for a restart of C(wg-quick@IF), while the interface is up.
  type: list
  elements: str
  returned: success
  sample: [table]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._interface import (
    ensure_interface,
    read_interface,
    with_peers,
)
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module
from ansible_collections.rendezvous.wireguard.plugins.module_utils._peers import PEER_SPEC


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0", "aliases": ["name"]},
            "address": {"type": "list", "elements": "str", "required": True},
            "listen_port": {"type": "int"},
            "mtu": {"type": "int"},
            "fwmark": {"type": "int"},
            "table": {"type": "str"},
            "pre_up": {"type": "list", "elements": "str", "default": []},
            "post_up": {"type": "list", "elements": "str", "default": []},
            "pre_down": {"type": "list", "elements": "str", "default": []},
            "post_down": {"type": "list", "elements": "str", "default": []},
            "mesh_secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "private_key_path": {"type": "path", "no_log": False},
            "peers": {"type": "list", "elements": "dict", "default": [], "options": PEER_SPEC},
            "one_key_a_name": {"type": "bool", "default": False, "no_log": False},
            "make_key": {"type": "bool", "default": False, "no_log": False},
            "agent": {"type": "str"},
            "former_ports": {"type": "list", "elements": "int", "default": []},
            "directory": {"type": "path", "default": DIRECTORY},
        },
        supports_check_mode=True,
    )
    given = module.params
    node = Node(module, given["interface"], given["directory"])
    key_path = given["private_key_path"] or f"{given['directory']}/{given['interface']}.key"
    more = (given["make_key"], given["mesh_secrets"], given["agent"], given["former_ports"])

    def work() -> dict[str, Any]:
        result = ensure_interface(node, read_interface(given), key_path, *more)
        return with_peers(node, result, given["peers"], given["one_key_a_name"])

    run_module(module, work)


if __name__ == "__main__":
    main()
