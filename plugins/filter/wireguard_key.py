# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A WireGuard key in another form."""

from __future__ import annotations

DOCUMENTATION = r"""
name: wireguard_key
short_description: A WireGuard key, checked, in the form that is wanted
version_added: 0.2.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Reads a key as base64, URL-safe base64 with or without padding, or hexadecimal digits, and writes it in
    the form that is wanted. What is no key is an error, which does not repeat the text.
  - A private key cannot be told from a public one. It does not turn one into the other, since private keys
    stay on their nodes, where M(rendezvous.wireguard.keypair) returns the public key.
options:
  _input:
    description: The key.
    type: str
    required: true
  form:
    description: The form that is wanted.
    type: str
    default: base64
    choices:
      base64: As WireGuard writes it.
      urlsafe: Without C(+), C(/) and C(=), for names of files, URLs and hosts.
      hex: As WireGuard's cross-platform userspace interface has it.
seealso:
  - module: rendezvous.wireguard.keypair
  - plugin: rendezvous.wireguard.wireguard_key
    plugin_type: test
"""

EXAMPLES = r"""
- name: A file for each key
  ansible.builtin.debug:
    msg: "{{ key | rendezvous.wireguard.wireguard_key('urlsafe') }}.conf"
  vars:
    key: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
    # 0ybDBWFYOKT0aOt3SVx4l4_uHyY7IIbtrUVJfBLjHE8.conf
"""

RETURN = r"""
_value:
  description: The key in that form.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _key_forms


def wireguard_key(text: str, form: str = "base64") -> str:
    """The key in this form. AnsibleFilterError if it is none."""
    try:
        return _key_forms.write(_key_forms.read(text), form)
    except ValueError as error:
        raise AnsibleFilterError(f"wireguard_key: {error}") from None


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"wireguard_key": wireguard_key}
