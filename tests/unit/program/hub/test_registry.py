# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the hub believes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_rendezvous._wireguard import dump
from wg_rendezvous.hub.registry import Registry, address_of

from .fake import device, key, peer

OWN = [ipaddress.ip_interface("127.7.0.1/24"), ipaddress.ip_interface("fd07::1/64")]
SPOOFED = "203.0.113.66:6666"
FRESH = "198.51.100.5:40000"


def new_registry() -> Registry:
    registry = Registry()
    registry.set_addresses(OWN)
    return registry


def observed(*steps: tuple[float, dump.Peer]) -> Registry:
    """A registry that saw peer 5 like this; the wall clock is 1000 s ahead of the other."""
    registry = new_registry()
    for at_s, one in steps:
        registry.observe(device(one), at_s, 1000 + at_s)
    return registry


def endpoint(registry: Registry) -> str | None:
    answer = registry.answer(key(5))
    return None if answer is None else answer.endpoint


# --- online ---


def test_a_peer_is_online_for_two_and_a_half_keepalives_after_its_last_bytes() -> None:
    registry = observed(
        (0, peer(5, latest_handshake_at=900)), (10, peer(5, latest_handshake_at=900, rx_bytes=132))
    )

    assert registry.is_online(key(5), 10 + 32.5)
    assert not registry.is_online(key(5), 10 + 32.6)


def test_the_keepalive_of_the_peer_entry_counts_if_it_has_one() -> None:
    before = peer(5, persistent_keepalive_s=25, latest_handshake_at=900)
    registry = observed((0, before), (10, replace(before, rx_bytes=132)))

    assert registry.is_online(key(5), 10 + 62.5)
    assert not registry.is_online(key(5), 10 + 62.6)


@pytest.mark.parametrize(("age_s", "online"), [(0, True), (32, True), (33, False), (170, False)])
def test_at_its_start_the_hub_takes_only_a_recent_handshake_for_life(age_s: int, online: bool) -> None:
    registry = observed((0, peer(5, latest_handshake_at=1000 - age_s)))

    assert registry.is_online(key(5), 0) is online


def test_bytes_that_do_not_grow_are_no_life() -> None:
    old = peer(5, latest_handshake_at=900)
    registry = observed((0, old), (1, old), (2, replace(old, tx_bytes=5000)))

    assert not registry.is_online(key(5), 2)


def test_counters_that_start_again_count_as_growth() -> None:
    old = peer(5, latest_handshake_at=900, rx_bytes=10_000)
    registry = observed((0, old), (1, replace(old, rx_bytes=148)))

    assert registry.is_online(key(5), 1)


def test_a_peer_that_never_completed_a_handshake_is_not_online_however_much_it_sends() -> None:
    knocking = peer(5, latest_handshake_at=0)
    registry = observed((0, knocking), (1, replace(knocking, rx_bytes=1480)))

    assert not registry.is_online(key(5), 1)


def test_a_peer_without_an_address_of_its_own_has_no_answer() -> None:
    registry = observed((0, peer(5, allowed_ips=("10.0.0.0/8",))))

    assert registry.is_online(key(5), 0)
    assert registry.answer(key(5)) is None
    assert "/32" in registry.why_not(key(5))


# --- endpoints ---


def test_the_first_endpoint_is_believed_with_the_first_handshake() -> None:
    configured = peer(5, latest_handshake_at=0)
    registry = observed((0, configured))
    assert endpoint(registry) is None
    assert "no handshake" in registry.why_not(key(5))

    registry.observe(device(replace(configured, latest_handshake_at=1001)), 1, 1001)
    assert endpoint(registry) == configured.endpoint


def test_an_endpoint_that_changed_is_not_handed_on_for_bytes_alone() -> None:
    registry = observed(
        (0, peer(5)),
        (1, peer(5, endpoint=SPOOFED, rx_bytes=200)),
        (2, peer(5, endpoint=SPOOFED, rx_bytes=300)),
    )

    assert endpoint(registry) == peer(5).endpoint


def test_a_handshake_since_the_change_proves_the_endpoint() -> None:
    registry = observed(
        (0, peer(5)), (1, peer(5, endpoint=FRESH)), (2, peer(5, endpoint=FRESH, latest_handshake_at=1002))
    )

    assert endpoint(registry) == FRESH


def test_a_handshake_together_with_the_change_proves_the_endpoint() -> None:
    registry = observed((0, peer(5)), (1, peer(5, endpoint=FRESH, latest_handshake_at=1001)))

    assert endpoint(registry) == FRESH


def test_a_handshake_before_the_change_proves_nothing() -> None:
    shaken = peer(5, latest_handshake_at=1001)
    registry = observed((0, peer(5)), (1, shaken), (2, replace(shaken, endpoint=SPOOFED)))

    assert endpoint(registry) == shaken.endpoint


def test_a_request_that_came_from_a_fresh_port_proves_it_at_the_next_look() -> None:
    registry = observed((0, peer(5)))
    registry.heard(key(5), 0.5)
    assert endpoint(registry) == peer(5).endpoint

    registry.observe(device(peer(5, endpoint=FRESH)), 0.6, 1000.6)
    assert endpoint(registry) == FRESH


def test_a_request_while_the_device_is_being_read_counts_at_the_next_look() -> None:
    registry = observed((0, peer(5)))
    registry.heard(key(5), 1.01)
    registry.observe(device(peer(5, endpoint=FRESH)), 1.0, 1001)
    assert endpoint(registry) == peer(5).endpoint

    registry.observe(device(peer(5, endpoint=FRESH)), 1.25, 1001.25)
    assert endpoint(registry) == FRESH


def test_a_request_before_the_change_proves_nothing() -> None:
    registry = observed((0, peer(5)))
    registry.heard(key(5), 0.5)
    registry.observe(device(peer(5)), 1, 1001)
    registry.observe(device(peer(5, endpoint=SPOOFED)), 2, 1002)

    assert endpoint(registry) == peer(5).endpoint


def test_a_spoofed_packet_followed_by_a_request_leaves_the_real_endpoint() -> None:
    registry = observed((0, peer(5)), (1, peer(5, endpoint=SPOOFED)))
    registry.heard(key(5), 1.5)  # the request itself moved the endpoint back
    registry.observe(device(peer(5, rx_bytes=300)), 1.6, 1001.6)

    assert endpoint(registry) == peer(5).endpoint


def test_a_peer_that_was_removed_and_added_again_has_its_last_endpoint_until_it_shakes_hands() -> None:
    again = peer(5, endpoint=FRESH, latest_handshake_at=0, rx_bytes=0)
    registry = observed((0, peer(5)), (1, again))
    assert endpoint(registry) == peer(5).endpoint
    assert registry.hands_shaken_at(key(5)) == 1000
    assert not registry.is_online(key(5), 1)

    registry.observe(device(replace(again, latest_handshake_at=1002)), 2, 1002)
    assert endpoint(registry) == FRESH


def test_a_peer_that_is_gone_is_forgotten() -> None:
    registry = observed((0, peer(5)))
    registry.observe(device(), 1, 1001)

    assert registry.answer(key(5)) is None
    assert registry.peer_at("127.7.0.5") is None
    assert "no peer" in registry.why_not(key(5))


@dataclass
class Moment:
    """What happens within a second: the endpoint that is seen, a handshake, a request half way."""

    endpoint: str
    shakes: bool
    asks: bool


MOMENTS = st.lists(
    st.builds(
        Moment, st.sampled_from(["192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3"]), st.booleans(), st.booleans()
    )
)


@given(MOMENTS)
def test_what_is_believed_was_seen_together_with_a_proof(moments: list[Moment]) -> None:
    registry = observed((0, peer(5)))
    proven, seen, proof_since_change, shaken_at = peer(5).endpoint, peer(5).endpoint, True, 1000
    for number, moment in enumerate(moments, start=1):
        if moment.asks:
            registry.heard(key(5), number - 0.5)
        shaken_at = 1000 + number if moment.shakes else shaken_at
        now = peer(5, endpoint=moment.endpoint, latest_handshake_at=shaken_at)
        registry.observe(device(now), number, 1000 + number)

        proof = moment.asks or moment.shakes
        proof_since_change = proof or (proof_since_change and moment.endpoint == seen)
        seen = moment.endpoint
        proven = seen if proof_since_change else proven
        assert endpoint(registry) == proven


@given(st.lists(st.tuples(st.floats(0.01, 60), st.integers(0, 2)), max_size=30))
def test_online_is_exactly_growth_within_two_and_a_half_keepalives(steps: list[tuple[float, int]]) -> None:
    now_s, latest, grew_at_s = 0.0, peer(5, latest_handshake_at=1), -1e9
    registry = observed((0, latest))
    for pause_s, growth in steps:
        now_s += pause_s
        latest = replace(latest, rx_bytes=latest.rx_bytes + 32 * growth)
        grew_at_s = now_s if growth else grew_at_s
        registry.observe(device(latest), now_s, 1000 + now_s)
        assert registry.is_online(key(5), now_s) == (now_s - grew_at_s <= 32.5)


# --- addresses ---


@pytest.mark.parametrize(
    ("allowed_ips", "route"),
    [
        (("127.7.0.5/32",), "127.7.0.5/32"),
        (("127.7.0.9/32", "127.7.0.5/32"), "127.7.0.5/32,127.7.0.9/32"),
        (("fd07::5/128", "127.7.0.5/32"), "127.7.0.5/32,fd07::5/128"),
        (("10.2.0.0/24", "10.1.0.0/24", "127.7.0.5/32"), "127.7.0.5/32,10.1.0.0/24,10.2.0.0/24"),
        (("127.7.0.5/32", "10.9.9.9/32"), "127.7.0.5/32,10.9.9.9/32"),
        (("fd07::5/128",), "fd07::5/128"),
        (("127.7.0.1/32",), None),
        (("127.7.0.0/24",), None),
        (("10.1.2.3/32", "0.0.0.0/0"), None),
        ((), None),
    ],
)
def test_a_peer_is_asked_at_a_host_route_inside_the_vpn_and_has_whatever_else_the_hub_sends_it(
    allowed_ips: tuple[str, ...], route: str | None
) -> None:
    assert address_of(allowed_ips, OWN) == route


def test_who_is_in_a_subnet_behind_a_peer_is_not_that_peer() -> None:
    registry = new_registry()
    registry.observe(device(peer(5, allowed_ips=("127.7.0.5/32", "fd07::5/128", "10.1.0.0/24"))), 1.0, 1001.0)
    assert registry.peer_at("127.7.0.5") == registry.peer_at("fd07::5") == key(5)
    assert registry.peer_at("10.1.0.7") is None


def test_a_peer_that_gets_another_address_is_reached_at_the_first_as_long_as_it_has_both() -> None:
    for old, new in (("127.7.0.5/32", "127.7.0.9/32"), ("127.7.0.9/32", "127.7.0.5/32")):
        registry = new_registry()
        registry.observe(device(peer(5, allowed_ips=(old,))), 0, 1000)
        registry.observe(device(peer(5, allowed_ips=(old, new))), 1, 1001)
        assert registry.route(key(5)) == f"{old},{new}"
        registry.observe(device(peer(5, allowed_ips=(new,))), 2, 1002)
        assert registry.route(key(5)) == new


def test_the_caller_is_told_by_the_longest_prefix_as_wireguard_does() -> None:
    registry = new_registry()
    registry.observe(
        device(
            peer(5), peer(6, allowed_ips=("127.7.0.0/28",)), peer(7, allowed_ips=("0.0.0.0/0", "fd07::7/128"))
        ),
        0,
        0,
    )

    assert registry.peer_at("127.7.0.5") == key(5)
    assert registry.peer_at("127.7.0.6") == key(6)
    assert registry.peer_at("127.7.0.99") == key(7)
    assert registry.peer_at("fd07::7") == key(7)
    assert registry.peer_at("fd07::8") is None
    assert registry.peer_at("127.7.0.1") is None
    assert registry.peer_at("nonsense") is None


def test_an_address_stays_with_its_owner_as_long_as_that_is_online() -> None:
    registry = new_registry()
    registry.observe(device(peer(5)), 0, 1000)
    thief = peer(6, allowed_ips=("127.7.0.5/32",))
    events = registry.observe(device(peer(5, allowed_ips=()), thief), 1, 1001)

    assert registry.answer(key(5)) is not None
    assert registry.answer(key(6)) is None
    assert key(5) in registry.why_not(key(6))
    assert [event.fields["claimant"] for event in events if "address" in event.fields] == [key(6)]
    said_again = registry.observe(device(peer(5, allowed_ips=()), thief), 2, 1002)
    assert not any("address" in event.fields for event in said_again)

    registry.observe(device(peer(5, allowed_ips=()), replace(thief, rx_bytes=999)), 40, 1040)
    assert registry.answer(key(5)) is None
    assert registry.answer(key(6)) is not None


def test_an_address_that_was_taken_away_is_not_handed_on() -> None:
    registry = observed((0, peer(5)), (1, peer(5, allowed_ips=())))

    assert registry.answer(key(5)) is None


def test_changes_are_told_once() -> None:
    registry = new_registry()
    first = registry.observe(device(peer(5)), 0, 1000)
    assert [event.message for event in first] == ["peer has an endpoint", "peer is online"]
    assert registry.observe(device(peer(5)), 1, 1001) == []
    assert [event.message for event in registry.observe(device(peer(5)), 33, 1033)] == ["peer is offline"]
