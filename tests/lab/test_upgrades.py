# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Programs of different ages with one another, and hub and agents that change their age in either order.

What is older than the signals is the program under test without them: its agent finds no stream at any hub
and goes on with the origin's loop. The oldest of all is the origin's own.
"""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest
from tests.lab.conftest import MakeNetwork
from tests.lab.network import Network
from tests.lab.pairs import Pair, users
from tests.lab.programs import DIRECT, Agent, start_hub, start_origin_agent, start_origin_hub
from tests.lab.traffic import Pinger, path_of_pings, wait_for_path

TAKES_NO_SIGNALS = "the hub takes no signals: it is asked as one of the origin"

pytestmark = pytest.mark.lab

INTERVAL_S = 1.0
STREAM_OF_AN_OLDER_AGENT = """
async def run(base, registration, registered, deliver):
    deliver(events.StreamClosed("this agent knows no stream", unsupported=True))
"""


@pytest.fixture(scope="session")
def older_program(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program without signals."""
    path = tmp_path_factory.mktemp("older") / "wg-rendezvous.pyz"
    with zipfile.ZipFile(program) as new, zipfile.ZipFile(path, "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name.endswith("agent/hub_stream.py"):
                content += STREAM_OF_AN_OLDER_AGENT.encode()
            old.writestr(name, content)
    return path


@pytest.mark.parametrize("first", ["older", "newer"])
def test_agents_of_different_ages_get_direct_with_one_another(
    make_network: MakeNetwork, program: Path, older_program: Path, first: str
) -> None:
    network = make_network("cone drop", "cone reject")
    start_hub(program, network)
    programs = (older_program, program) if first == "older" else (program, older_program)
    a, b = network.nodes
    with Pinger(a, b.address) as pinger:
        agents = [Agent(each, node, INTERVAL_S) for each, node in zip(programs, network.nodes, strict=True)]
        for agent in agents:  # until then the move is provisional at one of the ends
            agent.wait_until_said(DIRECT, 20)
    assert pinger.result.lost <= 2, pinger.result
    stays_direct(network)


def stays_direct(network: Network, duration_s: float = 4.0) -> None:
    a, b = network.nodes
    with Pinger(a, b.address) as pinger:
        time.sleep(duration_s)
    assert path_of_pings(network, network.sites[0], network.sites[1]) == "direct"
    assert pinger.result.lost <= 2, pinger.result


@pytest.mark.parametrize("order", ["older to newer", "newer to older"])
def test_agents_are_replaced_one_after_the_other(
    make_network: MakeNetwork, program: Path, older_program: Path, order: str
) -> None:
    before, after = (older_program, program) if order == "older to newer" else (program, older_program)
    network = make_network("cone drop", "cone reject")
    hub = start_hub(program, network)
    pair = Pair(network, program, hub, [Agent(before, node, INTERVAL_S) for node in network.nodes])
    pair.wait_until_direct(20)
    with users(pair) as seen:
        for number, node in enumerate(pair.nodes):
            assert pair.agents[number].end() == 0
            pair.agents[number] = Agent(after, node, INTERVAL_S)
            time.sleep(1)
            pair.wait_until_direct(25)
    # Between ends that cannot signal one another, each finds out by its own probes.
    assert seen.outage_s <= 2 * INTERVAL_S + 3.5, seen.pings
    stays_direct(network)


@pytest.mark.parametrize("order", ["older to newer", "newer to older"])
def test_the_hub_is_replaced_and_direct_links_do_not_notice(
    make_network: MakeNetwork, program: Path, order: str
) -> None:
    network = make_network("cone drop", "cone reject")
    newer = order == "newer to older"
    hub = start_hub(program, network) if newer else start_origin_hub(network)
    pair = Pair(network, program, hub, [Agent(program, node, INTERVAL_S) for node in network.nodes])
    pair.wait_until_direct(20)
    time.sleep(2)
    with users(pair) as seen:
        hub.end()
        pair.hub = start_origin_hub(network) if newer else start_hub(program, network)
        for agent in pair.agents:
            agent.wait_until_said(TAKES_NO_SIGNALS if newer else "the hub takes signals", 30)
        time.sleep(3)
        pair.wait_until_direct(1)
    assert seen.pings.lost == 0, seen.pings
    stays_direct(network)


def test_one_network_has_agents_of_three_ages(
    make_network: MakeNetwork, program: Path, older_program: Path
) -> None:
    network = make_network("cone drop", "cone reject", "cone drop", "cone drop")
    start_hub(program, network)
    a, b, c, d = network.sites
    start_origin_agent(a.node, 2.0)
    Agent(older_program, b.node, 2.0)
    for site in (c, d):
        Agent(program, site.node, 2.0)
    wait_for_path(network, c, d, "direct", 8)
    for one, other in ((a, b), (a, c), (a, d), (b, c), (b, d)):
        wait_for_path(network, one, other, "direct", 30)
