# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A peer that signals whatever it likes: the links of others do not move, and what it makes an agent send is
little.

A and B are direct, or could be; C is hostile.  Its device is an ordinary one; what it signals is made here.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from tests.nat_profiles import PROFILES
from tests.simulation.agents import Agent, HubModel, Journal
from tests.simulation.courtesy import KNOCKS, OPENERS, Courtesy
from tests.simulation.monitor import PathMonitor
from tests.simulation.nat import Endpoint
from tests.simulation.network import Host
from tests.simulation.wireguard import Initiation, Opener
from tests.simulation.world import HUB_ENDPOINT, World

from wg_rendezvous.core import events
from wg_rendezvous.core.admission import CLAIMED_AT_ONCE, CLAIMED_EVERY_S
from wg_rendezvous.core.mesh import Settings
from wg_rendezvous.core.signals import TYPES

pytestmark = pytest.mark.sim

VICTIM = "198.51.100.99:4500"


class Stage:
    """A and B have been direct for a while; C's agent runs too, and more is said in its name."""

    def __init__(self, seed: int = 0, names: str = "ABC") -> None:
        self.world = World(seed)
        self.journal = Journal()
        self.hub = HubModel(self.world.hub, signals=True)
        truths: dict[str, str] = {}
        self.agents: list[Agent] = []
        for name in names:
            device = self.world.add_node(name, PROFILES["cone drop"])
            truths[device.public_key] = device.address
            self.agents.append(Agent(self.world, device, Settings(), truths, self.journal, signals=True))
            self.world.connect(device)
        self.a, self.b, self.c = self.agents[:3]
        self.world.engine.run_for(5.0)
        for agent in self.agents:
            agent.start()
        self.monitor = PathMonitor(self.world, self.a, self.b, self.journal)
        self.world.engine.run_for(10.0)
        assert self.monitor.direct
        self.direct_since = self.monitor.direct_since
        self.sent: list[tuple[float, str, Endpoint]] = []
        self.world.network.observers.append(self._see)
        courtesy = Courtesy({agent.name: agent for agent in self.agents})
        self.world.network.observers.append(courtesy.see)

    def _see(self, host: Host, remote: Endpoint, payload: Any) -> None:
        if isinstance(payload, (Initiation, Opener)) and remote != HUB_ENDPOINT:
            self.sent.append((self.world.engine.now, host.name, remote))

    def say(self, signal: Any, to: Agent | None = None) -> None:
        """C says this to A, or to another one."""
        agent = to or self.a
        agent._later(events.SignalReceived(self.c.device.public_key, signal), agent._life)

    def settle(self, seconds: float = 5.0) -> None:
        self.world.engine.run_for(seconds)

    def check_untouched(self) -> None:
        """The link of A and B is the one that it was."""
        self.settle(0.5)
        assert self.monitor.direct_since == self.direct_since
        assert all(outage.end <= self.direct_since for outage in self.monitor.outages if self.direct_since)

    def endpoint_of(self, agent: Agent) -> str:
        return str(self.world.reflexive_endpoint(agent.device))

    def claim(self, *candidates: str) -> None:
        """C registers these host candidates."""
        signals = self.hub.signals
        assert signals is not None
        run = signals._runs[self.c.device.public_key]
        run.registration = dataclasses.replace(run.registration, candidates=candidates)
        signals.tell()


def offer(number: int, endpoint: str) -> dict[str, Any]:
    return {"type": "offer", "session": f"{number:016x}", "strategy": "reflexive", "endpoint": endpoint}


VICTIM6 = "2001:db8::66"
PACKETS_PER_TRY = OPENERS + KNOCKS


def test_an_address_that_only_its_peer_names_gets_few_packets_from_a_whole_network() -> None:
    """C claims to be at a victim's IPv6 address, another port of it ten times a second, and offers that to
    all to whom it may offer.  Each of the others would send its 30 packets in a second there: they add up."""
    stage = Stage(names="ABCDE")
    others = [agent for agent in stage.agents if agent is not stage.c]
    for nth, agent in enumerate(others):
        agent._later(events.AddressesSeen((f"2001:db8:{nth + 1}::1",)), agent._life)
    stage.c.running = False  # what its own agent would say
    stage.settle(1.0)
    pairs = {agent.name: agent.mesh.pairs.pairs[stage.c.device.public_key] for agent in others}
    for agent in others:  # none of them was ever direct with C
        stage.say({"type": "withdraw", "why": "because"}, agent)
        pairs[agent.name].direct_until = float("-inf")
    span_s = 60.0
    for step in range(int(span_s / 0.1)):
        claimed = f"[{VICTIM6}]:{1000 + step}"
        stage.claim(claimed)
        stage.settle(0.05)
        for agent in others:
            pair = pairs[agent.name]
            opened = {"type": "opened", "session": pair.session}
            stage.say(opened if pair.controlling else offer(step, claimed), agent)
        stage.settle(0.05)
    for agent in others:
        sent = sum(name == agent.name and remote.address == VICTIM6 for _, name, remote in stage.sent)
        share = 1 if pairs[agent.name].controlling else 2
        tries = share * (CLAIMED_AT_ONCE + span_s / CLAIMED_EVERY_S)
        assert 0 < sent <= tries * PACKETS_PER_TRY, f"{agent.name} sent {sent} packets to the victim"


@pytest.mark.parametrize("controlling", [True, False])
def test_endpoints_that_the_hub_does_not_name_get_no_packet(controlling: bool) -> None:
    stage = Stage()
    to = stage.a if not controlling else stage.b
    for number in range(100):
        stage.say(offer(number, VICTIM), to)
        stage.settle(0.05)
    assert not [remote for _, _, remote in stage.sent if str(remote) == VICTIM]
    stage.check_untouched()


def test_a_hundred_offers_a_second_cost_few_packets_and_nobody_elses_link() -> None:
    stage = Stage()
    victim = stage.b  # made the controlled end by whoever has the smaller key
    if stage.b.mesh.pairs.pairs[stage.c.device.public_key].controlling:
        victim = stage.a
    for agent in (stage.a, stage.b):
        agent.mesh.pairs.pairs[stage.c.device.public_key].controlling = False
    for number in range(1000):
        stage.say(offer(number, stage.endpoint_of(stage.c)), victim)
        stage.settle(0.01)
    ats = [at for at, name, _ in stage.sent if name == victim.name]
    assert ats, "the offers were not even taken"
    most = max(sum(at <= other < at + 1.0 for other in ats) for at in ats)
    assert most <= 30, f"{most} packets in a second"
    assert len(ats) <= 4 * (4 + 10 + 1), f"{len(ats)} packets in ten seconds: little is left for others"
    stage.check_untouched()


def test_foreign_sessions_and_wrong_phases_move_nothing() -> None:
    stage = Stage()
    dice = random.Random(7)
    other_session = stage.a.mesh.pairs.pairs[stage.b.device.public_key].session
    for number in range(2000):
        session = dice.choice([f"{number:016x}", other_session])
        stage.say(
            {"type": dice.choice(sorted(TYPES)), "session": session, "endpoint": stage.endpoint_of(stage.c)},
            dice.choice([stage.a, stage.b]),
        )
        stage.settle(0.005)
    stage.check_untouched()
    for agent in (stage.a, stage.b):
        refused = agent.mesh.pairs.refused_signals
        assert any("another session" in why or "not awaited" in why for why in refused), refused
    stage.settle(60.0)
    for agent in (stage.a, stage.b):
        assert agent.mesh.pairs.pairs[stage.c.device.public_key].phase.value in (
            "direct",
            "relayed",
            "offered",
        )


def test_garbage_is_counted_and_said_once() -> None:
    stage = Stage()
    garbage: list[Any] = [
        {},
        {"type": 7},
        {"type": "offer"},
        {"type": "offer", "session": "no"},
        {"type": "x" * 9000},
    ]
    for _ in range(50):
        for signal in garbage:
            stage.say(signal)
    stage.check_untouched()
    assert stage.a.mesh.pairs.refused_signals.total() >= 50 * 3
    said = [line for line in stage.journal.lines if "not acted on" in line[2] and line[1] == "A"]
    assert len(said) <= len(garbage)


def test_unknown_keys_are_nobody() -> None:
    stage = Stage()
    for kind in sorted(TYPES):
        signal = {"type": kind, "session": "0" * 16, "endpoint": VICTIM}
        stage.a._later(events.SignalReceived("A" * 43 + "=", signal), stage.a._life)
    stage.check_untouched()
    assert "A" * 43 + "=" not in stage.a.mesh.links
    assert not [remote for _, _, remote in stage.sent if str(remote) == VICTIM]


def test_a_peer_that_withdraws_all_the_time_hurts_its_own_link_only() -> None:
    stage = Stage()
    for _ in range(300):
        stage.say({"type": "withdraw", "why": "because", "pause_s": 3600.0})
        stage.settle(0.02)
    stage.check_untouched()
