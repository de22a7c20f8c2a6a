# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which mesh secret two ends take: the same one at both, and never none where one end has some."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.core.candidates import UnacceptableError
from wg_rendezvous.core.secrets import NONE, Secrets, from_state

IDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3, unique=True).map(tuple)


def end(own: tuple[str, ...], announced: tuple[str, ...]) -> Secrets:
    secrets = Secrets()
    secrets.own, secrets.announced = own, {"peer": announced}
    return secrets


def agreed(secrets: Secrets, controlling: bool) -> str | None:
    try:
        return secrets.agree("peer", controlling)
    except UnacceptableError:
        return None


@given(IDS, IDS)
def test_both_ends_agree_and_the_offered_one_is_taken(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    offered = agreed(end(one, other), controlling=True)
    assert offered == agreed(end(other, one), controlling=False)
    if offered is None:
        assert not set(one) & set(other)
    else:
        assert (offered == NONE) == (not one and not other)
        assert end(other, one).objection(offered) == ""


@pytest.mark.parametrize(
    ("own", "announced", "said", "offered", "objection"),
    [
        (("a",), (), "it has no mesh secret, and this node has one", NONE, "no mesh secret is offered"),
        ((), ("a",), "it has a mesh secret, and this node has none", "a", "and this node has none"),
        (("a",), ("b",), "another mesh secret than this node: a rotation is under way", "b", "another mesh"),
    ],
)
def test_where_they_cannot_it_is_said_why(
    own: tuple[str, ...], announced: tuple[str, ...], said: str, offered: str, objection: str
) -> None:
    secrets = end(own, announced)
    with pytest.raises(UnacceptableError, match=said):
        secrets.agree("peer", controlling=True)
    assert objection in secrets.objection(offered)


@given(IDS, IDS, st.sampled_from(["", "a", "b"]))
def test_a_link_that_is_opened_again_is_never_without_a_key_where_there_is_a_secret(
    own: tuple[str, ...], announced: tuple[str, ...], used: str
) -> None:
    secrets = end(own, announced)
    secrets.used["peer"] = used
    assert (secrets.choose("peer", controlling=True) in own) or not own


def test_what_was_announced_survives_a_restart() -> None:
    before = end(("a",), ("a", "b"))
    assert from_state(json.loads(json.dumps(before.to_state()))) == before.announced
