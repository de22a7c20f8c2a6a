# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The scenarios of agents that signal: joins behind every pair of NATs, repair fault by fault, agents and
hubs of different protocols, and what a link costs that has nothing to do or no hope."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise, product

from tests.simulation.chaos import agree, check, slow_s
from tests.simulation.crowds import CROWDS
from tests.simulation.cuts import CUTS
from tests.simulation.faults import FAULTS, RARE
from tests.simulation.membership import MEMBERSHIP, why
from tests.simulation.nat import Endpoint
from tests.simulation.network import Host
from tests.simulation.run import AGENTS_START_AT, BOTH_WAYS, IDLE, ONE_WAY, Run, Scenario
from tests.simulation.wireguard import (
    INITIATION_BYTES,
    KEEPALIVE_BYTES,
    RESPONSE_BYTES,
    Initiation,
    Opener,
    Transport,
)
from tests.simulation.world import HUB_ENDPOINT, KEEPALIVE_S

from wg_rendezvous.core.mesh import Settings
from wg_rendezvous.core.refresh import Policy

CONES = ("cone drop", "cone reject", "cone accept")
JOINED_S = 1.2
"""Direct so soon after the later agent's start; more where a packet takes long."""
STRIKES_S = 5.0
AGENT_AFTER_BOOT_S = 0.5
MTU = 1000


def check_joined(run: Run) -> None:
    """Direct soon, without a fresh port, and hardly a moment without a path."""
    check(run)
    for monitor in run.monitors:
        assert monitor.direct, f"{monitor.name} is not direct"
        since_s = (monitor.direct_since or 0.0) - AGENTS_START_AT - run.case.offset_s
        if len(run.monitors) == 1:
            assert since_s <= JOINED_S + slow_s(run), f"{monitor.name} was direct after {since_s:.2f} s"
    assert sum(len(agent.fresh_ports_at) for agent in run.agents.values()) == 0, "a fresh port without need"


def _filter(run: Run) -> None:
    """UDP 8080 does not get to the hub, TCP does."""
    run.hub.stack.on_ping = lambda _address, _ping: None


def check_joined_at_once(run: Run) -> None:
    """The first try is the one that succeeds, and nobody ever doubts the link: all waits follow the round
    trip."""
    check_joined(run)
    said = [what for _at, _who, what in run.journal.lines]
    tries = sum("link relayed -> offered" in what for what in said)
    assert tries == 1, f"{tries} tries"
    assert not any("-> doubtful" in what for what in said), "a link is doubted that works"
    assert not any("new stream" in what for what in said), "a stream is given up that works"


SIGNALS_TO_PROMOTE = 4
"""Of a rendezvous: `offer`, `opened`, `verified`, `promote`."""


def _lose_the_promotion(run: Run) -> None:
    passed = 0

    def disturb(deliver: Callable[[], None]) -> None:
        nonlocal passed
        passed += 1
        if passed != SIGNALS_TO_PROMOTE:
            deliver()

    run.signal_hub.disturb = disturb


def check_promoted_after_all(run: Run) -> None:
    """Only one end had moved for a moment, and no second rendezvous was needed."""
    assert run.monitor.direct, "not direct"
    longest_s = run.monitor.longest_s
    assert 0.15 <= longest_s <= 0.4, f"without a path for {longest_s:.2f} s: was a `promote` lost?"
    assert "provisional -> withdrawing" not in str(run.journal)


def check_relayed(run: Run) -> None:
    """Never direct, with the reason, and no packet lost for trying but for that of a fresh port."""
    check(run)
    for monitor in run.monitors:
        assert not monitor.direct, f"{monitor.name} is direct, which the table says is impossible"
    for agent in run.agents.values():
        for entry in agent.mesh.status(agent.now_s):
            assert "no handshake" in entry["why"] or "other end" in entry["why"], entry["why"]


def check_window_passed(run: Run) -> None:
    """The side whose firewall learned takes a fresh port, and that is all it needs."""
    check(run)
    assert run.monitor.direct, "not direct in the end"
    assert len(run.b.fresh_ports_at) == 1, f"B took {len(run.b.fresh_ports_at)} fresh ports, and needs one"
    assert len(run.a.fresh_ports_at) <= 1


def check_repaired(run: Run) -> None:
    """Noticed in its stated time, direct again in its stated time, nobody took a fresh port for it."""
    check(run)
    (strike,) = run.strikes
    assert run.monitor.direct, "not direct again"
    since_s = (run.monitor.direct_since or 0.0) - strike.end
    assert since_s <= strike.fault.repaired_s + slow_s(run), (
        f"direct again {since_s:.2f} s after the fault's end"
    )
    assert sum(run.fired) == 0, "a fresh port without need"


def _strike(name: str, run: Run) -> None:
    fault = {**FAULTS, **RARE}[name]
    span_s = run.engine.random.uniform(*fault.span_s)
    run.strike(fault, run.a, run.b, run.case.offset_s + STRIKES_S, span_s)


def _repair(name: str, traffic: str) -> Scenario:
    fault = {**FAULTS, **RARE}[name]
    run_for_s = STRIKES_S + fault.span_s[1] + fault.repaired_s + 15.0
    return Scenario(
        ("cone drop", "cone reject"),
        check_repaired,
        run_for_s,
        happenings=partial(_strike, name),
        signals=True,
        traffic=traffic,
        loss=0.0,
    )


# What links cost


class Costs:
    """Counts what leaves the nodes: by what it is, and to addresses that have proven nothing how many a
    second."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.direct: Counter[str] = Counter()
        self.unproven: list[tuple[float, str]] = []
        run.world.network.observers.append(self._see)

    def _see(self, host: Host, remote: Endpoint, payload: object) -> None:
        if host.name == "hub" or remote.address == HUB_ENDPOINT.address:
            return
        if isinstance(payload, Transport):
            self.direct[host.name + (" keepalive" if payload.inner is None else " data")] += 1
        elif isinstance(payload, (Initiation, Opener)):
            self.unproven.append((self.run.engine.now, host.name))
        else:
            self.direct[host.name + " other"] += 1

    def most_in_a_second(self, name: str) -> int:
        """The most packets to unproven addresses of one node within any second."""
        ats = [at for at, who in self.unproven if who == name]
        return max(
            (sum(at <= other < at + 1.0 for other in ats[nth : nth + 200]) for nth, at in enumerate(ats)),
            default=0,
        )


def _count(after_s: float, check_it: Callable[[Run, Costs], None], run: Run) -> None:
    def begin() -> None:
        costs = Costs(run)
        run.finish = lambda: check_it(run, costs)

    run.plan(after_s, "counting begins", begin)


def check_costs(run: Run) -> None:
    """As the scenario says."""
    check(run)
    run.finish()


IDLE_SPAN_S = 300.0


def _idle(run: Run, costs: Costs) -> None:
    """Each end's keepalives, one heartbeat exchange in 30 s, a handshake every two minutes, and nothing
    else."""
    assert run.monitor.direct
    for end in "AB":
        beats, keepalives = costs.direct[f"{end} data"], costs.direct[f"{end} keepalive"]
        assert beats == IDLE_SPAN_S / 30.0, f"{beats} heartbeats of {end} on an idle link"
        assert keepalives <= IDLE_SPAN_S / KEEPALIVE_S, f"{keepalives} keepalives of {end} on an idle link"
    initiations = len(costs.unproven)
    assert initiations <= IDLE_SPAN_S / 120.0 + 1, f"{initiations} handshakes or openers"
    assert costs.direct["A other"] + costs.direct["B other"] == initiations, "more than their responses"


HOPELESS_SPAN_S = 7200.0
TEN_MINUTES_S = 600.0
LADDER_S, LADDER_GAP_S = 60.0, 30.0
"""So long the ladder takes at most, and so long nothing is sent after it."""


def most_in_ten_minutes(costs: Costs) -> int:
    """The most packets of both ends of a hopeless pair in any ten minutes, the ladder's last try included."""
    ats = sorted(at for at, _who in costs.unproven)
    last = next(one for one, other in pairwise(ats) if other - one > LADDER_GAP_S)
    assert last - AGENTS_START_AT < LADDER_S, f"the ladder took {last - AGENTS_START_AT:.0f} s"
    ats = [at for at in ats if at > last - 1.0]
    return max(sum(at <= other < at + TEN_MINUTES_S for other in ats) for at in ats)


def _quiet(_run: Run, costs: Costs) -> None:
    """Less than one packet a minute to addresses that have proven nothing, from both ends together."""
    most = most_in_ten_minutes(costs)
    assert most < TEN_MINUTES_S / 60.0, f"{most} packets without hope in ten minutes"


def _bounded(run: Run, costs: Costs) -> None:
    for agent in run.agents.values():
        most = costs.most_in_a_second(agent.name)
        assert most <= 30, f"{agent.name} sent {most} packets to unproven addresses in a second"


# What does not get through: handshakes pass and nothing else does


def _only_handshakes(run: Run) -> None:
    for one, other in (("A", "B"), ("B", "A")):
        run.world.network.passes[one, other] = (
            INITIATION_BYTES,
            RESPONSE_BYTES,
            KEEPALIVE_BYTES,
        ).__contains__
    run.plan(0.0, "the path lets handshakes pass and nothing else", lambda: None)


def _moved_ever_more_seldom(run: Run) -> None:
    """Each try costs a second of traffic, so it is a rare one."""
    check_agree(run)
    lost_s = sum(outage.end - outage.begin for outage in run.monitor.outages)
    assert lost_s <= 12.0, f"{lost_s:.1f} s without a path for a link that never answered"


def check_agree(run: Run) -> None:
    """Nothing is left half moved."""
    for monitor in run.monitors:
        assert agree(monitor), f"{monitor.name}: only one end has moved"


PROVEN_BY = ("through the link", "it was direct when the agent began to signal")


def check_mixed(run: Run) -> None:
    """Direct without a fresh port of ours, and it says by what it was proven."""
    check_agree(run)
    assert run.monitor.direct, f"not direct: {why(run, 'A', 'B')}"
    assert run.a.fresh_ports_at == [], "a fresh port without need"
    assert any(words in why(run, "A", "B") for words in PROVEN_BY), why(run, "A", "B")


def check_mixed_lossless(run: Run) -> None:
    """The same, and no more is lost than while one end has moved and the other has not."""
    check_mixed(run)
    assert run.monitor.longest_s <= run.monitor.promotion_s, f"{run.monitor.longest_s:.3f} s without a path"
    assert len(run.monitor.outages) <= 3, run.monitor.outages


def _narrow(run: Run) -> None:
    for one, other in (("A", "B"), ("B", "A")):
        run.world.network.passes[one, other] = MTU.__ge__


def _relayed_as_narrow(run: Run) -> None:
    check_agree(run)
    assert not run.monitor.direct, "direct, although large packets do not get through"
    whys = [
        agent.mesh.links[other.device.public_key].why for agent, other in ((run.a, run.b), (run.b, run.a))
    ]
    assert any("path MTU below 1480" in why for why in whys), whys


def _hub_gone_and_nat_rebooted(run: Run) -> None:
    run.strike(FAULTS["hub unplugged"], run.a, run.b, STRIKES_S + run.case.offset_s, 600.0)
    run.plan(STRIKES_S + run.case.offset_s + 100.0, "A's NAT forgets", run.world.nat(run.a.device).lose_state)
    run.plan(STRIKES_S + run.case.offset_s + 200.0, "B's NAT forgets", run.world.nat(run.b.device).lose_state)


MINUTE_S, MINUTES = 60.0, 5


def _mappings_move_every_minute(run: Run) -> None:
    for nth in range(MINUTES):
        at_s = STRIKES_S + run.case.offset_s + nth * MINUTE_S
        run.strike(FAULTS["mappings moved"], run.a, run.b, at_s)


def _back_after_each(run: Run) -> None:
    """Each is noticed and repaired in its time, and the next one no worse than the first."""
    check(run)
    assert run.monitor.direct, f"not direct again: {why(run, 'A', 'B')}"
    assert len(run.strikes) == MINUTES
    assert sum(run.fired) == 0, "a fresh port without need"
    repaired_s = [
        next(at for at, direct in run.monitor._changes if direct and at > strike.begin) - strike.begin
        for strike in run.strikes
        if any(strike.begin < at < strike.begin + MINUTE_S for at, _direct in run.monitor._changes)
    ]
    assert repaired_s, "nothing was moved"
    noticed_s = KEEPALIVE_S if run.scenario.traffic == IDLE else 0.0
    assert max(repaired_s) <= noticed_s + FAULTS["mappings moved"].repaired_s + slow_s(run), repaired_s


CUT_MEANWHILE_S = 5.0


def _cut_while_the_hub_is_gone(run: Run) -> None:
    at_s = STRIKES_S + run.case.offset_s
    run.strike(FAULTS["hub unplugged"], run.a, run.b, at_s, 60.0)
    run.strike(FAULTS["path cut"], run.a, run.b, at_s + 20.0, CUT_MEANWHILE_S)


def _cut_for(span_s: float, run: Run) -> None:
    run.strike(FAULTS["path cut"], run.a, run.b, STRIKES_S + run.case.offset_s, span_s)


def _direct_within(seconds: float, run: Run) -> None:
    """However long it was cut, and relayed meanwhile."""
    check(run)
    (strike,) = run.strikes
    assert run.monitor.direct_since is not None, "not direct again"
    since_s = run.monitor.direct_since - strike.end
    assert since_s <= seconds, f"direct again {since_s:.1f} s after the cut's end"


AWAY_S = 45.0
"""Of the hub: longer than links wait for it."""


def _cut_while(what: str, happening: Callable[[Run], object], run: Run) -> None:
    _cut_for(300.0, run)
    run.plan(STRIKES_S + run.case.offset_s + 60.0, what, lambda: happening(run))


def _hub_away(run: Run) -> None:
    _set_hub(run, False)
    run.plan(AWAY_S, "the hub is back", lambda: _set_hub(run, True))


def _set_hub(run: Run, up: bool) -> None:
    run.world.hub.host.up = up
    run.engine.changed()


def _restart(name: str, run: Run) -> None:
    run.agents[name].kill()
    run.agents[name].start()


def _direct_with_one_port(run: Run) -> None:
    """As soon as it is without any of that, and no port more is spent on what no port heals."""
    (strike,) = run.strikes
    assert run.monitor.direct_since is not None, "not direct again"
    since_s = run.monitor.direct_since - strike.end
    assert since_s <= 5.0, f"direct again {since_s:.1f} s after the cut's end"
    assert sum(run.fired) == 1, f"{run.fired} fresh ports for a cut"
    check_agree(run)


def _lost_while_cut(run: Run) -> None:
    """There is nothing to go back to, so the link is there again the moment that its path is."""
    assert run.monitor.direct, "not direct in the end"
    assert run.monitor.longest_s <= CUT_MEANWHILE_S + 0.5, f"without a path for {run.monitor.longest_s:.2f} s"


def _never_lost_for_long(run: Run) -> None:
    assert run.monitor.direct, "not direct in the end"
    assert run.monitor.longest_s <= 1.5, f"without a path for {run.monitor.longest_s:.2f} s"
    assert run.monitor.outages


def _rebooted_idle(run: Run) -> None:
    """Its others learn from its new instance, not from heartbeats, which an idle link does not have."""
    check_agree(run)
    (strike,) = run.strikes
    back_at = max(outage.end for outage in run.monitor.outages if outage.begin <= strike.end)
    assert (run.monitor.direct_since or 0.0) <= strike.end + AGENT_AFTER_BOOT_S + 1.5 + slow_s(run), (
        "direct too late"
    )
    links = [node.device.host.link for node in run.nodes]
    told_s = sum(link.delay_s + 2 * link.jitter_s for link in links) + 0.02
    assert back_at <= strike.end + AGENT_AFTER_BOOT_S + told_s, (
        f"a path {back_at - strike.end:.2f} s after it came back: nobody was told by its registration"
    )


STEP_S, SPREAD_S = 12.0, 4.0
"""How long a step of a rotation takes, and how far apart the nodes learn of it."""
ROTATION: tuple[tuple[str, ...], ...] = (("first",), ("second", "first"), ("second",))


def _rotate_mesh_secret(run: Run) -> None:
    """Without a secret at first; each node learns of each step at another moment."""
    for nth, secrets in enumerate(ROTATION):
        for agent in run.agents.values():
            at_s = STRIKES_S + nth * STEP_S + run.engine.random.uniform(0.0, SPREAD_S)
            run.plan(at_s, f"{agent.name} has {secrets}", partial(agent.has_secrets, *secrets))


def _introduce_while_the_hub_is_gone(run: Run) -> None:
    run.strike(FAULTS["hub unplugged"], run.a, run.b, STRIKES_S + run.case.offset_s, 60.0)
    for nth, agent in enumerate(run.agents.values()):
        run.plan(2 * STRIKES_S + nth * STEP_S, f"{agent.name} has it", partial(agent.has_secrets, "second"))


def _all_have_the_second(run: Run) -> None:
    """Direct with the secret that is left, without a fresh port and next to never without a path."""
    for monitor in run.monitors:
        assert monitor.direct, f"{monitor.name} is not direct"
        assert monitor.longest_s <= 0.2, f"{monitor.name} without a path for {monitor.longest_s:.2f} s"
    assert not any(run.fired), "a fresh port without need"
    for agent in run.agents.values():
        for other in run.agents.values():
            if other is not agent:
                assert agent.device.peers[other.device.public_key].preshared_key == "second"


def _has_secrets_before_the_start(secrets: Mapping[str, tuple[str, ...]], run: Run) -> None:
    for name, ids in secrets.items():
        run.agents[name].has_secrets(*ids)


def _one_gets_a_secret(name: str, run: Run) -> None:
    run.plan(STRIKES_S, f"{name} has a secret", partial(run.agents[name].has_secrets, "first"))


def _given_back_for_the_secret(run: Run) -> None:
    """The link that was direct is relayed, at both ends together."""
    assert not run.monitor.direct
    assert run.monitor.longest_s <= 0.2, f"without a path for {run.monitor.longest_s:.2f} s"
    for agent in run.agents.values():
        (entry,) = agent.mesh.status(agent.now_s)
        assert "mesh secret" in entry["why"], entry["why"]


def _relayed_for_the_secret(run: Run) -> None:
    """Nothing is tried that cannot be, and both ends say why."""
    assert not run.monitor.direct
    assert not run.monitor.outages, run.monitor.outages
    assert not any(agent.opened_at for agent in run.agents.values()), "openers without hope"
    for agent in run.agents.values():
        (entry,) = agent.mesh.status(agent.now_s)
        assert "mesh secret" in entry["why"], entry["why"]


AWAY_FOR_S = ((2.0, 5.0), (2.0, 12.0), (5.0, 8.0), (8.0, 16.0), (12.0, 14.0))
"""The hub's program and A's agent, which is away a moment later, so that nobody is told."""


def _replace_programs(hub_s: float, agent_s: float, run: Run) -> None:
    at_s = STRIKES_S + run.case.offset_s
    run.strike(FAULTS["hub's program restarted"], run.a, run.b, at_s, hub_s)
    run.strike(FAULTS["agent killed"], run.a, run.b, at_s + 0.1, agent_s)


def _taken_over(run: Run) -> None:
    """Nothing is lost, and nobody has gone back to the hub."""
    check_agree(run)
    assert run.monitor.direct, f"not direct: {why(run, 'A', 'B')}"
    begun = [outage for outage in run.monitor.outages if outage.begin > min(at.begin for at in run.strikes)]
    assert not begun, begun
    assert "-> withdrawing" not in str(run.journal)


def _signalled(
    nats: tuple[str, ...], check_it: Callable[[Run], None], run_for_s: float = 20.0, **more: object
) -> Scenario:
    return Scenario(nats, check_it, run_for_s, signals=True, loss=0.0, **{"traffic": BOTH_WAYS, **more})  # type: ignore[arg-type]


JOIN = {
    f"signals: {one} x {other}": _signalled((one, other), check_joined)
    for one, other in product(CONES, CONES)
}
JOIN["signals: 150 ms"] = _signalled(("cone drop", "cone accept"), check_joined, 30.0, delay_s=0.15)
FAR = {
    f"signals: far away, {name}": _signalled(
        ("cone drop", "cone accept"), check_joined_at_once, 60.0, happenings=happenings,
        least_delay_s=0.3, delay_s=0.3,
    )
    for name, happenings in (("heartbeats pass", lambda _: None), ("heartbeats to the hub filtered", _filter))
}  # fmt: skip
JOIN["signals: ten of them"] = _signalled(CONES * 3 + ("cone drop",), check_joined, 30.0, traffic=IDLE)
JOIN["signals: six of them"] = _signalled(
    ("cone drop", "cone reject", "cone accept") * 2, check_joined, 30.0, traffic=ONE_WAY
)

JOIN["signals: promotion lost"] = _signalled(
    ("cone drop", "cone drop"), check_promoted_after_all, happenings=_lose_the_promotion
)

HOPELESS_SIGNALLED = {
    f"signals: symmetric drop x {other}": _signalled(
        ("symmetric drop", other), check_relayed, 150.0, traffic=ONE_WAY
    )
    for other in (*CONES, "symmetric accept", "learning window drop")
}
WINDOW_SIGNALLED = {
    "signals: learning window": _signalled(("cone drop", "learning window drop"), check_window_passed, 120.0)
}
REPAIR = {f"{name}, {traffic}": _repair(name, traffic) for name in FAULTS for traffic in (BOTH_WAYS, ONE_WAY)}
REPAIR["hub gone, NATs rebooted"] = Scenario(
    ("cone drop", "cone reject"), _never_lost_for_long, 640.0,
    happenings=_hub_gone_and_nat_rebooted, signals=True, traffic=BOTH_WAYS, loss=0.0, delay_s=0.02,
)  # fmt: skip
REPAIR["hub gone, path cut meanwhile"] = Scenario(
    ("cone drop", "cone reject"), _lost_while_cut, 90.0,
    happenings=_cut_while_the_hub_is_gone, signals=True, traffic=BOTH_WAYS, loss=0.0, delay_s=0.02,
)  # fmt: skip
for _minutes, _within_s in ((9.9, 5.0), (12.0, 130.0)):
    REPAIR[f"path cut for {_minutes} minutes"] = Scenario(
        ("cone drop", "cone reject"), partial(_direct_within, _within_s), 60 * _minutes + 150.0,
        happenings=partial(_cut_for, 60 * _minutes), signals=True, traffic=ONE_WAY, loss=0.0, delay_s=0.02,
    )  # fmt: skip
for _name, _happening, _policy in (
    ("hub away meanwhile", _hub_away, Policy.REBIND),
    ("A's agent restarted meanwhile", partial(_restart, "A"), Policy.REBIND),
    ("B's agent restarted meanwhile", partial(_restart, "B"), Policy.REBIND),
    ("units restarted for fresh ports", lambda _run: None, Policy.RESTART),
):
    REPAIR[f"path cut for 5 minutes, {_name}"] = Scenario(
        ("cone drop", "cone reject"), _direct_with_one_port, 330.0, Settings(refresh=_policy),
        happenings=partial(_cut_while, _name, _happening), signals=True, traffic=BOTH_WAYS, loss=0.0,
        delay_s=0.02,
    )  # fmt: skip
for _traffic in (BOTH_WAYS, IDLE):
    REPAIR[f"mappings move every minute, {_traffic}"] = Scenario(
        ("cone drop", "cone reject"), _back_after_each, STRIKES_S + MINUTES * MINUTE_S + 40.0,
        happenings=_mappings_move_every_minute, signals=True, traffic=_traffic, loss=0.0, delay_s=0.02,
    )  # fmt: skip
REPAIR["power lost, idle"] = Scenario(
    ("cone drop", "cone reject"), _rebooted_idle, 60.0, Settings(refresh=Policy.OFF),
    happenings=partial(_strike, "power lost"), signals=True, traffic=IDLE, loss=0.0,
)  # fmt: skip
REPAIR["clock ahead and back"] = Scenario(
    ("cone drop", "cone reject"), check_agree, 700.0,
    happenings=partial(_strike, "clock ahead and back"), signals=True, traffic=ONE_WAY, loss=0.0,
)  # fmt: skip
REPAIR["only handshakes pass"] = _signalled(
    ("cone drop", "cone drop"), _moved_ever_more_seldom, 300.0, happenings=_only_handshakes
)
REPAIR["large packets cut"] = _signalled(
    ("cone drop", "cone drop"), _relayed_as_narrow, 14.0, happenings=_narrow
)
MIXED = {
    "signals: origin's agent": _signalled(
        ("cone drop", "cone drop"), check_mixed, 150.0, origins=("B",), traffic=IDLE
    ),
    "signals: agent that polls": _signalled(
        ("cone drop", "cone drop"), check_mixed_lossless, 80.0, polling=("B",)
    ),
    "hub of the origin for a while": _signalled(
        ("cone drop", "cone reject"),
        check_mixed_lossless,
        150.0,
        happenings=partial(_strike, "hub of the origin for a while"),
    ),
}
COST = {
    "idle": Scenario(
        ("cone drop", "cone reject"), check_costs, 30.0 + IDLE_SPAN_S,
        happenings=partial(_count, 30.0, _idle), signals=True, traffic=IDLE, loss=0.0,
    ),
    **{
        f"quiet when hopeless, fresh ports: {policy.value}": Scenario(
            ("symmetric drop", "symmetric drop"), check_costs, HOPELESS_SPAN_S,
            Settings(refresh=policy), happenings=partial(_count, 0.0, _quiet), signals=True, traffic=IDLE,
            loss=0.0,
        )
        for policy in (Policy.OFF, Policy.REBIND)
    },
    "six at once": Scenario(
        ("symmetric drop",) * 6, check_costs, 60.0,
        happenings=partial(_count, 0.0, _bounded), signals=True, traffic=IDLE, loss=0.0,
    ),
}  # fmt: skip
SECRET = {
    "mesh secret rotated": _signalled(
        ("cone drop", "cone reject", "cone drop"),
        _all_have_the_second,
        STRIKES_S + len(ROTATION) * STEP_S + 10.0,
        happenings=_rotate_mesh_secret,
    ),
    "mesh secret: while the hub is gone": _signalled(
        ("cone drop", "cone drop"),
        _all_have_the_second,
        120.0,
        happenings=_introduce_while_the_hub_is_gone,
    ),
    "mesh secret: of one, later": _signalled(
        ("cone drop", "cone drop"),
        _given_back_for_the_secret,
        60.0,
        happenings=partial(_one_gets_a_secret, "B"),
    ),
    **{
        f"mesh secret: {name}": _signalled(
            ("cone drop", "cone drop"),
            _relayed_for_the_secret,
            60.0,
            happenings=partial(_has_secrets_before_the_start, secrets),
        )
        for name, secrets in (
            ("of one alone", {"A": ("first",)}),
            ("different", {"A": ("first",), "B": ("second",)}),
        )
    },
}
REPLACED = {
    f"programs replaced: hub away for {hub_s:.0f} s, A's agent for {agent_s:.0f} s": _signalled(
        ("cone drop", "cone drop"),
        _taken_over,
        60.0,
        happenings=partial(_replace_programs, hub_s, agent_s),
    )
    for hub_s, agent_s in AWAY_FOR_S
}
SIGNALLED = {
    **JOIN,
    **FAR,
    **HOPELESS_SIGNALLED,
    **WINDOW_SIGNALLED,
    **REPAIR,
    **MIXED,
    **COST,
    **CUTS,
    **CROWDS,
    **MEMBERSHIP,
    **SECRET,
    **REPLACED,
}
