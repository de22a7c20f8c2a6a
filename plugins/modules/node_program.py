#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The node program and the files that go with it; an action plugin packs the program on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_program
short_description: Ship the program wg-rendezvous to a node, with the files that go with it
version_added: 0.1.0
description:
  - Packs the program that this collection carries into one file (a Python zipapp) on the controller, and
    sends it to the node if the node has another one or none.
  - Lets the program compile itself there, in a directory C(__pycache__) beside it, so that services start in
    half the time. A version that runs goes on from its own directory when the file is replaced, and that
    directory is removed when nothing runs from it any more.
  - The same sources always give the same bytes, so nothing changes until the collection does.
  - The link, the units and the options of the program come in the same execution, after the program.
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
attributes:
  check_mode:
    description: Can run in check mode and tell what would change, without changing it.
    support: full
  diff_mode:
    description: Shows the checksums of the program before and after, it being a binary file, and the texts.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  dest:
    description:
      - The file on the node. A missing directory is made, with mode V(0755).
    type: path
    default: /usr/local/lib/wg-rendezvous/wg-rendezvous.pyz
  mode:
    description:
      - The file's permissions, as in M(ansible.builtin.copy).
    type: raw
    default: '0755'
  link:
    description:
      - A symbolic link to O(dest), by which people call the program. Something else that is there already is
        an error.
    version_added: 0.2.0
    type: path
  files:
    description:
      - Text files that go with the program, such as its units. Missing directories are made.
    version_added: 0.2.0
    type: list
    elements: dict
    default: []
    suboptions:
      dest:
        description: The file on the node.
        type: path
        required: true
      content:
        description: Its text.
        type: str
        required: true
      mode:
        description: Its permissions.
        type: raw
        default: '0644'
  checksum:
    description:
      - SHA-1 of the program. Leave it out, it comes from the controller.
    version_added: 0.2.0
    type: str
  missing:
    description:
      - Whether the node is known to have no program, so that it is sent at once. Else it is asked first.
    version_added: 0.2.0
    type: bool
    default: false
  program:
    description:
      - The program, compressed with zlib, in base64. Leave it out, it comes from the controller.
    version_added: 0.3.0
    type: str
seealso:
  - module: rendezvous.wireguard.services
"""

EXAMPLES = r"""
- name: The program is there
  rendezvous.wireguard.node_program:
    link: /usr/local/bin/wg-rendezvous

- name: The program is where this distribution likes it, with its options
  rendezvous.wireguard.node_program:
    dest: /opt/wg-rendezvous/wg-rendezvous.pyz
    files:
      - dest: /etc/wg-rendezvous/wg0.ini
        content: |
          [agent]
          hub = http://192.168.7.1:8080
          listen = 192.168.7.5:8080
"""

RETURN = r"""
dest:
  description: The file on the node.
  type: str
  returned: success
  sample: /usr/local/lib/wg-rendezvous/wg-rendezvous.pyz
checksum:
  description: SHA-1 of the program, as M(ansible.builtin.stat) gives it.
  type: str
  returned: success
  sample: 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12
program_wanted:
  description: Whether nothing was done yet, since the node has first to be sent the program.
  type: bool
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _files, _node_program
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import run_module


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "default": _files.PROGRAM},
            "mode": {"type": "raw", "default": "0755"},
            "link": {"type": "path"},
            "files": _node_program.FILES_SPEC,
            "checksum": {"type": "str"},
            "missing": {"type": "bool", "default": False},
            "program": {"type": "str", "no_log": True},  # no secret, but nothing to read either
        },
        supports_check_mode=True,
    )
    run_module(module, lambda: _node_program.ensure(module, module.params))


if __name__ == "__main__":
    main()
