# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The parser of server-sent events."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous.agent import stream
from wg_rendezvous.agent.stream import Parser, ServerSentEvent, StreamError

# JSON may hold any of the characters that other kinds of lines end with; only CR and LF end one here.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
EVENTS = st.lists(st.tuples(st.sampled_from(["peer", "gone", "x"]), TEXT), max_size=6)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """`data` in pieces."""
    places = sorted({place % (len(data) + 1) for place in at})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@given(EVENTS, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 500), max_size=8))
def test_how_the_stream_is_cut_into_pieces_makes_no_difference(
    sent: list[tuple[str, str]], end: str, at: list[int]
) -> None:
    text = "".join(f": comment{end}event: {event}{end}data: {data}{end}{end}" for event, data in sent)
    parser = Parser()
    found = [event for piece in cut(text.encode(), at) for event in parser.feed(piece)]
    # After a lone CR at the very end an LF may follow, but the event is complete.
    assert found == [ServerSentEvent(event, data) for event, data in sent]


@given(st.binary(max_size=200))
def test_nothing_but_a_stream_error_comes_of_garbage(garbage: bytes) -> None:
    with contextlib.suppress(StreamError):
        Parser().feed(garbage)


def test_comments_and_unknown_fields_are_no_events() -> None:
    assert Parser().feed(b":\n\n: keep\n\nid: 3\nretry: 7\nevent: peer\n\n") == []


def test_data_over_several_lines_is_one() -> None:
    assert Parser().feed(b'data:{\ndata: "a":1}\n\n') == [ServerSentEvent("message", '{\n"a":1}')]
    assert json.loads('{\n"a":1}') == {"a": 1}


def test_an_event_without_end_is_refused_and_years_of_comments_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "MAX_PENDING_CHARACTERS", 100)
    parser = Parser()
    for _ in range(200):
        assert parser.feed(b":\n") == []
    parser.feed(b"data: " + b"x" * 90 + b"\n")
    with pytest.raises(StreamError, match="larger"):
        parser.feed(b"data: yyyyyyyyyyyy\n")
    with pytest.raises(StreamError, match="larger"):
        Parser().feed(b"z" * 101)
