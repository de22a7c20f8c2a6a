# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The calls of /v1, asked over real HTTP from the addresses of the peers."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from wg_rendezvous.hub import streams
from wg_rendezvous.hub.refusals import STATUS

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
        "polls": False,
        "secrets": [],
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

    assert time.monotonic() - asked_at_s < 0.2  # not by the next reading, which is a second later
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


async def test_a_peer_hears_of_others_and_of_itself(hub: Hub, alice: Peer, bob: Peer) -> None:
    events = await alice.join()
    await alice.register(version="2")
    name, own = await events.next()
    assert (name, own["version"], "linked" in own) == ("self", "2", False)
    assert await events.nothing()
    await bob.register()
    told = await events.until("peer")  # he is online, since he asked
    assert (told["key"], told["online"], told["signals"]) == (key(6), True, False)
    stream = await bob.stream()
    told = await events.until("peer")
    assert (told["signals"], told["instance"], told["linked"]) == (True, RUN, False)
    await bob.register()
    hub.fake.change(6, latest_handshake_at=2000, rx_bytes=5000)
    await bob.register()
    assert await events.nothing()
    stream.response.close()
    told = await events.until("peer")
    assert (told["signals"], told["instance"]) == (False, RUN)


async def test_a_peer_that_asks_as_the_origin_does_is_told_from_one_without_an_agent(
    alice: Peer, bob: Peer
) -> None:
    events = await alice.join()
    await bob.call("GET", "/peer/" + key(5))
    assert (await events.until("peer"))["polls"] is False  # he is online
    await bob.call("GET", "/online-peers")
    assert (await events.until("peer"))["polls"] is True


async def test_linked_is_for_the_receiver(hub: Hub, alice: Peer, bob: Peer) -> None:
    async with Peer(hub, 7) as carol:
        to_alice, to_bob = await alice.join(), await bob.join()
        await carol.register(version="1", links={key(5): {"state": "direct"}})
        while (told := await to_alice.until("peer"))["key"] != key(7) or told["version"] != "1":
            pass
        assert told["linked"] is True
        while (told := await to_bob.until("peer"))["key"] != key(7) or told["version"] != "1":
            pass
        assert told["linked"] is False


async def test_a_newer_stream_closes_the_older_and_nobody_else_notices(alice: Peer, bob: Peer) -> None:
    await bob.register()
    events = await alice.join()
    older = await bob.join()
    await events.until("peer")
    newer = await bob.stream()

    assert await older.next() == ("end", None)
    assert await events.nothing(0.4)
    await alice.signal(bob, session=RUN)
    assert await newer.until("signal")


async def test_another_run_ends_the_stream_of_the_last_one(alice: Peer, bob: Peer) -> None:
    events = await alice.join()
    older = await bob.join()
    while not (await events.until("peer"))["signals"]:
        pass
    await bob.register(OTHER_RUN)

    assert await older.next() == ("end", None)
    assert (await events.until("peer"))["instance"] is None
    assert (await alice.signal(bob)).status == 404
    await bob.stream()
    assert (await events.until("peer"))["instance"] == OTHER_RUN


async def test_a_peer_that_was_removed_is_gone_and_its_stream_ends(hub: Hub, alice: Peer, bob: Peer) -> None:
    events, removed = await alice.join(), await bob.join()
    hub.fake.peers = (hub.fake.peers[0], hub.fake.peers[2])
    await alice.register()

    assert await events.until("gone") == {"key": key(6)}
    assert await removed.next() == ("end", None)
    assert set((await alice.call("GET", "/v1/peers")).json["peers"]) == {key(7)}


async def test_an_address_that_now_belongs_to_another_peer_gets_no_signals_of_the_former(
    hub: Hub, alice: Peer, bob: Peer
) -> None:
    former = await bob.join()
    hub.fake.change(6, allowed_ips=())
    hub.fake.change(7, allowed_ips=("127.7.0.6/32",))
    await alice.register()

    assert await former.until("end") is None
    assert (await alice.signal(bob)).status == 404


async def test_a_stream_that_is_idle_has_comments_and_a_dead_one_is_ended_by_the_kernel(
    hub: Hub, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "COMMENT_S", 0.05)
    events = await alice.join()
    assert await events.response.content.readline() == b"\n"  # the end of the snapshot
    assert await asyncio.wait_for(events.response.content.readline(), 2) == b":\n"

    stream = hub.api.rendezvous.streams.get(key(5))
    assert stream is not None
    assert stream._request.transport is not None
    connection = stream._request.transport.get_extra_info("socket")
    assert connection.getsockopt(socket.IPPROTO_TCP, streams.TCP_USER_TIMEOUT) == 10_000
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_peer_that_does_not_read_is_cut_off(hub: Hub, alice: Peer) -> None:
    await alice.register()
    reader, writer = await asyncio.open_connection(
        "127.7.0.1", hub.port, local_addr=("127.7.0.5", 0), limit=1024
    )
    writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: hub\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"snapshot"), 5)
    stream = hub.api.rendezvous.streams.get(key(5))
    assert stream is not None
    for _ in range(5000):
        if not stream.send(b"x" * 16_000):
            break
        await asyncio.sleep(0)
    for _ in range(200):
        if len(hub.api.rendezvous.streams) == 0:
            break
        await asyncio.sleep(0.01)

    assert hub.api.rendezvous.streams_too_slow == 1
    assert len(stream._queue) <= streams.MAX_QUEUED
    writer.close()


async def test_a_stream_is_only_got(alice: Peer) -> None:
    await alice.register()
    answer = await alice.call("HEAD", "/v1/stream")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


# --- signals ---


@pytest.mark.parametrize("spell", [str, lambda text: quote(text, safe=""), lambda text: text.rstrip("=")])
async def test_the_key_of_a_signal_may_be_spelled_as_clients_do(alice: Peer, bob: Peer, spell: Any) -> None:
    events = await bob.join()
    await alice.register()
    answer = await alice.call("POST", f"/v1/signal/{spell(key(6))}", json={"type": "offer"})
    assert answer.status == 204
    assert await events.until("signal") == {"type": "offer", "from": key(5)}


async def test_sixty_signals_at_once_and_then_twenty_in_a_second(hub: Hub, alice: Peer, bob: Peer) -> None:
    events = await bob.join()
    statuses = [(await alice.signal(bob)).status for _ in range(75)]
    assert statuses[:60] == [204] * 60
    assert 429 in statuses
    refused = await alice.signal(bob)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    await asyncio.sleep(0.2)
    assert (await alice.signal(bob)).status == 204
    async with Peer(hub, 7) as carol:
        assert (await carol.signal(bob)).status == 204
    assert (await events.next())[0] == "signal"


async def test_a_peer_that_registers_all_the_time_does_not_fill_the_streams_of_others(
    alice: Peer, bob: Peer
) -> None:
    """Every change of a record is an event for everybody else."""
    events = await bob.join()
    claims = [
        alice.call("PUT", "/v1/self", json={"instance": RUN, "version": str(number)}) for number in range(200)
    ]
    statuses = [answer.status for answer in await asyncio.gather(*claims)]
    assert statuses.count(200) <= 100
    assert 429 in statuses
    assert (await alice.signal(bob)).status == 204
    assert (await events.until("signal"))["from"] == key(5)


async def test_a_peer_that_opens_streams_all_the_time_is_told_to_keep_one(
    hub: Hub, alice: Peer, bob: Peer
) -> None:
    """Each begins with a snapshot, and everybody else is told when it opens and ends."""
    events = await bob.join()
    await alice.register()
    streams = [(await alice.stream()).response for _ in range(15)]
    statuses = [response.status for response in streams]
    assert statuses[:10] == [200] * 10
    refused = streams[-1]
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert "keep one open" in (await refused.json())["error"]
    assert hub.api._v1.refusals.counts["too_many"] == statuses.count(429) > 0
    assert (await alice.signal(bob)).status == 204
    await events.until("signal")


# --- GET /v1/peers and /v1/links ---


async def test_who_has_the_revision_is_told_so(alice: Peer, bob: Peer) -> None:
    await alice.register()
    await bob.register()
    first = await alice.call("GET", "/v1/peers")
    assert first.headers["ETag"] == f'W/"{first.json["revision"]}"'
    again = {"If-None-Match": f'"other", {first.headers["ETag"]}'}
    assert (await alice.call("GET", "/v1/peers", headers=again)).status == 304
    await bob.register(version="2")
    second = await alice.call("GET", "/v1/peers", headers=again)
    assert second.json["revision"] == first.json["revision"] + 1
    assert second.json["peers"][key(6)]["version"] == "2"


async def test_a_long_poll_ends_with_the_next_change(alice: Peer, bob: Peer) -> None:
    await alice.register()
    await bob.register()
    tag = (await alice.call("GET", "/v1/peers")).headers["ETag"]
    waiting = asyncio.ensure_future(alice.call("GET", "/v1/peers?wait=4", headers={"If-None-Match": tag}))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await bob.register(version="2")
    assert (await asyncio.wait_for(waiting, 0.5)).json["peers"][key(6)]["version"] == "2"


async def test_a_long_poll_without_a_change_ends_in_time(alice: Peer) -> None:
    await alice.register()
    tag = (await alice.call("GET", "/v1/peers")).headers["ETag"]
    asked_at_s = time.monotonic()
    answer = await alice.call("GET", "/v1/peers?wait=0.2", headers={"If-None-Match": tag})
    assert (answer.status, answer.headers["ETag"]) == (304, tag)
    assert 0.2 <= time.monotonic() - asked_at_s < 1


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon", ""])
async def test_a_wait_that_makes_no_sense_is_refused(alice: Peer, wait: str) -> None:
    answer = await alice.call("GET", f"/v1/peers?wait={wait}")
    assert (answer.status, "wait" in answer.json["error"]) == (400, True)


async def test_links_are_what_the_agents_say(alice: Peer, bob: Peer) -> None:
    await alice.register(links={key(6): {"state": "direct", "rtt_s": 0.01}, key(7): {"state": "relayed"}})
    await alice.register(links={key(7): None})
    await bob.register(links={key(5): {"state": "opening"}})
    links = {key(5): {key(6): {"state": "direct", "rtt_s": 0.01}}, key(6): {key(5): {"state": "opening"}}}
    assert (await alice.call("GET", "/v1/links")).json == {"links": links}


async def test_a_registration_that_comes_late_is_answered_and_ignored(alice: Peer) -> None:
    await alice.register(number=2, version="2", links={key(6): {"state": "direct"}})
    late = await alice.register(number=1, version="1", links={key(6): {"state": "relayed"}})
    assert late["version"] == "2"
    links = {key(5): {key(6): {"state": "direct"}}}
    assert (await alice.call("GET", "/v1/links")).json == {"links": links}


# --- the node itself, and what is refused ---


async def test_the_node_itself_reads_everything_and_changes_nothing(
    hub: Hub, alice: Peer, node: Peer
) -> None:
    await alice.join()
    before = hub.api.rendezvous.records.all_but(None)
    assert set((await node.call("GET", "/v1/peers")).json["peers"]) == {key(5), key(6), key(7)}
    assert (await node.call("GET", "/v1/links")).status == 200
    for answer in (
        await node.call("PUT", "/v1/self", json={"instance": RUN}),
        await node.signal(alice),
        await node.call("GET", "/v1/stream"),
    ):
        assert (answer.status, "only peers" in answer.json["error"]) == (403, True)
    assert hub.api.rendezvous.records.all_but(None) == before


JSON = {"Content-Type": "application/json"}


GZIP = {**JSON, "Content-Encoding": "gzip"}
BAD_BODIES: dict[str, tuple[int, dict[str, Any]]] = {
    "half": (400, {"data": b"{", "headers": JSON}),
    "empty": (400, {"data": b"", "headers": JSON}),
    "list": (400, {"data": b"[]", "headers": JSON}),
    "large": (413, {"data": b'{"instance": "' + b"0" * 16384 + b'"}', "headers": JSON}),
    "deflate": (400, {"data": b"garbage", "headers": {**JSON, "Content-Encoding": "deflate"}}),
    "gzip": (400, {"data": b"garbage", "headers": GZIP}),
    "bomb": (413, {"data": gzip.compress(b" " * 1_000_000), "headers": GZIP}),
    "text": (415, {"data": b'{"instance": "0123456789abcdef"}'}),
    "link": (400, {"json": {"instance": OTHER_RUN, "links": {"x": {}}}}),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_bad_body_is_refused_counted_and_logged_once_and_changes_nothing(
    hub: Hub, alice: Peer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, options = BAD_BODIES[name]
    await alice.register(version="1", links={key(6): {"state": "direct"}})
    before = hub.api.rendezvous.records.all_but(None), hub.api.rendezvous.registrations.links()
    caplog.set_level("WARNING")
    for _ in range(3):
        answer = await alice.call("PUT", "/v1/self", **options)
        assert answer.status == status
        assert answer.json["error"]

    assert (hub.api.rendezvous.records.all_but(None), hub.api.rendezvous.registrations.links()) == before
    warnings = [record.getMessage()[:17] for record in caplog.records if record.levelname != "INFO"]
    assert warnings == ["refused a request"]
    [reason] = [reason for reason, code in STATUS.items() if code == status]
    metrics = (await alice.call("GET", "/metrics")).body.decode()
    assert f'wg_rendezvous_hub_refused_total{{reason="{reason}"}} 3.0\n' in metrics


async def test_a_body_that_breaks_off_changes_nothing(hub: Hub, alice: Peer) -> None:
    head = b"PUT /v1/self HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\n"
    for rest in (b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"):
        _reader, writer = await asyncio.open_connection("127.7.0.1", hub.port, local_addr=("127.7.0.5", 0))
        writer.write(head + rest)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
    assert hub.api.rendezvous.registrations.get(key(5)) is None
    await alice.register()


async def test_metrics_count_streams_events_and_signals(alice: Peer, bob: Peer) -> None:
    await bob.join()
    await alice.join()
    await alice.signal(bob)
    metrics = (await alice.call("GET", "/metrics")).body.decode()
    for line in ("streams 2.0", "signals_total 1.0", "streams_too_slow_total 0.0"):
        assert f"wg_rendezvous_hub_{line}\n" in metrics
    assert 'wg_rendezvous_hub_requests_total{call="/v1/signal/{key}",status="204"} 1.0\n' in metrics


async def test_the_hub_stops_at_once_whoever_listens_or_waits(alice: Peer, bob: Peer, hub: Hub) -> None:
    events = await alice.join()
    await bob.register()
    tag = (await bob.call("GET", "/v1/peers")).headers["ETag"]
    waiting = asyncio.ensure_future(bob.call("GET", "/v1/peers?wait=60", headers={"If-None-Match": tag}))
    await asyncio.sleep(0.05)
    hub.api.stop()
    assert await events.until("end") is None
    assert (await asyncio.wait_for(waiting, 1)).status == 304
