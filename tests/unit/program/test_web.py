# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the applications of hub and agent share."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import SimpleNamespace
from typing import cast

from aiohttp import web as aiohttp_web

from wg_rendezvous import web

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER without time to linger: a connection that is closed is reset."""


async def test_who_asked_on_a_connection_that_was_reset_meanwhile_is_still_known() -> None:
    """(Found with 40 agents on two processors: the hub logged a defect.)"""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[asyncio.WriteTransport] = loop.create_future()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer.transport)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            transport = await accepted
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        request = cast("aiohttp_web.Request", SimpleNamespace(transport=transport))
        try:
            assert web.is_local(request)
        finally:
            transport.abort()
