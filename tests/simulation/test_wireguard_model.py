# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The model of WireGuard does what real devices were measured to do (DESIGN §3; each test names its fact)."""

from __future__ import annotations

from functools import partial

import pytest
from tests.nat_profiles import PROFILES
from tests.simulation.wireguard import Device, Inner
from tests.simulation.world import HUB_ADDRESS, KEEPALIVE_S, VPN, World

pytestmark = pytest.mark.sim


class Pair(World):
    """A and B behind healthy NATs, 10 s after both reached the hub."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self.a = self.add_node("A", PROFILES["cone drop"])
        self.b = self.add_node("B", PROFILES["cone drop"])
        self.connect(self.a)
        self.connect(self.b)
        self.engine.run_for(10.0)
        self.received: list[tuple[str, object]] = []
        for name, device in self.nodes.items():
            device.on_packet = partial(self._note, name)

    def _note(self, name: str, inner: Inner) -> None:
        self.received.append((name, inner.payload))

    def join(self) -> None:
        self.open(self.a, towards=self.b)
        self.open(self.b, towards=self.a)
        self.knock(self.a, at=self.b)
        self.engine.run_for(0.2)
        self.knock(self.b, at=self.a)
        assert self.engine.run_for(10.0, lambda: self.sessions_pass(self.a, self.b))

    def promote(self, one: Device, other: Device) -> None:
        one.set_peer(other.public_key, allowed_ips=(f"{other.address}/32",))

    def ping(self, one: Device, other: Device) -> None:
        one.send(Inner(one.address, other.address, "ping"))
        self.engine.run_for(0.5)


def test_fact_3_a_session_needs_no_allowed_ips_and_the_relay_keeps_the_traffic() -> None:
    pair = Pair()
    pair.join()
    assert pair.has_path(pair.a, pair.b)
    assert not pair.is_direct(pair.a, pair.b)


def test_fact_3_giving_the_allowed_ips_back_keeps_the_session() -> None:
    pair = Pair()
    pair.join()
    for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
        pair.promote(one, other)
    assert pair.is_direct(pair.a, pair.b)
    for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
        one.set_peer(other.public_key, allowed_ips=())
    assert pair.has_path(pair.a, pair.b)
    assert pair.sessions_pass(pair.a, pair.b)


def test_fact_4_moved_on_one_side_only_loses_both_directions_and_counts_as_received() -> None:
    pair = Pair()
    pair.join()
    pair.engine.run_for(1.0)
    pair.promote(pair.a, pair.b)
    before = pair.b.peers[pair.a.public_key].rx_bytes
    pair.ping(pair.a, pair.b)
    pair.ping(pair.b, pair.a)
    assert pair.received == []
    assert pair.b.peers[pair.a.public_key].rx_bytes > before
    pair.promote(pair.b, pair.a)
    pair.ping(pair.a, pair.b)
    assert pair.received == [("B", "ping")]


def test_fact_5_a_fresh_port_keeps_the_peers_and_the_hub_follows_the_next_packet() -> None:
    pair = Pair()
    pair.take_fresh_port(pair.a)
    pair.engine.run_for(0.5)
    assert pair.reflexive_endpoint(pair.a).port == pair.a.listen_port
    assert pair.has_path(pair.a, pair.b)


def test_fact_5_an_endpoint_sends_nothing_and_a_keepalive_turned_on_sends_at_once() -> None:
    pair = Pair()
    endpoint = pair.reflexive_endpoint(pair.b)
    pair.a.set_peer(pair.b.public_key, endpoint)
    assert pair.a.peers[pair.b.public_key].tx_bytes == 0
    pair.a.set_peer(pair.b.public_key, keepalive_s=KEEPALIVE_S)
    assert pair.a.peers[pair.b.public_key].tx_bytes > 0


def test_fact_5_who_answered_an_initiation_cannot_start_one_for_5_seconds_unless_added_again() -> None:
    pair = Pair()
    pair.b.set_peer(pair.a.public_key, pair.reflexive_endpoint(pair.a))
    pair.open(pair.b, towards=pair.a)
    pair.knock(pair.a, at=pair.b)
    pair.engine.run_for(0.01 + 0.01 + 0.001)  # B has answered, the answer is under way
    entry = pair.b.peers[pair.a.public_key]
    sent = entry.tx_bytes
    assert sent > 0
    pair.b.set_peer(pair.a.public_key, keepalive_s=KEEPALIVE_S)
    assert entry.tx_bytes == sent
    pair.knock(pair.b, at=pair.a)
    assert pair.b.peers[pair.a.public_key].tx_bytes > 0


def test_fact_5_a_first_handshake_without_endpoint_costs_5_seconds() -> None:
    pair = Pair()
    pair.a.set_peer(pair.b.public_key, keepalive_s=KEEPALIVE_S)
    pair.a.set_peer(pair.b.public_key, endpoint=pair.reflexive_endpoint(pair.b))
    pair.engine.run_for(4.9)
    assert pair.a.peers[pair.b.public_key].tx_bytes == 0
    pair.engine.run_for(0.5)
    assert pair.a.peers[pair.b.public_key].tx_bytes > 0


def test_initiations_that_cross_fail_both_until_a_retry() -> None:
    pair = Pair()
    pair.open(pair.a, towards=pair.b)
    pair.open(pair.b, towards=pair.a)
    pair.knock(pair.a, at=pair.b)
    pair.knock(pair.b, at=pair.a)
    pair.engine.run_for(4.9)
    assert not pair.sessions_pass(pair.a, pair.b)


def test_fact_6_with_keepalives_on_both_sides_a_link_grows_every_13_seconds_on_one_side_at_least() -> None:
    pair = Pair()
    pair.join()
    ends = (pair.a.peers[pair.b.public_key], pair.b.peers[pair.a.public_key])
    for _ in range(20):
        before = sum(end.rx_bytes for end in ends)
        pair.engine.run_for(KEEPALIVE_S + 0.1)
        assert sum(end.rx_bytes for end in ends) > before


def test_the_session_is_renewed_without_a_gap() -> None:
    pair = Pair()
    pair.join()
    gaps: list[float] = []
    pair.engine.watchers.append(
        lambda: None if pair.sessions_pass(pair.a, pair.b) else gaps.append(pair.engine.now)
    )
    first = pair.a.peers[pair.b.public_key].latest_handshake_at
    pair.engine.run_for(600.0)
    last = pair.a.peers[pair.b.public_key].latest_handshake_at
    assert first is not None
    assert last is not None
    assert last > first + 400
    assert gaps == []


def test_a_session_ends_after_180_seconds_when_the_other_end_is_gone() -> None:
    pair = Pair()
    pair.join()
    pair.b.host.up = False
    pair.engine.run_for(181.0)
    assert pair.a.sending_keypair(pair.a.peers[pair.b.public_key]) is None


def test_fact_12_a_nat_that_lost_its_state_is_healed_from_inside_by_the_next_keepalive() -> None:
    pair = Pair()
    pair.nat(pair.b).lose_state()
    assert not pair.has_path(pair.a, pair.b)
    healed = pair.engine.run_for(KEEPALIVE_S + 1.0, lambda: pair.has_path(pair.a, pair.b))
    assert healed


def test_fact_13_a_flow_in_one_direction_is_answered_by_a_keepalive_after_10_seconds() -> None:
    pair = Pair()
    pair.a.set_peer(pair.hub.public_key, keepalive_s=0)
    hub_entry = pair.hub.peers[pair.a.public_key]
    pair.hub.send(Inner(HUB_ADDRESS, pair.a.address, "data"))
    pair.engine.run_for(0.5)
    received = hub_entry.rx_bytes
    pair.engine.run_for(9.0)
    assert hub_entry.rx_bytes == received
    pair.engine.run_for(1.0)
    assert hub_entry.rx_bytes > received


def test_an_address_has_one_owner_and_the_longest_prefix_wins() -> None:
    pair = Pair()
    pair.a.set_peer(pair.b.public_key, allowed_ips=(f"{pair.b.address}/32",))
    owner = pair.a.owner(pair.b.address)
    assert owner is not None
    assert owner.key == pair.b.public_key
    pair.a.set_peer("another", allowed_ips=(f"{pair.b.address}/32",))
    assert pair.a.allowed_ips(pair.a.peers[pair.b.public_key]) == ()
    pair.a.remove_peer("another")
    assert pair.a.owner(pair.b.address) is pair.a.peers[pair.hub.public_key]
    assert pair.a.allowed_ips(pair.a.peers[pair.hub.public_key]) == (VPN,)
