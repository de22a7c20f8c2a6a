# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Log lines: for people, and for programs."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous import log


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("wg_rendezvous.test", logging.INFO, "file", 1, message, None, None)
    made.__dict__["fields"] = fields
    return made


def test_text_is_level_message_and_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    line = log.TextFormatter().format(
        record("peer is online", peer="abc+/=", rtt_s=0.25, n=3, why="no answer", at=None)
    )
    assert line == 'INFO peer is online peer=abc+/= rtt_s=0.25 n=3 why="no answer" at=null'


def test_text_has_the_time_where_no_journal_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert log.TextFormatter().format(record("x"))[:2] == "20"


@given(st.text())
def test_no_value_makes_a_second_line_or_field(value: str) -> None:
    line = log.TextFormatter().format(record("x", value=value))
    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_json_is_one_object_a_line_and_fields_cannot_replace_its_own() -> None:
    line = json.loads(log.JsonFormatter().format(record("peer is\nonline", peer="abc", level="forged")))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "wg_rendezvous.test",
        "message": "peer is\nonline",
        "peer": "abc",
    }


def test_an_exception_is_logged_with_its_traceback() -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        failed = record("a request failed")
        failed.exc_info = (type(error), error, error.__traceback__)
    assert "KeyError" in log.TextFormatter().format(failed)
    assert "KeyError" in json.loads(log.JsonFormatter().format(failed))["exception"]
