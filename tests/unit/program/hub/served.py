# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A hub with a fake device, served over real HTTP at 127.7.0.1, and peers that ask it from their addresses.

All of 127.0.0.0/8 is ours.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from wg_rendezvous import web
from wg_rendezvous.hub.application import HubApi
from wg_rendezvous.hub.observation import Observation
from wg_rendezvous.hub.registry import Registry

from .fake import FakeDevice, key

RUN = "0123456789abcdef"
IN_TIME_S = 5.0


class Hub:
    """A hub at 127.7.0.1 before a fake device, and who asks it."""

    def __init__(self, fake: FakeDevice, port: int, api: HubApi) -> None:
        self.fake = fake
        self.port = port
        self.api = api

    async def ask(self, path: str, by: str = "127.7.0.5", method: str = "GET") -> tuple[int, str]:
        """Status and body of the answer to this request target, sent as it is."""
        reader, writer = await asyncio.open_connection("127.7.0.1", self.port, local_addr=(by, 0))
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode())
        answer = (await asyncio.wait_for(reader.read(), IN_TIME_S)).decode()
        writer.close()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    async def ask_json(self, path: str, by: str = "127.7.0.5", method: str = "GET") -> Any:
        """The JSON of the answer."""
        return json.loads((await self.ask(path, by, method))[1])


@asynccontextmanager
async def running(fake: FakeDevice) -> AsyncIterator[Hub]:
    """A hub that serves."""
    observation = Observation(fake, Registry())
    await observation.read()
    listener = socket.create_server(("127.7.0.1", 0))
    api = HubApi(observation, "wg0")
    runner = await web.start(api.application(), [listener])
    task = asyncio.ensure_future(observation.run())
    yield Hub(fake, listener.getsockname()[1], api)
    api.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await web.stop(runner)


class Answer:
    """Status, headers and body."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Events:
    """The events of one stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, within_s: float = IN_TIME_S) -> tuple[str, Any]:
        """Name and data of the next event; ("end", None) if there is none."""
        name = "end"
        while True:
            line = (await asyncio.wait_for(self.response.content.readline(), within_s)).decode()
            if not line:
                return "end", None
            if line.startswith("event: "):
                name = line[len("event: ") :].rstrip("\n")
            elif line.startswith("data: "):
                return name, json.loads(line[len("data: ") :])

    async def until(self, name: str) -> Any:
        """Data of the next event of that name."""
        while (event := await self.next())[0] != name:
            assert event[0] != "end", f"the stream ended before a {name} came"
        return event[1]

    async def nothing(self, within_s: float = 0.1) -> bool:
        """Whether no event comes."""
        try:
            await self.next(within_s)
        except TimeoutError:
            return True
        return False


class Peer:
    """The `number`th peer, which asks the hub."""

    def __init__(self, hub: Hub, number: int) -> None:
        self.key = key(number)
        self._base = f"http://127.7.0.1:{hub.port}"
        connector = aiohttp.TCPConnector(local_addr=(f"127.7.0.{number}", 0))
        self._session = aiohttp.ClientSession(connector=connector)
        self._streams: list[aiohttp.ClientResponse] = []

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_: object) -> None:
        for response in self._streams:
            response.close()
        await self._session.close()

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Ask; `options` as aiohttp has them."""
        timeout = aiohttp.ClientTimeout(total=IN_TIME_S)
        async with self._session.request(method, self._base + path, timeout=timeout, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def register(self, instance: str = RUN, **fields: Any) -> Any:
        """PUT /v1/self."""
        answer = await self.call("PUT", "/v1/self", json={"instance": instance, **fields})
        assert answer.status == 200, answer.body
        return answer.json

    async def stream(self) -> Events:
        """GET /v1/stream."""
        timeout = aiohttp.ClientTimeout(total=None)
        response = await self._session.get(self._base + "/v1/stream", timeout=timeout)
        self._streams.append(response)
        return Events(response)

    async def join(self, instance: str = RUN, **fields: Any) -> Events:
        """Register, open a stream and take its snapshot."""
        await self.register(instance, **fields)
        events = await self.stream()
        assert (await events.next())[0] == "snapshot"
        return events

    async def signal(self, to: Peer, **fields: Any) -> Answer:
        """POST /v1/signal/{key}."""
        return await self.call("POST", f"/v1/signal/{to.key}", json={"type": "offer", **fields})
