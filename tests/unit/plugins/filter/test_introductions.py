# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What each hub is told of the peers of a play."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.filter.introductions import introductions


def host(hub: str = "hub", interface: str = "wg0", **more: Any) -> dict[str, Any]:
    addresses, subnets = ["192.168.7.5/24"], ["10.1.0.0/24"]
    about = {"hub": hub, "interface": "wg0", "addresses": addresses, "subnets": subnets}
    return {"wg_interface__node": {"interface": interface, "introduction": about}, **more}


def key(text: str, interface: str = "wg0") -> dict[str, Any]:
    return {"wg_interface__key": {"interface": interface, "public_key": text}}


def test_each_hub_has_one_entry_with_its_peers_in_order() -> None:
    hostvars = {
        "alice": host(**key("A")),
        "bob": host("other", **key("B")),
        "carol": host(**key("C")),
        "hub": {},
        "other": {},
    }
    first, second = introductions(["carol", "bob", "alice"], hostvars)

    assert (first["hub"], first["interface"]) == ("hub", "wg0")
    about = {"allowed_ips": ["192.168.7.5/32", "10.1.0.0/24"], "from_mesh_secret": True}
    assert first["peers"] == [
        {"name": "carol", "public_key": "C", **about},
        {"name": "alice", "public_key": "A", **about},
    ]
    assert second["hub"] == "other"
    assert [peer["name"] for peer in second["peers"]] == ["bob"]


def test_before_keys_are_made_the_preflight_has_seen_those_that_are_there() -> None:
    hostvars: dict[str, Any] = {"alice": host(), "bob": host(), "hub": {}}
    hostvars["alice"]["wg_interface__node"]["public_key"] = "A"

    (entry,) = introductions(["alice", "bob"], hostvars)
    assert [peer["public_key"] for peer in entry["peers"]] == ["A"]


def test_the_key_of_another_interface_of_the_host_is_none_of_this_one() -> None:
    hostvars = {"alice": host(interface="wg1", **key("A", "wg0")), "hub": {}}

    (entry,) = introductions(["alice"], hostvars)
    assert entry["peers"] == []


@pytest.mark.parametrize(
    ("preflight", "asked"),
    [
        ({"interface": "wg0", "role": "hub", "refused": {}}, True),
        ({"interface": "wg1", "role": "hub", "refused": {}}, False),
        ({"interface": "wg0", "role": "interface"}, False),
        ({"unreachable": True, "msg": "no route"}, False),
    ],
)
def test_a_hub_that_the_preflight_of_this_run_was_on_need_not_be_asked(
    preflight: dict[str, Any], asked: bool
) -> None:
    hostvars = {"alice": host(), "hub": {"wg_interface__node": preflight}}
    assert introductions(["alice"], hostvars)[0]["hub_was_asked"] is asked


def test_who_was_refused_or_was_not_looked_at_is_left_out() -> None:
    hostvars: dict[str, Any] = {
        "alice": {"wg_interface__node": {"msg": "alice: wg_interface_mtu 1: write a number"}},
        "bob": {},
        "carol": host(hub=""),
    }
    assert introductions(hostvars, hostvars) == []


def moving(of: str, before: str, after: str) -> dict[str, Any]:
    about = {"hub": "hub", "interface": "wg0", "addresses": [f"{after}/24"], "subnets": []}
    configured = {"addresses": [f"{before}/24"]}
    return {
        "wg_interface__node": {
            "interface": "wg0",
            "introduction": about,
            "public_key": of,
            "configured": configured,
        }
    }


def hub(**addresses: str) -> dict[str, Any]:
    claims = {
        f"{address}/32": {"name": "", "public_key": key, "also": []} for key, address in addresses.items()
    }
    return {"wg_interface__node": {"interface": "wg0", "role": "hub", "claims": claims}}


def test_a_peer_whose_address_changes_is_told_of_with_both() -> None:
    hostvars: dict[str, Any] = {
        "alice": moving("A", "192.168.7.5", "192.168.7.105"),
        "bob": moving("B", "192.168.7.6", "192.168.7.6"),
        "new": host(),
        "hub": hub(A="192.168.7.5", B="192.168.7.6"),
    }
    (entry,) = introductions(["alice", "bob", "new"], hostvars, moving=True)
    routes = ["192.168.7.5/32", "192.168.7.105/32"]
    assert entry["peers"] == [
        {"name": "alice", "public_key": "A", "allowed_ips": routes, "from_mesh_secret": True}
    ]
    (last,) = introductions(["alice", "bob"], hostvars)
    assert last["peers"][0]["allowed_ips"] == ["192.168.7.105/32"]


def test_two_that_change_places_do_not_claim_one_address_at_the_same_time() -> None:
    hostvars: dict[str, Any] = {
        "alice": moving("A", "192.168.7.5", "192.168.7.6"),
        "bob": moving("B", "192.168.7.6", "192.168.7.5"),
        "hub": hub(A="192.168.7.5", B="192.168.7.6"),
    }
    (entry,) = introductions(["alice", "bob"], hostvars, moving=True)
    assert [peer["allowed_ips"] for peer in entry["peers"]] == [["192.168.7.5/32"], ["192.168.7.6/32"]]


def test_without_a_change_of_address_no_hub_is_told_of_one() -> None:
    hostvars = {"bob": moving("B", "192.168.7.6", "192.168.7.6"), "new": host(), "hub": {}}
    assert introductions(["bob", "new"], hostvars, moving=True) == []


def test_what_the_hub_never_routed_to_a_peer_is_not_asked_for_as_its_old_address() -> None:
    """As after a run that gave it the address of another, and was refused at the hub."""
    eve = moving("E", "192.168.7.6", "192.168.7.9")
    hostvars = {"eve": eve, "bob": moving("B", "192.168.7.6", "192.168.7.6"), "hub": hub(B="192.168.7.6")}
    assert introductions(["eve", "bob"], hostvars, moving=True) == []


def test_a_hub_that_is_not_in_this_run_has_said_what_it_routes() -> None:
    hostvars = {"alice": moving("A", "192.168.7.5", "192.168.7.105"), "hub": {}}
    claims = hub(A="192.168.7.5")["wg_interface__node"]["claims"]
    asked = [{"item": {"hub": "hub", "interface": "wg0"}, "claims": claims}]
    (entry,) = introductions(["alice"], hostvars, moving=True, asked=asked)
    assert entry["peers"][0]["allowed_ips"] == ["192.168.7.5/32", "192.168.7.105/32"]


def test_the_key_that_a_rotation_replaces_is_the_peers_own_as_well() -> None:
    the_hub = hub(OLD="192.168.7.5")
    the_hub["wg_interface__node"]["claims"]["192.168.7.5/32"]["also"] = ["A"]
    hostvars = {"alice": moving("A", "192.168.7.5", "192.168.7.105"), "hub": the_hub}
    (entry,) = introductions(["alice"], hostvars, moving=True)
    assert entry["peers"][0]["allowed_ips"] == ["192.168.7.5/32", "192.168.7.105/32"]
