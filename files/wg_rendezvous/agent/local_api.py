# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What an agent serves: `/statusz`, `/healthz`, `/metrics` inside the VPN; `/status` to the node itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web as aiohttp_web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from .. import __version__, web
from ..config import RUN_DIRECTORY
from ..core.link import State

if TYPE_CHECKING:
    from .runner import Agent


class LocalApi:
    """The HTTP side of one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._runners: list[aiohttp_web.AppRunner] = []
        self._registry = CollectorRegistry()
        self._links = Gauge("wg_rendezvous_links", "Links to other peers", ["state"], registry=self._registry)
        self._ports = Gauge(
            "wg_rendezvous_fresh_ports", "Fresh ports taken since start", registry=self._registry
        )
        self._hub_up = Gauge("wg_rendezvous_hub_up", "Whether the hub answered last", registry=self._registry)

    async def start(self, host: str) -> None:
        """Listen inside the VPN and on the node's own socket.  Raises web.ListenError."""
        options = self._agent.options
        inside = {"/statusz": self._statusz, "/healthz": self._healthz, "/metrics": self._metrics}
        listener = web.listener(host, options.listen_port, options.interface)
        self._runners.append(await web.start(web.application(inside), [listener]))
        local = web.unix_listener(f"{RUN_DIRECTORY}/{options.interface}.sock")
        own = web.application({**inside, "/status": self._status})
        self._runners.append(await web.start(own, [local]))

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
        for state, count in self._counts().items():
            self._links.labels(state).set(count)
        self._ports.set(self._agent.mesh.fresh_ports)
        self._hub_up.set(self._agent.mesh.hub_silent is None)
        return aiohttp_web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _status(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        from .runner import now_s

        agent = self._agent
        links: list[dict[str, Any]] = agent.mesh.status(now_s())
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
