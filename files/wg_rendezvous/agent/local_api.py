# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What an agent serves: `/statusz`, `/healthz`, `/metrics` inside the VPN; `/status` to the node itself."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web as aiohttp_web

from .. import __version__, web
from ..clock import boottime_s
from ..core.link import State

if TYPE_CHECKING:
    from .runner import Agent


class LocalApi:
    """The HTTP side of one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._runners: list[aiohttp_web.AppRunner] = []

    async def start(self, inside: list[socket.socket], own: socket.socket) -> None:
        """Serve inside the VPN, and to the node itself, on these listening sockets."""
        routes = {"/statusz": self._statusz, "/healthz": self._healthz, "/metrics": self._metrics}
        self._runners.append(await web.start(web.application(routes), inside))
        local = web.application({**routes, "/status": self._status})
        self._runners.append(await web.start(local, [own]))

    async def stop(self) -> None:
        """Stop serving."""
        for runner in self._runners:
            await web.stop(runner)

    def _counts(self) -> dict[str, int]:
        states = [link.state for link in self._agent.mesh.links.values()]
        return {state.value: states.count(state) for state in State}

    async def _statusz(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        mesh = self._agent.mesh
        counts = self._counts()
        lines = {
            "uptime_s": int(time.time() - self._agent.started_at),
            "peers_online": sum(link.online for link in mesh.links.values()),
            "links": len(mesh.links),
            **{f"links_{state}": count for state, count in counts.items()},
            "fresh_ports": mesh.fresh_ports,
            "hub_answers": int(mesh.hub_silent is None),
        }
        text = "".join(f"{name}: {value}\n" for name, value in lines.items())
        return aiohttp_web.Response(text=text, content_type="text/plain")

    async def _healthz(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        return aiohttp_web.Response(text="ok\n", content_type="text/plain")

    async def _metrics(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        from . import metrics  # only for those who scrape (DESIGN fact 19)

        mesh = self._agent.mesh
        body, content_type = metrics.render(
            self._counts(), mesh.fresh_ports, mesh.hub_silent is None, mesh.pairs.refused_signals
        )
        return aiohttp_web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        agent = self._agent
        links: list[dict[str, Any]] = agent.mesh.status(boottime_s())
        for link in links:
            age_s = link.pop("since_s")
            link["since_at"] = None if age_s is None else round(time.time() - age_s, 3)
        node = {
            "interface": agent.options.interface,
            "public_key": agent.mesh.own_key,
            "role": "agent",
            "version": __version__,
            "hub": agent.options.hub,
            "hub_silent": agent.mesh.hub_silent,
        }
        return aiohttp_web.json_response({"node": node, "links": links})
