# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The calls of the origin's protocol (DESIGN §1), and health and metrics."""

from __future__ import annotations

import functools
from urllib.parse import unquote, urlsplit

from aiohttp import web as aiohttp_web

from .. import __version__, web
from .._wireguard.keys import parse_key
from .callers import caller
from .figures import Figures
from .observation import Observation
from .rendezvous import Rendezvous


class SeedApi:
    """Handlers that answer from `observation`'s memory."""

    def __init__(
        self, observation: Observation, rendezvous: Rendezvous, figures: Figures, interface: str
    ) -> None:
        self._observation = observation
        self._registry = observation.registry
        self._records = rendezvous.records
        self._polled = rendezvous.polled
        self._figures = figures
        self._interface = interface

    def routes(self) -> dict[str, web.Handler]:
        """For `web.application`: what peers may ask for."""
        return {
            "GET /online-peers": self._fresh(self._online_peers),
            "GET /peer/{key:.*}": self._fresh(self._peer),
            "GET /statusz": self._fresh(self._statusz),
            "GET /healthz": self._fresh(self._healthz),
            "GET /metrics": self._fresh(self._metrics),
        }

    def local_routes(self) -> dict[str, web.Handler]:
        """What only the node itself may ask for, over its unix socket."""
        return {"GET /status": self._fresh(self._status)}

    def _fresh(self, handler: web.Handler) -> web.Handler:
        """The handler, after memory has become young enough to answer from."""

        @functools.wraps(handler)
        async def fresh(request: aiohttp_web.Request) -> aiohttp_web.StreamResponse:
            key = caller()
            if key is not None and self._registry.answer(key) is None:
                await self._observation.newer()  # its first request belongs into the answer to it
            else:
                await self._observation.current()
            return await handler(request)

        return fresh

    # --- the calls ---

    async def _online_peers(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        key = caller()
        if key is not None:
            self._polled(key)
        return aiohttp_web.json_response(self._records.online(self._observation.clock()))

    async def _peer(self, request: aiohttp_web.Request) -> aiohttp_web.Response:
        # From the raw target: raw base64 has slashes, also two in a row, and a plus that is no blank.
        text = unquote(urlsplit(request.raw_path).path[len("/peer/") :])
        try:
            key = parse_key(text)
        except ValueError as error:
            return web.error_response(400, f"{text!r} is not a WireGuard public key: {error}")
        answer = self._registry.answer(key)
        if answer is None:
            return web.error_response(404, self._registry.why_not(key))
        return aiohttp_web.json_response(
            {
                "endpoint": answer.endpoint,
                "allowed_ips": answer.allowed_ips,
                "hands_shaken_at": str(answer.hands_shaken_at),
            }
        )

    async def _statusz(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        text = "".join(f"{name}: {value}\n" for name, value in self._figures.statusz().items())
        return aiohttp_web.Response(text=text, content_type="text/plain")

    async def _healthz(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        if not self._observation.is_healthy():
            return web.error_response(503, f"{self._interface} could not be read lately: see the hub's log")
        return aiohttp_web.Response(text="ok\n", content_type="text/plain")

    async def _metrics(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        from . import metrics  # only for those who scrape (DESIGN fact 19)

        body, content_type = metrics.render(self._figures)
        return aiohttp_web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        now_s, registry = self._observation.clock(), self._registry
        peers = []
        for key in registry.known_keys():
            answer = registry.answer(key)
            peers.append(
                {
                    "peer": key,
                    "address": answer and answer.allowed_ips,
                    "endpoint": answer and answer.endpoint,
                    "online": self._records.is_online(key, now_s),
                    "hands_shaken_at": registry.hands_shaken_at(key),
                    "why": None if answer else registry.why_not(key),
                }
            )
        node = {
            "interface": self._interface,
            "public_key": registry.public_key,
            "role": "hub",
            "version": __version__,
            "hub": None,
        }
        return aiohttp_web.json_response({"node": node, "peers": peers})
