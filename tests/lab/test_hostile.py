# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A peer that means harm: it is refused and counted, nobody else's link moves, and nobody shoots at its
victim (DESIGN section 5, what is believed).
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab.conftest import MakeNetwork, MakePair
from tests.lab.hostile import HostileNode, signal_path
from tests.lab.network import HUB_ADDRESS, Network, Site
from tests.lab.programs import DIRECT, HUB_URL, Agent, Program, start_hub
from tests.lab.traffic import Pinger, path_of_pings
from tests.lab.wireguard import new_private_key, ordered_keys, public_key_of, wait_until

pytestmark = pytest.mark.lab

VICTIM = "198.51.100.20"
"""An address in the network of the hostile node's provider, where nobody answers."""
UNPROVEN_PER_S = 30
UNPROVEN_AT_ONCE = 60


class Scene:
    """Two good peers with a direct link, and a hostile one with the smallest key: it may offer."""

    def __init__(self, network: Network, program: Path) -> None:
        self.network = network
        self.bad_site, self.a, self.b = network.sites
        self.hub: Program = start_hub(program, network)
        self.agents = [Agent(program, site.node, 13.0) for site in (self.a, self.b)]
        for agent in self.agents:
            agent.wait_until_said(DIRECT, 8)
        self.bad = HostileNode(self.bad_site.node)

    @contextlib.contextmanager
    def nobody_is_moved(self) -> Iterator[None]:
        """The link of the good ones loses nothing, and stays as it is."""
        moved = [self._moves(agent) for agent in self.agents]
        with Pinger(self.a.node, self.b.node.address, 0.02) as pinger:
            yield
            time.sleep(0.5)
        assert pinger.result.lost == 0, pinger.result
        assert all(direct for _, direct in pinger.result.answers), "it was relayed for a while"
        assert [self._moves(agent) for agent in self.agents] == moved
        assert path_of_pings(self.network, self.a, self.b) == "direct"

    def _moves(self, agent: Agent) -> int:
        other = self.b if agent is self.agents[0] else self.a
        return sum(
            entry["message"].startswith("link ") and entry.get("peer") == other.node.public_key
            for entry in agent.entries()
        )

    def refused_by_hub(self) -> dict[str, int]:
        """By reason, from the hub's metrics."""
        page = self.network.hub.run("curl", "-s", f"{HUB_URL}/metrics")
        found = re.findall(r'^wg_rendezvous_hub_refused_total\{reason="(\w+)"\} ([\d.]+)', page, re.MULTILINE)
        return {reason: int(float(count)) for reason, count in found}

    def refused_by_agent(self, site: Site) -> int:
        """Signals that were not acted on, from the agent's metrics."""
        page = site.node.run("curl", "-s", f"http://{site.node.address}:8080/metrics")
        found = re.findall(r"^wg_rendezvous_refused_signals_total\{.*\} ([\d.]+)", page, re.MULTILINE)
        return sum(int(float(count)) for count in found)

    def as_seen_by(self, site: Site, of: Site) -> dict[str, object]:
        """The hub's record of a peer, as another one gets it."""
        answer = json.loads(site.node.run("curl", "-s", f"{HUB_URL}/v1/peers"))
        record: dict[str, object] = answer["peers"][of.node.public_key]
        return record


@pytest.fixture
def scene(make_network: MakeNetwork, program: Path) -> Scene:
    keys = ordered_keys(3)
    return Scene(make_network("cone drop", "cone drop", "cone reject", keys=keys), program)


def test_garbage_is_refused_by_the_hub_and_counted(scene: Scene) -> None:
    bad, key = scene.bad, scene.a.node.public_key
    stranger = public_key_of(new_private_key())
    with scene.nobody_is_moved():
        assert bad.call("PUT", "/v1/self", "{") == 400
        assert bad.call("PUT", "/v1/self", '{"instance": "no"}') == 400
        assert bad.call("PUT", "/v1/self", json.dumps({"instance": "0" * 16, "version": "x" * 20000})) == 413
        assert bad.call("PUT", "/v1/self", '{"instance": ' + "[" * 8000 + "]" * 8000 + "}") in (400, 413)
        assert bad.call("GET", "/v1/stream") == 409
        assert bad.call("POST", signal_path(key), "\x00\x01\x02") == 400
        assert bad.call("POST", signal_path(key), json.dumps({"type": "offer", "x": "y" * 20000})) == 413
        assert bad.call("POST", signal_path(key), '{"type": NaN}') == 400
        assert bad.call("POST", "/v1/signal/garbage", '{"type": "offer"}') == 400
        assert bad.call("POST", signal_path(stranger), '{"type": "offer"}') == 404
    refused = scene.refused_by_hub()
    assert refused["malformed"] >= 5
    assert refused["too_large"] >= 2
    assert refused["no_stream"] == 1
    assert scene.hub.log().count("refused a request") <= len(refused), "once for each reason"


def test_signals_of_wrong_phases_and_foreign_sessions_change_nothing(scene: Scene) -> None:
    bad = scene.bad
    assert bad.register() == 200
    bad.open_stream()
    with scene.nobody_is_moved():
        for site in (scene.a, scene.b):
            for kind in (
                "opened",
                "refused",
                "verified",
                "promote",
                "withdraw",
                "withdrawn",
                "hello",
                "offer",
            ):
                for session in ("0" * 16, "zz", 5, None):
                    status = bad.signal(site.node.public_key, type=kind, session=session)
                    assert status in (204, 429)
    assert scene.bad_site.node.public_key not in scene.a.node.peers()
    assert all(agent.is_running() for agent in scene.agents)
    wait_until(lambda: scene.refused_by_agent(scene.a) >= 3, 5, "the agent counts what it refuses")
    said = [(entry["peer"], entry["why"]) for entry in scene.agents[0].said("a signal is not acted on")]
    assert len(said) == len(set(said)), "once for each reason"


def test_a_hundred_offers_a_second_are_limited_by_the_hub_and_by_the_agent(scene: Scene) -> None:
    bad, a = scene.bad, scene.a
    assert bad.register() == 200
    bad.open_stream()
    wait_until(lambda: bool(scene.as_seen_by(a, scene.bad_site)["signals"]), 5, "signals reach it")
    endpoint = scene.as_seen_by(a, scene.bad_site)["endpoint"]
    offers = [
        {"type": "offer", "session": f"{number:016x}", "strategy": "reflexive", "endpoint": endpoint}
        for number in range(300)
    ]
    before = scene.network.sent_to(a, scene.bad_site.nat_address)
    started = time.monotonic()
    with scene.nobody_is_moved():
        answers = bad.signals(a.node.public_key, offers, 0.01)
    took_s = time.monotonic() - started
    sent = scene.network.sent_to(a, scene.bad_site.nat_address) - before
    assert answers[429] >= 150, answers
    assert answers[204] + answers[429] == 300, answers
    assert sent <= UNPROVEN_AT_ONCE + UNPROVEN_PER_S * took_s, f"{sent} packets in {took_s:.1f} s"


def test_an_endpoint_that_the_hub_does_not_name_is_not_sent_to(scene: Scene) -> None:
    bad = scene.bad
    assert (
        bad.register(candidates=[f"{VICTIM}:7777", "127.0.0.1:7777", "224.0.0.1:7777", "192.168.7.6:7777"])
        == 200
    )
    bad.open_stream()
    wait_until(lambda: bool(scene.as_seen_by(scene.a, scene.bad_site)["signals"]), 5, "signals reach it")
    assert scene.as_seen_by(scene.a, scene.bad_site)["candidates"] == []
    with scene.nobody_is_moved():
        for site in (scene.a, scene.b):
            for number, endpoint in enumerate((f"{VICTIM}:7777", "127.0.0.1:7777", "192.168.7.1:8080", "no")):
                for strategy in ("host", "reflexive"):
                    bad.signal(
                        site.node.public_key, type="offer", session=f"{number:016x}",
                        strategy=strategy, endpoint=endpoint,
                    )  # fmt: skip
                time.sleep(0.3)
    for site in (scene.a, scene.b):
        assert scene.network.sent_to(site, VICTIM) == 0
    assert scene.bad_site.node.public_key not in scene.a.node.peers()


def test_a_private_candidate_of_a_peer_elsewhere_is_not_sent_to(scene: Scene) -> None:
    """Its address might be a printer on the LAN of the other one."""
    bad, a = scene.bad, scene.a
    printer = a.lan_address.rpartition(".")[0] + ".77"
    assert bad.register(candidates=[f"{printer}:51820"]) == 200
    bad.open_stream()
    wait_until(lambda: bool(scene.as_seen_by(a, scene.bad_site)["candidates"]), 5, "the hub names it")
    with scene.nobody_is_moved():
        bad.signal(
            a.node.public_key, type="offer", session="0" * 16, strategy="host", endpoint=f"{printer}:51820"
        )
        time.sleep(1)
    assert printer not in a.node.run("ip", "neighbour", "show"), "somebody asked for its MAC address"
    assert bad.node.public_key not in a.node.peers()


def test_an_outer_source_that_is_spoofed_makes_nobody_shoot_at_the_victim(scene: Scene) -> None:
    """Genuine packets, whose source the NAT of the hostile node rewrites to the victim's (DESIGN fact 18)."""
    bad, network = scene.bad, scene.network
    assert bad.register() == 200
    bad.open_stream()
    wait_until(lambda: bool(scene.as_seen_by(scene.a, scene.bad_site)["signals"]), 5, "signals reach it")
    proven = scene.as_seen_by(scene.a, scene.bad_site)["endpoint"]
    before = network.counted("datagrams")
    with scene.nobody_is_moved():
        rule = f'oifname "wan" ip daddr {HUB_ADDRESS} meta l4proto udp snat to {VICTIM}:7777'
        bad.node.run("ping", "-c", "1", "-W", "1", network.hub.address)
        scene.bad_site.nat.nft(f"insert rule ip nat_profile postrouting {rule}\n")
        network.lose_nat_state(scene.bad_site)
        for _ in range(5):
            bad.node.run("ping", "-c", "2", "-i", "0.2", "-W", "0.2", network.hub.address, check=False)
            time.sleep(0.3)
            assert scene.as_seen_by(scene.a, scene.bad_site)["endpoint"] == proven
        believed = network.hub.endpoints()[bad.node.public_key]
        assert believed == f"{VICTIM}:7777", "WireGuard itself does believe it: that is the attack"
    for site in (scene.a, scene.b):
        assert network.sent_to(site, VICTIM) == 0
    answered = network.counted("datagrams").get((HUB_ADDRESS, VICTIM), 0) - before.get(
        (HUB_ADDRESS, VICTIM), 0
    )
    # WireGuard answers where the packets seem to come from, one for one; the program adds nothing.
    assert answered <= 40, f"the hub sent {answered} packets to the victim"


# Answers to pings that were never received, by every number that a counter could have.
_GUESS_PONGS = """
import socket, struct, sys, time
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind((sys.argv[1], 0))
while True:
    for number in range(400):
        made.sendto(struct.pack("!4sBBHQ", b"WGRV", 1, 2, 0, number), (sys.argv[2], 8080))
    time.sleep(0.1)
"""


def test_a_direct_link_does_not_stay_at_the_address_of_a_victim(make_pair: MakePair) -> None:
    """The other end spoofs its outer source towards a node that lets in anybody, and guesses at pongs."""
    pair = make_pair("cone drop", "cone drop", agents=False)
    (site, bad_site), (node, bad) = pair.sites, pair.nodes
    pair.network.join(node, interface=["ListenPort = 51999"])
    site.nat.nft(
        f"""
table ip forwarded {{
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        iifname "wan" udp dport 51999 dnat to {site.lan_address}
    }}
}}
insert rule ip nat_profile forward ct status dnat accept
"""
    )
    pair.start_agents()
    for agent in pair.agents:
        agent.wait_until_said(DIRECT, 8)
    with Pinger(node, bad.address, 0.02):
        pair.agents[1].freeze()  # the hub goes on to think that signals reach it
        guesses = bad.start(sys.executable, "-c", _GUESS_PONGS, bad.address, node.address)
        rule = f'oifname "wan" ip daddr {site.nat_address} meta l4proto udp snat to {VICTIM}:7777'
        bad_site.nat.nft(f"insert rule ip nat_profile postrouting {rule}\n")
        pair.network.lose_nat_state(bad_site)
        wait_until(lambda: pair.network.sent_to(site, VICTIM) > 0, 5, "WireGuard believes the spoofed source")
        wait_until(lambda: bad.public_key not in node.peers(), 4, "the link is given back")
        sent = pair.network.sent_to(site, VICTIM)
        time.sleep(2)
        assert pair.network.sent_to(site, VICTIM) == sent
    bad.end(guesses)
    pair.agents[1].freeze(False)


def test_a_peer_that_reports_links_which_do_not_exist_moves_nothing(scene: Scene) -> None:
    with scene.nobody_is_moved():
        other = public_key_of(new_private_key())
        scene.bad.register(links={other: {"state": "direct"}, scene.a.node.public_key: {"state": "direct"}})
        scene.bad.open_stream()
        time.sleep(2)
    assert scene.bad.node.public_key not in scene.a.node.peers()
