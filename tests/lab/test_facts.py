# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The facts that the design rests on (DESIGN section 3), measured here with `wg` alone, without our program.

They say at the same time that the lab's NATs are those of the design's table.
"""

from __future__ import annotations

import time

import pytest
from tests.lab.conftest import MakeNetwork
from tests.lab.network import Network, Site
from tests.lab.traffic import Pinger, Transfer, path_of_pings
from tests.lab.wireguard import wait_until
from tests.nat_profiles import NatProfile

pytestmark = pytest.mark.lab

SHORT_WINDOW = NatProfile(learning_window_s=1.5)
DIRECT_WITHIN_S = 3.0
TRIES = 3
A_TRY_S = 0.8


class Pair:
    """Two sites, and what their admins would do by hand. The endpoints are those that the hub sees."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.a, self.b = network.sites

    def endpoint(self, site: Site) -> str:
        return self.network.hub.endpoints()[site.node.public_key]

    def knock(self, site: Site) -> None:
        other = self._other(site)
        site.node.knock(other.node.public_key, self.endpoint(other))

    def open(self) -> None:
        """Openers from both sides, before either of them knocks."""
        for site in (self.a, self.b):
            site.node.send_openers(self.endpoint(self._other(site)))

    def fresh_port(self, site: Site) -> None:
        """A fresh port, and the hub knows it."""
        before = self.endpoint(site)
        site.node.fresh_port()
        site.node.ping(self.network.hub.address, count=1)
        wait_until(lambda: self.endpoint(site) != before, 5, "the hub sees the fresh port")

    def forget(self) -> None:
        """Neither knocks any more."""
        for site in (self.a, self.b):
            site.node.run("wg", "set", "wg0", "peer", self._other(site).node.public_key, "remove")

    def has_session(self) -> bool:
        return self.a.node.has_handshake(self.b.node.public_key) and self.b.node.has_handshake(
            self.a.node.public_key
        )

    def becomes_direct(self) -> bool:
        """There is a session within seconds, and the core has counted packets both ways between the NATs."""
        try:
            wait_until(self.has_session, DIRECT_WITHIN_S, "a session")
        except AssertionError:
            return False
        return self._counted_both_ways()

    def never_becomes_direct(self) -> bool:
        """Both knock again and again, which rate limits would keep WireGuard itself from."""
        for _ in range(TRIES):
            deadline = time.monotonic() + A_TRY_S
            while time.monotonic() < deadline:
                if self.has_session():
                    return False
                time.sleep(0.05)
            self.knock(self.a)
            self.knock(self.b)
        return not self.has_session()

    def a_knocks_then_b(self) -> None:
        self.knock(self.a)
        time.sleep(0.5)
        self.knock(self.b)

    def _other(self, site: Site) -> Site:
        return self.b if site is self.a else self.a

    def _counted_both_ways(self) -> bool:
        counts = self.network.counted("datagrams")
        addresses = (self.a.nat_address, self.b.nat_address)
        return counts.get(addresses, 0) > 0 and counts.get(addresses[::-1], 0) > 0


def test_relay_works_behind_any_nat_and_is_counted_as_relay(make_network: MakeNetwork) -> None:
    network = make_network("symmetric reject", "learning window accept")
    assert path_of_pings(network, *network.sites) == "relay"


@pytest.mark.parametrize("policy", ["drop", "reject"])
def test_plain_knocks_reach_through_nats_that_keep_no_state_of_strangers(
    make_network: MakeNetwork, policy: str
) -> None:
    pair = Pair(make_network(f"cone {policy}", f"cone {policy}"))
    pair.a_knocks_then_b()
    assert pair.becomes_direct()


def test_plain_knocks_into_an_accepting_nat_need_a_fresh_port_on_its_side_which_starts_first(
    make_network: MakeNetwork,
) -> None:
    pair = Pair(make_network("cone drop", "cone accept"))
    pair.a_knocks_then_b()
    assert pair.never_becomes_direct()

    pair.forget()
    pair.fresh_port(pair.b)
    pair.knock(pair.b)
    pair.knock(pair.a)
    assert pair.becomes_direct()


def test_openers_on_both_sides_prevent_the_collision_between_accepting_nats(
    make_network: MakeNetwork,
) -> None:
    pair = Pair(make_network("cone accept", "cone accept"))
    pair.open()
    pair.a_knocks_then_b()
    assert pair.becomes_direct()


def test_without_openers_two_accepting_nats_never_get_direct(make_network: MakeNetwork) -> None:
    pair = Pair(make_network("cone accept", "cone accept"))
    pair.a_knocks_then_b()
    assert pair.never_becomes_direct()


def test_openers_never_reach_the_other_nat(make_network: MakeNetwork) -> None:
    pair = Pair(make_network("cone drop", "cone drop"))
    before = pair.network.counted("datagrams")
    pair.open()
    arrived = pair.b.nat.run("conntrack", "-L", "-p", "udp", "--src", pair.a.nat_address)
    assert arrived == "", "an opener made an entry at the other NAT"
    left = pair.network.counted("datagrams")
    assert left.get((pair.a.nat_address, pair.b.nat_address), 0) > before.get(
        (pair.a.nat_address, pair.b.nat_address), 0
    ), "no opener reached the core: the own NAT was not passed"


def test_a_learning_window_that_has_passed_needs_a_fresh_port(make_network: MakeNetwork) -> None:
    pair = Pair(make_network("cone drop", SHORT_WINDOW))
    assert SHORT_WINDOW.learning_window_s is not None
    time.sleep(SHORT_WINDOW.learning_window_s + 0.2)
    pair.open()
    pair.a_knocks_then_b()
    assert pair.never_becomes_direct(), "openers cannot help here"

    pair.forget()
    pair.fresh_port(pair.b)
    pair.knock(pair.b)
    pair.knock(pair.a)
    assert pair.becomes_direct()


def test_learning_windows_on_both_sides_need_fresh_ports_on_both_and_openers(
    make_network: MakeNetwork,
) -> None:
    pair = Pair(make_network(SHORT_WINDOW, SHORT_WINDOW))
    assert SHORT_WINDOW.learning_window_s is not None
    time.sleep(SHORT_WINDOW.learning_window_s + 0.2)
    pair.open()
    pair.a_knocks_then_b()
    assert pair.never_becomes_direct()

    pair.forget()
    pair.fresh_port(pair.b)
    pair.fresh_port(pair.a)
    pair.open()
    pair.a_knocks_then_b()
    assert pair.becomes_direct()


def test_symmetric_nats_never_get_direct_not_even_with_openers(make_network: MakeNetwork) -> None:
    pair = Pair(make_network("symmetric drop", "symmetric drop"))
    pair.open()
    pair.a_knocks_then_b()
    assert pair.never_becomes_direct()


def test_everything_is_lost_while_only_one_end_has_moved_its_allowed_ips(make_network: MakeNetwork) -> None:
    pair = Pair(make_network("cone drop", "cone drop"))
    pair.a_knocks_then_b()
    assert pair.becomes_direct()
    a, b = pair.a.node, pair.b.node

    a.wg_set_peer(b.public_key, allowed_ips=f"{b.address}/32")
    assert path_of_pings(pair.network, pair.a, pair.b) == "none"
    b.wg_set_peer(a.public_key, allowed_ips=f"{a.address}/32")
    assert path_of_pings(pair.network, pair.a, pair.b) == "direct"

    with Pinger(a, b.address) as pinger:
        time.sleep(1)
        for node, other in ((a, b), (b, a)):
            node.wg_set_peer(other.public_key, allowed_ips="")
        time.sleep(0.5)
    assert path_of_pings(pair.network, pair.a, pair.b) == "relay"
    assert pinger.result.lost <= 2


@pytest.mark.parametrize("notrack", [True, False])
def test_tcp_comes_back_to_the_relay_only_if_the_hub_does_not_track_it(
    make_network: MakeNetwork, notrack: bool
) -> None:
    network = make_network("cone drop", "cone drop", notrack=notrack)
    pair = Pair(network)
    pair.a_knocks_then_b()
    assert pair.becomes_direct()
    a, b = pair.a.node, pair.b.node
    with Transfer(a, b, network.directory) as transfer:
        transfer.flows_for()
        for allowed_ips in (f"{b.address}/32", f"{a.address}/32"), ("", ""):
            a.wg_set_peer(b.public_key, allowed_ips=allowed_ips[0])
            b.wg_set_peer(a.public_key, allowed_ips=allowed_ips[1])
            if notrack or allowed_ips[0]:
                transfer.flows_for(300_000)
            else:
                with pytest.raises(AssertionError, match="more bytes by TCP"):
                    transfer.flows_for(300_000, timeout_s=6)
        if notrack:
            transfer.finish()
