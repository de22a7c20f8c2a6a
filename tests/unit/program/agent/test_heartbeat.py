# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Heartbeats, over loopback."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous import heartbeat
from wg_rendezvous.listeners import ListenError

LOOPBACK_MTU_BYTES = int(Path("/sys/class/net/lo/mtu").read_text())
MTU_DISCOVER = {
    "127.0.0.1": (socket.IPPROTO_IP, heartbeat.IP_MTU_DISCOVER),
    "::1": (socket.IPPROTO_IPV6, heartbeat.IPV6_MTU_DISCOVER),
}
NUMBERS = st.integers(0, 2**64 - 1)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="SO_BINDTODEVICE needs root on older kernels")

Listen = Callable[..., Awaitable[heartbeat.Beats]]


@given(st.sampled_from([heartbeat.PING, heartbeat.PONG]), NUMBERS, st.integers(0, 1500))
def test_what_is_packed_is_parsed_whatever_its_size(kind: int, number: int, size_bytes: int) -> None:
    datagram = heartbeat.pack(kind, number, size_bytes)
    assert len(datagram) == max(16, size_bytes)
    assert heartbeat.parse(datagram) == (kind, number)


def test_the_layout_is_that_of_the_protocol() -> None:
    assert heartbeat.pack(heartbeat.PING, 258) == b"WGRV\x01\x01\0\0\0\0\0\0\0\0\x01\x02"


@given(st.binary(max_size=64))
def test_garbage_is_no_heartbeat(datagram: bytes) -> None:
    if not datagram.startswith(b"WGRV"):
        assert heartbeat.parse(datagram) is None


@pytest.mark.parametrize("broken", [b"WGRV\x02\x01", b"WGRV\x01\x03", b"WGRV\x01"])
def test_another_version_or_kind_or_half_a_heartbeat_is_none(broken: bytes) -> None:
    rest = heartbeat.pack(heartbeat.PING, 1)[len(broken) :] if len(broken) > 5 else b""
    assert heartbeat.parse(broken + rest) is None


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Listens for heartbeats; ends that after the test."""
    made: list[heartbeat.Beats] = []

    async def start(host: str, port: int = 0, on_pong: heartbeat.OnPong | None = None) -> heartbeat.Beats:
        made.append(await heartbeat.listen([host], port, "lo", on_pong))
        return made[-1]

    yield start
    for beats in made:
        beats.close()
    await asyncio.sleep(0)


@as_root
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size_bytes", [None, 1300])
async def test_a_ping_is_answered_with_its_number(listen: Listen, host: str, size_bytes: int | None) -> None:
    pongs: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    other = await listen(host)
    own = await listen(host, on_pong=lambda *pong: pongs.put_nowait(pong))
    own.ping(host, 2**63, size_bytes, port=other.port)
    assert await asyncio.wait_for(pongs.get(), 5) == (host, 2**63)


@as_root
async def test_a_pong_is_as_small_as_possible_and_garbage_gets_none(listen: Listen) -> None:
    beats = await listen("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        for datagram in (b"", b"garbage", heartbeat.pack(heartbeat.PONG, 1), heartbeat.pack(1, 7, 900)):
            client.sendto(datagram, ("127.0.0.1", beats.port))
        loop = asyncio.get_running_loop()
        answer = await asyncio.wait_for(loop.sock_recv(client, 2000), 5)
        assert answer == heartbeat.pack(heartbeat.PONG, 7)
        await asyncio.sleep(0.05)
        with pytest.raises(BlockingIOError):
            client.recv(2000)


@as_root
async def test_all_that_has_arrived_is_counted_and_answered_in_the_turn_in_which_it_is_asked_for(
    listen: Listen,
) -> None:
    """asyncio takes one datagram a turn: the others would look like traffic beside the device's counters."""
    beats = await listen("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.bind(("127.0.0.1", 0))
        for number in range(20):
            client.sendto(heartbeat.pack(heartbeat.PING, number), ("127.0.0.1", beats.port))
        assert beats.bytes_by_address() == {"127.0.0.1": (20 * 80, 20 * 80)}
        assert [heartbeat.parse(client.recv(2000)) for _ in range(20)] == [
            (heartbeat.PONG, number) for number in range(20)
        ]
    beats.close()
    for _ in range(2):
        assert beats.bytes_by_address() == {"127.0.0.1": (20 * 80, 20 * 80)}
        await asyncio.sleep(0)  # the loop closes the socket


@as_root
async def test_what_cannot_be_sent_is_not_counted(listen: Listen) -> None:
    """The device does not count it either: the difference would hide as much traffic."""
    beats = await listen("127.0.0.1")
    beats.ping("255.255.255.255", 1, port=9)  # not permitted without SO_BROADCAST
    beats.ping("127.0.0.1", 2, size_bytes=2**17, port=9)
    assert beats.bytes_by_address() == {}


@as_root
async def test_pings_from_ever_new_addresses_cost_a_bounded_amount_of_memory(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer may have a whole network behind it, and ping from each address of it."""
    monkeypatch.setattr(heartbeat, "MOST_ADDRESSES", 3)
    beats = await listen("127.0.0.1")
    loop = asyncio.get_running_loop()
    for number in (2, 3, 4, 2, 5, 6):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.bind((f"127.0.0.{number}", 0))
            client.sendto(heartbeat.pack(heartbeat.PING, number), ("127.0.0.1", beats.port))
            answer = await asyncio.wait_for(loop.sock_recv(client, 2000), 5)
            assert answer == heartbeat.pack(heartbeat.PONG, number)
    assert list(beats.bytes_by_address()) == ["127.0.0.2", "127.0.0.5", "127.0.0.6"], "the latest ones"
    assert len(beats._ports) == 3


@as_root
async def test_what_cannot_be_sent_harms_nothing(listen: Listen) -> None:
    pongs: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    beats = await listen("127.0.0.1", on_pong=lambda *pong: pongs.put_nowait(pong))
    beats.ping("::1", 1)  # another family
    beats.ping("203.0.113.1", 2)  # not by way of lo
    beats.ping("127.0.0.1", 3, 65_530)  # larger than any datagram
    beats.ping("127.0.0.1", 4)
    assert await asyncio.wait_for(pongs.get(), 5) == ("127.0.0.1", 4)
    beats.close()
    beats.ping("127.0.0.1", 5)


@as_root
@pytest.mark.parametrize(("host", "headers_bytes"), [("127.0.0.1", 28), ("::1", 48)])
async def test_a_padded_ping_fills_the_mtu_and_is_never_fragmented(
    listen: Listen, host: str, headers_bytes: int
) -> None:
    beats = await listen(host)
    mtu_bytes = LOOPBACK_MTU_BYTES
    assert beats.largest_bytes(host) == mtu_bytes - headers_bytes
    transport = beats._sockets[0]._transport
    assert transport is not None
    own = transport.get_extra_info("socket")
    assert own.getsockopt(*MTU_DISCOVER[host]) == heartbeat.PMTUDISC_DO


@as_root
async def test_a_port_that_is_taken_is_said_with_the_remedy(listen: Listen) -> None:
    beats = await listen("127.0.0.1")
    with pytest.raises(ListenError, match="something else listens there"):
        await listen("127.0.0.1", beats.port)
