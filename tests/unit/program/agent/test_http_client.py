# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The HTTP of the agent, against servers that answer byte for byte what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from wg_rendezvous.agent.http_client import Answer, BrokenError, Connection, HttpError, Request, connect

Serve = Callable[[bytes], Awaitable[Connection]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Answers one request with these bytes and closes; gives a connection to that."""
    opened: list[tuple[asyncio.Server, Connection]] = []

    async def start(answer: bytes) -> Connection:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        connection = await connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        opened.append((server, connection))
        return connection

    yield start
    for server, connection in opened:
        connection.close()
        server.close()
        await server.wait_closed()
    await asyncio.sleep(0.01)  # sockets are closed by the loop


async def ask(connection: Connection) -> Answer:
    connection.send(Request("GET", "/"))
    return await connection.answer()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200\r\ncontent-length:5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\n\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-Odd\r\nConnection: close\r\n\r\nhello",
    ],
)
async def test_every_way_to_send_a_body_is_understood(serve: Serve, answer: bytes) -> None:
    assert await ask(await serve(answer)) == Answer(200, b"hello")


async def test_an_answer_without_a_body_ends_at_once(serve: Serve) -> None:
    assert await ask(await serve(b"HTTP/1.1 204 No Content\r\n\r\n")) == Answer(204, b"")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -6\r\n\r\nhello", "no number"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "no number"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "in the middle"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n", "too many"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "too long"),
    ],
)
async def test_what_is_no_whole_answer_is_an_error_that_says_why(
    serve: Serve, answer: bytes, says: str
) -> None:
    connection = await serve(answer)
    with pytest.raises(HttpError, match=says):
        await ask(connection)
    assert not connection.reusable


async def test_a_connection_that_was_closed_before_the_answer_is_broken(serve: Serve) -> None:
    connection = await serve(b"")
    with pytest.raises(BrokenError):
        await ask(connection)


async def test_a_refused_connection_is_said_in_words() -> None:
    with pytest.raises(HttpError, match="Connection refused"):
        await connect("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("answer", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
async def test_a_connection_is_used_again_if_the_server_keeps_it(answer: bytes, reusable: bool) -> None:
    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in (b"\r\n", b""):
            pass
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(on_connection, "127.0.0.1", 0) as server:
        connection = await connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await ask(connection)
        assert connection.reusable is reusable
        connection.close()
    await asyncio.sleep(0.01)


async def test_a_connection_that_the_server_closes_later_is_not_used_again(serve: Serve) -> None:
    connection = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await ask(connection)
    for _ in range(100):
        if not connection.reusable:
            break
        await asyncio.sleep(0.01)
    assert not connection.reusable
