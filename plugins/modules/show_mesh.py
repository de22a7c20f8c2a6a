#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin show_mesh; all of it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: show_mesh
short_description: Print one table of who reaches whom how
version_added: 0.2.0
description:
  - Prints the table of P(rendezvous.wireguard.links_table#filter) as plain lines, and returns it as data.
  - It goes to the standard output of C(ansible-playbook), or to its standard error if the callback plugin for
    the standard output writes JSON there.
  - It fails if none of the hosts has answered.
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
attributes:
  check_mode:
    description: Runs in check mode as it does otherwise, since it changes nothing.
    support: full
  diff_mode:
    description: There is no difference to show, since it changes nothing.
    support: N/A
  idempotent:
    description: It changes nothing.
    support: full
options:
  answers:
    description:
      - The registered results of M(rendezvous.wireguard.mesh_info) by host name.
    type: dict
    required: true
  width:
    description:
      - How many characters a line has, at most, if the names leave enough for the last column.
    type: int
    default: 120
seealso:
  - module: rendezvous.wireguard.mesh_info
  - plugin: rendezvous.wireguard.links_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ask everybody
  rendezvous.wireguard.mesh_info:
  become: true
  register: answer
  failed_when: false
  ignore_unreachable: true

- name: Print who reaches whom how
  rendezvous.wireguard.show_mesh:
    answers: "{{ dict(ansible_play_hosts_all
      | zip(ansible_play_hosts_all | map('extract', hostvars, 'answer'))) }}"
  run_once: true
"""

RETURN = r"""
lines:
  description: The lines of the table, the header first and one that counts last.
  type: list
  elements: str
  returned: success
  sample:
    - "FROM   TO   STATE   VIA        RTT     SINCE  ENDPOINTS, OR WHY NOT DIRECT"
    - "alice  bob  direct  reflexive  9.8 ms  5 min  192.0.2.5:51820 <-> 192.0.2.6:40122"
    - "1 pair: 1 direct"
unanswered:
  description: Why a host has not answered, by its name.
  type: dict
  returned: success, or if no host has answered
  sample:
    carol: "Failed to connect to the host via ssh: no route to host"
"""
