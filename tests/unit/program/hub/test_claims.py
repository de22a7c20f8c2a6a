# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What bodies may hold."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wg_rendezvous.hub.claims import ClaimError, parse_claim, parse_object, parse_signal
from wg_rendezvous.hub.registrations import Claim

from .fake import key

VPN = [ipaddress.ip_network("127.7.0.0/24")]
RUN = "0123456789abcdef"
REPORT = {
    "state": "direct",
    "strategy": "reflexive",
    "endpoint": "198.51.100.6:51820",
    "rtt_s": 0.012,
    "since_at": 1764000000.0,
    "why": "it works",
}


def claim(**fields: Any) -> Claim:
    return parse_claim(json.dumps({"instance": RUN, **fields}).encode(), VPN)


def test_everything_that_an_agent_says() -> None:
    links = {key(6): REPORT, key(7): None}
    said = claim(version="1.0", candidates=["10.0.0.5:51820"], links=links, number=0)

    assert said == Claim(RUN, "1.0", ("10.0.0.5:51820",), links, number=0)


def test_what_is_left_out_or_null_is_as_before() -> None:
    assert claim() == claim(version=None, candidates=None, links=None, number=None) == Claim(RUN)


def test_what_a_newer_agent_adds_is_ignored() -> None:
    said = claim(mood="good", links={key(6): {"state": "teleported", "strategy": "worm-hole", "colour": 5}})

    assert said.links == {key(6): {"state": "teleported", "strategy": "worm-hole"}}


def test_ids_of_mesh_secrets_are_taken_up_to_four() -> None:
    ids = [f"{number:016x}" for number in range(6)]
    assert claim(secrets=ids).secrets == tuple(ids[:4])
    assert claim(secrets=[]).secrets == ()
    assert claim().secrets is None


def test_candidates_that_are_not_acceptable_are_left_out() -> None:
    assert claim(candidates=["127.7.0.9:5", "10.0.0.5:5", "nonsense"]).candidates == ("10.0.0.5:5",)
    assert claim(candidates=[]).candidates == ()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"instance": None}, "instance"),
        ({"instance": "0123456789abcde"}, "instance"),
        ({"instance": "0" * 65}, "instance"),
        ({"instance": RUN + "\n"}, "instance"),
        ({"instance": "\N{DEVANAGARI DIGIT ZERO}" * 16}, "instance"),
        ({"version": 1}, "version"),
        ({"version": "1" * 65}, "version"),
        ({"version": "1\n2"}, "version"),
        ({"version": "\ud800"}, "version"),
        ({"candidates": "10.0.0.5:5"}, "candidates"),
        ({"candidates": [5]}, "candidates"),
        ({"secrets": "0123456789abcdef"}, "secrets"),
        ({"secrets": ["0123456789abcde"]}, "secrets"),
        ({"secrets": [7]}, "secrets"),
        ({"number": -1}, "number"),
        ({"number": 1.0}, "number"),
        ({"number": True}, "number"),
        ({"number": "1"}, "number"),
        ({"links": []}, "links"),
        ({"links": {"nonsense": REPORT}}, "public key"),
        ({"links": {key(6): "direct"}}, "links"),
        ({"links": {key(6): {}}}, "state"),
        ({"links": {key(6): {"state": None}}}, "state"),
        ({"links": {key(6): {"state": "<b>"}}}, "state"),
        ({"links": {key(6): {**REPORT, "strategy": 5}}}, "strategy"),
        ({"links": {key(6): {**REPORT, "endpoint": "5" * 65}}}, "endpoint"),
        ({"links": {key(6): {**REPORT, "rtt_s": -1}}}, "rtt_s"),
        ({"links": {key(6): {**REPORT, "rtt_s": True}}}, "rtt_s"),
        ({"links": {key(6): {**REPORT, "since_at": "now"}}}, "since_at"),
        ({"links": {key(6): {**REPORT, "why": "a\x1b[2Jb"}}}, "why"),
        ({"links": {key(6): {**REPORT, "why": "w" * 501}}}, "why"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(fields: dict[str, Any], names: str) -> None:
    with pytest.raises(ClaimError, match=names):
        claim(**fields)


BODIES = [
    b"",
    b"\xff",
    b"[]",
    b"5",
    b"null",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b"{",
    b"[" * 16384,
    b'{"a":' * 3000,
    b'{"a": 1' + b"0" * 16000 + b", }",
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:12]))
def test_what_is_no_json_object_is_said(body: bytes) -> None:
    with pytest.raises(ClaimError, match="JSON"):
        parse_object(body)


@pytest.mark.parametrize("number", ["1e999", "9" * 400])
def test_a_number_that_is_out_of_range_is_said(number: str) -> None:
    """Whoever reads the links computes with it as a float."""
    report = f'{{"state": "direct", "rtt_s": {number}}}'
    body = f'{{"instance": "{RUN}", "links": {{"{key(6)}": {report}}}}}'.encode()
    with pytest.raises(ClaimError, match="rtt_s"):
        parse_claim(body, VPN)
    with pytest.raises(ClaimError, match="range"):
        parse_signal(b'{"type": "offer", "size": 1e999}', key(5))


def test_a_signal_is_handed_on_whole_with_its_sender() -> None:
    posted = {"type": "offer", "session": RUN, "from": key(9), "new": [1, {"deep": "\ud800\n"}]}
    handed_on = parse_signal(json.dumps(posted).encode(), key(5))

    assert json.loads(handed_on) == {**posted, "from": key(5)}
    assert b"\n" not in handed_on


@pytest.mark.parametrize("signal_type", [None, 5, "", "offer\n", "Offer", "o" * 33])
def test_a_signal_has_a_type(signal_type: Any) -> None:
    with pytest.raises(ClaimError, match="type"):
        parse_signal(json.dumps({"type": signal_type}).encode(), key(5))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FIELDS = st.dictionaries(
    st.sampled_from(["instance", "version", "candidates", "links", "type", "from"]), JSON
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.one_of(st.binary(), FIELDS.map(lambda fields: json.dumps(fields).encode())))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    for read in (lambda: parse_claim(body, VPN), lambda: parse_signal(body, key(5))):
        with contextlib.suppress(ClaimError):
            read()
