# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import owned
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plugins.module_utils import strategies


@given(st.dictionaries(strategies.keys, st.fixed_dictionaries({"address": strategies.networks}), max_size=4))
def test_what_is_rendered_is_read(peers: dict[str, dict[str, str]]) -> None:
    assert owned.parse(owned.render(peers)) == peers


def test_without_a_record_the_agent_has_no_peers(tmp_path: Path) -> None:
    assert owned.read("wg0", str(tmp_path)) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 2, "peers": {}}',
        '{"version": 1}',
        '{"version": 1, "peers": {"a": {}}}',
    ],
)
def test_a_damaged_record_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "wg0.json").write_text(text)
    with pytest.raises(ValueError, match=r"wg0.json is damaged .*; remove it"):
        owned.read("wg0", str(tmp_path))
