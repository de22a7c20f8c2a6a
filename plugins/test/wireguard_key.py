# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a text is a WireGuard key."""

from __future__ import annotations

DOCUMENTATION = r"""
name: wireguard_key
short_description: Whether a text is a WireGuard key
version_added: 0.2.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - A key is 32 bytes, as P(rendezvous.wireguard.wireguard_key#filter) reads them. A private key cannot be
    told from a public one.
options:
  _input:
    description: The text.
    type: str
    required: true
seealso:
  - plugin: rendezvous.wireguard.wireguard_key
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse what is no key
  ansible.builtin.assert:
    that: phone_public_key is rendezvous.wireguard.wireguard_key
    fail_msg: "phone_public_key: write what the app shows as public key"
"""

RETURN = r"""
_value:
  description: V(true) if it is one.
  type: bool
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _key_forms


def wireguard_key(text: Any) -> bool:
    """Whether it is a key in any form."""
    try:
        _key_forms.read(text)
    except ValueError:
        return False
    return True


class TestModule:
    """What Ansible looks for."""

    def tests(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"wireguard_key": wireguard_key}
