# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is known of a link that was lost, to a later run of the agent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wg_rendezvous.core import memory
from wg_rendezvous.core.memory import Memory

LOST = Memory(700.0, "203.0.113.7:51820", "198.51.100.9:1024", port_tried=True)
NEVER_PROVEN = Memory(650.0)


def test_the_next_run_knows_what_this_one_knew_on_its_own_clock() -> None:
    state = json.loads(json.dumps(memory.to_state({"a": LOST, "b": NEVER_PROVEN}, 100.0)))
    later = memory.from_state(state, 5100.0)
    assert later == {
        "a": Memory(5700.0, "203.0.113.7:51820", "198.51.100.9:1024", port_tried=True),
        "b": Memory(5650.0),
    }


def test_what_was_lost_too_long_ago_is_not_kept() -> None:
    assert set(memory.to_state({"a": LOST, "b": NEVER_PROVEN}, 660.0)) == {"a"}


@pytest.mark.parametrize("state", [{"a": {}}, {"a": {"for_s": "soon"}}, {"a": None}, ["a"]])
def test_what_is_no_memory_is_refused(state: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        memory.from_state(state, 0.0)
