# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of the modules that write IF.conf, and of those that only read."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  directory:
    description:
      - Where the configuration of the interface is.
      - Runs for the same directory wait for one another, also when several hosts delegate them at the same
        time.
    type: path
    default: /etc/wireguard
notes:
  - The file is always written with mode V(0600), at once. Comments and settings that the module does not
    know are kept.
  - If the interface is down, only the file is written; it is never brought up or down.
  - A file with C(SaveConfig = true) is refused, since C(wg-quick) would overwrite it with what happens to
    run, the peers of the agent included.
  - Peers that the agent of the node has added (C(/run/wg-rendezvous/)) are neither seen nor touched.
"""

    # For modules that describe one interface.
    INFO = r"""
options:
  interface:
    description:
      - The interface.
    type: str
    default: wg0
  directory:
    description:
      - Where the configuration of the interface is, from which the names of the peers come.
    type: path
    default: /etc/wireguard
"""

    # For modules that write peers.
    PEERS = r"""
options:
  peers:
    description:
      - The peers. What is left out of a peer is removed from its section, except for its name.
      - Two peers cannot have the same network, since WireGuard would take it from the first of them.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - A name for people, kept as the comment C(# Name = ...).
        type: str
      public_key:
        description:
          - The public key, as C(wg pubkey) prints it.
        type: str
        required: true
      allowed_ips:
        description:
          - The networks that are sent to this peer and accepted from it. Needed with
            O(peers[].state=present).
        type: list
        elements: str
      endpoint:
        description:
          - Where the peer is, as V(host:port) or V([IPv6 address]:port).
        type: str
      persistent_keepalive_s:
        description:
          - Send a keepalive after this many silent seconds, V(0) for never.
        type: int
      preshared_key:
        description:
          - A preshared key, as C(wg genpsk) prints it. Left out, the peer has none.
        type: str
      from_mesh_secret:
        description:
          - Derive the preshared key of a new peer from the newest mesh secret of the interface
            (O(rendezvous.wireguard.interface#module:mesh_secrets)) and the two public keys.
          - A peer that is in the file keeps the preshared key that it has, also none, since both ends would
            have to change it at once; M(rendezvous.wireguard.rotate_key) does that together with the key.
        version_added: 0.2.0
        type: bool
        default: false
      preshared_key_id:
        description:
          - With O(peers[].from_mesh_secret), the preshared key has to be the one with this id, that the
            module has returned at the other end; V("") for none.
        version_added: 0.2.0
        type: str
      mesh_secret_id:
        description:
          - With O(peers[].from_mesh_secret), the preshared key has to be the one that comes from the mesh
            secret with this id, that the other end takes for a new peer.
        version_added: 0.3.0
        type: str
      state:
        description:
          - Whether there is to be such a peer.
        type: str
        default: present
        choices: [present, absent]
  one_key_a_name:
    description:
      - Remove peers of the file that have the name of one of O(peers) and another key, such as a hub that has
        got a new one while this node was away.
    version_added: 0.3.0
    type: bool
    default: false
"""
