#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin node_program; nothing of it runs on the node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_program
short_description: Ship the program wg-rendezvous to a node
version_added: 0.1.0
description:
  - Packs the program that this collection carries into one file (a Python zipapp) on the controller, and
    copies it to the node if the node has another one or none.
  - Lets the program compile itself there, in a directory C(__pycache__) beside it, so that services start in
    half the time. A version that runs goes on from its own directory when the file is replaced, and that
    directory is removed when nothing runs from it any more.
  - The same sources always give the same bytes, so nothing changes until the collection does.
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
attributes:
  check_mode:
    description: Can run in check mode and tell whether the program would change, without changing it.
    support: full
  diff_mode:
    description: Shows the checksums before and after, the program being a binary file.
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
seealso:
  - module: ansible.builtin.copy
"""

EXAMPLES = r"""
- name: The program is there
  rendezvous.wireguard.node_program:

- name: The program is where this distribution likes it
  rendezvous.wireguard.node_program:
    dest: /opt/wg-rendezvous/wg-rendezvous.pyz
"""

RETURN = r"""
dest:
  description: The file on the node.
  type: str
  returned: always
  sample: /usr/local/lib/wg-rendezvous/wg-rendezvous.pyz
checksum:
  description: SHA-1 of the program, as M(ansible.builtin.stat) gives it.
  type: str
  returned: always
  sample: 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12
"""
