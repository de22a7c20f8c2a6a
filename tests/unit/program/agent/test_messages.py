# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Between JSON and the core's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.agent.messages import (
    MAX_BODY_BYTES,
    MessageError,
    event_of,
    peer_view,
    registration_bodies,
)
from wg_rendezvous.agent.stream import ServerSentEvent
from wg_rendezvous.core import events
from wg_rendezvous.core.actions import Registration

KEY = "//////////////////////////////////////////8="
RECORD = {
    "address": "192.168.7.6/32",
    "endpoint": "203.0.113.7:51820",
    "online": True,
    "hands_shaken_at": 1764000000,
    "signals": True,
    "instance": "00112233445566778899aabbccddeeff",
    "candidates": ["10.0.0.2:51820"],
    "version": "1.0.0",
    "linked": True,
    "of_a_later_version": {},
}
VIEW = events.PeerView(
    "192.168.7.6/32",
    "203.0.113.7:51820",
    True,
    True,
    "00112233445566778899aabbccddeeff",
    ("10.0.0.2:51820",),
    True,
)


def event(name: str, data: Any) -> events.Event | None:
    return event_of(ServerSentEvent(name, json.dumps(data)))


def test_every_event_of_the_protocol_becomes_one_of_the_core() -> None:
    snapshot = {"revision": 3, "self": {"address": "192.168.7.5/32"}, "peers": {KEY: RECORD}}
    own = events.PeerView("192.168.7.5/32")
    assert event("snapshot", snapshot) == events.Snapshot(own, {KEY: VIEW})
    assert event("peer", {"key": KEY, **RECORD}) == events.PeerChanged(KEY, VIEW)
    assert event("gone", {"key": KEY}) == events.PeerGone(KEY)
    signal = {"type": "offer", "session": "0011223344556677"}
    assert event("signal", {"from": KEY, **signal}) == events.SignalReceived(KEY, signal)


def test_an_unknown_event_is_ignored_whatever_it_holds() -> None:
    assert event_of(ServerSentEvent("of_a_later_version", "{")) is None


def test_what_a_record_leaves_out_is_not_so() -> None:
    assert peer_view({"endpoint": None, "candidates": None}, "it") == events.PeerView(None)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("peer", [], "no JSON object"),
        ("peer", RECORD, "no key"),
        ("peer", {"key": KEY, "online": "yes"}, "online"),
        ("peer", {"key": KEY, "candidates": [1]}, "candidates"),
        ("peer", {"key": KEY, "secrets": [1]}, "secrets"),
        ("peer", {"key": KEY, "endpoint": 3}, "endpoint"),
        ("gone", {"key": 3}, "no key"),
        ("signal", {"type": "offer"}, "no from"),
        ("snapshot", {"self": {}}, "peers"),
        ("snapshot", {"self": None, "peers": {}}, "self"),
    ],
)
def test_what_is_not_as_the_protocol_says_is_named(name: str, data: Any, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        event(name, data)


@pytest.mark.parametrize("text", ["", "{", "NaN{", "[" * 100_000])
def test_what_is_no_json_is_said(text: str) -> None:
    with pytest.raises(MessageError, match="is not JSON"):
        event_of(ServerSentEvent("peer", text))


REPORTS = st.one_of(st.none(), st.fixed_dictionaries({"state": st.text(), "why": st.text(max_size=300)}))


@given(st.dictionaries(st.text(max_size=44), REPORTS, max_size=40), st.integers(1000, 3000))
def test_the_parts_of_a_registration_merge_to_all_of_it(links: dict[str, Any], at_most_bytes: int) -> None:
    registration = Registration("00" * 16, 17, ("10.0.0.2:51820",), links, ("0123456789abcdef",))
    bodies = list(registration_bodies(registration, "1.0.0", at_most_bytes))
    merged: dict[str, Any] = {}
    for part in map(json.loads, bodies):
        assert part["instance"] == "00" * 16
        assert part["number"] == 17
        assert part["candidates"] == ["10.0.0.2:51820"]
        assert part["secrets"] == ["0123456789abcdef"]
        merged.update(part["links"])
    assert merged == links
    for text in bodies:
        assert len(text) <= at_most_bytes or len(json.loads(text)["links"]) == 1


def test_a_thousand_links_fit_into_bodies_that_the_hub_takes() -> None:
    report = {"state": "direct", "strategy": "reflexive", "endpoint": "203.0.113.7:51820", "why": "x" * 80}
    links = {f"{number:043}=": report for number in range(1000)}
    bodies = list(registration_bodies(Registration("00" * 16, 1, (), links), "1.0.0"))
    assert all(len(text) <= MAX_BODY_BYTES for text in bodies)
    assert len(bodies) < 20
