# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Who asks is told by the VPN source address, which WireGuard has proven; an address of no peer gets 403.

The node itself, over its unix socket or from the hub's own address, is no peer: it may read everything.
"""

from __future__ import annotations

import collections
import contextvars
from typing import Any

from aiohttp import web as aiohttp_web

from .. import web
from .observation import Observation

# Not an item of the request: what may be a key of those differs between the versions of aiohttp.
_CALLER: contextvars.ContextVar[str | None] = contextvars.ContextVar("caller", default=None)


def caller() -> str | None:
    """The key of the peer whose request is being handled; None if the node itself asks."""
    return _CALLER.get()


class Callers:
    """Finds out who asks, and counts what was answered."""

    def __init__(self, observation: Observation, interface: str) -> None:
        self._observation = observation
        self._interface = interface
        self.requests: collections.Counter[tuple[str, int]] = collections.Counter()
        """(call, status) -> number of answers."""

    def middlewares(self) -> list[Any]:
        """For `web.application`."""
        return [self._counted(), self._identified()]

    def _identified(self) -> Any:
        observation, registry = self._observation, self._observation.registry

        @aiohttp_web.middleware
        async def identified(
            request: aiohttp_web.Request, handler: web.Handler
        ) -> aiohttp_web.StreamResponse:
            _CALLER.set(None)
            if web.is_local(request):
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
            _CALLER.set(key)
            registry.heard(key, asked_at_s)
            observation.want()
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
