# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Probes, over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time

import pytest

from wg_rendezvous.agent import probe as probes
from wg_rendezvous.agent.probe import UnansweredError, probe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="SO_BINDTODEVICE needs root on older kernels")


async def server(answer: bytes, ignore: int = 0) -> tuple[asyncio.Server, list[bytes]]:
    """A server that leaves the first `ignore` connections without an answer."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        if len(requests) > ignore:
            writer.write(answer)
            await writer.drain()
        else:
            await reader.read()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0), requests


async def test_an_answer_gives_the_round_trip() -> None:
    listening, requests = await server(b"HTTP/1.1 200 OK\r\n\r\n")
    async with listening:
        rtt_s = await probe("lo", "127.0.0.1", listening.sockets[0].getsockname()[1], 1.0)
    assert 0 < rtt_s < 0.5
    assert requests[0].startswith(b"GET /statusz HTTP/1.1\r\n")


async def test_a_lost_attempt_is_repeated_well_before_tcp_would() -> None:
    listening, requests = await server(b"HTTP/1.1 200 OK\r\n\r\n", ignore=2)
    started = time.monotonic()
    async with listening:
        await probe("lo", "127.0.0.1", listening.sockets[0].getsockname()[1], 2.0)
    assert 0.3 < time.monotonic() - started < 0.9
    assert len(requests) == 3


async def test_a_refused_connection_is_an_answer() -> None:
    listening, _ = await server(b"")
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    assert await probe("lo", "127.0.0.1", port, 1.0) < 0.5


async def test_silence_is_a_miss_after_its_time_and_not_later() -> None:
    started = time.monotonic()
    with pytest.raises(UnansweredError, match=r"within 0\.5 s"):
        await probe("lo", "192.0.2.1", 8080, 0.5)  # nobody has this address
    assert 0.45 < time.monotonic() - started < 0.8


async def test_a_connection_that_is_accepted_and_not_answered_in_time_came_through_the_link() -> None:
    listening, requests = await server(b"", ignore=100)
    async with listening:
        assert await probe("lo", "127.0.0.1", listening.sockets[0].getsockname()[1], 0.5) < 0.1
    assert len(requests) >= 2


async def test_an_interface_that_is_not_there_is_a_miss_with_its_reason() -> None:
    with pytest.raises(UnansweredError, match=r"[Nn]o such device"):
        await probe("nosuch0", "127.0.0.1", 9, 0.3)


@pytest.mark.parametrize("cancelled", [False, True])
def test_attempts_that_fail_when_others_end_the_probe_are_no_defects(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cancelled: bool
) -> None:
    """asyncio logged an exception that was never retrieved for each of them."""
    attempts = 0
    enough = asyncio.Event()

    async def ask(*_args: object) -> float:
        nonlocal attempts
        attempts += 1
        fails = attempts % 2 == 0
        if attempts == 20:
            enough.set()
        await enough.wait()
        await asyncio.sleep(0)
        if fails:
            raise OSError("no route to host")
        if cancelled:  # as all tasks are at the end of the program
            raise asyncio.CancelledError
        return 0.01

    monkeypatch.setattr(probes, "_ask", ask)
    monkeypatch.setattr(probes, "ATTEMPT_EVERY_S", 0.001)
    with pytest.raises(asyncio.CancelledError) if cancelled else contextlib.nullcontext():
        asyncio.run(probe("lo", "127.0.0.1", 9, 5.0))
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []
