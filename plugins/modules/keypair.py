#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The private key of a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: keypair
short_description: Make and keep the WireGuard private key of a node
version_added: 0.1.0
description:
  - Makes a private key in a file of its own, on the node itself, and returns its public key.
  - The private key never leaves the node and is in no result, log or difference.
  - The tools of WireGuard need not be installed yet.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes
attributes:
  idempotent:
    support: partial
    details:
      - Not with O(regenerate=always), which makes a new key each time.
options:
  path:
    description:
      - The file with the private key. It has mode V(0600) from its first moment on.
      - A directory that does not exist is made with mode V(0700).
    type: path
    default: /etc/wireguard/wg0.key
  regenerate:
    description:
      - When to make a key.
      - A file that is damaged, or that others than its owner can read, is an error unless a new key is asked
        for by V(always). It is never replaced silently.
    type: str
    default: never
    choices:
      never: A key that is there is kept. If there is none, one is made.
      fail: The key has to be there. If there is none, the module fails.
      always: A new key is made each time; all peers have to be told the new public key.
seealso:
  - module: rendezvous.wireguard.interface
"""

EXAMPLES = r"""
- name: The node has a key
  rendezvous.wireguard.keypair:
    path: /etc/wireguard/wg0.key
  register: wireguard_key

- name: Others learn the public key
  ansible.builtin.debug:
    var: wireguard_key.public_key
"""

RETURN = r"""
public_key:
  description:
    - The public key.
    - In check mode, if a key would be made, that of a key which is made up for the occasion and forgotten.
  type: str
  returned: success
  sample: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils._keypair import ensure_keypair
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import run_module


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/wireguard/wg0.key"},
            "regenerate": {"type": "str", "default": "never", "choices": ["never", "fail", "always"]},
        },
        supports_check_mode=True,
    )
    run_module(module, lambda: ensure_keypair(module, module.params["path"], module.params["regenerate"]))


if __name__ == "__main__":
    main()
