# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What a hub could not take is said before it is asked to."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.filter.introduction_problems import (
    introduction_problems,
)


def peer(key: str, address: str) -> dict[str, Any]:
    about = {"hub": "hub", "interface": "wg0", "addresses": [f"{address}/24"], "subnets": []}
    return {"wg_interface__node": {"interface": "wg0", "introduction": about, "public_key": key}}


def hub(*claims: tuple[str, str, str], also: str = "") -> dict[str, Any]:
    found = {
        f"{address}/32": {"name": name, "public_key": key, "also": [also] if also else []}
        for name, key, address in claims
    }
    return {"wg_interface__node": {"interface": "wg0", "role": "hub", "claims": found}}


def said(the_hub: dict[str, Any], **peers: dict[str, Any]) -> list[str]:
    return introduction_problems(list(peers), {"hub": the_hub, **peers})


def test_what_the_hub_knows_already_and_what_is_new_is_fine() -> None:
    assert said(hub(("alice", "A", "192.168.7.5")), alice=peer("A", "192.168.7.5")) == []
    assert said(hub(), alice=peer("A", "192.168.7.5"), bob=peer("B", "192.168.7.6")) == []


def test_two_hosts_with_one_key() -> None:
    (problem,) = said(hub(), alice=peer("A", "192.168.7.5"), bob=peer("A", "192.168.7.6"))
    for word in ("bob: ", "same key as alice", "(A)", "regenerate: always"):
        assert word in problem


@pytest.mark.parametrize("key", ["B", ""])
def test_two_hosts_with_one_address(key: str) -> None:
    (problem,) = said(hub(), alice=peer("A", "192.168.7.5"), bob=peer(key, "192.168.7.5"))
    assert problem == "bob: 192.168.7.5/32 is that of alice as well: write another one"
    refused = {"wg_interface__node": {"msg": "carol: ..."}}
    assert said(hub(), alice=peer("A", "192.168.7.5"), bob=peer(key, "192.168.7.5"), carol=refused) == []


@pytest.mark.parametrize("in_this_run", [True, False])
def test_an_address_that_somebody_else_has_at_the_hub(in_this_run: bool) -> None:
    the_hub = hub(("bob", "B", "192.168.7.6"))
    item = {"hub": "hub", "interface": "wg0"}
    asked = [{"item": item, "claims": the_hub["wg_interface__node"]["claims"]}]
    hostvars = {"hub": the_hub if in_this_run else {}, "alice": peer("A", "192.168.7.6")}
    (problem,) = introduction_problems(["alice"], hostvars, asked)
    for word in (
        "alice: hub routes 192.168.7.6/32 to peer bob (B)",
        "another wg_interface_address",
        "wg_hub_remove_peers=bob",
    ):
        assert word in problem


def test_what_another_host_of_the_inventory_has_is_given_up_by_it_in_one_run() -> None:
    alice = peer("A", "192.168.7.5")
    alice["wg_interface__node"]["introduction"]["subnets"] = ["10.1.0.0/24"]
    claims: dict[str, Any] = {"10.1.0.0/24": {"name": "bob", "public_key": "B", "also": []}}
    the_hub = {"wg_interface__node": {"interface": "wg0", "role": "hub", "claims": claims}}
    (problem,) = introduction_problems(["alice"], {"hub": the_hub, "alice": alice, "bob": {}})
    for word in ("alice: hub routes 10.1.0.0/24 to peer bob", "wg_interface_subnets", "(--limit bob,alice)"):
        assert word in problem
    assert "remove" not in problem


@pytest.mark.parametrize("owner", ["bob", None, "alice"])
def test_a_host_without_a_key_is_not_given_what_somebody_else_has(owner: str | None) -> None:
    claims: dict[str, Any] = {"192.168.7.5/32": {"name": owner, "public_key": "B", "also": []}}
    the_hub = {"wg_interface__node": {"interface": "wg0", "role": "hub", "claims": claims}}
    (problem,) = said(the_hub, alice=peer("", "192.168.7.5"))
    assert problem.startswith(f"alice: hub routes 192.168.7.5/32 to peer {owner or 'without a name'} (B)")


def test_an_address_that_somebody_else_gives_up_in_this_run() -> None:
    the_hub = hub(("alice", "A", "192.168.7.5"), ("bob", "B", "192.168.7.6"))
    assert said(the_hub, alice=peer("A", "192.168.7.6"), bob=peer("B", "192.168.7.5")) == []


def test_a_host_that_was_installed_anew() -> None:
    (problem,) = said(hub(("alice", "OLD", "192.168.7.5")), alice=peer("NEW", "192.168.7.5"))
    for word in ("alice: ", "with another key", 'public_key: "OLD", state: absent'):
        assert word in problem


def test_a_host_that_is_between_two_keys_is_itself() -> None:
    assert said(hub(("alice", "OLD", "192.168.7.5"), also="NEW"), alice=peer("NEW", "192.168.7.5")) == []
