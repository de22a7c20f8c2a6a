# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The calls of the origin's protocol (DESIGN §1), and health and metrics.

Who asks is told by the VPN source address, which WireGuard has proven; an address of no peer gets 403. The
node itself may read everything.
"""

from __future__ import annotations

import collections
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp import web as aiohttp_web

from .. import __version__, web
from .._wireguard.keys import parse_key
from .observation import Observation


class SeedApi:
    """Handlers that answer from `observation`'s memory."""

    def __init__(self, observation: Observation, interface: str) -> None:
        self._observation = observation
        self._registry = observation.registry
        self._interface = interface
        self._started_at_s = observation.clock()
        self.requests: collections.Counter[tuple[str, int]] = collections.Counter()
        """(call, status) -> number of answers."""

    def application(self) -> aiohttp_web.Application:
        """What peers may ask for."""
        return web.application(self._routes(), [self._counted(), self._identified()])

    def local_application(self) -> aiohttp_web.Application:
        """What the node itself may ask for, over its unix socket."""
        return web.application(
            {**self._routes(), "/status": self._status}, [self._counted(), self._identified()]
        )

    def _routes(self) -> dict[str, web.Handler]:
        return {
            "/online-peers": self._online_peers,
            "/peer/{key:.*}": self._peer,
            "/statusz": self._statusz,
            "/healthz": self._healthz,
            "/metrics": self._metrics,
        }

    # --- who asks ---

    def _identified(self) -> Any:
        observation, registry = self._observation, self._registry

        @aiohttp_web.middleware
        async def identified(
            request: aiohttp_web.Request, handler: web.Handler
        ) -> aiohttp_web.StreamResponse:
            if web.is_local(request):
                await observation.current()
                return await handler(request)
            asked_at_s = observation.clock()
            address = request.remote or ""
            if registry.peer_at(address) is None:
                await observation.newer()  # perhaps added a moment ago
            key = registry.peer_at(address)
            if key is None:
                return web.error_response(
                    403,
                    f"{address} is the address of no peer of this hub: "
                    f"add it to the AllowedIPs of a peer of {self._interface}",
                )
            registry.heard(key, asked_at_s)
            if registry.answer(key) is None:
                await observation.newer()  # its first request belongs into the answer to it
            else:
                await observation.current()
            return await handler(request)

        return identified

    def _counted(self) -> Any:
        @aiohttp_web.middleware
        async def counted(request: aiohttp_web.Request, handler: web.Handler) -> aiohttp_web.StreamResponse:
            status = 500
            try:
                response = await handler(request)
                status = response.status
                return response
            except aiohttp_web.HTTPException as error:
                status = error.status
                raise
            finally:
                resource = request.match_info.route.resource
                call = "other" if resource is None else web.readable_path(resource.canonical)
                self.requests[call, status] += 1

        return counted

    # --- the calls ---

    async def _online_peers(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        return aiohttp_web.json_response(self._registry.online(self._observation.clock()))

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
        text = "".join(f"{name}: {value}\n" for name, value in self.figures().items())
        return aiohttp_web.Response(text=text, content_type="text/plain")

    async def _healthz(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        if not self._observation.is_healthy():
            return web.error_response(503, f"{self._interface} could not be read lately: see the hub's log")
        return aiohttp_web.Response(text="ok\n", content_type="text/plain")

    async def _metrics(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        from . import metrics  # only for those who scrape (DESIGN fact 19)

        body, content_type = metrics.render(self.figures(), self.requests, self._observation.read_s)
        return aiohttp_web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        now_s, registry = self._observation.clock(), self._registry
        peers = []
        for key in registry.known_keys():
            latest, answer = registry.latest(key), registry.answer(key)
            peers.append(
                {
                    "peer": key,
                    "address": answer and answer.allowed_ips,
                    "endpoint": answer and answer.endpoint,
                    "online": registry.is_online(key, now_s),
                    "hands_shaken_at": latest and latest.latest_handshake_at,
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

    def figures(self) -> dict[str, int]:
        """The hub's state in whole numbers."""
        now_s, registry = self._observation.clock(), self._registry
        keys = registry.known_keys()
        return {
            "uptime_s": int(now_s - self._started_at_s),
            "peers": len(keys),
            "peers_online": sum(registry.is_online(key, now_s) for key in keys),
            "requests": sum(self.requests.values()),
            "device_reads": self._observation.reads,
        }
