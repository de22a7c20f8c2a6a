# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Server-sent events, parsed as they come in (WHATWG HTML, section 9.2.6 "Interpreting an event stream")."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

MAX_PENDING_CHARACTERS = 8 * 1024 * 1024


class StreamError(Exception):
    """What came in is no event stream; the text says why."""


@dataclass(frozen=True)
class ServerSentEvent:
    """One event: its type, and its data lines joined."""

    event: str
    data: str


class Parser:
    """Takes the stream in pieces of any size, and returns the events that are complete."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line: list[str] = []
        self._line_size = 0
        self._data_size = 0
        self._after_cr = False
        self._at_start = True
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that end in `piece`. Raises StreamError."""
        try:
            text = self._decoder.decode(piece)
        except UnicodeDecodeError:
            raise StreamError("it is not UTF-8") from None
        found = [event for line in self._lines(text) if (event := self._on_line(line)) is not None]
        if self._data_size + self._line_size > MAX_PENDING_CHARACTERS:
            raise StreamError("one event is larger than this program takes")
        return found

    def _lines(self, text: str) -> list[str]:
        """The lines that end in `text`, by CR, LF or CRLF; what follows the last end is kept."""
        if self._at_start and text:
            self._at_start = False
            text = text[1:] if text[0] == "\ufeff" else text
        if self._after_cr and text:
            self._after_cr = False
            text = text[1:] if text[0] == "\n" else text
        self._after_cr = self._after_cr or text.endswith("\r")
        *ended, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if ended:
            ended[0] = "".join(self._line) + ended[0]
            self._line = []
            self._line_size = 0
        self._line.append(rest)
        self._line_size += len(rest)
        return ended

    def _on_line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
            self._data_size += len(value)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event, data = self._event, self._data
        self._event, self._data, self._data_size = "", [], 0
        return ServerSentEvent(event or "message", "\n".join(data)) if data else None
