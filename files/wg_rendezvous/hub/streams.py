# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Server-sent events: one stream for each peer, and what is on its way to it.

An event is written as soon as it is there: whoever sends one puts it into the queue of a stream and wakes the
task that writes. A peer that reads too slowly is cut off, so that it costs a bounded amount of memory, and
starts again with a snapshot.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket

from aiohttp import web as aiohttp_web

MAX_QUEUED = 256
COMMENT_S = 10.0
USER_TIMEOUT_S = 10.0
# aiohttp does not wake a handler whose connection has ended (some versions cancel it).
LOOK_S = 0.25
CLOSE_S = 1.0
OPENED_PER_S, OPENED_AT_ONCE = 1.0, 10.0
"""Streams of one peer: each begins with a snapshot of all peers, and all of them are told when it opens and
ends. An agent opens hardly more than one a second."""

# socket.TCP_USER_TIMEOUT is Linux's; the number is in tcp(7)'s header.
TCP_USER_TIMEOUT: int = getattr(socket, "TCP_USER_TIMEOUT", 18)

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
COMMENT = b":\n\n"


def event(name: str, data: bytes) -> bytes:
    """One event; `data` is one line."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class Stream:
    """The stream of one peer, over the connection of `request`."""

    def __init__(self, request: aiohttp_web.Request) -> None:
        self.address = request.remote or ""
        self.was_slow = False
        self._request = request
        self._queue: collections.deque[bytes] = collections.deque()
        self._wake = asyncio.Event()
        self._closed = False

    def send(self, data: bytes) -> bool:
        """Put an event into the queue; one that is full ends the stream. Returns whether it is on its way."""
        if self._closed:
            return False
        if len(self._queue) >= MAX_QUEUED:
            self.was_slow = True
            self.close()
            self._abort()
            return False
        self._queue.append(data)
        self._wake.set()
        return True

    def close(self) -> None:
        """End it after what is queued, and not much later if that cannot be sent."""
        if not self._closed:
            self._closed = True
            self._wake.set()
            asyncio.get_running_loop().call_later(CLOSE_S, self._abort)

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def serve(self) -> aiohttp_web.StreamResponse:
        """Write until it is closed, or its connection ends."""
        response = aiohttp_web.StreamResponse(headers=HEADERS)
        response.force_close()
        with contextlib.suppress(OSError):
            self._limit_silence()
            await response.prepare(self._request)
            while self._is_connected():
                await self._write(response)
                if self._closed:
                    break
        return response

    async def _write(self, response: aiohttp_web.StreamResponse) -> None:
        """Write what is there, or a comment after a while without anything."""
        idle_s = 0.0
        while not self._wake.is_set() and idle_s < COMMENT_S:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            idle_s += LOOK_S
            if not self._is_connected():
                return
        self._wake.clear()
        data = b"".join(self._queue)
        self._queue.clear()
        if data or not self._closed:
            await response.write(data or COMMENT)

    def _is_connected(self) -> bool:
        transport = self._request.transport
        return transport is not None and not transport.is_closing()

    def _limit_silence(self) -> None:
        """Let the kernel end the connection when the other end has not acknowledged anything for so long."""
        transport = self._request.transport
        connection = None if transport is None else transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, int(USER_TIMEOUT_S * 1000))


class Streams:
    """The open streams, by key of the peer."""

    def __init__(self) -> None:
        self._open: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, key: str, stream: Stream) -> None:
        """From now on this is the stream of that peer; a former one ends."""
        self.close(key)
        self._open[key] = stream

    def get(self, key: str) -> Stream | None:
        """The stream of that peer, if it has one."""
        return self._open.get(key)

    def items(self) -> list[tuple[str, Stream]]:
        """All of them."""
        return list(self._open.items())

    def close(self, key: str) -> None:
        """End the stream of that peer, if it has one."""
        stream = self._open.pop(key, None)
        if stream is not None:
            stream.close()

    def close_all(self) -> None:
        """End every stream."""
        for key in list(self._open):
            self.close(key)

    def ended(self, key: str, stream: Stream) -> bool:
        """Take out `stream`, which has ended. Returns whether it was still the peer's."""
        if self._open.get(key) is not stream:
            return False
        del self._open[key]
        return True
