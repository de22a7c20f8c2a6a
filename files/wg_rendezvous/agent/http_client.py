# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""As much of HTTP/1.1 (RFC 9112) as an agent needs of the hub: one address, short requests, and one answer
that does not end.

aiohttp could do the same, but takes longer to import than all else of an agent's start (DESIGN fact 19).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_LINES = 100
MAX_ANSWER_BYTES = 8 * 1024 * 1024
PIECE_BYTES = 64 * 1024
NO_BODY = (204, 304)


class HttpError(Exception):
    """There is no usable answer; the text says why."""


class BrokenError(HttpError):
    """The connection ended before any of the answer came: it may have been closed before the request."""


@dataclass(frozen=True)
class Request:
    """What is asked of a server; `body` is JSON."""

    method: str
    target: str
    body: bytes | None = None


@dataclass(frozen=True)
class Head:
    """What precedes the body of an answer; names of `fields` are in lower case."""

    status: int
    fields: Mapping[str, str]
    persistent: bool


@dataclass(frozen=True)
class Answer:
    """A whole answer; `retry_after_s` is its Retry-After (RFC 9110, section 10.2.3), None without."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class Connection:
    """One TCP connection, made by `connect`; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self._reader = reader
        self._writer = writer
        self._authority = authority
        self._reusable = True

    @property
    def reusable(self) -> bool:
        """Whether it takes another request."""
        return self._reusable and not self._reader.at_eof() and not self._writer.is_closing()

    def send(self, request: Request, keep: bool = True) -> None:
        """Send a request now, without waiting for anything; `keep`: ask for the connection to stay."""
        lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {self._authority}"]
        if request.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(request.body)}"]
        if not keep:
            lines.append("Connection: close")
        self._reusable = False
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + (request.body or b""))

    async def answer(self, head: Head | None = None) -> Answer:
        """The whole answer to what was sent, or what follows `head`. Raises HttpError."""
        head = head or await self.head()
        pieces, size_bytes = [], 0
        async for piece in self.pieces(head):
            pieces.append(piece)
            size_bytes += len(piece)
            if size_bytes > MAX_ANSWER_BYTES:
                raise HttpError("the answer is larger than this program takes")
        return Answer(head.status, b"".join(pieces), _seconds(head.fields.get("retry-after")))

    async def head(self) -> Head:
        """The answer up to its body, which `pieces` has to read before the next request. Raises HttpError."""
        with _named():
            first = await self._reader.readline()
            if not first:
                raise BrokenError("the connection was closed without an answer")
            version, status = _status_line(first)
            fields = await self._fields()
            if 100 <= status < 200:
                return await self.head()
        options = fields.get("connection", "").lower()
        persistent = "close" not in options and (version != "HTTP/1.0" or "keep-alive" in options)
        return Head(status, fields, persistent)

    async def pieces(self, head: Head) -> AsyncIterator[bytes]:
        """The body, as it comes in. Raises HttpError."""
        with _named():
            if head.status in NO_BODY:
                pass
            elif "chunked" in head.fields.get("transfer-encoding", "").lower():
                async for piece in self._chunks():
                    yield piece
            elif "content-length" in head.fields:
                async for piece in self._exactly(_number(head.fields["content-length"], 10)):
                    yield piece
            else:
                while piece := await self._reader.read(PIECE_BYTES):
                    yield piece
                return
            self._reusable = head.persistent

    def close(self) -> None:
        """Close it now, whatever is under way."""
        self._reusable = False
        self._writer.transport.abort()

    async def _fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        for _line in range(MAX_LINES):
            line = (await self._reader.readline()).decode("latin-1")
            if not line.endswith("\n"):
                raise HttpError("the connection was closed in the middle of an answer")
            name, colon, value = line.strip().partition(":")
            if not name:
                return fields
            if colon:
                fields[name.lower()] = value.strip()
        raise HttpError("the answer has too many header lines")

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = (await self._reader.readline()).partition(b";")[0].strip()
            size_bytes = _number(size.decode("latin-1"), 16)
            if size_bytes == 0:
                await self._fields()
                return
            async for piece in self._exactly(size_bytes):
                yield piece
            await self._reader.readline()

    async def _exactly(self, size_bytes: int) -> AsyncIterator[bytes]:
        while size_bytes:
            piece = await self._reader.read(min(size_bytes, PIECE_BYTES))
            if not piece:
                raise HttpError("the connection was closed in the middle of an answer")
            size_bytes -= len(piece)
            yield piece


async def connect(base: str) -> Connection:
    """A connection to `base` (`"http://192.168.7.1:8080"`). Raises HttpError."""
    parts = urlsplit(base)
    with _named():
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    return Connection(reader, writer, parts.netloc)


def _status_line(line: bytes) -> tuple[str, int]:
    words = line.decode("latin-1").split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith("HTTP/1."):
        raise HttpError("the answer is not HTTP")
    return words[0], _number(words[1], 10)


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise HttpError("the answer is not HTTP: it has no number where one belongs")
    return number


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Every way in which a connection fails, as HttpError."""
    try:
        yield
    except (ConnectionResetError, BrokenPipeError):
        raise BrokenError("the connection was reset") from None
    except OSError as error:
        raise HttpError(os.strerror(error.errno) if error.errno else str(error)) from None
    except ValueError:
        raise HttpError("the answer has a line that is too long") from None


def _seconds(text: str | None) -> float | None:
    """A number of seconds; a date, which the field may also be, is none."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
