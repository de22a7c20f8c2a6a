# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The agent's side of the origin's API, against hubs that each understand keys in their own way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from wg_rendezvous.agent.hub_client import HubClient, HubError
from wg_rendezvous.core.events import PeerRecord

OWN = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
SLASHES = "//////////////////////////////////////////8="
PLUS = "++++++++++++++++++++++++++++++++++++++++++8="
RECORD = {"endpoint": "203.0.113.7:51820", "allowed_ips": "192.168.7.6/32", "hands_shaken_at": "1"}

Connect = Callable[[web.Application], Awaitable[HubClient]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Serves an application and gives a client of it."""
    opened: list[TestServer] = []

    async def serve(app: web.Application) -> HubClient:
        server = TestServer(app)
        await server.start_server()
        opened.append(server)
        return HubClient(str(server.make_url("")))

    yield serve
    for server in opened:
        await server.close()


def hub(
    understands: Callable[[web.Request], str | None], keys: object = (OWN, SLASHES, PLUS)
) -> web.Application:
    """A hub whose way to find the key in a request is `understands`."""

    async def online(_request: web.Request) -> web.Response:
        return web.json_response(list(keys) if isinstance(keys, tuple) else keys)

    async def peer(request: web.Request) -> web.Response:
        known = isinstance(keys, tuple) and understands(request) in keys
        return web.json_response(RECORD) if known else web.json_response({"error": "?"}, status=404)

    app = web.Application()
    app.router.add_get("/online-peers", online)
    app.router.add_get("/peer/{key:.*}", peer)
    return app


def decoded(request: web.Request) -> str:
    return request.path.removeprefix("/peer/")


def one_segment(request: web.Request) -> str | None:
    """As a router with one path parameter does: a raw slash is the next segment."""
    raw = request.rel_url.raw_path.removeprefix("/peer/")
    return None if "/" in raw else request.path.removeprefix("/peer/")


def verbatim(request: web.Request) -> str:
    """As a hub that never decodes does."""
    return request.raw_path.removeprefix("/peer/")


@pytest.mark.parametrize("understands", [decoded, one_segment, verbatim])
async def test_every_way_to_read_a_key_works(
    connect: Connect, understands: Callable[[web.Request], str]
) -> None:
    client = await connect(hub(understands))
    record = PeerRecord("203.0.113.7:51820", "192.168.7.6/32")
    assert await client.peers(OWN) == {SLASHES: record, PLUS: record}


async def test_a_peer_that_has_gone_in_between_is_left_out(connect: Connect) -> None:
    client = await connect(hub(lambda request: decoded(request) if "+" in request.path else None))
    assert set(await client.peers(OWN)) == {PLUS}


async def test_a_peer_that_the_hub_has_trouble_with_keeps_its_last_record_and_hides_no_other(
    connect: Connect,
) -> None:
    trouble: list[str] = []

    def understands(request: web.Request) -> str:
        if decoded(request) in trouble:
            raise web.HTTPInternalServerError
        return decoded(request)

    client = await connect(hub(understands))
    before = await client.peers(OWN)
    trouble.append(PLUS)
    assert await client.peers(OWN) == before


@pytest.mark.parametrize("keys", [{"a": 1}, "text", [1, 2], None])
async def test_an_answer_that_is_no_list_of_keys_is_an_error(connect: Connect, keys: object) -> None:
    client = await connect(hub(decoded, keys))
    with pytest.raises(HubError, match="not a list of keys"):
        await client.peers(OWN)


async def test_a_hub_that_is_away_is_an_error_that_names_it() -> None:
    client = HubClient("http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"http://127\.0\.0\.1:9/online-peers"):
        await client.peers(OWN)


async def test_the_hub_sees_a_greeting(connect: Connect) -> None:
    seen: list[str] = []

    async def statusz(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(text="ok: 1\n")

    app = hub(decoded)
    app.router.add_get("/statusz", statusz)
    client = await connect(app)
    await client.greet()
    assert seen == ["/statusz"]


async def test_a_hub_that_has_nothing_for_a_greeting_has_seen_it(connect: Connect) -> None:
    client = await connect(hub(decoded))
    await client.greet()


async def test_a_hub_that_is_not_there_has_not_seen_a_greeting() -> None:
    with pytest.raises(HubError):
        await HubClient("http://127.0.0.1:1").greet()
