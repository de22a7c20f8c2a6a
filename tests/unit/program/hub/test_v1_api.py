# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The calls of /v1, asked over real HTTP from the addresses of the peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from .fake import FakeDevice, key, peer
from .served import RUN, Hub, Peer, running

OTHER_RUN = "fedcba9876543210"


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with running(FakeDevice(peer(5), peer(6), peer(7, latest_handshake_at=0))) as made:
        yield made


@pytest.fixture
async def alice(hub: Hub) -> AsyncIterator[Peer]:
    async with Peer(hub, 5) as made:
        yield made


@pytest.fixture
async def bob(hub: Hub) -> AsyncIterator[Peer]:
    async with Peer(hub, 6) as made:
        yield made


@pytest.fixture
async def node(hub: Hub) -> AsyncIterator[Peer]:
    async with Peer(hub, 1) as made:
        yield made


# --- PUT /v1/self ---


async def test_the_answer_to_a_registration_is_the_callers_record(alice: Peer) -> None:
    told = await alice.register(version="1.2.3", candidates=["192.168.1.5:51820", "127.0.0.1:51820"])

    assert told == {
        "address": "127.7.0.5/32",
        "endpoint": "198.51.100.5:51820",
        "online": True,
        "hands_shaken_at": 1000,
        "signals": False,
        "instance": None,
        "candidates": ["192.168.1.5:51820"],
        "version": "1.2.3",
    }


async def test_the_answer_shows_what_the_device_says_after_the_call(hub: Hub, alice: Peer) -> None:
    await alice.register()
    for port in (40001, 40002, 40003):
        hub.fake.change(5, endpoint=f"198.51.100.5:{port}")
        assert (await alice.register())["endpoint"] == f"198.51.100.5:{port}"


# --- streams and events ---


async def test_the_first_event_is_everything(alice: Peer, bob: Peer) -> None:
    await bob.join(links={key(5): {"state": "direct"}})
    await alice.register()
    name, data = await (await alice.stream()).next()

    assert name == "snapshot"
    assert (data["self"]["address"], data["self"]["signals"]) == ("127.7.0.5/32", True)
    assert set(data["peers"]) == {key(6), key(7)}
    assert data["peers"][key(6)]["instance"] == RUN
    assert [data["peers"][key(number)]["linked"] for number in (6, 7)] == [True, False]
    assert data["revision"] == (await alice.call("GET", "/v1/peers")).json["revision"]


async def test_a_fresh_port_is_told_to_the_others_as_soon_as_the_device_was_read(
    hub: Hub, alice: Peer, bob: Peer
) -> None:
    events = await bob.join()
    await alice.register()
    hub.fake.change(5, endpoint="198.51.100.5:40000")
    asked_at_s = time.monotonic()
    registering = asyncio.ensure_future(alice.register())
    while (told := await events.until("peer"))["endpoint"] != "198.51.100.5:40000":
        pass

    assert time.monotonic() - asked_at_s < 0.05
    assert told["key"] == key(5)
    await registering


async def test_a_signal_is_there_within_milliseconds(alice: Peer, bob: Peer) -> None:
    events = await bob.join()
    await alice.register()
    took_s = []
    for number in range(20):
        sent_at_s = time.monotonic()
        posting = asyncio.ensure_future(alice.signal(bob, session=f"{number:016x}"))
        signal = await events.until("signal")
        took_s.append(time.monotonic() - sent_at_s)
        assert signal == {"type": "offer", "session": f"{number:016x}", "from": key(5)}
        assert (await posting).status == 204

    # With the client's part of it.
    assert sorted(took_s)[10] < 0.005
