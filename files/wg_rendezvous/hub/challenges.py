# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Whether a peer really is where its packets seem to come from (DESIGN fact 18).

Who spoofs the outer source of its packets can let a handshake or a request seem to come from a victim as
well.  What it cannot do is answer a heartbeat with a random number that WireGuard sends to the victim.  So a
peer whose agent has a stream is asked for that, before its new endpoint is handed on.  Agents of the origin
answer no heartbeats: of those a handshake or a request is believed (`registry`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Callable

from ..core.candidates import host
from .registry import Registry

AGAIN_S = 0.25
"""Between two heartbeats to an endpoint that has not answered."""


@dataclass(frozen=True)
class _Asked:
    """A heartbeat that is not answered yet."""

    number: int
    endpoint: str
    address: str
    at_s: float


class Challenges:
    """Asks the peers of `registry` that moved; `ping(address, number)` sends a heartbeat."""

    def __init__(self, registry: Registry, ping: Callable[[str, int], None]) -> None:
        self._registry = registry
        self._ping = ping
        self._asked: dict[str, _Asked] = {}

    def refresh(self, now_s: float) -> None:
        """Ask every peer that has to prove its endpoint, if it was not asked a moment ago."""
        unproven = self._registry.unproven()
        self._asked = {key: asked for key, asked in self._asked.items() if key in unproven}
        for key, endpoint in unproven.items():
            asked, route = self._asked.get(key), self._registry.route(key)
            if route is None or (
                asked is not None and asked.endpoint == endpoint and now_s - asked.at_s < AGAIN_S
            ):
                continue
            address, number = host(route), secrets.randbits(63)
            self._asked[key] = _Asked(number, endpoint, address, now_s)
            self._ping(address, number)

    def answered(self, address: str, number: int) -> str | None:
        """A heartbeat was answered: the key of the peer that has proven its endpoint by it, if any has."""
        for key, asked in self._asked.items():
            if asked.number == number and asked.address == address:
                del self._asked[key]
                return key if self._registry.confirm(key, asked.endpoint) else None
        return None
