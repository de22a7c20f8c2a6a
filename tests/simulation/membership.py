# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Who is there changes: agents of the two protocols take turns, an address gets another key, a peer is
removed, two share one NAT, some have IPv6 alone, and the hub is away for an hour."""

from __future__ import annotations

from functools import partial
from itertools import permutations

from tests.simulation.chaos import agree
from tests.simulation.faults import FAULTS
from tests.simulation.origin import OriginAgent
from tests.simulation.run import BOTH_WAYS, IDLE, ONE_WAY, Run, Scenario
from tests.simulation.world import HUB_ENDPOINT, KEEPALIVE_S, VPN

HAPPENS_AFTER_S = 5.0


def _at(run: Run, after_s: float, what: str, step: object) -> None:
    run.plan(run.case.offset_s + HAPPENS_AFTER_S + after_s, what, step)  # type: ignore[arg-type]


def why(run: Run, one: str, other: str) -> str:
    """What the status of one says of its link to the other."""
    agent, key = run.agents[one], run.world.nodes[other].public_key
    return next(str(entry["why"]) for entry in agent.mesh.status(agent.now_s) if entry["peer"] == key)


def lost_s(run: Run) -> float:
    """How long A and B had no path in all."""
    return sum(outage.end - outage.begin for outage in run.monitor.outages)


def _origin_takes_over(run: Run) -> None:
    def replace() -> None:
        run.b.stop()
        run.engine.call_in(2.0, OriginAgent(run.world, run.b.device, run.journal).start)

    _at(run, 0.0, "B's agent gives way to one of the origin", replace)


def _direct_with_the_origin(run: Run) -> None:
    assert run.monitor.direct, f"not direct with the origin's agent: {why(run, 'A', 'B')}"
    assert run.b.device.public_key in run.a.mesh.loop.links, "not the loop's link"
    assert run.a.fresh_ports_at == [], "a fresh port without need"


def _address_moves(run: Run) -> None:
    """C is given B's address, and B is gone."""

    def move() -> None:
        b, c = run.agents["B"], run.agents["C"]
        b.kill()
        c.kill()
        run.world.hub.remove_peer(b.device.public_key)
        address = b.device.address
        b.device.address, c.device.address = "192.168.7.200", address
        b.plug(False, "gone")
        run.truths[c.device.public_key] = address
        run.world.hub.set_peer(c.device.public_key, allowed_ips=(f"{address}/32",))
        c.lose_power()
        c.plug(True, "without power")
        c.device.set_peer(run.world.hub.public_key, HUB_ENDPOINT, KEEPALIVE_S, (VPN,))
        c.start()

    _at(run, 0.0, "C has B's address now", move)


def _with_the_new_owner(run: Run) -> None:
    to_c = next(monitor for monitor in run.monitors if monitor.name == "A-C")
    assert to_c.direct, f"not direct with the address's new owner: {why(run, 'A', 'C')}"
    b, c = run.agents["B"].device, run.agents["C"].device
    assert b.public_key not in run.a.device.peers, "the address's old owner is still a peer"
    owner = run.a.device.owner(c.address)
    assert owner is not None
    assert owner.key == c.public_key


def _removed(run: Run) -> None:
    def remove() -> None:
        run.world.hub.remove_peer(run.b.device.public_key)

    _at(run, 0.0, "B is removed at the hub", remove)


def _nothing_is_left(run: Run) -> None:
    key, mesh = run.b.device.public_key, run.a.mesh
    assert key not in run.a.device.peers, "the removed peer is still in the device"
    for place in (mesh.links, mesh.node.known, mesh.node.refresh.counts, run.a._owned):
        assert key not in place


def _on_their_lan(run: Run) -> None:
    assert run.monitor.direct, "not direct"
    assert lost_s(run) <= 0.2, f"{lost_s(run):.2f} s without a path"
    for agent, other in ((run.a, run.b), (run.b, run.a)):
        (entry,) = agent.mesh.status(agent.now_s)
        assert entry["strategy"] == "host", entry
        assert entry["endpoint"] == f"{other.device.host.address}:{other.device.listen_port}"
    assert run.fired == (0, 0)


def _apart(hairpins: bool, run: Run) -> None:
    """As on a guest Wi-Fi: the access point lets nobody reach anybody else."""
    nat = run.world.nat(run.a.device)
    nat.isolates, nat.hairpins = True, hairpins


def _by_their_nat(run: Run) -> None:
    """The LAN was tried first, in vain, and cost no traffic; nobody took a fresh port for it."""
    assert run.monitor.direct, f"not direct: {why(run, 'A', 'B')}"
    assert lost_s(run) <= 0.2, f"{lost_s(run):.2f} s without a path"
    for agent in run.agents.values():
        (entry,) = agent.mesh.status(agent.now_s)
        assert entry["strategy"] == "reflexive", entry
        assert entry["endpoint"].startswith(f"{run.world.nat(run.a.device).address}:")
    assert run.fired == (0, 0)


def _relayed_for_want_of_a_hairpin(run: Run) -> None:
    assert not run.monitor.direct
    assert lost_s(run) <= 0.2, f"{lost_s(run):.2f} s without a path"
    for agent in run.agents.values():
        (entry,) = agent.mesh.status(agent.now_s)
        assert "does not lead packets for its own address back inside" in entry["why"], entry["why"]


def _no_common_family(run: Run) -> None:
    """Those with IPv6 alone reach one another; between them and B nothing is even tried."""
    for monitor in run.monitors:
        apart = "B" in monitor.name
        assert monitor.direct is not apart, f"{monitor.name}: {why(run, *monitor.name.split('-'))}"
        if apart:
            assert not monitor.outages
            for one, other in permutations(monitor.name.split("-")):
                assert why(run, one, other).startswith("no common IP family"), why(run, one, other)
    assert not run.agents["B"].opened_at, "openers without hope"
    assert run.agents["A"].device.peers.keys().isdisjoint({run.agents["B"].device.public_key})


def _hub_restarted(run: Run) -> None:
    run.strike(FAULTS["hub's program restarted"], run.a, run.b, run.case.offset_s + 80.0, 1.0)


def _hub_knows_of_relayed_links(run: Run) -> None:
    """It has forgotten all, and their next try is minutes away."""
    assert not run.monitor.direct
    runs = run.signal_hub._runs
    for one, other in permutations((run.a.device.public_key, run.b.device.public_key)):
        report = runs[one].links.get(other)
        assert report, "the hub was not told of a relayed link after its restart"
        assert "no handshake" in report["why"], report


HUB_AWAY_S = 3600.0


def _hub_away_for_an_hour(run: Run) -> None:
    run.strike(FAULTS["hub unplugged"], run.a, run.b, run.case.offset_s + HAPPENS_AFTER_S, HUB_AWAY_S)
    _at(run, 1200.0, "A's NAT forgets", run.world.nat(run.a.device).lose_state)
    _at(run, 1800.0, "A's agent is killed", run.a.kill)
    _at(run, 1810.0, "A's agent is started", run.a.start)
    for agent in (run.a, run.b):
        _at(run, 2400.0, f"{agent.name}'s NAT forgets", run.world.nat(agent.device).lose_state)


def _lost_nothing_but_that(run: Run) -> None:
    assert run.monitor.direct, "not direct in the end"
    assert len(run.monitor.outages) <= 1 + 2, f"more was lost than two NAT states: {run.monitor.outages}"
    assert run.monitor.longest_s <= 1.5, f"without a path for {run.monitor.longest_s:.2f} s"
    assert sum(run.fired) == 0, "a fresh port without need"


PEERS_REMOVED_S = 1800.0
REMADE_S = 60.0
"""Without the hub nothing can be signalled: the origin's loop makes a lost link anew, in a few of its
passes."""


def _peers_removed_while_the_hub_is_away(run: Run) -> None:
    run.strike(FAULTS["hub unplugged"], run.a, run.b, run.case.offset_s + HAPPENS_AFTER_S, HUB_AWAY_S)
    _at(run, PEERS_REMOVED_S - 60.0, "A's agent is killed", run.a.kill)
    _at(run, PEERS_REMOVED_S - 60.0, "B's agent is killed", run.b.kill)
    _at(run, PEERS_REMOVED_S - 50.0, "A's interface is reloaded", run.a.reload)
    _at(run, PEERS_REMOVED_S - 50.0, "B's interface is reloaded", run.b.reload)
    _at(run, PEERS_REMOVED_S, "A's agent is started", run.a.start)
    _at(run, PEERS_REMOVED_S, "B's agent is started", run.b.start)


def _remade_from_what_is_known(run: Run) -> None:
    removed_at = next(at for at, _who, what in run.journal.lines if "A's interface is reloaded" in what)
    back_at = next((at for at, direct in run.monitor._changes if direct and at > removed_at), float("inf"))
    within_s = back_at - removed_at - 50.0
    assert within_s <= REMADE_S, f"made anew {within_s:.0f} s after the agents' start, from what is known"
    assert run.monitor.direct
    assert agree(run.monitor)


def _run(
    nats: tuple[str, ...], check: object, run_for_s: float, happenings: object, **more: object
) -> Scenario:
    settings = {"signals": True, "loss": 0.0, "delay_s": 0.02, "traffic": ONE_WAY, **more}
    return Scenario(nats, check, run_for_s, happenings=happenings, **settings)  # type: ignore[arg-type]


PAIR = ("cone drop", "cone reject")
MEMBERSHIP = {
    "an agent of the origin takes over": _run(
        PAIR, _direct_with_the_origin, 150.0, _origin_takes_over, traffic=IDLE
    ),
    "an address gets another key": _run((*PAIR, "cone drop"), _with_the_new_owner, 60.0, _address_moves),
    "a peer is removed": _run(PAIR, _nothing_is_left, 40.0, _removed),
    "two on one LAN": _run(PAIR, _on_their_lan, 20.0, lambda _run: None, lan=True, traffic=BOTH_WAYS),
    "two behind one NAT, apart": _run(
        PAIR, _by_their_nat, 20.0, partial(_apart, True), lan=True, traffic=BOTH_WAYS
    ),
    "two behind one NAT, apart, no hairpin": _run(
        PAIR, _relayed_for_want_of_a_hairpin, 60.0, partial(_apart, False), lan=True
    ),
    "IPv6 alone": _run(
        (*PAIR, "cone drop"), _no_common_family, 60.0, lambda _run: None, ipv6=("A", "C"), traffic=BOTH_WAYS
    ),
    "hub restarted, no direct path": _run(
        ("symmetric drop", "symmetric drop"), _hub_knows_of_relayed_links, 90.0, _hub_restarted
    ),
    "hub away for an hour, NATs rebooted": _run(
        PAIR, _lost_nothing_but_that, HUB_AWAY_S + 60.0, _hub_away_for_an_hour, traffic=BOTH_WAYS
    ),
    "hub away for an hour, peers removed": _run(
        PAIR,
        _remade_from_what_is_known,
        HUB_AWAY_S + 60.0,
        _peers_removed_while_the_hub_is_away,
        traffic=IDLE,
    ),
}
