# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Networks as people have them: IPv6 inside the tunnel, subnets behind peers, a forwarded port, a full
tunnel, and peers that somebody else looks after."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._firewall import Openings, Ruleset, plan
from tests.lab.conftest import MakePair
from tests.lab.network import CORE_ADDRESS
from tests.lab.pairs import Pair
from tests.lab.programs import DIRECT, url
from tests.lab.traffic import Pinger, Transfer, path_of_pings, wait_for_path
from tests.lab.wireguard import INTERFACE, VPN, Node, new_private_key, public_key_of

pytestmark = pytest.mark.lab

MOVES_S = 8.0


def become_direct(pair: Pair) -> None:
    for agent in pair.agents:
        agent.wait_until_said(DIRECT, MOVES_S)


# --- IPv6 inside the tunnel ---


def test_a_network_of_ipv6_alone_is_direct_and_falls_back(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop", inside="6")
    a, b = pair.nodes
    pair.wait_until_direct()
    with Transfer(a, b, pair.network.directory) as transfer, Pinger(a, b.address, 0.02) as pinger:
        transfer.flows_for()
        pair.agents[0].end(signal.SIGTERM)
        pair.wait_until_relayed()
        transfer.flows_for()  # the hub tracks none of it (fact 16)
    assert pinger.result.outage_s <= 0.1, pinger.result
    assert (
        pair.nodes[0]
        .run("curl", "-s", f"{url(pair.network.hub.address)}/peer/{b.public_key}")
        .count(f'"allowed_ips": "{b.address}/128"')
    )


def test_both_addresses_move_together(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop", inside="46", agents=False)
    (a, b), (site_a, site_b) = pair.nodes, pair.sites
    with Pinger(a, b.addresses[0], 0.02) as over_4, Pinger(b, a.addresses[1], 0.02) as over_6:
        time.sleep(0.3)
        pair.start_agents()
        become_direct(pair)
        time.sleep(0.3)
    for pinger in (over_4, over_6):
        assert pinger.result.direct_since() is not None
        assert pinger.result.outage_s <= 0.06, pinger.result
    for address in b.addresses:
        assert path_of_pings(pair.network, site_a, site_b, address=address) == "direct"
        answers = a.run("curl", "-s", f"{url(address)}/healthz")
        assert answers == "ok\n", "the agent is heard at either"
    for address in pair.network.hub.addresses:
        assert "address of no peer" not in a.run("curl", "-s", f"{url(address)}/online-peers")


# --- subnets behind a peer ---

SUBNET = "10.70.0.0/24"


@contextlib.contextmanager
def no_ping_is_missed(*ways: tuple[Node, str]) -> Iterator[None]:
    """Pings from each node to each address while the context lasts; a move costs three of 50 a second."""
    with contextlib.ExitStack() as stack:
        pingers = [stack.enter_context(Pinger(node, address, 0.02)) for node, address in ways]
        time.sleep(0.3)
        yield
        time.sleep(0.3)
    for pinger in pingers:
        assert pinger.result.outage_s <= 0.06, pinger.result


def test_a_subnet_is_reached_directly_over_the_relay_and_in_between(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop", agents=False)
    (a, _b), (site_a, site_b) = pair.nodes, pair.sites
    machine = pair.network.attach_subnet(site_b, SUBNET)
    pair.network.join(a, more=[SUBNET])
    with (
        Transfer(a, machine, pair.network.directory) as transfer,
        no_ping_is_missed((a, machine.address), (machine, a.address), (a, pair.nodes[1].address)),
    ):
        assert path_of_pings(pair.network, site_a, site_b, address=machine.address) == "relay"
        pair.start_agents()
        become_direct(pair)
        wait_for_path(pair.network, site_a, site_b, "direct", 2, address=machine.address)
        transfer.flows_for()
        pair.agents[0].end(signal.SIGTERM)
        wait_for_path(pair.network, site_a, site_b, "relay", 2, address=machine.address)
        transfer.flows_for()
    assert SUBNET in a.peers()[pair.network.hub.public_key], "the hub peer has kept it all the time"


def test_a_path_that_breaks_takes_the_subnet_back_to_the_relay(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop", agents=False)
    (a, _b), (site_a, site_b) = pair.nodes, pair.sites
    machine = pair.network.attach_subnet(site_b, SUBNET)
    pair.network.join(a, more=[SUBNET])
    pair.start_agents()
    become_direct(pair)
    with Pinger(a, machine.address, 0.02) as pinger:
        time.sleep(0.5)
        pair.network.block(site_a, site_b)
        wait_for_path(pair.network, site_a, site_b, "relay", MOVES_S, address=machine.address)
    assert pinger.result.outage_s <= 2.5, pinger.result


def test_a_subnet_that_comes_later_moves_too_once_this_node_has_a_route(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop")
    (a, b), (site_a, site_b) = pair.nodes, pair.sites
    pair.wait_until_direct()
    with no_ping_is_missed((a, b.address), (b, a.address)):
        machine = pair.network.attach_subnet(site_b, SUBNET)
        time.sleep(2 * pair.interval_s)
        assert path_of_pings(pair.network, site_a, site_b) == "direct", "not ours to reach: the link stays"
        a.wg_set_peer(pair.network.hub.public_key, allowed_ips=f"{VPN},{SUBNET}")
        a.run("ip", "route", "add", SUBNET, "dev", INTERFACE)
        wait_for_path(pair.network, site_a, site_b, "direct", MOVES_S, address=machine.address)


# --- a forwarded port ---


def test_a_forwarded_port_makes_direct_what_two_nats_would_not(make_pair: MakePair) -> None:
    pair = make_pair("symmetric drop", "cone drop", agents=False)
    b, nat = pair.nodes[1], pair.sites[1].nat
    pair.network.join(b, interface=["ListenPort = 51999"])
    nat.nft(
        f"""
table ip forwarded {{
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        iifname "wan" udp dport 51999 dnat to {pair.sites[1].lan_address}
    }}
}}
insert rule ip nat_profile forward ct status dnat accept
"""
    )
    pair.start_agents()
    become_direct(pair)
    assert path_of_pings(pair.network, *pair.sites) == "direct"
    assert b.listen_port == 51999
    assert pair.agents[1].said("no fresh ports: the listen port is pinned")


# --- a full tunnel ---


def test_a_full_tunnel_goes_past_the_hub_only_to_peers(make_pair: MakePair) -> None:
    """As wg-quick sets it up. The agent's openers have to leave outside of the tunnel: without them, this
    pair of NATs is never direct (DESIGN section 3)."""
    pair = make_pair("cone drop", "cone accept", agents=False)
    (a, b), (site_a, site_b) = pair.nodes, pair.sites
    hub = pair.network.hub
    way_out = Openings(INTERFACE, (f"{hub.address}/24",), relay=True, masquerade=True)
    hub.nft(plan(Ruleset({}), way_out).commands())
    for node in (a, b):
        pair.network.join(node, interface=["FwMark = 51820"], vpns=["0.0.0.0/0"])
        node.sysctl({"net.ipv4.conf.all.src_valid_mark": "1"})
        node.run("ip", "route", "add", "default", "dev", INTERFACE, "table", "51820")
        node.run("ip", "rule", "add", "not", "fwmark", "51820", "table", "51820")
        node.run("ip", "rule", "add", "table", "main", "suppress_prefixlength", "0")
    pair.start_agents()
    become_direct(pair)
    assert path_of_pings(pair.network, site_a, site_b) == "direct"
    # From the core: one hop if it came out of the tunnel, which began at the hub; two beside it.
    assert "ttl=63" in a.run("ping", "-c", "1", "-W", "2", CORE_ADDRESS)


# --- peers of somebody else ---


def test_peers_of_other_tools_stay_as_they_are(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop", agents=False)
    a, key = pair.nodes[0], public_key_of(new_private_key())
    a.wg_set_peer(key, "203.0.113.99:4711", "10.99.0.0/24,192.168.7.99/32", 21)
    before = (a.peers()[key], a.endpoints()[key], a.keepalives()[key])
    pair.start_agents()
    become_direct(pair)
    assert path_of_pings(pair.network, *pair.sites) == "direct"
    assert (a.peers()[key], a.endpoints()[key], a.keepalives()[key]) == before
    pair.agents[0].end(signal.SIGTERM)
    assert (a.peers()[key], a.endpoints()[key], a.keepalives()[key]) == before
    assert set(a.peers()) == {key, pair.network.hub.public_key}, "only the agent's own peer is gone"
