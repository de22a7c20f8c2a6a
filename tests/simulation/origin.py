# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""An agent of the origin's protocol, to the letter (DESIGN §1): it leaves the relay by itself, and restarts
its VPN client, and itself with it, when a peer that is online at an unchanged endpoint does not answer."""

from __future__ import annotations

from typing import Any

from tests.simulation.agents import HUB_TIMEOUT_S, HUB_TRY_EVERY_S, PROBE_TRY_EVERY_S, Journal
from tests.simulation.engine import Timer
from tests.simulation.nat import parse_endpoint
from tests.simulation.stack import Stack
from tests.simulation.wireguard import Device
from tests.simulation.world import HUB_ADDRESS, KEEPALIVE_S, World

from wg_rendezvous.core.events import PeerRecord

INTERVAL_S = 13.0
PROBE_TIMEOUT_S = 2.0


class OriginAgent:
    """`fresh_ports_at` are the times of its restarts."""

    def __init__(self, world: World, device: Device, journal: Journal) -> None:
        self.world = world
        self.device = device
        self.journal = journal
        self.engine = world.engine
        self.stack = Stack(device)
        self.fresh_ports_at: list[float] = []
        self._endpoints: dict[str, str] = {}
        self._next: Timer | None = None

    @property
    def name(self) -> str:
        """The name of its node."""
        return self.device.host.name

    def start(self) -> None:
        """Loop for ever, the first pass at once."""
        self._next = self.engine.call_in(INTERVAL_S, self.start)
        self.stack.ask(HUB_ADDRESS, HUB_TIMEOUT_S, HUB_TRY_EVERY_S, self._answered, lambda: None)

    def stop(self) -> None:
        """Be gone, and take the peers along."""
        if self._next is not None:
            self._next.cancel()
        self._next = None
        self._remove_peers()

    def _answered(self, records: Any, _seconds: float) -> None:
        if records is None or self._next is None:
            return
        for key, record in records.items():
            if key != self.device.public_key:
                self._visit(key, record)

    def _visit(self, key: str, record: PeerRecord) -> None:
        unchanged = self._endpoints.get(key) == record.endpoint
        self._endpoints[key] = record.endpoint
        self.device.set_peer(key, parse_endpoint(record.endpoint), KEEPALIVE_S, (record.allowed_ips,))
        address = record.allowed_ips.partition("/")[0]

        def missed() -> None:
            self.journal.write(
                self.engine.now, self.name, f"{address} does not answer, unchanged: {unchanged}"
            )
            if unchanged and self._next is not None:
                self._restart()

        self.stack.ask(address, PROBE_TIMEOUT_S, PROBE_TRY_EVERY_S, lambda _b, _s: None, missed)

    def _restart(self) -> None:
        self.fresh_ports_at.append(self.engine.now)
        self._remove_peers()
        self.device.set_listen_port(self.engine.random.randint(32768, 60999))
        if self._next is not None:
            self._next.cancel()
        self.start()

    def _remove_peers(self) -> None:
        for key in list(self.device.peers):
            if key != self.world.hub.public_key:
                self.device.remove_peer(key)
        self._endpoints.clear()
