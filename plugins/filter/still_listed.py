# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whom a list of the inventory would let in again."""

from __future__ import annotations

DOCUMENTATION = r"""
name: still_listed
short_description: Whom a list of peers or devices would let in again
version_added: 0.3.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Collects the names and public keys of a list such as C(wg_interface_peers) or C(wg_client_config_devices),
    but for entries with C(state=absent).
  - What is no list of dictionaries is an error, since it cannot be told who is in it.
options:
  _input:
    description: The list.
    type: list
    elements: dict
    required: true
  variable:
    description: The name of the list, for messages.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say who would be let in again
  ansible.builtin.debug:
    msg: "{{ wg_interface_peers | rendezvous.wireguard.still_listed('wg_interface_peers') }}"
"""

RETURN = r"""
_value:
  description: The names and keys.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def still_listed(entries: Any, variable: str) -> list[str]:
    """Names and public keys. AnsibleFilterError for what is no list of dictionaries."""
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise AnsibleFilterError(
            f"{variable} has no value, or is no list of dictionaries: write '- name: ...' for each entry"
        )
    wanted = [entry for entry in entries if entry.get("state") != "absent"]
    return [
        str(entry[what]).strip() for entry in wanted for what in ("name", "public_key") if entry.get(what)
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"still_listed": still_listed}
