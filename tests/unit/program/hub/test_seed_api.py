# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The origin's calls, asked over real HTTP from the addresses of the peers (all of 127.0.0.0/8 is ours)."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from wg_rendezvous import web
from wg_rendezvous.hub.application import HubApi
from wg_rendezvous.hub.observation import Observation
from wg_rendezvous.hub.records import Records
from wg_rendezvous.hub.registry import Registry

from .fake import FakeDevice, key, peer
from .served import Hub, running

# Keys with every awkward character of base64: slashes (also two in a row, and one in front), plus, padding.
AWKWARD = "//+/" * 10 + "//8="
SLASH_FIRST = "/" + "+A" * 20 + "+w="


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with running(FakeDevice(peer(5), peer(6), peer(7, latest_handshake_at=0))) as made:
        yield made


async def test_online_peers_is_a_list_of_keys_the_callers_own_included(hub: Hub) -> None:
    assert await hub.ask_json("/online-peers") == [key(5)]
    assert await hub.ask_json("/online-peers", by="127.7.0.6") == [key(5), key(6)]


async def test_a_peer_is_three_strings(hub: Hub) -> None:
    assert await hub.ask_json("/peer/" + key(6)) == {
        "endpoint": "198.51.100.6:51820",
        "allowed_ips": "127.7.0.6/32",
        "hands_shaken_at": "1000",
    }


@pytest.mark.parametrize("public_key", [AWKWARD, SLASH_FIRST])
@pytest.mark.parametrize(
    "spell",
    [
        str,
        lambda text: quote(text, safe=""),
        quote,
        lambda text: quote(text, safe="=+"),
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
        lambda text: text.rstrip("="),
        lambda text: text + "?from=somewhere",
    ],
    ids=["raw", "percent", "quote", "mixed", "url-safe", "url-safe-unpadded", "raw-unpadded", "query"],
)
async def test_a_key_may_be_spelled_in_all_the_ways_that_clients_do(public_key: str, spell: Any) -> None:
    fake = FakeDevice(peer(5))
    fake.change(5, public_key=public_key)
    async with running(fake) as hub:
        status, body = await hub.ask("/peer/" + spell(public_key))
    assert (status, json.loads(body)["allowed_ips"]) == (200, "127.7.0.5/32")


@pytest.mark.parametrize("text", ["", "abc", "A" * 42, key(6) + "/", "%00" * 44, key(6)[:-2] + "%20=", "é"])
async def test_what_is_no_key_is_named(hub: Hub, text: str) -> None:
    status, body = await hub.ask("/peer/" + quote(text, safe="/%="))
    assert status == 400
    assert "public key" in json.loads(body)["error"]


@pytest.mark.parametrize(("number", "why"), [(9, "no peer"), (7, "no handshake")])
async def test_a_peer_that_is_unknown_or_has_no_endpoint_yet_is_404_and_says_why(
    hub: Hub, number: int, why: str
) -> None:
    status, body = await hub.ask("/peer/" + key(number))
    assert status == 404
    assert why in json.loads(body)["error"]


@pytest.mark.parametrize(
    "path", ["/online-peers", "/peer/" + key(5), "/statusz", "/healthz", "/metrics", "/nowhere"]
)
async def test_an_address_of_no_peer_is_refused_everything(hub: Hub, path: str) -> None:
    status, body = await hub.ask(path, by="127.7.0.99")
    assert status == 403
    assert "127.7.0.99" in json.loads(body)["error"]


async def test_the_node_itself_may_read_everything(hub: Hub) -> None:
    for path in ("/online-peers", "/peer/" + key(6), "/statusz", "/healthz", "/metrics"):
        assert (await hub.ask(path, by="127.7.0.1"))[0] == 200


async def test_a_peer_that_was_added_a_moment_ago_is_not_refused(hub: Hub) -> None:
    hub.fake.peers += (peer(8),)
    assert (await hub.ask("/online-peers", by="127.7.0.8"))[0] == 200


async def test_a_request_from_a_fresh_port_makes_the_hub_believe_it(hub: Hub) -> None:
    await hub.ask("/online-peers", by="127.7.0.6")
    hub.fake.change(6, endpoint="198.51.100.6:40000")
    await hub.ask("/online-peers", by="127.7.0.6")
    # Within a quarter of a second, whoever asks.
    await asyncio.sleep(0.3)
    assert (await hub.ask_json("/peer/" + key(6)))["endpoint"] == "198.51.100.6:40000"


async def test_a_spoofed_packet_does_not_make_the_hub_hand_on_a_wrong_endpoint(hub: Hub) -> None:
    hub.fake.change(6, endpoint="203.0.113.66:6666", rx_bytes=5000)
    await asyncio.sleep(0.3)
    assert (await hub.ask_json("/peer/" + key(6)))["endpoint"] == "198.51.100.6:51820"


async def test_statusz_is_lines_of_names_and_integers(hub: Hub) -> None:
    await hub.ask("/online-peers")
    _status, body = await hub.ask("/statusz")
    assert all(re.fullmatch(r"[a-z_]+: [0-9]+", line) for line in body.splitlines())
    assert "peers: 3\npeers_online: 1\nrequests: 1\n" in body


async def test_metrics_are_what_prometheus_reads(hub: Hub) -> None:
    await hub.ask("/peer/" + key(5))
    await hub.ask("/peer/nonsense")
    body = (await hub.ask("/metrics"))[1]
    assert "wg_rendezvous_hub_peers 3.0\n" in body
    assert 'wg_rendezvous_hub_requests_total{call="/peer/{key}",status="400"} 1.0\n' in body


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/nowhere", 404, "/online-peers, /peer/{key}"),
        ("POST", "/online-peers", 405, "use GET"),
        ("DELETE", "/peer/x", 405, "use GET"),
        ("GET", "/peer", 404, "/peer/{key}"),
    ],
)
async def test_every_error_is_json_with_a_sentence_that_helps(
    hub: Hub, method: str, path: str, status: int, says: str
) -> None:
    got, body = await hub.ask(path, method=method)
    assert got == status
    assert says in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("BREW", "/online-peers"), ("", ""), ("GET", "/" + "a" * 9000), ("GET", "/peer/\x01")],
)
async def test_what_is_no_http_is_answered_in_json_and_fills_no_log(
    hub: Hub, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, body = await hub.ask(path, method=method)
    assert status >= 400
    error = json.loads(body)["error"]
    assert len(error) < 400
    assert "\n" not in error
    assert not caplog.records


async def test_a_defect_is_json_too_and_does_not_show_its_inside(
    monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    monkeypatch.setattr(Records, "online", lambda *_: 1 / 0)
    status, body = await hub.ask("/online-peers")
    assert status == 500
    assert "log" in json.loads(body)["error"]
    assert "division" not in body


async def test_the_unix_socket_tells_the_node_all_about_its_peers(tmp_path: Path) -> None:
    fake = FakeDevice(peer(5), peer(7, latest_handshake_at=0))
    observation = Observation(fake, Registry())
    await observation.read()
    task = asyncio.ensure_future(observation.run())
    path = str(tmp_path / "run" / "wg0.sock")
    runner = await web.start(HubApi(observation, "wg0").local_application(), [web.unix_listener(path)])
    connector = aiohttp.UnixConnector(path)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://hub/status") as response,
    ):
        answer = await response.json()
    await web.stop(runner)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert answer["node"]["role"] == "hub"
    assert answer["node"]["public_key"] == key(255)
    first, second = answer["peers"]
    assert (first["peer"], first["address"], first["endpoint"]) == (
        key(5),
        "127.7.0.5/32",
        "198.51.100.5:51820",
    )
    assert (second["online"], second["endpoint"]) == (False, None)
    assert not os.path.exists(path)  # noqa: ASYNC240 - nothing else runs
