# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What agents send to addresses that have proven nothing: asserted at every packet of every run.

Whoever names an endpoint makes others send there, so it must be little (DESIGN section 5): of one
rendezvous 3 openers and 2 knocks to one address, and 30 packets in a second of one node to all of them.
An address is proven when a handshake was completed with it. What the kernel goes on with alone after its
agent was killed is not counted per rendezvous: it is there until the next run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from tests.simulation.agents import Agent
from tests.simulation.nat import Endpoint
from tests.simulation.network import Host
from tests.simulation.wireguard import Initiation, Opener
from tests.simulation.world import HUB_ENDPOINT, HUB_ENDPOINT6

OPENERS, KNOCKS = 3, 2
PACKETS_PER_S = 30
PROVEN_FOR_S = 600.0 + 180.0
"""A link that was direct is tried for ten minutes at its old address, and its last handshake may be as old
as a session gets."""


class Courtesy:
    """Watches the `agents`, by their names; others that join later are watched as well.  AssertionError is
    raised in the midst of the run."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._agents = agents
        self._sent: dict[str, deque[float]] = {}
        self._of_rendezvous: Counter[tuple[str, str | None, Endpoint, type]] = Counter()

    def see(self, host: Host, remote: Endpoint, payload: object) -> None:
        """A packet leaves `host` (an observer of the network)."""
        agent = self._agents.get(host.name)
        if agent is None or remote in (HUB_ENDPOINT, HUB_ENDPOINT6) or not host.up:
            return
        if not isinstance(payload, (Opener, Initiation)):
            return
        now = agent.engine.now
        if now - agent.device.answered_at.get(remote.address, float("-inf")) > PROVEN_FOR_S:
            self._count_second(host.name, now)
        self._count_rendezvous(agent, remote, type(payload))

    def _count_second(self, name: str, now: float) -> None:
        sent = self._sent.setdefault(name, deque())
        sent.append(now)
        while sent[0] <= now - 1.0:
            sent.popleft()
        assert len(sent) <= PACKETS_PER_S, (
            f"{name} sent {len(sent)} packets to unproven addresses in a second"
        )

    def _count_rendezvous(self, agent: Agent, remote: Endpoint, kind: type) -> None:
        if not agent.running:
            return
        for pair in agent.mesh.pairs.pairs.values():
            if pair.rung is None or pair.rung.yours != str(remote) or pair.promoted:
                continue
            what = (agent.name, pair.session, remote, kind)
            self._of_rendezvous[what] += 1
            most = OPENERS if kind is Opener else KNOCKS
            assert self._of_rendezvous[what] <= most, (
                f"{agent.name} sent {self._of_rendezvous[what]} {kind.__name__.lower()}s to {remote} "
                "in one rendezvous"
            )
