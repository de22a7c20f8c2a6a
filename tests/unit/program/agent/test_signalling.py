# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Streams, registrations and signals, with a hub of aiohttp on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from wg_rendezvous.agent import hub_stream, signalling
from wg_rendezvous.agent.signalling import Signalling
from wg_rendezvous.core import actions, events

BOB = "//////////////////////////////////////////8="
CAROL = "++++++++++++++++++++++++++++++++++++++++++8="
OWN = {"address": "192.168.7.5/32", "endpoint": "203.0.113.5:51820"}
REGISTRATION = actions.Registration("00" * 16, 7, ("10.0.0.2:51820",), {BOB: {"state": "direct"}})
SNAPSHOT = events.Snapshot(events.PeerView("192.168.7.5/32", "203.0.113.5:51820"), {})
OFFER = {"type": "offer", "session": "0011223344556677"}


class Hub:
    """Notes what it is asked; answers as a good hub does, unless told otherwise."""

    def __init__(self) -> None:
        self.registrations: list[dict[str, Any]] = []
        self.signals: list[tuple[str, dict[str, Any]]] = []
        self.connections: dict[str, list[object]] = {"PUT": [], "GET": [], "POST": []}
        self.streams: list[asyncio.Queue[bytes | None]] = []
        self.stream_type = "text/event-stream"
        self.put_answer: Callable[[], Awaitable[web.Response]] | None = None
        self.signal_answer: Callable[[str], Awaitable[web.Response]] | None = None
        self.app = web.Application()
        self.app.router.add_put("/v1/self", self._put)
        self.app.router.add_get("/v1/stream", self._get)
        self.app.router.add_post("/v1/signal/{key:.*}", self._post)

    def send(self, event: str, data: Any, stream: int = -1) -> None:
        self.streams[stream].put_nowait(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    def close(self, stream: int = -1) -> None:
        self.streams[stream].put_nowait(None)

    async def _put(self, request: web.Request) -> web.Response:
        self.connections["PUT"].append(request.transport)
        self.registrations.append(await request.json())
        return await self.put_answer() if self.put_answer else web.json_response(OWN)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.connections["GET"].append(request.transport)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.streams.append(queue)
        self.send("snapshot", {"revision": len(self.streams), "self": OWN, "peers": {}})
        response = web.StreamResponse(headers={"Content-Type": self.stream_type})
        await response.prepare(request)
        while (piece := await queue.get()) is not None:
            await response.write(piece)
        return response

    async def _post(self, request: web.Request) -> web.Response:
        self.connections["POST"].append(request.transport)
        key = request.path.removeprefix("/v1/signal/")
        self.signals.append((key, await request.json()))
        return await self.signal_answer(key) if self.signal_answer else web.Response(status=204)


class Client:
    """The client under test, and what it delivers."""

    def __init__(self, base: str) -> None:
        self.events: asyncio.Queue[events.Event] = asyncio.Queue()
        self.heard = 0
        """How often the stream said something that is no event."""
        self.signalling = Signalling(base, self._deliver)

    def _deliver(self, event: events.Event) -> None:
        if isinstance(event, events.StreamHeard):
            self.heard += 1
        else:
            self.events.put_nowait(event)

    async def next(self) -> events.Event:
        return await asyncio.wait_for(self.events.get(), 5)

    async def closed(self) -> events.StreamClosed:
        event = await self.next()
        assert isinstance(event, events.StreamClosed)
        return event

    async def open(self) -> None:
        self.signalling.open_stream(actions.OpenStream(REGISTRATION, 1.0))
        assert await self.next() == SNAPSHOT

    def signal(self, peer: str, **fields: Any) -> actions.SendSignal:
        action = actions.SendSignal(peer, {**OFFER, **fields})
        self.signalling.send_signal(action)
        return action


@pytest.fixture
def hub() -> Hub:
    """The hub."""
    return Hub()


@pytest.fixture
async def client(hub: Hub) -> AsyncIterator[Client]:
    """A client of the hub."""
    server = TestServer(hub.app)
    await server.start_server()
    made = Client(str(server.make_url("")).rstrip("/"))
    yield made
    await made.signalling.close()
    for number in range(len(hub.streams)):
        hub.close(number)
    await server.close()


async def eventually(condition: Callable[[], Any]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 5 s")


# --- the stream ---


async def test_registration_and_stream_share_one_connection(hub: Hub, client: Client) -> None:
    await client.open()
    assert hub.registrations[0]["instance"] == REGISTRATION.instance
    assert hub.registrations[0]["links"] == {BOB: {"state": "direct"}}
    assert hub.connections["PUT"] == hub.connections["GET"]


async def test_events_come_in_order_and_unknown_ones_are_left_out(hub: Hub, client: Client) -> None:
    await client.open()
    hub.send("peer", {"key": BOB, "address": "192.168.7.6/32", "online": True})
    hub.send("of_a_later_version", {"key": BOB})
    hub.send("signal", {"from": BOB, **OFFER})
    hub.send("gone", {"key": BOB})
    assert [await client.next() for _ in range(3)] == [
        events.PeerChanged(BOB, events.PeerView("192.168.7.6/32", online=True)),
        events.SignalReceived(BOB, OFFER),
        events.PeerGone(BOB),
    ]


async def test_many_links_are_registered_in_parts_before_the_stream_opens(hub: Hub, client: Client) -> None:
    links = {f"{number:043}=": {"state": "direct", "why": "x" * 100} for number in range(400)}
    client.signalling.open_stream(actions.OpenStream(actions.Registration("00" * 16, 1, (), links), 1.0))
    await client.next()
    assert len(hub.registrations) > 2
    assert {key for part in hub.registrations for key in part["links"]} == set(links)
    assert set(hub.connections["PUT"]) == set(hub.connections["GET"])


async def test_a_stream_that_the_hub_closes_is_closed(hub: Hub, client: Client) -> None:
    await client.open()
    hub.close()
    assert await client.closed() == events.StreamClosed("the hub closed the stream")


async def test_malformed_data_closes_the_stream_and_says_what_was_wrong(hub: Hub, client: Client) -> None:
    await client.open()
    hub.streams[0].put_nowait(b"event: peer\ndata: {\n\n")
    assert await client.closed() == events.StreamClosed("the event peer is not JSON")


async def test_a_silent_stream_is_dead_and_comments_keep_it_alive(
    hub: Hub, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_stream, "SILENCE_S", 0.4)
    await client.open()
    for _ in range(8):
        await asyncio.sleep(0.1)
        hub.streams[0].put_nowait(b": still here\n\n")
    assert client.events.empty()
    assert client.heard >= 4, "comments are not said"
    assert await client.closed() == events.StreamClosed("the stream was silent for 0.4 s")


async def test_nothing_of_an_older_stream_is_delivered(hub: Hub, client: Client) -> None:
    await client.open()
    await client.open()
    hub.send("gone", {"key": BOB}, stream=0)
    hub.close(0)
    hub.send("gone", {"key": CAROL}, stream=1)
    assert await client.next() == events.PeerGone(CAROL)
    assert client.events.empty()


async def test_a_stream_that_is_replaced_while_it_opens_is_never_heard_of(hub: Hub, client: Client) -> None:
    for _ in range(20):
        client.signalling.open_stream(actions.OpenStream(REGISTRATION, 1.0))
        await asyncio.sleep(0.003)
    while not client.events.empty():  # of those that were open in time
        client.events.get_nowait()
    client.signalling.open_stream(actions.OpenStream(REGISTRATION, 1.0))
    assert await client.next() == SNAPSHOT
    await asyncio.sleep(0.1)
    assert client.events.empty()
    assert sum(not transport.is_closing() for transport in hub.connections["GET"]) <= 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "unsupported"),
    [
        (status, status in (400, 404, 405, 501))
        for status in (302, 400, 403, 404, 405, 408, 413, 429, 500, 501)
    ],
)
async def test_a_hub_that_does_not_know_the_call_is_told_from_one_that_refuses(
    hub: Hub, client: Client, status: int, unsupported: bool
) -> None:
    async def refuse() -> web.Response:
        return web.json_response({"error": "no"}, status=status)

    hub.put_answer = refuse
    client.signalling.open_stream(actions.OpenStream(REGISTRATION, 1.0))
    assert await client.closed() == events.StreamClosed(
        f"PUT /v1/self was answered {status}: no", unsupported=unsupported
    )
    assert not hub.streams


async def test_a_hub_that_answers_everything_alike_does_not_know_the_call(hub: Hub, client: Client) -> None:
    async def hello() -> web.Response:
        return web.Response(text="<h1>hello</h1>")

    hub.put_answer = hello
    client.signalling.open_stream(actions.OpenStream(REGISTRATION, 1.0))
    assert await client.closed() == events.StreamClosed("PUT /v1/self is not JSON", unsupported=True)


async def test_a_hub_that_has_json_for_everything_does_not_know_the_call(hub: Hub, client: Client) -> None:
    hub.stream_type = "application/json"
    client.signalling.open_stream(actions.OpenStream(REGISTRATION, 1.0))
    assert await client.closed() == events.StreamClosed(
        "GET /v1/stream is no event stream, but application/json", unsupported=True
    )


async def test_a_hub_that_does_not_answer_is_given_up_in_time(hub: Hub, client: Client) -> None:
    async def forever() -> web.Response:
        await asyncio.sleep(1)
        return web.json_response(OWN)

    hub.put_answer = forever
    client.signalling.open_stream(actions.OpenStream(REGISTRATION, 0.2))
    assert await client.closed() == events.StreamClosed("PUT /v1/self: no answer within 0.2 s")


async def test_a_hub_that_is_away_is_no_hub_of_the_origin() -> None:
    client = Client("http://127.0.0.1:9")
    client.signalling.open_stream(actions.OpenStream(REGISTRATION, 1.0))
    closed = await client.closed()
    assert closed == events.StreamClosed("no connection to http://127.0.0.1:9: Connection refused")
    await client.signalling.close()


@pytest.mark.parametrize("answer", [b"", b"what?\r\n", b"HTTP/1.0 501 Unsupported method\r\n\r\n"])
async def test_a_hub_of_the_origin_sees_one_connection_at_a_time(answer: bytes) -> None:
    at_once, most = 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await reader.readline()
        writer.write(answer)
        writer.close()
        at_once -= 1

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        client.signalling.open_stream(actions.OpenStream(REGISTRATION, 1.0))
        assert (await client.closed()).unsupported is answer.startswith(b"HTTP")
        await asyncio.sleep(0.05)
        await client.signalling.close()
    assert most == 1


# --- registrations ---


async def test_a_registration_beside_the_stream_is_answered(hub: Hub, client: Client) -> None:
    await client.open()
    client.signalling.register(actions.Register(REGISTRATION, 1.0))
    assert await client.next() == events.Registered(SNAPSHOT.own, 7)
    assert len(hub.streams) == 1


@pytest.mark.parametrize(
    ("status", "again"), [(403, False), (413, False), (408, True), (429, True), (500, True)]
)
async def test_a_registration_that_is_refused_is_answered_with_why_and_whether_for_good(
    hub: Hub, client: Client, status: int, again: bool
) -> None:
    async def refuse() -> web.Response:
        return web.json_response({"error": "no"}, status=status)

    hub.put_answer = refuse
    client.signalling.register(actions.Register(REGISTRATION, 1.0))
    assert await client.next() == events.RegistrationFailed(
        7, f"PUT /v1/self was answered {status}: no", again
    )


async def test_a_registration_that_is_not_answered_fails_in_time_or_gives_way_to_the_next(
    hub: Hub, client: Client
) -> None:
    async def forever() -> web.Response:
        await asyncio.sleep(1)
        return web.json_response(OWN)

    hub.put_answer = forever
    client.signalling.register(actions.Register(REGISTRATION, 0.2))
    assert await client.next() == events.RegistrationFailed(7, "no answer within 0.2 s")
    client.signalling.register(actions.Register(dataclasses.replace(REGISTRATION, number=8), 0.2))
    await asyncio.sleep(0)
    client.signalling.register(actions.Register(dataclasses.replace(REGISTRATION, number=9), 0.4))
    assert await client.next() == events.RegistrationFailed(9, "no answer within 0.4 s")


async def test_a_defect_is_an_answer_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The core would wait for ever."""

    async def broken(*_: object) -> None:
        raise RuntimeError("what?")

    monkeypatch.setattr(client.signalling._pool, "exchange", broken)
    client.signalling.register(actions.Register(REGISTRATION, 1.0))
    assert await client.next() == events.RegistrationFailed(7, "RuntimeError('what?')")


# --- signals ---


async def test_a_signal_gets_there_whatever_its_peer_is_called(hub: Hub, client: Client) -> None:
    client.signal(BOB)
    client.signal(CAROL)
    await eventually(lambda: len(hub.signals) == 2)
    assert dict(hub.signals) == {BOB: OFFER, CAROL: OFFER}
    await client.signalling.finish(5)
    assert client.events.empty()


async def test_signals_to_one_peer_keep_their_order(hub: Hub, client: Client) -> None:
    delays_s = iter([0.1, 0.05, 0, 0, 0, 0])

    async def slow(key: str) -> web.Response:
        if key == BOB:
            await asyncio.sleep(next(delays_s))
        return web.Response(status=204)

    hub.signal_answer = slow
    for number in range(6):
        client.signal(BOB, number=number)
    client.signal(CAROL)
    await client.signalling.finish(5)
    assert [signal["number"] for key, signal in hub.signals if key == BOB] == [0, 1, 2, 3, 4, 5]
    assert [key for key, _ in hub.signals].index(CAROL) == 1, "another peer does not wait"


async def test_signals_use_a_connection_that_is_ready_and_is_not_the_streams(
    hub: Hub, client: Client
) -> None:
    await client.open()
    await asyncio.sleep(0.05)
    for number in range(3):
        client.signal(BOB, number=number)
        await client.signalling.finish(5)
    assert len(set(hub.connections["POST"])) == 1
    assert hub.connections["POST"][0] not in hub.connections["GET"]


async def test_a_signal_is_on_its_way_before_the_loop_goes_on(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.open()
    await asyncio.sleep(0.05)
    written: list[Any] = []
    connection = client.signalling._pool._idle[0]
    monkeypatch.setattr(connection._writer.transport, "write", written.append)
    client.signal(BOB)
    assert written[0].startswith(b"POST /v1/signal/%2F%2F")


@pytest.mark.parametrize(("status", "undeliverable"), [(404, True), (410, True), (500, False)])
async def test_a_signal_that_did_not_get_there_is_said(
    hub: Hub, client: Client, status: int, undeliverable: bool
) -> None:
    async def refuse(_key: str) -> web.Response:
        return web.json_response({"error": "no"}, status=status)

    hub.signal_answer = refuse
    client.signal(BOB)
    reason = f"the signal was answered {status}: no"
    assert await client.next() == events.SignalFailed(BOB, OFFER, undeliverable, reason)


@pytest.mark.parametrize(
    ("retry_after", "retry_in_s"),
    [("2", 2.0), ("3600", 5.0), (None, 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0), ("-1", 1.0)],
)
async def test_a_hub_that_has_taken_too_many_signals_says_when_to_ask_again(
    hub: Hub, client: Client, retry_after: str | None, retry_in_s: float
) -> None:
    async def refuse(_key: str) -> web.Response:
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.json_response({"error": "no"}, status=429, headers=headers)

    hub.signal_answer = refuse
    client.signal(BOB)
    reason = "the signal was answered 429: no"
    assert await client.next() == events.SignalFailed(BOB, OFFER, False, reason, retry_in_s)


async def test_a_hub_that_does_not_answer_fails_every_signal_after_its_own_time(
    hub: Hub, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever(_key: str) -> web.Response:
        await asyncio.sleep(2)
        return web.Response(status=204)

    hub.signal_answer = forever
    monkeypatch.setattr(signalling, "SIGNAL_S", 0.3)
    started = asyncio.get_running_loop().time()
    for _ in range(3):
        client.signal(BOB)
    for _ in range(3):
        failed = await client.next()
        assert failed == events.SignalFailed(BOB, OFFER, False, "no answer within 0.3 s")
    assert asyncio.get_running_loop().time() - started < 0.6


async def test_a_kept_connection_that_broke_is_replaced_at_once(hub: Hub, client: Client) -> None:
    broken: list[object] = []

    async def breaking(_key: str) -> web.Response:
        if not broken:
            broken.append(hub.connections["POST"][-1])
            hub.connections["POST"][-1].abort()  # type: ignore[attr-defined]
        return web.Response(status=204)

    await client.open()
    await asyncio.sleep(0.05)
    hub.signal_answer = breaking
    client.signal(BOB)
    await client.signalling.finish(5)
    assert client.events.empty()
    assert len(set(hub.connections["POST"])) == 2


async def test_a_hub_that_is_away_fails_the_signal_with_the_reason() -> None:
    client = Client("http://127.0.0.1:9")
    client.signal(BOB)
    assert await client.next() == events.SignalFailed(BOB, OFFER, False, "Connection refused")
    await client.signalling.close()
