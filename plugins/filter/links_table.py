# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One table of the mesh, from what the hub and the agents of several hosts say."""

from __future__ import annotations

DOCUMENTATION = r"""
name: links_table
short_description: One table of who reaches whom how
version_added: 0.1.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Turns the results of M(rendezvous.wireguard.mesh_info) from several hosts into the lines of one table,
    with the hosts' names in the place of keys, and a line that counts.
  - There is one row for each two peers, with what both ends say of their link. With the answer of a hub there
    is also one for each of its peers, so that one that is offline is not repeated with every other.
  - V(changing) is what a link is whose ends do not say the same at the moment.
  - The last column has the endpoints of a direct link, that of the first one, as the second one sees it, and
    the other way round; else why there is none.
options:
  _input:
    description: The registered result of that module by host name. A host that did not answer has a row that
      says why.
    type: dict
    required: true
  width:
    description: How many characters a line has, at most, if the names leave enough for the last column.
    version_added: 0.2.0
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Ask everybody
  rendezvous.wireguard.mesh_info:
  become: true
  register: answer
  failed_when: false
  ignore_unreachable: true

- name: Print who reaches whom how
  ansible.builtin.debug:
    msg: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'answer')))
      | rendezvous.wireguard.links_table }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The lines of the table, the header first.
  type: list
  elements: str
  sample:
    - "FROM   TO     STATE    VIA        RTT     SINCE  ENDPOINTS, OR WHY NOT DIRECT"
    - "hub    alice  online   -          -       -      192.0.2.5:51820"
    - "hub    bob    online   -          -       -      192.0.2.6:40122"
    - "hub    carol  offline  -          -       -      no handshake for 3 h, 192.0.2.7:51820"
    - "alice  bob    direct   reflexive  9.8 ms  5 min  192.0.2.5:51820 <-> 192.0.2.6:40122"
    - "1 pair: 1 direct; 1 offline"
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def links_table(answers: Mapping[str, Mapping[str, Any]], width: int = 120) -> list[str]:
    """Lines of equal columns; a host without an answer has one line that says why."""
    # Here, since Ansible reads the files of all filters to find one, in every task of every host.
    from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._table import table

    try:
        return table(answers, int(width))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(
            f"links_table takes registered results of mesh_info by host name; {type(error).__name__}: {error}"
        ) from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"links_table": links_table}
