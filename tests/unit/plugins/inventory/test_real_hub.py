# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The view that the inventory plugin reads, from the hub itself before a fake device."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import requests
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _hub
from requests.adapters import HTTPAdapter
from tests.unit.program.hub.fake import FakeDevice, key, peer
from tests.unit.program.hub.served import Peer, running


@pytest.fixture(autouse=True)
def _asks_as_alice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let who asks be the peer at 127.7.0.5."""

    class FromAlice(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> Any:
            return super().init_poolmanager(*arguments, source_address=("127.7.0.5", 0), **options)

    class Session(requests.Session):
        def __init__(self) -> None:
            super().__init__()
            self.mount("http://", FromAlice())

    monkeypatch.setattr(requests, "Session", Session)


async def test_a_peer_reads_the_view_of_all_peers_and_of_itself() -> None:
    alice, bob, phone = key(5), key(6), key(9)
    async with running(FakeDevice(peer(5), peer(6), peer(9))) as hub, Peer(hub, 6) as as_bob:
        link = {"state": "direct", "strategy": "host", "endpoint": "198.51.100.5:51820", "rtt_s": 0.01}
        await as_bob.register(version="0.1.0", links={alice: link})
        view = await asyncio.to_thread(_hub.read_view, f"http://127.7.0.1:{hub.port}", 5)

    assert view["api"] == "v1"
    assert sorted(view["peers"]) == [alice, bob, phone]
    assert view["peers"][alice]["address"] == "127.7.0.5/32"
    assert view["peers"][alice]["online"]
    assert view["peers"][bob]["version"] == "0.1.0"
    assert view["links"][bob][alice]["state"] == "direct"


async def test_an_address_of_no_peer_is_refused_with_what_to_do() -> None:
    async with running(FakeDevice(peer(6))) as hub:
        url = f"http://127.7.0.1:{hub.port}"
        with pytest.raises(
            _hub.HubError, match=r"403: 127\.7\.0\.5 is the address of no peer.*ask from a peer"
        ):
            await asyncio.to_thread(_hub.read_view, url, 5)
