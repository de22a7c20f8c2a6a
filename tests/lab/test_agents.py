# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The built program with a hub that takes no signals: the origin's loop, its restart condition, the
origin's own programs; and what agents leave alone.

A path is what the core router counts. Intervals are shorter than the 13 s of the origin where the meaning is
the same; the time limits are in passes then.
"""

from __future__ import annotations

import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.conftest import MakeNetwork, MakePair
from tests.lab.network import HUB_VPN_ADDRESS, Network, Site
from tests.lab.pairs import INTERVAL_S, JOIN_WITHIN_S, Pair
from tests.lab.programs import (
    DIRECT,
    HUB_PORT,
    KNOCK_FAILED,
    NOT_TAKEN,
    RESTART_CONDITION,
    Agent,
    listening,
    start_hub,
    start_origin_agent,
    start_origin_hub,
)
from tests.lab.traffic import Pinger, Transfer, path_of_pings, wait_for_path
from tests.lab.wireguard import Node, new_private_key, ordered_keys, public_key_of, wait_until
from tests.nat_profiles import NatProfile

pytestmark = pytest.mark.lab

ORIGIN_INTERVAL_S = 13.0
TO_RELAY_WITHIN_S = INTERVAL_S + 3.5
"""A pass, and two probes of a second each, a second apart: within two passes of the origin's interval."""
RECOVERED_WITHIN_S = 15.0


def a_second_of_pings() -> None:
    """Let the pings run on for a while: what is lost after an event is seen then."""
    time.sleep(1)


# --- joining ---


@pytest.mark.parametrize("policy", ["drop", "reject"])
def test_join_in_the_first_pass_loses_at_most_two_pings(
    make_network: MakeNetwork, program: Path, policy: str, record_property: Callable[[str, object], None]
) -> None:
    network = make_network(f"cone {policy}", f"cone {policy}")
    start_origin_hub(network)
    a, b = network.nodes
    with Pinger(a, b.address) as pinger:
        agents = [Agent(program, a, ORIGIN_INTERVAL_S), Agent(program, b, ORIGIN_INTERVAL_S)]
        for agent in agents:
            agent.wait_until_said("agent started", 10)
        took_s = agents[0].wait_until_said(DIRECT, JOIN_WITHIN_S)
        agents[1].wait_until_said(DIRECT, JOIN_WITHIN_S)
        a_second_of_pings()
    assert path_of_pings(network, *network.sites) == "direct"
    assert pinger.result.lost <= 2, pinger.result
    record_property("seconds to direct", round(took_s, 2))
    record_property("pings lost", f"{pinger.result.lost} of {pinger.result.sent}")


def test_a_join_is_not_taken_back_because_the_agents_take_long_to_answer(
    make_network: MakeNetwork, slow_program: Path
) -> None:
    network = make_network("cone drop", "cone reject")
    start_origin_hub(network)
    a, b = network.nodes
    with Pinger(a, b.address) as pinger:
        agents = [Agent(slow_program, a, ORIGIN_INTERVAL_S), Agent(slow_program, b, ORIGIN_INTERVAL_S)]
        for agent in agents:
            agent.wait_until_said(DIRECT, JOIN_WITHIN_S)
        a_second_of_pings()
    assert pinger.result.lost <= 2, pinger.result


@pytest.fixture
def slow_program(program: Path, tmp_path: Path) -> Path:
    """The program as on a small and busy node: seconds pass until it answers to HTTP."""
    path = tmp_path / "wg-rendezvous.pyz"
    with zipfile.ZipFile(program) as quick, zipfile.ZipFile(path, "w") as slow:
        for name in quick.namelist():
            content = quick.read(name)
            if name.endswith("agent/local_api.py"):
                content += b"time.sleep(3)\n"
            slow.writestr(name, content)
    return path


def test_where_no_direct_path_is_possible_traffic_stays_relayed_and_no_ping_is_lost(
    make_pair: MakePair,
) -> None:
    pair = make_pair("symmetric drop", "symmetric reject", hub="origin")
    a, b = pair.nodes
    with Pinger(a, b.address) as pinger:
        for agent in pair.agents:
            agent.wait_until_said(RESTART_CONDITION, 20)
        before = [len(agent.said(KNOCK_FAILED)) for agent in pair.agents]
        for agent, count in zip(pair.agents, before, strict=True):
            agent.wait_until_said(KNOCK_FAILED, 10, times=count + 2)
    assert path_of_pings(pair.network, *pair.sites) == "relay"
    assert_nothing_lost_but_what_was_under_way_to_an_old_port(pinger, pair.agents)


def assert_nothing_lost_but_what_was_under_way_to_an_old_port(pinger: Pinger, agents: list[Agent]) -> None:
    """A fresh port loses what arrives at the old one in that very moment: one ping at most."""
    fresh_at = [at for agent in agents for at in agent.said_at(RESTART_CONDITION)]
    for gap_at, lost in pinger.result.gaps:
        assert lost == 1, pinger.result
        assert any(abs(at - gap_at) < 0.3 for at in fresh_at), pinger.result


# --- the restart condition of the loop, with a hub that takes no signals ---


def assert_direct_only_after_the_one_that_needs_it_took_a_fresh_port(pair: Pair, needs: int) -> None:
    """The agent `needs` fires exactly once, the other at most once, and no link was direct before."""
    for agent in pair.agents:
        agent.wait_until_said(DIRECT, 40)
    assert path_of_pings(pair.network, *pair.sites) == "direct"
    fired = [agent.said_at(RESTART_CONDITION) for agent in pair.agents]
    assert len(fired[needs]) == 1, fired
    assert len(fired[1 - needs]) <= 1, fired
    assert min(pair.agents[0].said_at(DIRECT)[0], pair.agents[1].said_at(DIRECT)[0]) > fired[needs][0]
    reason = pair.agents[needs].said(RESTART_CONDITION)[0]
    assert reason["peer"] == pair.nodes[1 - needs].public_key


@pytest.mark.parametrize(
    ("behind_it", "policy"), [("larger", "drop"), ("smaller", "reject"), ("larger", "accept")]
)
def test_behind_a_learning_window_that_has_passed_the_restart_condition_makes_it_direct(
    make_network: MakeNetwork, program: Path, behind_it: str, policy: str
) -> None:
    keys = ordered_keys() if behind_it == "larger" else ordered_keys()[::-1]
    window = NatProfile(input_policy=policy, learning_window_s=1.5)
    network = make_network("cone drop", window, keys=keys)
    hub = start_origin_hub(network)
    wait_for_window_to_pass(network.sites[1])
    pair = Pair(network, program, hub, [Agent(program, node, INTERVAL_S) for node in network.nodes])
    assert_direct_only_after_the_one_that_needs_it_took_a_fresh_port(pair, needs=1)


def wait_for_window_to_pass(site: Site) -> None:
    """Until the firewall of this site learns no more on the node's mapping."""
    port = site.node.listen_port

    def passed() -> bool:
        return str(port) not in site.nat.run("nft", "list", "set", "ip", "nat_profile", "windows")

    wait_until(passed, 10, "the learning window passes")


@pytest.mark.parametrize("behind_it", ["larger", "smaller"])
def test_behind_an_accepting_nat_that_was_knocked_at_first_the_restart_condition_makes_it_direct(
    make_network: MakeNetwork, program: Path, behind_it: str
) -> None:
    keys = ordered_keys() if behind_it == "larger" else ordered_keys()[::-1]
    network = make_network("cone drop", "cone accept", keys=keys)
    hub = start_origin_hub(network)
    a, b = network.sites
    first = Agent(program, a.node, INTERVAL_S)

    def collided() -> bool:
        return a.nat_address in b.nat.run("conntrack", "-L", "-p", "udp", "--src", a.nat_address)

    wait_until(collided, 10, "a knock of the first agent is accepted by the other NAT")
    pair = Pair(network, program, hub, [first, Agent(program, b.node, INTERVAL_S)])
    assert_direct_only_after_the_one_that_needs_it_took_a_fresh_port(pair, needs=1)


# --- the origin's programs ---


def keys_with_slashes() -> list[str]:
    """Two private keys whose public keys have a slash, which has a meaning in a path."""
    keys: list[str] = []
    while len(keys) < 2:
        key = new_private_key()
        if "/" in public_key_of(key):
            keys.append(key)
    return keys


@pytest.mark.parametrize(
    ("hub", "first", "second", "interval_s"),
    [
        ("ours", "ours", "origin", 13.0),  # as in the field; first, since it takes longest
        ("ours", "origin", "origin --raw-keys", 2.0),
        ("origin", "ours", "ours", 2.0),
        ("origin --raw-keys", "ours", "ours", 2.0),
        ("ours", "origin --raw-keys", "ours", 2.0),
        ("origin", "origin", "ours", 2.0),
        ("origin", "origin", "origin", 2.0),
    ],
)
def test_origin_and_ours_get_direct_with_one_another(
    make_network: MakeNetwork, program: Path, hub: str, first: str, second: str, interval_s: float
) -> None:
    network = make_network("cone drop", "cone reject", keys=keys_with_slashes())
    if hub == "ours":
        start_hub(program, network)
    else:
        start_origin_hub(network, *hub.split()[1:])
    for kind, node in zip((first, second), network.nodes, strict=True):
        if kind == "ours":
            Agent(program, node, interval_s)
        else:
            start_origin_agent(node, interval_s, *kind.split()[1:])
    within_s = max(25, 5 * interval_s)
    wait_for_path(network, network.sites[0], network.sites[1], "direct", within_s)
    stays_direct_for(network, max(5, interval_s + 2))


def stays_direct_for(network: Network, duration_s: float) -> None:
    """The pings go directly, and a loop that meets a live link does not cost more than two of them."""
    a, b = network.nodes
    with Pinger(a, b.address) as pinger:
        time.sleep(duration_s)
    assert path_of_pings(network, *network.sites) == "direct"
    assert pinger.result.lost <= 2, pinger.result


# --- agents that end, peers that are removed ---


def longest_gap_s(pinger: Pinger) -> float:
    """The longest time without an answer."""
    return max((lost for _, lost in pinger.result.gaps), default=0) * 0.055


def test_sigterm_gives_the_traffic_back_to_the_relay_and_a_restart_makes_it_direct_again(
    make_pair: MakePair,
) -> None:
    pair = make_pair("cone drop", "cone reject", hub="origin")
    pair.wait_until_direct()
    a, b = pair.nodes
    with Pinger(a, b.address) as pinger:
        a_second_of_pings()
        assert pair.agents[1].end(signal.SIGTERM) == 0
        wait_for_path(pair.network, *pair.sites, "relay", 2 * TO_RELAY_WITHIN_S)
        assert a.public_key not in b.peers(), "the agent left a peer behind"
        pair.restart(1)
        pair.wait_until_direct(RECOVERED_WITHIN_S)
        a_second_of_pings()
    assert longest_gap_s(pinger) <= TO_RELAY_WITHIN_S, pinger.result


def test_sigkill_and_a_restart_lose_nothing(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop", hub="origin")
    pair.wait_until_direct()
    a, b = pair.nodes
    with Pinger(a, b.address) as pinger:
        a_second_of_pings()
        pair.agents[1].end(signal.SIGKILL)
        time.sleep(TO_RELAY_WITHIN_S)
        assert path_of_pings(pair.network, *pair.sites) == "direct"
        pair.restart(1)
        pair.agents[1].wait_until_said("agent started", 10)
        time.sleep(TO_RELAY_WITHIN_S)
    assert path_of_pings(pair.network, *pair.sites) == "direct"
    assert pinger.result.lost == 0, pinger.result


def test_a_node_whose_interface_is_made_anew_is_reached_again(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone reject", hub="origin")
    pair.wait_until_direct()
    a, b = pair.nodes
    with Pinger(a, b.address) as pinger:
        a_second_of_pings()
        b.make_interface_anew()
        wait_until(lambda: not pair.agents[1].is_running(), 10, "the agent ends with its interface")
        pair.restart(1)
        pair.wait_until_direct(RECOVERED_WITHIN_S)
        a_second_of_pings()
    # Its WireGuard waits up to 5 s for the first handshake with the hub (DESIGN fact 5).
    assert longest_gap_s(pinger) <= TO_RELAY_WITHIN_S + 5, pinger.result


@pytest.mark.parametrize("by", ["wg set", "wg syncconf"])
def test_a_removed_peer_is_back_on_a_path_within_two_passes_and_direct_again_soon(
    make_pair: MakePair, by: str
) -> None:
    pair = make_pair("cone drop", "cone reject", hub="origin")
    pair.wait_until_direct()
    a, b = pair.nodes
    with Pinger(a, b.address) as pinger:
        a_second_of_pings()
        if by == "wg set":
            b.run("wg", "set", "wg0", "peer", a.public_key, "remove")
        else:
            b.sync_file()
        assert b.peers().keys() == {pair.network.hub.public_key}
        wait_until(lambda: a.public_key in b.peers(), RECOVERED_WITHIN_S, "the agent starts over")
        pair.wait_until_direct(RECOVERED_WITHIN_S)
        a_second_of_pings()
    assert longest_gap_s(pinger) <= TO_RELAY_WITHIN_S, pinger.result


def test_a_tcp_stream_survives_from_relay_to_direct_to_relay_to_direct(
    make_network: MakeNetwork, program: Path
) -> None:
    network = make_network("cone drop", "cone reject")
    hub = start_origin_hub(network)
    a, b = network.sites
    with Transfer(a.node, b.node, network.directory) as transfer:
        transfer.flows_for()
        assert path_of_pings(network, a, b) == "relay"
        pair = Pair(network, program, hub, [Agent(program, node, INTERVAL_S) for node in network.nodes])
        pair.wait_until_direct()
        transfer.flows_for()

        network.block(a, b)
        wait_for_path(network, a, b, "relay", 2 * TO_RELAY_WITHIN_S)
        transfer.flows_for()

        network.block(a, b, blocked=False)
        pair.wait_until_direct(RECOVERED_WITHIN_S)
        transfer.flows_for()
        _, longest_pause_s = transfer.finish()
    assert longest_pause_s <= 2 * TO_RELAY_WITHIN_S


# --- the hub goes away ---


def test_a_direct_link_does_not_need_the_hub(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone reject", hub="origin")
    pair.wait_until_direct()
    hub_endpoints = [node.endpoints()[pair.network.hub.public_key] for node in pair.nodes]
    a, b = pair.nodes
    with Pinger(a, b.address) as pinger:
        pair.hub.end(signal.SIGKILL)
        pair.network.hub.run("ip", "link", "set", "wan", "down")
        for agent in pair.agents:
            agent.wait_until_said("the hub does not answer; going on with what is known", 10)
        time.sleep(2 * TO_RELAY_WITHIN_S)
        pair.network.hub.run("ip", "link", "set", "wan", "up")
        pair.network.hub.run("ip", "route", "replace", "default", "via", "203.0.113.1")
        pair.hub = start_origin_hub(pair.network)
        for agent in pair.agents:
            agent.wait_until_said("the hub answers", 30, times=2)
    assert path_of_pings(pair.network, *pair.sites) == "direct"
    assert pinger.result.lost == 0, pinger.result
    assert [node.endpoints()[pair.network.hub.public_key] for node in pair.nodes] == hub_endpoints


def test_an_agent_that_is_stopped_while_the_hub_is_away_leaves_its_links(make_pair: MakePair) -> None:
    """Also before it has noticed by itself: nobody else could carry the traffic."""
    pair = make_pair("cone drop", "cone reject", hub="origin")
    pair.wait_until_direct()
    a, b = pair.nodes
    with Pinger(a, b.address) as pinger:
        pair.network.hub.run("ip", "link", "set", "wan", "down")
        assert pair.agents[0].end() == 0
        time.sleep(2 * TO_RELAY_WITHIN_S)
    assert b.public_key in a.peers()
    assert pinger.result.lost == 0, pinger.result


# --- what is left alone ---


def test_a_peer_of_the_admin_is_never_touched(make_network: MakeNetwork, program: Path) -> None:
    network = make_network("cone drop", "cone reject")
    hub = start_hub(program, network)
    a, b = network.nodes
    foreign = public_key_of(new_private_key())
    a.wg_set_peer(foreign, endpoint="203.0.113.77:7777", allowed_ips="192.168.7.77/32", keepalive_s=0)
    before = entry(a, foreign)
    pair = Pair(network, program, hub, [Agent(program, node, INTERVAL_S) for node in network.nodes])
    pair.wait_until_direct()
    pair.agents[0].end()
    assert entry(a, foreign) == before
    assert b.public_key not in a.peers()


def test_the_admin_may_have_a_peer_that_the_hub_knows_as_well(
    make_network: MakeNetwork, program: Path
) -> None:
    network = make_network("cone drop", "cone reject", keys=ordered_keys()[::-1])
    hub = start_hub(program, network)
    a, b = network.nodes
    a.wg_set_peer(b.public_key, allowed_ips="192.168.77.0/24")
    before = entry(a, b.public_key)
    pair = Pair(network, program, hub, [Agent(program, node, INTERVAL_S) for node in network.nodes])
    with Pinger(a, b.address) as pinger:
        pair.agents[1].wait_until_said(NOT_TAKEN, 20, times=3)
    assert_nothing_lost_but_what_was_under_way_to_an_old_port(pinger, pair.agents)
    pair.agents[0].end()
    assert entry(a, b.public_key)[1:] == before[1:]


def test_a_peer_that_the_admin_takes_over_is_theirs_as_it_stands(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone reject")
    pair.wait_until_direct()
    a, b = pair.nodes
    peer = f"\n[Peer]\nPublicKey = {b.public_key}\nAllowedIPs = {b.address}/32\nPersistentKeepalive = 25\n"
    a.run("sh", "-c", "cat >> /etc/wireguard/wg0.conf", stdin=peer)
    a.sync_file()
    pair.agents[0].wait_until_said("the peer is the admin's now", 10)
    before = entry(a, b.public_key)
    assert pair.agents[0].end() == 0
    assert entry(a, b.public_key) == before
    assert before[1:] == (f"{b.address}/32", "25")


def entry(node: Node, key: str) -> tuple[str | None, ...]:
    """Endpoint, AllowedIPs and keepalive of a peer."""
    return node.endpoints().get(key), node.peers().get(key), node.keepalives().get(key)


def test_nothing_listens_outside_of_the_vpn(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop")
    pair.wait_until_direct()
    a, b = pair.sites
    hub = pair.network.hub
    for node in (hub, a.node, b.node):
        for where in listening(node):
            assert where.startswith((f"{node.address}%wg0:", f"{node.address}%lo:")), (
                node.name,
                listening(node),
            )

    # A neighbour on the LAN, and the hub's provider, route to the VPN address.
    a.nat.run("ip", "route", "add", f"{a.node.address}/32", "via", a.lan_address)
    pair.network.core.run("ip", "route", "add", f"{HUB_VPN_ADDRESS}/32", "via", "203.0.113.2")
    for namespace, addresses in (
        (a.nat, (a.node.address, a.lan_address)),
        (pair.network.core, (HUB_VPN_ADDRESS, "203.0.113.2")),
    ):
        for address in addresses:
            answer = namespace.run(
                "curl", "-s", "-m", "1", f"http://{address}:{HUB_PORT}/statusz", check=False
            )
            assert answer == "", f"{address} answers outside of the VPN"
    inside = b.node.run("curl", "-s", "-m", "2", f"http://{a.node.address}:{HUB_PORT}/statusz")
    assert "links_direct: 1" in inside
