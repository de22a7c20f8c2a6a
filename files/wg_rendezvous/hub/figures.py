# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The hub's state in numbers, gathered from whoever counts them: for `/statusz` and `/metrics`."""

from __future__ import annotations

from dataclasses import dataclass

from .callers import Callers
from .observation import Observation
from .refusals import Refusals
from .rendezvous import Rendezvous


@dataclass(frozen=True)
class Figures:
    """Where the numbers are."""

    observation: Observation
    callers: Callers
    rendezvous: Rendezvous
    refusals: Refusals
    started_at_s: float

    def statusz(self) -> dict[str, int]:
        """Names and whole numbers."""
        now_s = self.observation.clock()
        keys = self.observation.registry.known_keys()
        return {
            "uptime_s": int(now_s - self.started_at_s),
            "peers": len(keys),
            "peers_online": sum(self.rendezvous.records.is_online(key, now_s) for key in keys),
            "requests": sum(self.callers.requests.values()),
            "device_reads": self.observation.reads,
            "streams": len(self.rendezvous.streams),
            "signals": self.rendezvous.signals_sent,
            "refused": sum(self.refusals.counts.values()),
        }
