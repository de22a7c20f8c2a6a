# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Connections to the hub that are kept, so that a signal goes out at once."""

from __future__ import annotations

import asyncio
import contextlib

from .http_client import Answer, BrokenError, Connection, HttpError, Request, connect

MAX_IDLE = 4


class Pool:
    """Connections to `base` (`"http://192.168.7.1:8080"`); each takes one request at a time."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._warming: asyncio.Task[None] | None = None

    def renew(self) -> None:
        """Close what is idle, which may be broken without our knowing, and have one new connection ready."""
        self._close_idle()
        if self._warming is None or self._warming.done():
            self._warming = asyncio.ensure_future(self._warm())

    def send_at_once(self, request: Request) -> Connection | None:
        """Send the request on an idle connection, without waiting; None if there is none.

        `exchange` or `give_up` has to be called with what this returned.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                self._busy.add(connection)
                connection.send(request)
                return connection
            connection.close()
        return None

    async def exchange(self, request: Request, sent_on: Connection | None = None) -> Answer:
        """The answer to the request, which was sent on `sent_on` already, unless that is None.

        A connection that broke in the meantime is replaced once. Raises HttpError.
        """
        sent_on = sent_on or self.send_at_once(request)
        if sent_on is not None:
            with contextlib.suppress(BrokenError):
                return await self._answer(sent_on)
        connection = await connect(self._base)
        self._busy.add(connection)
        connection.send(request)
        return await self._answer(connection)

    def give_up(self, connection: Connection) -> None:
        """Close a connection whose answer nobody waits for."""
        self._busy.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close all connections, with whatever is under way."""
        if self._warming is not None:
            self._warming.cancel()
        self._close_idle()
        for connection in self._busy:
            connection.close()

    async def _answer(self, connection: Connection) -> Answer:
        try:
            answer = await connection.answer()
            if connection.reusable and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
            return answer
        finally:
            self._busy.discard(connection)
            if connection not in self._idle:
                connection.close()

    async def _warm(self) -> None:
        with contextlib.suppress(HttpError):
            self._idle.append(await connect(self._base))

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
