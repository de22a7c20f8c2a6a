# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Whom a list would let in again."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.rendezvous.wireguard.plugins.filter.still_listed import still_listed


def test_names_and_keys_but_for_those_that_are_to_be_absent() -> None:
    entries = [
        {"name": "phone", "public_key": "P", "state": "present"},
        {"public_key": "Q\n"},
        {"name": "gone", "public_key": "G", "state": "absent"},
        {"name": None, "address": "192.168.7.50/24"},
    ]
    assert still_listed(entries, "wg_interface_peers") == ["phone", "P", "Q"]


@pytest.mark.parametrize("entries", [5, "phone", {"name": "phone"}, ["phone"], None])
def test_what_is_no_list_of_dictionaries_is_said(entries: object) -> None:
    with pytest.raises(
        AnsibleFilterError, match="wg_interface_peers has no value, or is no list of dictionaries: write"
    ):
        still_listed(entries, "wg_interface_peers")
