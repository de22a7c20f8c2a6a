#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who reaches whom how, as the hub or the agent of a node says it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_info
short_description: Ask the hub or the agent of a node who reaches whom how
version_added: 0.2.0
description:
  - Returns what the program of this node says of the peers and of the links between them, as data.
  - An agent knows its own links, with their outlook. The hub knows all peers, and of the links what the
    agents have reported.
  - It is what C(wg-rendezvous status --json) prints on the node, together with the calls C(/v1/peers) and
    C(/v1/links) of the hub.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes.info
  - rendezvous.wireguard.attributes.action_group
  - rendezvous.wireguard.interface.info
options:
  timeout_s:
    description:
      - The seconds to wait for an answer.
    type: float
    default: 5
seealso:
  - module: rendezvous.wireguard.interface_info
  - plugin: rendezvous.wireguard.links_table
    plugin_type: filter
  - plugin: rendezvous.wireguard.hub
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Ask the agent
  rendezvous.wireguard.mesh_info:
    interface: wg0
  become: true
  register: answer

- name: Fail unless every link is direct
  ansible.builtin.assert:
    that: answer.mesh.links | rejectattr('state', 'eq', 'direct') | length == 0
    fail_msg: "{{ answer.mesh.links | rejectattr('state', 'eq', 'direct') | map(attribute='why') }}"
"""

RETURN = r"""
mesh:
  description: What the program says.
  type: dict
  returned: success
  contains:
    interface:
      description: The interface.
      type: str
    role:
      description: V(hub) or V(agent).
      type: str
    public_key:
      description: The public key of this node.
      type: str
    version:
      description: The version of the program.
      type: str
    hub:
      description: The URL of the hub that an agent asks, V(null) on the hub.
      type: str
    hub_silent:
      description: What is wrong with the hub, as an agent sees it; V(null) if nothing is, and on the hub.
      type: str
    asked_at:
      description: The Unix time of this node in seconds; the times of RV(mesh.links) are by the same clock.
      type: float
    peers:
      description: The peers; what an agent does not know of them is V(null).
      type: list
      elements: dict
      contains:
        public_key:
          description: The public key.
          type: str
        name:
          description: The name in the configuration of the interface, V(null) if it has none.
          type: str
        address:
          description: Its host route, V(null) if it has none of its own.
          type: str
        endpoint:
          description: Its reflexive endpoint as the hub sees it.
          type: str
        online:
          description: Whether the hub hears of it.
          type: bool
        latest_handshake_at:
          description: The Unix time of its last handshake with the hub in seconds, V(0) for never.
          type: int
        signals:
          description: Whether its agent is reached by signals.
          type: bool
        version:
          description: The version of its agent.
          type: str
        candidates:
          description: Its host candidates.
          type: list
          elements: str
        polls:
          description: Whether it asks as an agent of the original protocol does.
          type: bool
        why:
          description: Why the hub cannot tell others where it is.
          type: str
    links:
      description:
        - On an agent its own links, on the hub what all agents have reported.
        - An agent that does not report has no links here, on the hub.
      type: list
      elements: dict
      contains:
        from:
          description: The public key of who says so.
          type: str
        to:
          description: The public key of the other end.
          type: str
        state:
          description: >-
            V(relayed), V(opening) and V(knocking) go through the hub; V(provisional), V(direct) and
            V(doubtful) are direct. A newer agent may have others.
          type: str
        strategy:
          description: V(relay), V(host) or V(reflexive).
          type: str
        endpoint:
          description: The endpoint of the other end.
          type: str
        rtt_s:
          description: The round trip in seconds.
          type: float
        since_at:
          description: The Unix time since when it is in this state, in seconds.
          type: float
        online:
          description: Whether the hub says that the other end is online; only of an agent.
          type: bool
        why:
          description: Why it is what it is, and what will be tried when.
          type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._mesh import mesh_info
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import DIRECTORY, Node, run_module


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "wg0"},
            "directory": {"type": "path", "default": DIRECTORY},
            "timeout_s": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    node = Node(module, module.params["interface"], module.params["directory"])
    run_module(module, lambda: mesh_info(node, module.params["timeout_s"]))


if __name__ == "__main__":
    main()
