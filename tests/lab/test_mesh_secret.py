# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Preshared keys of direct links: derived at both ends from one mesh secret, and never left out silently."""

from __future__ import annotations

import signal

import pytest
from tests.lab.conftest import MakePair
from tests.lab.pairs import Pair
from tests.lab.traffic import Pinger, path_of_pings
from tests.lab.wireguard import new_private_key as new_secret
from tests.lab.wireguard import wait_until

from wg_rendezvous._wireguard import mesh_secret

pytestmark = pytest.mark.lab

SEEN_WITHIN_S = 10.0
"""The file is looked at every 2 s; then the link is given back and opened anew."""
OUTAGE_S = 1.0


def running(pair: Pair) -> list[str | None]:
    """The preshared key that each end has with the other one; None if it has no entry for it."""
    a, b = pair.nodes
    return [a.preshared_keys().get(b.public_key), b.preshared_keys().get(a.public_key)]


def derived(pair: Pair, secret: str) -> str:
    return mesh_secret.preshared_key(secret, *(node.public_key for node in pair.nodes))


def wait_until_direct_with(pair: Pair, preshared_key: str) -> None:
    wait_until(
        lambda: (
            running(pair) == [preshared_key] * 2
            and all(agent.link()["state"] == "direct" for agent in pair.agents)
        ),
        SEEN_WITHIN_S,
        "both ends are direct with that preshared key",
    )
    pair.wait_until_direct()


def wait_until_both_say(pair: Pair, *whys: str) -> None:
    """Both are relayed and each says its reason."""
    wait_until(
        lambda: all(
            (link["state"], why in link["why"]) == ("relayed", True)
            for link, why in zip([agent.link() for agent in pair.agents], whys, strict=True)
        ),
        SEEN_WITHIN_S,
        f"relayed, since {whys}",
    )
    assert running(pair) == [None, None]
    assert path_of_pings(pair.network, *pair.sites) == "relay"


def test_a_secret_is_introduced_and_rotated_under_traffic_and_no_end_goes_without_it_alone(
    make_pair: MakePair,
) -> None:
    pair = make_pair("cone drop", "cone drop")
    a, b = pair.nodes
    first, second = new_secret(), new_secret()
    wait_until_direct_with(pair, "(none)")
    with Pinger(a, b.address, 0.02) as there, Pinger(b, a.address, 0.02) as back:
        a.has_mesh_secrets(first)
        wait_until_both_say(pair, "it has no mesh secret", "it has a mesh secret, and this node has none")
        b.has_mesh_secrets(first)
        wait_until_direct_with(pair, derived(pair, first))

        b.has_mesh_secrets(second, first)
        a.has_mesh_secrets(second, first)
        wait_until_direct_with(pair, derived(pair, second))
        a.has_mesh_secrets(second)
        b.has_mesh_secrets(second)
        pair.agents[0].wait_until_said("this node has other mesh secrets", SEEN_WITHIN_S, times=3)
        wait_until_direct_with(pair, derived(pair, second))

        a.has_mesh_secrets()
        b.has_mesh_secrets()
        wait_until_direct_with(pair, "(none)")
    for pings in (there.result, back.result):
        assert pings.outage_s <= OUTAGE_S, pings
    logs = "".join(agent.log() for agent in pair.agents) + pair.hub.log()
    for secret in (first, second, derived(pair, first), derived(pair, second)):
        assert secret not in logs


def test_with_another_secret_it_stays_relayed_and_says_why(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop", agents=False)
    for node in pair.nodes:
        node.has_mesh_secrets(new_secret())
    pair.start_agents()
    wait_until_both_say(pair, *["it has another mesh secret than this node"] * 2)
    assert not any(agent.said("restart condition: taking a fresh port") for agent in pair.agents)


def test_an_agent_that_died_takes_its_links_over_with_their_preshared_keys(make_pair: MakePair) -> None:
    pair = make_pair("cone drop", "cone drop", agents=False)
    secret = new_secret()
    for node in pair.nodes:
        node.has_mesh_secrets(secret)
    pair.start_agents()
    wait_until_direct_with(pair, derived(pair, secret))
    a, b = pair.nodes
    with Pinger(a, b.address, 0.02) as pinger:
        pair.agents[0].end(signal.SIGKILL)
        pair.restart(0)
        wait_until_direct_with(pair, derived(pair, secret))
    assert pinger.result.lost == 0, pinger.result
