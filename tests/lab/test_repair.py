# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What breaks under a direct link, and how soon it is whole again. A ping and a TCP stream run through each.

The limits are the issue's worst cases, and MARGIN_S for two networks on one machine. `tests/bench` measures
medians. Outages are counted in pings, paths at the core.
"""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
from tests.lab.conftest import MakePair
from tests.lab.pairs import Pair, users
from tests.lab.programs import DIRECT, start_hub
from tests.lab.traffic import Pinger
from tests.lab.wireguard import VPN, Node, ordered_keys, wait_until
from tests.nat_profiles import POLICIES

pytestmark = pytest.mark.lab

MARGIN_S = 1.0
JOIN_WITHIN_S = 8.0
LARGE_HEARTBEATS_S = 60.0
"""Between two of them, under traffic."""


def direct_pair(make_pair: MakePair, *profiles: str, **options: object) -> Pair:
    """A pair whose link is direct, and has been for a moment."""
    pair = make_pair(*(profiles or ("cone drop", "cone reject")), interval_s=13.0, **options)
    pair.wait_until_direct(JOIN_WITHIN_S)
    for agent in pair.agents:
        agent.wait_until_said(DIRECT, JOIN_WITHIN_S)
    time.sleep(0.5)
    return pair


# --- NATs ---


@pytest.mark.parametrize("policy", ["drop", "reject"])
def test_a_nat_that_lost_its_state_is_opened_again_by_the_next_heartbeat(
    make_pair: MakePair, policy: str
) -> None:
    pair = direct_pair(make_pair, "cone drop", f"cone {policy}")
    with users(pair) as seen:
        pair.network.lose_nat_state(pair.sites[1])  # of the one who is pinged: it has to send by itself
        time.sleep(2)
        pair.wait_until_direct(1)
    assert seen.outage_s <= 1.5 + MARGIN_S, seen.pings


def test_an_accepting_nat_that_lost_its_state_may_need_a_fresh_port_and_has_the_relay_meanwhile(
    make_pair: MakePair,
) -> None:
    """The other side's packets take the tuple first (DESIGN facts 1 and 12)."""
    pair = direct_pair(make_pair, "cone drop", "cone accept")
    with users(pair) as seen:
        pair.network.lose_nat_state(pair.sites[1])
        time.sleep(4)
        seen.tcp_flows()
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings


@pytest.mark.parametrize("policy", POLICIES)
def test_all_mappings_moved_to_another_port(make_pair: MakePair, policy: str) -> None:
    pair = direct_pair(make_pair, f"cone {policy}", "cone drop")
    with users(pair) as seen:
        seen.it_happens()
        pair.network.move_mappings(pair.sites[0])
        time.sleep(0.5)
        pair.wait_until_direct(12)
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings
    assert seen.direct_again_s() <= 4 + MARGIN_S


@pytest.mark.parametrize("number", [0, 1])
def test_the_nat_has_another_address(make_pair: MakePair, number: int) -> None:
    pair = direct_pair(make_pair, "cone drop", "cone drop")
    with users(pair) as seen:
        seen.it_happens()
        pair.network.change_address(pair.sites[number])
        time.sleep(0.5)
        pair.wait_until_direct(12)
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings
    assert seen.direct_again_s() <= 4 + MARGIN_S


def test_a_peer_roams_to_another_network(make_pair: MakePair) -> None:
    pair = direct_pair(make_pair, "cone drop", "cone drop", "cone reject", behind=[1, 1, 0])
    with users(pair) as seen:
        seen.it_happens()
        pair.network.roam(pair.sites[1], pair.network.accesses[2])
        time.sleep(0.5)
        pair.wait_until_direct(12)
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings
    assert seen.direct_again_s() <= 4 + MARGIN_S


def test_a_peer_roams_into_the_network_of_the_other_and_out_of_it(make_pair: MakePair) -> None:
    """From reflexive to host candidates and back."""
    pair = direct_pair(make_pair, "cone drop", "cone reject")
    a, b = pair.sites
    home = b.access
    with users(pair) as seen:
        pair.network.roam(b, a.access)
        wait_until(lambda: pair.agents[0].link()["strategy"] == "host", 15, "they talk over the LAN")
        pair.wait_until_direct(2)
        seen.it_happens()
        pair.network.roam(b, home)
        time.sleep(0.5)
        pair.wait_until_direct(12)
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings
    assert seen.direct_again_s() <= 4 + MARGIN_S


# --- paths ---


def test_the_direct_path_is_cut_and_healed(make_pair: MakePair) -> None:
    pair = direct_pair(make_pair)
    a, b = pair.sites
    with users(pair) as cut:
        pair.network.block(a, b)
        time.sleep(4)
        assert pair.agents[0].link()["state"] != "direct"
        pair.wait_until_relayed(4)
    assert cut.outage_s <= 2.5 + MARGIN_S, cut.pings
    with users(pair) as healed:
        healed.it_happens()
        pair.network.block(a, b, blocked=False)
        pair.wait_until_direct(5 + MARGIN_S)
    assert healed.pings.outage_s <= 0.06, healed.pings
    assert healed.direct_again_s() <= 5 + MARGIN_S


@pytest.mark.parametrize("number", [0, 1])
def test_one_direction_of_the_direct_path_is_cut(make_pair: MakePair, number: int) -> None:
    pair = direct_pair(make_pair)
    a, b = pair.sites if number == 0 else pair.sites[::-1]
    with users(pair) as seen:
        pair.network.block_one_way(a, b)
        time.sleep(4)
        pair.wait_until_relayed(4)
        seen.it_happens()
        pair.network.block_one_way(a, b, blocked=False)
        pair.wait_until_direct(5 + MARGIN_S)
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings
    assert seen.direct_again_s() <= 5 + MARGIN_S


def test_a_path_that_loses_large_packets_is_found_at_the_promotion_and_given_back(
    make_pair: MakePair,
) -> None:
    pair = make_pair("cone drop", "cone reject", interval_s=13.0, agents=False)
    pair.network.narrow(*pair.sites)
    with users(pair) as seen:
        pair.start_agents()
        for agent in pair.agents:
            wait_until(lambda agent=agent: "MTU" in agent.log(), 10, "the width is judged")  # type: ignore[misc]
        pair.wait_until_relayed(4)
        seen.tcp_flows()
    assert "path MTU below" in pair.agents[0].link()["why"]
    assert seen.outage_s <= 0.1, seen.pings


def test_a_path_that_begins_to_lose_large_packets_is_given_back_within_a_minute(make_pair: MakePair) -> None:
    """Small pings go on all the time; the TCP stream, which is large packets, does not.

    The longer a TCP connection was silent the later it tries again (RFC 6298): not for long, here.
    """
    pair = direct_pair(make_pair)
    direct_at = time.monotonic()
    with users(pair, 0.2) as seen:
        time.sleep(max(0.0, direct_at + LARGE_HEARTBEATS_S - 10.0 - time.monotonic()))
        pair.network.narrow(*pair.sites)
        wait_until(lambda: "path MTU below" in pair.agents[0].log(), 15, "it is noticed", every_s=0.5)
        pair.wait_until_relayed(4)
        seen.tcp_flows()
    assert seen.outage_s <= 0.4, seen.pings


# --- nodes ---


def test_a_node_sleeps_and_wakes_up(make_pair: MakePair) -> None:
    pair = direct_pair(make_pair)
    node, agent = pair.nodes[1], pair.agents[1]
    with users(pair) as seen:
        agent.freeze()
        node.freeze()
        time.sleep(5)
        pair.network.lose_nat_state(pair.sites[1])
        node.freeze(False)
        agent.freeze(False)
        seen.it_happens()
        pair.wait_until_direct(4 + MARGIN_S)
    first = seen.pings.first_answer_after(seen.at)
    assert first is not None
    assert first - seen.at <= 2.5 + MARGIN_S, seen.pings
    assert seen.direct_again_s() <= 4 + MARGIN_S


def test_a_node_loses_power_and_is_back_five_seconds_later(make_pair: MakePair) -> None:
    pair = direct_pair(make_pair)
    a, b = pair.nodes
    with Pinger(a, b.address, 0.02) as pinger:
        time.sleep(0.5)
        up_at = pair.reboot(1, 5)
        pair.wait_until_direct(5)
        time.sleep(0.3)
    first, direct = pinger.result.first_answer_after(up_at - 0.2), pinger.result.direct_since()
    assert first is not None
    assert direct is not None
    assert first - up_at <= 0.2 + MARGIN_S, pinger.result
    assert direct - up_at <= 1.5 + MARGIN_S, pinger.result


def test_a_node_that_rebooted_is_reached_through_the_hub_also_if_its_links_had_no_traffic(
    make_pair: MakePair,
) -> None:
    """Nothing told the other end but the new instance in the registration."""
    pair = direct_pair(make_pair)
    time.sleep(3)  # the link is idle
    pair.reboot(1, 0)
    pair.agents[1].wait_until_said("agent started", 5)
    registered_at = pair.agents[1].said_at("agent started")[0]
    with Pinger(pair.nodes[0], pair.nodes[1].address, 0.02) as pinger:
        time.sleep(2)
    first = pinger.result.first_answer_after(registered_at)
    assert first is not None
    assert first - registered_at <= 1 + MARGIN_S, pinger.result


@pytest.mark.parametrize("number", [0, 1])
def test_a_clock_that_was_ahead_and_went_back(make_pair: MakePair, number: int) -> None:
    """WireGuard refuses handshakes that are older than the newest that it has seen of that peer."""
    pair = make_pair("cone drop", "cone reject", keys=ordered_keys(), interval_s=13.0, agents=False)
    node, other = pair.nodes[number], pair.nodes[1 - number]
    node.set_clock(3600)
    pair.start_agents()
    pair.wait_until_direct(JOIN_WITHIN_S)

    def knock_is_answered() -> bool:
        """Of a knock without the help of the other end."""
        before = other.handshakes()[node.public_key]
        time.sleep(1.1)  # handshakes are told in seconds
        node.knock(other.public_key, node.endpoints()[other.public_key], f"{other.address}/32")
        time.sleep(0.3)
        return other.handshakes()[node.public_key] > before

    assert knock_is_answered()
    node.set_clock(0)
    with users(pair) as seen:
        seen.it_happens()
        assert not knock_is_answered()
        pair.wait_until_direct(15)
    assert seen.direct_again_s() <= 4 + MARGIN_S


def test_a_node_that_rebooted_with_its_clock_corrected_is_let_in_by_the_hub_again(
    make_pair: MakePair,
) -> None:
    """The hub adds it anew 180 s after its last handshake, with all that it had, and touches nobody else."""
    pair = make_pair("cone drop", "cone reject", agents=False)
    hub, (node, other) = pair.network.hub, pair.nodes
    secret = node.run("wg", "genpsk")
    hub.run("wg", "set", "wg0", "peer", node.public_key, "preshared-key", "/dev/stdin", stdin=secret)
    node.run("sh", "-c", "cat >> /etc/wireguard/wg0.conf", stdin=f"PresharedKey = {secret}")
    node.set_clock(3600)
    node.make_hub_peer_anew()
    node.wait_for_handshake(hub.public_key)
    before = configured_peers(hub)
    with Pinger(other, hub.address, 0.5) as pinger:
        node.make_interface_anew()
        time.sleep(6)
        assert not node.ping(hub.address, 1)
        wait_until(lambda: node.ping(hub.address, 1), 200, "the hub hears it again", every_s=1)
    assert configured_peers(hub) == before
    assert "peer added anew" in pair.hub.log()
    assert secret.strip() not in pair.hub.log()
    assert pinger.result.lost == 0, pinger.result


def configured_peers(node: Node) -> set[frozenset[str]]:
    """The sections of `wg showconf`, without what WireGuard finds out by itself."""
    sections = node.run("wg", "showconf", "wg0").split("[Peer]")[1:]
    return {
        frozenset(line for line in section.splitlines() if line and not line.startswith("Endpoint"))
        for section in sections
    }


def test_an_agent_is_killed_and_started_again_and_nothing_is_lost(make_pair: MakePair) -> None:
    pair = direct_pair(make_pair)
    with users(pair) as seen:
        pair.agents[1].end(signal.SIGKILL)
        time.sleep(3)
        pair.restart(1)
        time.sleep(3)
        pair.wait_until_direct(1)
    assert seen.pings.lost == 0, seen.pings
    assert all(direct for _, direct in seen.pings.answers), "it was relayed for a while"


GIVE_BACK = Path(__file__).parents[2] / "roles/wg_peer/files/wg-rendezvous-give-back"
GIVE_BACK_S = 4.0


@pytest.mark.parametrize("number", [0, 1])
def test_an_agent_that_does_not_come_back_gives_its_links_back_and_the_other_end_says_so(
    make_pair: MakePair, number: int
) -> None:
    """Nothing is left of it but what its unit starts then."""
    pair = direct_pair(make_pair)
    dead, other = pair.nodes[number], pair.nodes[1 - number]
    with users(pair) as seen:
        pair.agents[number].end(signal.SIGKILL)
        dead.start("sh", str(GIVE_BACK), "wg0", str(GIVE_BACK_S))
        time.sleep(GIVE_BACK_S - 1)
        assert "its agent does not answer" in pair.agents[1 - number].link()["why"]
        pair.wait_until_direct(1)
        pair.wait_until_relayed(1 + 3 + MARGIN_S)
        assert dead.peers().keys() == {pair.network.hub.public_key}
        pair.network.block(*pair.sites)
        seen.tcp_flows()
        link = pair.agents[1 - number].link()
        pair.network.block(*pair.sites, blocked=False)
        seen.it_happens()
        pair.restart(number)
        pair.wait_until_direct(4)
    assert re.fullmatch(r"its agent does not answer \(last heard \d+ s ago\), relayed", link["why"]), link
    assert link["online"], link
    assert other.public_key in dead.peers()
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings
    assert seen.direct_again_s() <= 3


def test_a_path_that_breaks_while_an_agent_is_dead_is_missed_no_longer_than_until_it_gives_its_links_back(
    make_pair: MakePair,
) -> None:
    pair = direct_pair(make_pair)
    with users(pair) as seen:
        pair.agents[1].end(signal.SIGKILL)
        pair.nodes[1].start("sh", str(GIVE_BACK), "wg0", str(GIVE_BACK_S))
        pair.network.block(*pair.sites)
        pair.wait_until_relayed(GIVE_BACK_S + 3)
    assert seen.outage_s <= GIVE_BACK_S + 2.5 + MARGIN_S, seen.pings


def test_links_of_a_dead_agent_stay_while_the_hub_is_away(make_pair: MakePair) -> None:
    """There is nothing to give them back to."""
    pair = direct_pair(make_pair)
    with users(pair) as seen:
        pair.agents[1].end(signal.SIGKILL)
        time.sleep(0.5)  # the hub tells the other end
        pair.network.cut_off_hub()
        hub_key = pair.network.hub.public_key
        pair.nodes[1].knock(hub_key, pair.nodes[1].endpoints()[hub_key], VPN)  # no handshake for a long time
        pair.nodes[1].start("sh", str(GIVE_BACK), "wg0", "0")
        time.sleep(3)
        pair.wait_until_direct(1)
        assert pair.nodes[0].public_key in pair.nodes[1].peers()
        pair.network.cut_off_hub(False)
        pair.wait_until_relayed(20)
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings


@pytest.mark.parametrize("number", [0, 1])
def test_an_agent_that_stops_gives_the_traffic_back_at_once(make_pair: MakePair, number: int) -> None:
    pair = direct_pair(make_pair)
    with users(pair) as seen:
        assert pair.agents[number].end(signal.SIGTERM) == 0
        pair.wait_until_relayed(1)
        assert pair.nodes[1 - number].public_key not in pair.nodes[number].peers()
        seen.tcp_flows()
        seen.it_happens()
        pair.restart(number)
        pair.wait_until_direct(4)
    assert seen.outage_s <= 0.1, seen.pings
    assert seen.direct_again_s() <= 3


def test_an_agent_that_stops_gives_the_traffic_back_also_when_a_packet_to_the_hub_is_lost(
    make_pair: MakePair,
) -> None:
    """As in the moment in which the hub gets another port. Left direct, the links break with its address."""
    pair = direct_pair(make_pair)
    pair.nodes[0].nft(
        "table inet lossy { chain out { type filter hook output priority 0; "
        "tcp dport 8080 tcp flags & (syn | ack) == syn numgen inc mod 1000 == 0 counter drop; }\n}\n"
    )
    assert pair.agents[0].end(signal.SIGTERM) == 0
    pair.wait_until_relayed(1)
    assert "counter packets 1 " in pair.nodes[0].run("nft", "list", "table", "inet", "lossy")


def test_the_interface_goes_down_and_up(make_pair: MakePair) -> None:
    pair = direct_pair(make_pair)
    with users(pair) as seen:
        pair.nodes[1].run("ip", "link", "set", "wg0", "down")
        time.sleep(2)
        seen.it_happens()
        pair.nodes[1].run("ip", "link", "set", "wg0", "up")
        pair.wait_until_direct(10)
    first = seen.pings.first_answer_after(seen.at)
    assert first is not None
    assert first - seen.at <= 2.5 + MARGIN_S, seen.pings


def test_the_interface_is_reloaded(make_pair: MakePair) -> None:
    """`wg syncconf` removes the agent's peers (DESIGN fact 8)."""
    pair = direct_pair(make_pair)
    with users(pair) as seen:
        seen.it_happens()
        pair.nodes[1].sync_file()
        time.sleep(0.3)
        pair.wait_until_direct(8)
    assert seen.outage_s <= 2.5 + MARGIN_S, seen.pings
    assert seen.direct_again_s() <= 4 + MARGIN_S


# --- the hub ---


def test_the_hub_program_is_restarted_and_nothing_is_lost(make_pair: MakePair) -> None:
    pair = direct_pair(make_pair)
    with users(pair) as seen:
        pair.hub.end(signal.SIGKILL)
        time.sleep(2)
        pair.hub = start_hub(pair.program, pair.network)
        time.sleep(4)
        pair.wait_until_direct(1)
    assert seen.pings.lost == 0, seen.pings
    assert all(direct for _, direct in seen.pings.answers), "it was relayed for a while"
    assert all(link["state"] == "direct" for link in (agent.link() for agent in pair.agents))


def test_the_hub_is_gone_and_a_nat_that_loses_its_state_is_repaired_all_the_same(make_pair: MakePair) -> None:
    pair = direct_pair(make_pair, "cone drop", "cone drop")
    with users(pair) as seen:
        pair.network.cut_off_hub()
        time.sleep(8)
    assert seen.pings.lost == 0, seen.pings
    with users(pair) as seen:
        pair.network.lose_nat_state(pair.sites[1])
        time.sleep(5)
    assert seen.outage_s <= 1.5 + MARGIN_S, seen.pings
    with users(pair) as seen:
        pair.network.cut_off_hub(False)
        time.sleep(4)
        pair.wait_until_direct(1)
    assert seen.pings.lost == 0, seen.pings


def test_an_agent_that_is_started_while_the_hub_is_gone_repairs_its_links_from_what_it_has_written_down(
    make_pair: MakePair,
) -> None:
    pair = direct_pair(make_pair, "cone drop", "cone drop")
    with users(pair) as seen:
        pair.network.cut_off_hub()
        pair.agents[1].end(signal.SIGKILL)
        pair.restart(1)
        pair.agents[1].wait_until_said("agent started", 5)
        pair.network.lose_nat_state(pair.sites[1])
        time.sleep(5)
        pair.wait_until_direct(1)
        pair.network.cut_off_hub(False)
    assert seen.outage_s <= 1.5 + MARGIN_S, seen.pings


def test_the_name_of_the_hub_gets_another_address(make_pair: MakePair) -> None:
    """The names of nodes are looked up again 30 s after the hub fell silent."""
    pair = direct_pair(make_pair, "cone drop", "cone reject", hub_name=True)
    with users(pair) as seen:
        pair.network.move_hub()
        for node in pair.nodes:
            node.knows_host("hub.lab.example", pair.network.hub_address)
        for node in pair.nodes:
            wait_until(
                lambda node=node: node.ping(pair.network.hub.address, 1),  # type: ignore[misc]
                60,
                f"{node.name} reaches the hub at its new address",
                every_s=0.5,
            )
    assert seen.pings.lost == 0, seen.pings
