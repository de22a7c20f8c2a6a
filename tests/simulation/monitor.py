# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Whether there was a path all the time: of one pair of agents, evaluated at every change of anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulation.agents import Agent, Journal
from tests.simulation.origin import OriginAgent
from tests.simulation.world import World

Node = Agent | OriginAgent

WATCH_EVERY_S = 0.05
IN_PHASE_S = 0.4


class Outage(NamedTuple):
    """A time without a path, of a pair that was direct before, or relayed."""

    begin: float
    end: float
    was_direct: bool


@dataclass
class PathMonitor:
    """Watches the path of a pair from the first time on that there is one: when it was missing, and since
    when it is direct. Their passes are `apart_s` apart. With `every_s` it looks so often, and not at every
    change."""

    world: World
    one: Node
    other: Node
    journal: Journal
    apart_s: float = 0.0
    every_s: float | None = None
    outages: list[Outage] = field(default_factory=list)
    direct_since: float | None = None
    lost_at: float | None = None
    _changes: list[tuple[float, bool]] = field(default_factory=list)
    _connected: bool = False
    _was_direct: bool = False

    def __post_init__(self) -> None:
        self.name = f"{self.one.name}-{self.other.name}"
        if self.every_s is None:
            self.world.engine.watchers.append(self._look)
            self._look()
        else:
            self._look_again(self.every_s)

    @property
    def direct(self) -> bool:
        """Traffic goes both ways and not through the hub, now."""
        return self.direct_since is not None

    @property
    def one_way_s(self) -> float:
        """The longest that a packet can take from one to the other, directly."""
        links = (self.one.device.host.link, self.other.device.host.link)
        return sum(link.delay_s + link.jitter_s for link in links)

    @property
    def in_phase(self) -> bool:
        """They pass within a few round trips of one another."""
        return self.apart_s < IN_PHASE_S

    @property
    def promotion_s(self) -> float:
        """How long a promotion may leave the pair without a path.

        Both ends look at the device every 50 ms, and one of them sees the handshake a trip later than the
        other (facts 4 and 14). If both pass at almost the same time, the knock of one may end the session
        that the other has just seen, and it takes another round trip.
        """
        return WATCH_EVERY_S + 0.01 + self.one_way_s * (3 if self.in_phase else 1)

    def finish(self) -> None:
        """Count an outage that still lasts."""
        if self.lost_at is not None:
            self.outages.append(Outage(self.lost_at, self.world.engine.now, self._was_direct))

    @property
    def longest_s(self) -> float:
        """The longest outage."""
        return max((outage.end - outage.begin for outage in self.outages), default=0.0)

    def was_direct_at(self, at: float) -> bool:
        """Whether it was until that time."""
        before = [direct for when, direct in self._changes if when < at]
        return bool(before) and before[-1]

    def _look_again(self, every_s: float) -> None:
        self._look()
        self.world.engine.call_in(every_s, lambda: self._look_again(every_s))

    def _look(self) -> None:
        now = self.world.engine.now
        passes, direct = self.world.paths(self.one.device, self.other.device)
        was_direct = self.direct
        if direct != self.direct:
            self.direct_since = now if direct else None
            self._changes.append((now, direct))
            self.journal.write(now, self.name, "direct" if direct else "not direct any more")
        self._connected = self._connected or passes
        if not passes and self.lost_at is None and self._connected:
            self.lost_at, self._was_direct = now, was_direct
            self.journal.write(now, self.name, "NO PATH")
        elif passes and self.lost_at is not None:
            if now > self.lost_at:
                self.outages.append(Outage(self.lost_at, now, self._was_direct))
            self.journal.write(now, self.name, f"path again after {now - self.lost_at:.3f} s")
            self.lost_at = None
