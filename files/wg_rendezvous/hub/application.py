# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""All calls of the hub as applications: one for the peers, one for the node itself."""

from __future__ import annotations

from aiohttp import web as aiohttp_web

from .. import web
from .callers import Callers
from .figures import Figures
from .observation import Observation
from .rendezvous import Rendezvous
from .seed_api import SeedApi
from .v1_api import V1Api


class HubApi:
    """What the hub serves, from the memory of `observation`. To be made after its first read."""

    def __init__(self, observation: Observation, interface: str) -> None:
        self.rendezvous = Rendezvous(observation)
        observation.on_read = self.rendezvous.refresh
        self._callers = Callers(observation, interface)
        self._v1 = V1Api(observation, self.rendezvous)
        figures = Figures(
            observation, self._callers, self.rendezvous, self._v1.refusals, started_at_s=observation.clock()
        )
        self._seed = SeedApi(observation, self.rendezvous, figures, interface)

    def application(self) -> aiohttp_web.Application:
        """What peers may ask for."""
        return web.application({**self._seed.routes(), **self._v1.routes()}, self._callers.middlewares())

    def local_application(self) -> aiohttp_web.Application:
        """What the node itself may ask for, over its unix socket."""
        routes = {**self._seed.routes(), **self._v1.routes(), **self._seed.local_routes()}
        return web.application(routes, self._callers.middlewares())

    def stop(self) -> None:
        """End what would go on for ever: streams, and whoever waits."""
        self.rendezvous.stop()
