# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Steps are taken on a fake node; afterwards the node is as wanted, and nothing is left to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import conf, diff, dump
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.plugins.fake_node import FakeNode
from tests.unit.plugins.module_utils import strategies


def runtime(node: FakeNode) -> diff.Runtime:
    return diff.Runtime(
        device=dump.parse_dump(node._dump()),
        addresses=tuple(node.addresses),
        mtu=node.mtu,
        preshared_keys={key: p.preshared_key for key, p in node.peers.items() if p.preshared_key},
    )


def apply(node: FakeNode, steps: Iterable[diff.Step]) -> None:
    for step in steps:
        assert node.execute(list(step.argv), step.stdin)[0] == 0


def interface_node(interface: conf.Interface) -> FakeNode:
    node = FakeNode(private_key=interface.private_key, addresses=list(interface.addresses))
    node.listen_port = interface.listen_port or node.listen_port
    node.mtu, node.fwmark = interface.mtu or node.mtu, interface.fwmark or 0
    return node


@given(strategies.interfaces, strategies.interfaces)
def test_an_interface_becomes_as_wanted(previous: conf.Interface, wanted: conf.Interface) -> None:
    node = interface_node(previous)
    listen_port, mtu, fwmark = node.listen_port, node.mtu, node.fwmark
    apply(node, diff.interface_steps("wg0", wanted, previous, runtime(node)))
    # Removing an address can take others of its network along; asking again brings them back.
    apply(node, diff.interface_steps("wg0", wanted, wanted, runtime(node)))
    assert diff.interface_steps("wg0", wanted, previous, runtime(node)) == []
    assert node.private_key == wanted.private_key
    assert set(node.addresses) == set(wanted.addresses)
    assert node.listen_port == (wanted.listen_port or listen_port)
    assert node.mtu == (wanted.mtu or mtu)
    assert node.fwmark == (fwmark if wanted.fwmark is None else wanted.fwmark)


@given(strategies.peers(), strategies.peers(), strategies.peers(), st.data())
def test_peers_become_as_wanted_and_others_stay(
    old: dict[str, conf.Peer], new: dict[str, conf.Peer], others: dict[str, conf.Peer], data: st.DataObject
) -> None:
    assume(len({*old, *new, *others}) == len(old) + len(new) + len(others))
    taken = {network for peer in [*old.values(), *new.values()] for network in peer.allowed_ips}
    others = {key: peer for key, peer in others.items() if not taken & set(peer.allowed_ips)}
    changed = list(old)[: data.draw(st.integers(0, len(old)))]
    keys = [*changed, *new]
    wanted: dict[str, conf.Peer | None] = dict.fromkeys(old)
    wanted |= {key: replace(peer, public_key=key) for key, peer in zip(keys, new.values(), strict=False)}

    node = FakeNode(private_key="A" * 43 + "=")
    apply(node, diff.peer_steps("wg0", {**old, **others}, {}, runtime(node)))
    untouched = {key: node.peers[key] for key in others}
    apply(node, diff.peer_steps("wg0", wanted, old, runtime(node)))

    present = {key: peer for key, peer in wanted.items() if peer}
    assert diff.peer_steps("wg0", wanted, present, runtime(node)) == []
    assert set(node.peers) == {*present, *others}
    assert {key: node.peers[key] for key in others} == untouched
    for key, peer in present.items():
        running = node.peers[key]
        assert set(running.allowed_ips) == set(peer.allowed_ips)
        assert running.preshared_key == peer.preshared_key
        assert running.persistent_keepalive_s == (peer.persistent_keepalive_s or 0)
        assert peer.endpoint is None or running.endpoint == peer.endpoint


@given(strategies.peers(), strategies.peers(), st.lists(strategies.interface_addresses, max_size=2))
def test_routes_become_as_wanted_and_others_stay(
    old: dict[str, conf.Peer], new: dict[str, conf.Peer], addresses: list[str]
) -> None:
    interface = conf.Interface(tuple(addresses))
    before, after = diff.routes(interface, old.values()), diff.routes(interface, new.values())
    node = FakeNode(addresses=addresses, routes={"172.16.0.0/12", *before})
    apply(node, diff.route_steps("wg0", None, after, before, _running(node)))
    assert node.routes == {"172.16.0.0/12", *after}
    assert diff.route_steps("wg0", None, after, before, _running(node)) == []


def _running(node: FakeNode) -> list[diff.Route]:
    listed = [*node._routes("-4"), *node._routes("-6")]
    return [diff.Route(route["dst"], route.get("protocol", "boot")) for route in listed]


def test_a_route_is_needed_only_outside_of_the_own_networks() -> None:
    peers = [conf.Peer("a", ("192.168.7.0/24", "192.168.7.6/32", "192.168.0.0/16", "fd00::/64", "0.0.0.0/0"))]
    interface = conf.Interface(("192.168.7.5/24",))
    assert diff.routes(interface, peers) == {"192.168.0.0/16", "fd00::/64"}
    assert diff.routes(conf.Interface(("192.168.7.5/24",), table="off"), peers) == set()
    assert diff.routes(conf.Interface(("192.168.7.5/24",), table="42"), peers) == {
        "192.168.7.0/24",
        "192.168.7.6/32",
        "192.168.0.0/16",
        "fd00::/64",
    }


def test_a_table_of_its_own_is_named_in_the_command() -> None:
    steps = diff.route_steps("wg0", "42", {"10.9.0.0/16"}, set(), [])
    assert [step.argv for step in steps] == [
        ("ip", "-4", "route", "add", "10.9.0.0/16", "dev", "wg0", "table", "42")
    ]


def test_the_route_of_an_address_is_never_removed() -> None:
    assert diff.route_steps("wg0", None, set(), {"10.0.0.0/24"}, [diff.Route("10.0.0.0/24", "kernel")]) == []


def test_a_step_shows_no_secret() -> None:
    secret = "B" * 43 + "="
    steps = diff.peer_steps("wg0", {"a": conf.Peer("a", preshared_key=secret)}, {}, runtime(FakeNode()))
    assert steps[0].stdin == f"{secret}\n"
    assert secret not in repr(steps)
