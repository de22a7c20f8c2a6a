# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What is wrong with an inventory is said with the host's name and what to write instead."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._inventory import (
    VARIABLES,
    Host,
    problems_of_host,
    problems_of_network,
    problems_of_variables,
    problems_of_way_to_hub,
)

ROLES = Path(__file__).resolve().parents[3] / "roles"
KEY = "zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM="
OTHER_KEY = "0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8="


def hub_with(**variables: Any) -> Host:
    given = {"wg_interface_address": "192.168.7.1/24", "wg_hub_endpoint": "hub.example.net:51820"}
    return Host("hub", "hub", {**given, **variables}, frozenset({"hub"}))


def peer_with(name: str, address: Any, **variables: Any) -> Host:
    its_hub = {
        "wg_peer_hub": "hub",
        "wg_peer_hub_networks": ["192.168.7.0/24"],
        "wg_peer_hub_endpoint": "hub.example.net:51820",
    }
    given = {**its_hub, "wg_interface_address": address, **variables}
    return Host(name, "peer", given, frozenset({"peer"}))


def alice_with(**variables: Any) -> Host:
    return peer_with("alice", **{"address": "192.168.7.5/24", **variables})


HUB = hub_with()
ALICE = alice_with()
BOB = peer_with("bob", ["192.168.7.6/24"])


def said(*hosts: Host) -> list[str]:
    """All of them are asked in one run."""
    names = [host.name for host in hosts]
    of_each = [text for host in hosts for text in problems_of_host(host, names, names)]
    hubs = [host.name for host in hosts if "hub" in host.groups]
    return of_each + list(problems_of_network(hosts, hubs))


def said_alone(host: Host, *inventory: str) -> list[str]:
    """Nobody else is asked, as with --limit."""
    return list(problems_of_host(host, inventory, [host.name]))


def assert_said(problems: Sequence[str], host: str, *words: str) -> None:
    assert len(problems) == 1
    assert problems[0].startswith(f"{host}: ")
    for word in words:
        assert word in problems[0]


def test_nothing_is_said_about_a_network_that_can_work() -> None:
    assert said(HUB, ALICE, BOB) == []


def test_nothing_is_said_about_two_address_families() -> None:
    hub = hub_with(
        wg_interface_address=["192.168.7.1/24", "fd00:7::1/64"], wg_hub_endpoint="[2001:db8::1]:51820"
    )
    assert said(hub, alice_with(address=["192.168.7.5/24", "fd00:7::5/64"]), BOB) == []


def test_a_missing_hub() -> None:
    alice, bob = alice_with(wg_peer_hub=""), peer_with("bob", "192.168.7.6/24", wg_peer_hub="")
    assert_said(said(alice, bob), "alice, bob", "no hub", "[wireguard_hub]", "wg_hub_endpoint=")


def test_a_missing_hub_of_a_peer_that_is_in_no_group() -> None:
    alone = replace(alice_with(wg_peer_hub=""), groups=frozenset())
    assert_said(said_alone(alone, "alice"), "alice", "no hub", "[wireguard_hub]", "wg_hub_endpoint=")


def test_a_hub_that_is_not_in_the_inventory() -> None:
    assert_said(
        said_alone(alice_with(wg_peer_hub="hbu"), "alice", "hub"),
        "alice",
        "wg_peer_hub 'hbu'",
        "[wireguard_hub]",
    )


def test_a_hub_that_is_not_asked_and_lacks_what_the_peer_needs() -> None:
    no_endpoint = alice_with(wg_peer_hub_endpoint="")
    assert_said(
        said_alone(no_endpoint, "alice", "hub"), "alice", "hub has no public", "wg_hub_endpoint=hub:51820"
    )
    no_address = alice_with(wg_peer_hub_networks=[])
    assert_said(
        said_alone(no_address, "alice", "hub"), "alice", "hub has no address", "wg_interface_address="
    )


def test_what_a_peer_sends_to_the_hub_is_of_a_family_that_it_has() -> None:
    foreign = alice_with(wg_peer_hub_networks=["192.168.7.0/24", "fd00:8::/64"])
    assert_said(
        said(HUB, foreign, BOB), "alice", "wg_peer_hub_networks fd00:8::/64", "no IPv6 address", "remove that"
    )
    assert said(HUB, alice_with(wg_peer_hub_networks=["0.0.0.0/0", "::/0"]), BOB) == []


def way_to_hub(*networks: str) -> list[str]:
    hub = hub_with(wg_interface_address=["192.168.7.1/24", "fd77::1/64"])
    return list(problems_of_way_to_hub(alice_with(wg_peer_hub_networks=[*networks]), hub))


@pytest.mark.parametrize("networks", [["10.0.0.0/8"], ["192.168.7.1/32"], ["192.168.7.0/25"], []])
def test_what_a_peer_sends_to_the_hub_has_the_network_of_the_vpn_in_it(networks: list[str]) -> None:
    assert_said(
        way_to_hub(*networks),
        "alice",
        f"wg_peer_hub_networks {networks[0] if networks else '[]'} leaves out 192.168.7.0/24, in which hub",
        "remove the variable",
    )


@pytest.mark.parametrize(
    "networks",
    [
        ["192.168.7.0/24"],
        ["192.168.0.0/16", "10.0.0.0/8"],
        ["0.0.0.0/0", "::/0"],
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["192.168.7.0/25", "192.168.7.128/25"],
    ],
)
def test_the_network_of_the_vpn_may_be_part_of_what_is_sent_to_the_hub(networks: list[str]) -> None:
    assert way_to_hub(*networks) == []


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("wg_interface_mesh_secert", "write wg_interface_mesh_secret"),
        ("wg_peer_hub_endpiont", "write wg_peer_hub_endpoint"),
        ("wg_client_config_device", "write wg_client_config_devices"),
        ("wg_hub_colour_of_the_box", "remove it"),
    ],
)
def test_a_variable_that_is_none_of_the_roles(variable: str, remedy: str) -> None:
    given = ["ansible_host", "wg_peer_port", "wg_interface__node", "wg_quick_path", "wireguard_hub", variable]
    assert_said([*problems_of_variables("alice", given)], "alice", f"{variable} is no variable of", remedy)


def test_all_variables_that_the_roles_document_are_theirs() -> None:
    documented = {
        variable
        for specs in ROLES.glob("*/meta/argument_specs.yml")
        for entry_point in yaml.safe_load(specs.read_text())["argument_specs"].values()
        for variable in entry_point["options"]
    }
    assert documented
    assert list(problems_of_variables("alice", documented)) == []


def test_a_port_that_a_hub_would_not_use() -> None:
    problems = said(hub_with(wg_interface_listen_port=51821), ALICE)
    assert_said(
        problems, "hub", "wg_interface_listen_port 51821", "port is 51820", "wg_hub_listen_port=51821"
    )
    assert said(hub_with(wg_interface_listen_port="51820"), ALICE) == []
    assert said(hub_with(wg_interface_listen_port=51821, wg_hub_listen_port=51821), ALICE) == []


def test_two_hubs() -> None:
    other = replace(hub_with(wg_interface_address="192.168.7.2/24"), name="other")
    assert_said(said(HUB, other, ALICE), "hub, other", "only one host can be the hub", "[wireguard_peers]")


def test_a_host_in_both_groups() -> None:
    both = replace(HUB, groups=frozenset({"hub", "peer"}))
    assert_said(said(both, ALICE), "hub", "wireguard_hub and in wireguard_peers")


@pytest.mark.parametrize("missing", [None, "", []])
def test_a_missing_address(missing: object) -> None:
    assert_said(said(HUB, alice_with(address=missing)), "alice", "wg_interface_address is missing", "/24")


def test_an_address_without_prefix() -> None:
    alice = alice_with(address="192.168.7.5")
    assert_said(said(HUB, alice), "alice", "has no prefix", "192.168.7.5/24")


def test_an_address_that_is_none() -> None:
    assert_said(said(HUB, alice_with(address="192.168.7.256/24")), "alice", "192.168.7.256/24")


def test_an_address_outside_of_the_network() -> None:
    alice = alice_with(address="192.168.8.5/24")
    assert_said(said(HUB, alice), "alice", "192.168.8.5/24", "outside", "192.168.7.0/24")


@pytest.mark.parametrize("prefix", [16, 25, 32])
def test_an_address_with_another_prefix_than_the_hub_has(prefix: int) -> None:
    alice = alice_with(address=f"192.168.7.9/{prefix}")
    assert_said(said(HUB, alice), "alice", f"192.168.7.9/{prefix}", "another prefix", "write 192.168.7.9/24")


@pytest.mark.parametrize(
    ("address", "what", "remedy"),
    [
        ("192.168.7.0/24", "the network itself", "192.168.7.1/24"),
        ("192.168.7.255/24", "the broadcast address", "192.168.7.254/24"),
    ],
)
def test_an_address_that_is_no_hosts(address: str, what: str, remedy: str) -> None:
    assert_said(
        said(HUB, alice_with(address=address)), "alice", "wg_interface_address", address, what, remedy
    )


def test_an_own_address_twice() -> None:
    alice = alice_with(address=["192.168.7.5/24", "192.168.7.5/24"])
    assert_said(said(HUB, alice), "alice", "wg_interface_address", "192.168.7.5 is given twice")


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("wg_interface_name", "wireguard-uplink0", "1 to 15 letters"),
        ("wg_interface_name", "wg/0", "1 to 15 letters"),
        ("wg_interface_listen_port", 65536, "from 1 to 65535"),
        ("wg_interface_listen_port", "51820/udp", "a whole number"),
        ("wg_interface_listen_port", True, "a whole number"),
        ("wg_interface_mtu", 500, "from 576 to 65535"),
        ("wg_interface_mtu", "70000", "from 576 to 65535"),
        ("wg_interface_fwmark", -1, "from 0 to 4294967295"),
        ("wg_interface_table", "", "write auto, off, a number"),
        ("wg_interface_table", "foo bar", "write auto, off, a number"),
        ("wg_interface_table", ["off"], "write a text"),
        ("wg_interface_table", False, "'off' in quotation marks"),
        ("wg_interface_post_up", ["echo a", "echo # b"], "without #"),
        ("wg_interface_post_up", ["echo a", None], "write a text"),
        ("wg_interface_post_up", {"echo": "a"}, "write a text"),
        ("wg_interface_tcp_ports", [22, 0], "from 1 to 65535"),
        ("wg_interface_udp_ports", [53, 70000], "from 1 to 65535"),
        ("wg_interface_firewall", "iptables", "nftables, none"),
        ("wg_interface_install", "perhaps", "true or false"),
        ("wg_interface_relay", "perhaps", "true or false"),
        ("wg_interface_peers_exclusive", "perhaps", "true or false"),
        ("wg_peer_port", 0, "from 1 to 65535"),
        ("wg_peer_refresh", "rebnd", "rebind, restart, off"),
        ("wg_peer_refresh", True, "rebind, restart, off"),
        ("wg_peer_interval_s", 0.1, "from 0.5 to 3600"),
        ("wg_peer_interval_s", "often", "from 0.5 to 3600"),
        ("wg_peer_interval_s", True, "from 0.5 to 3600"),
        ("wg_peer_hub", ["hub"], "write a text"),
        ("wg_peer_hub", {}, "write a text"),
        ("wg_peer_hub", "alice", "is this peer itself"),
        ("wg_peer_persistent_keepalive_s", 65536, "from 0 to 65535"),
        ("wg_peer_hub_networks", ["192.168.7.1/24"], "host bits"),
        ("wg_peer_hub_endpoint", "hub.example.net", "host:port"),
        ("wg_peer_hub_endpoint", "300.1.2.3:51820", "host:port"),
        ("wg_peer_hub_endpoint", "hub..example.net:51820", "host:port"),
        ("wg_peer_hub_endpoint", "hub.example.net:٥١٨٢٠", "host:port"),
        ("wg_peer_hub_url", "192.168.7.1:8080", "such as http://192.168.7.1:8080"),
        ("wg_peer_hub_url", "https://192.168.7.1:8080", "such as http://192.168.7.1:8080"),
        ("wg_peer_hub_url", "http://hub.example.net:8080", "such as http://192.168.7.1:8080"),
        ("wg_peer_hub_url", "http://192.168.7.1:0", "such as http://192.168.7.1:8080"),
        ("wg_peer_hub_url", "http://fd77::1:8080", "such as http://192.168.7.1:8080"),
    ],
)
def test_a_value_that_a_module_or_the_agent_would_refuse(variable: str, value: Any, remedy: str) -> None:
    shown = str(value[-1] if isinstance(value, list) else value)
    assert_said(said(HUB, alice_with(**{variable: value})), "alice", variable, shown, remedy)


@pytest.mark.parametrize(
    "variable",
    sorted(set(VARIABLES) - {"wg_interface_address", "wg_hub_endpoint", "wg_client_config_devices"}),
)
def test_a_variable_with_nothing_behind_the_colon(variable: str) -> None:
    hosts = hub_with(**{variable: None}), alice_with(**{variable: None})
    name = "hub" if variable.startswith("wg_hub_") else "alice"
    assert f"{name}: {variable} is empty: write a value, or remove the line" in said(*hosts)


@pytest.mark.parametrize(
    "value", [{"public_key": KEY}, f"[{{public_key: {KEY}, preshared_key: {OTHER_KEY}}}]"]
)
def test_peers_that_are_no_list_are_refused_and_not_shown(value: Any) -> None:
    problems = said(hub_with(wg_interface_peers=value), ALICE)
    assert "write a list" in problems[0]
    assert not any(
        key in problem for key in (KEY, OTHER_KEY) for problem in problems if isinstance(value, str)
    )


@pytest.mark.parametrize("address", ["224.0.0.5/24", "127.0.0.5/8", "::1/128", "ff02::5/64"])
def test_an_address_that_no_interface_can_have(address: str) -> None:
    (problem, *_) = said(HUB, alice_with(address=address))
    assert_said([problem], "alice", address, "cannot be an interface's", "private network")


def test_an_mtu_that_ipv6_does_not_take() -> None:
    hub = hub_with(wg_interface_address=["192.168.7.1/24", "fd77::1/64"])
    dual = alice_with(address=["192.168.7.5/24", "fd77::5/64"], wg_interface_mtu=1279)
    assert_said(said(hub, dual), "alice", "wg_interface_mtu 1279", "IPv6", "1280 or more")
    assert said(HUB, alice_with(wg_interface_mtu=1279)) == []


@pytest.mark.parametrize("network", ["203.0.113.0/24", "128.0.0.0/1"])
def test_what_would_take_the_tunnel_itself_into_the_tunnel(network: str) -> None:
    networks = {"wg_peer_hub_networks": ["192.168.7.0/24", network]}
    alice = alice_with(wg_peer_hub_endpoint="203.0.113.5:51820", **networks)
    assert_said(said(HUB, alice), "alice", network, "203.0.113.5", "into the tunnel", "wg_interface_subnets")
    for further in (
        {"wg_interface_table": "off"},
        {"wg_peer_hub_networks": ["0.0.0.0/0"]},
        {"wg_peer_hub_endpoint": "203.0.113.5.example.net:51820"},
    ):
        assert said(HUB, alice_with(**{**alice.variables, **further})) == []


@pytest.mark.parametrize("network", ["192.168.7.0/24", "192.168.7.0/28"])
def test_a_peer_by_hand_that_would_take_what_is_the_hubs(network: str) -> None:
    listed = {"wg_interface_peers": [{"name": "box", "public_key": KEY, "allowed_ips": [network]}]}
    assert_said(said(HUB, alice_with(**listed)), "alice", network, "box", "goes to the hub", "beside the hub")
    wider = {"wg_interface_peers": [{"name": "box", "public_key": KEY, "allowed_ips": ["0.0.0.0/0"]}]}
    assert said(HUB, alice_with(**wider)) == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("wg_interface_listen_port", "51820"),
        ("wg_interface_mtu", 1420),
        ("wg_interface_table", "off"),
        ("wg_interface_table", 42),
        ("wg_interface_table", "vpn"),
        ("wg_interface_post_up", "wg show wg0"),
        ("wg_interface_firewall", "none"),
        ("wg_interface_install", "false"),
        ("wg_interface_peers_exclusive", "false"),
        ("wg_peer_refresh", "off"),
        ("wg_peer_refresh", False),
        ("wg_peer_interval_s", "3"),
        ("wg_peer_persistent_keepalive_s", 0),
        ("wg_hub_port", 0),
        ("wg_peer_hub_url", "http://192.168.7.1:8080/"),
        ("wg_peer_hub_url", "http://[fd77::1]:8080"),
    ],
    ids=str,
)
def test_a_value_that_they_take_or_that_is_not_for_this_role(variable: str, value: Any) -> None:
    assert said(HUB, alice_with(**{variable: value})) == []


@pytest.mark.parametrize("variable", ["wg_hub_listen_port", "wg_hub_port"])
def test_a_port_of_the_hub(variable: str) -> None:
    assert_said(said(hub_with(**{variable: 70000}), ALICE), "hub", f"{variable} 70000", "from 1 to 65535")


def test_a_port_that_wireguard_has_already() -> None:
    words = ("is the UDP port of WireGuard", "write another one")
    assert_said(said(alice_with(wg_interface_listen_port=8080, wg_peer_port="8080"), HUB), "alice", *words)
    endpoint = {"wg_hub_endpoint": "hub.example.net:8080", "wg_hub_port": 8080}
    assert_said(said(hub_with(**endpoint), ALICE), "hub", "wg_hub_port 8080", "(wg_hub_endpoint)", *words)
    assert said(hub_with(**endpoint, wg_hub_listen_port=51820), ALICE) == []
    listen = {**endpoint, "wg_hub_endpoint": "hub.example.net:443", "wg_hub_listen_port": "8080"}
    assert_said(said(hub_with(**listen), ALICE), "hub", "wg_hub_port 8080", "(wg_hub_listen_port)", *words)


def test_a_name_that_the_file_of_the_hub_cannot_have() -> None:
    office = peer_with("office #1", "192.168.7.9/24")
    assert_said(said(HUB, office), "office #1", "the name of the host 'office #1'", "without #")


def test_a_name_by_which_nobody_could_be_removed() -> None:
    desks = peer_with("desk,left", "192.168.7.9/24")
    words = ("the name of the host 'desk,left'", "without a comma", "wg_hub_remove_peers")
    assert_said(said(HUB, desks), "desk,left", *words)


def test_an_address_of_a_family_that_the_hub_does_not_have() -> None:
    assert_said(said(HUB, alice_with(address="fd00:7::5/64")), "alice", "outside", "192.168.7.0/24")


def test_an_address_twice() -> None:
    bob = peer_with("bob", "192.168.7.5/24")
    assert_said(said(HUB, ALICE, bob), "bob", "192.168.7.5", "alice", "write another one")


@pytest.mark.parametrize("key", [KEY[:-2] + "=", "hunter2", KEY[:-1], "", None])
def test_a_key_that_is_not_32_bytes_of_base64(key: str | None) -> None:
    hub = hub_with(
        wg_interface_peers=[{"name": "phone", "public_key": key, "allowed_ips": ["192.168.7.9/32"]}]
    )
    assert_said(said(hub, ALICE), "hub", "wg_interface_peers", "public_key", "wg pubkey")


def test_a_bad_preshared_key_is_not_repeated() -> None:
    peer = {"public_key": KEY, "preshared_key": "hunter2", "allowed_ips": ["192.168.7.9/32"]}
    problems = said(hub_with(wg_interface_peers=[peer]))
    assert_said(problems, "hub", "preshared_key", "wg genpsk")
    assert "hunter2" not in problems[0]


SECRETS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]


@pytest.mark.parametrize("secret", ["hunter2", [SECRETS[0], "hunter2"], [SECRETS[0], SECRETS[0]]])
def test_a_bad_mesh_secret_is_not_repeated(secret: Any) -> None:
    problems = said(*(with_(wg_interface_mesh_secret=secret) for with_ in (hub_with, alice_with)))
    assert_said([line for line in problems if line.startswith("hub")], "hub", "mesh secret", "wg genpsk")
    assert not any("hunter2" in line or SECRETS[0] in line for line in problems)


@pytest.mark.parametrize("secret", [[], SECRETS[1], [SECRETS[1], SECRETS[0]]])
def test_another_mesh_secret_than_that_of_the_hub(secret: Any) -> None:
    hub = hub_with(wg_interface_mesh_secret=[SECRETS[0], SECRETS[1]])
    problems = said(hub, alice_with(wg_interface_mesh_secret=secret))
    assert_said(problems, "alice", "wg_interface_mesh_secret", "that of hub", "group_vars/all")
    assert not any(one in problems[0] for one in SECRETS)


@pytest.mark.parametrize("secret", [SECRETS[0], [SECRETS[0], SECRETS[2]]])
def test_nothing_is_said_of_secrets_of_which_the_newest_is_the_hubs(secret: Any) -> None:
    hub = hub_with(wg_interface_mesh_secret=[SECRETS[0], SECRETS[1]])
    assert said(hub, alice_with(wg_interface_mesh_secret=secret)) == []


def test_a_peer_by_hand_with_the_address_of_a_host() -> None:
    hub = hub_with(
        wg_interface_peers=[{"name": "phone", "public_key": KEY, "allowed_ips": ["192.168.7.5/32"]}]
    )
    assert_said(said(hub, ALICE), "hub", "192.168.7.5/32", "phone", "alice")


@pytest.mark.parametrize("text", ["192.168.7.5", "192.168.7.5/32"])
@pytest.mark.parametrize("as_list", [True, False])
def test_a_peer_by_hand_with_the_address_of_a_host_in_any_notation(text: str, as_list: bool) -> None:
    phone = {"name": "phone", "public_key": KEY, "allowed_ips": [text] if as_list else text}
    problems = said(hub_with(wg_interface_peers=[phone]), ALICE)
    assert_said(problems, "hub", "192.168.7.5/32", "phone", "the address of alice")


def test_two_peers_by_hand_with_one_address() -> None:
    phone = {"name": "phone", "public_key": KEY, "allowed_ips": ["192.168.7.9"]}
    tablet = {"name": "tablet", "public_key": OTHER_KEY, "allowed_ips": ["192.168.7.9/32"]}
    problems = said(hub_with(wg_interface_peers=[phone, tablet]), ALICE)
    assert_said(problems, "hub", "wg_interface_peers", "192.168.7.9/32", "phone", "tablet", "another")


def test_a_peer_by_hand_twice() -> None:
    phone = {"name": "phone", "public_key": KEY, "allowed_ips": ["192.168.7.9/32"]}
    problems = said(hub_with(wg_interface_peers=[phone, {**phone, "allowed_ips": []}]), ALICE)
    assert_said(problems, "hub", "wg_interface_peers", "phone", KEY, "listed twice")


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        ({"public_key": KEY}, ("allowed_ips", KEY, "is missing")),
        ({"allowed_ips": []}, ("no public_key", "wg pubkey")),
        ({"public_key": KEY, "allowed_ips": ["192.168.7.9/24"]}, ("192.168.7.9/24", "host bits")),
        ({"public_key": KEY, "allowed_ips": [], "endpoint": "phone"}, ("endpoint", "phone", "host:port")),
        ({"public_key": KEY, "allowed_ips": [], "persistent_keepalive_s": -1}, ("-1", "from 0 to 65535")),
        ({"public_key": KEY, "allowed_ips": [], "state": "gone"}, ("state", "gone", "present, absent")),
        ({"public_key": KEY, "allowed_ips": [], "adress": "x"}, ("adress", "Supported")),
        ("phone", ("a text is no peer", "allowed_ips")),
        ({"public_key": KEY, "allowed_ips": [], "name": ["a"]}, ("name ['a']", "write a text")),
    ],
    ids=str,
)
def test_a_peer_by_hand_that_the_module_would_refuse(peer: Any, words: tuple[str, ...]) -> None:
    assert_said(said(hub_with(wg_interface_peers=[peer]), ALICE), "hub", "wg_interface_peers", *words)


def test_a_peer_by_hand_that_is_removed_has_no_address() -> None:
    gone = {"public_key": KEY, "allowed_ips": ["192.168.7.5/32"], "state": "absent"}
    assert said(hub_with(wg_interface_peers=[gone]), ALICE) == []


def test_a_hub_without_endpoint() -> None:
    assert_said(
        said(hub_with(wg_hub_endpoint=None), ALICE), "hub", "no public endpoint", "wg_hub_endpoint=hub:51820"
    )


@pytest.mark.parametrize(
    "endpoint", ["hub.example.net", "hub.example.net:", ":51820", "hub.example.net:99999"]
)
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    assert_said(said(hub_with(wg_hub_endpoint=endpoint), ALICE), "hub", "wg_hub_endpoint", "host:port")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:51820", "192.168.7.1:51820", "0.0.0.0:51820", "[::1]:51820"])
def test_an_endpoint_that_no_peer_can_reach(endpoint: str) -> None:
    assert_said(said(hub_with(wg_hub_endpoint=endpoint), ALICE), "hub", endpoint, "public address")


def test_exclusive_peers_in_a_mesh() -> None:
    assert_said(
        said(HUB, alice_with(wg_interface_peers_exclusive=True)), "alice", "wg_interface_peers_exclusive"
    )


def test_a_hub_without_address_is_not_said_of_every_peer_as_well() -> None:
    assert_said(said(hub_with(wg_interface_address=None), ALICE), "hub", "wg_interface_address is missing")


@pytest.mark.parametrize("role", ["wg_hub", "wg_interface", "wg_peer"])
def test_every_variable_of_a_role_is_checked(role: str) -> None:
    path = ROLES / role / "meta/argument_specs.yml"
    options = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    assert options.keys() <= VARIABLES.keys()


def test_all_problems_are_said_at_once() -> None:
    assert len(said(hub_with(wg_hub_endpoint=None), alice_with(address="192.168.7.5"))) == 2


# --- subnets behind peers ---


@pytest.mark.parametrize(
    ("subnet", "words"),
    [
        ("10.1.0.0/33", ["wg_interface_subnets", "10.1.0.0/33"]),
        ("10.1.0.1/24", ["wg_interface_subnets", "10.1.0.0/24"]),
        ("10.1.0.1/32", ["10.1.0.1/32 is a single address", "10.1.0.0/31"]),
        ("0.0.0.0/0", ["is everything", "wg_peer_hub_networks"]),
        ("192.168.7.128/25", ["overlaps the VPN's network 192.168.7.0/24"]),
        ("192.168.0.0/16", ["overlaps the VPN's network 192.168.7.0/24"]),
        ("fd08::/64", ["alice has no such address in the VPN", "an IPv6 address as well"]),
    ],
)
def test_what_cannot_be_a_subnet_behind_a_peer(subnet: str, words: list[str]) -> None:
    assert_said(said_alone(alice_with(wg_interface_subnets=[subnet]), "hub"), "alice", *words)


def test_two_peers_with_overlapping_subnets_are_both_named() -> None:
    alice = alice_with(wg_interface_subnets=["10.1.0.0/16"])
    bob = peer_with("bob", "192.168.7.6/24", wg_interface_subnets=["10.1.2.0/24"])
    problems = said(HUB, alice, bob)
    assert_said(
        problems, "bob", "wg_interface_subnets 10.1.2.0/24", "wg_interface_subnets of alice, 10.1.0.0/16"
    )


def test_a_subnet_in_a_network_of_the_vpn_that_only_the_hub_has() -> None:
    hub = hub_with(wg_interface_address=["192.168.7.1/24", "10.1.0.1/16"])
    problems = said(hub, alice_with(wg_interface_subnets=["10.1.2.0/24"]))
    assert_said(problems, "alice", "10.1.2.0/24", "the VPN's network 10.1.0.0/16")


def test_a_subnet_that_a_listed_peer_of_the_hub_has() -> None:
    listed = [{"name": "printer", "public_key": KEY, "allowed_ips": ["10.1.2.0/24"]}]
    problems = said(hub_with(wg_interface_peers=listed), alice_with(wg_interface_subnets=["10.1.0.0/16"]))
    assert_said(problems, "alice", "10.1.0.0/16", "wg_interface_peers of hub gives to", "printer")


def test_nothing_is_said_about_subnets_side_by_side() -> None:
    alice = alice_with(wg_interface_subnets=["10.1.0.0/24", "10.1.1.0/24"])
    bob = peer_with("bob", "192.168.7.6/24", wg_interface_subnets="10.1.2.0/24")
    assert said(hub_with(wg_interface_subnets=["10.2.0.0/16"]), alice, bob) == []


PHONE = {"name": "phone", "public_key": KEY, "allowed_ips": ["192.168.7.9/32"]}


def test_a_listed_peer_with_the_name_of_a_host() -> None:
    hub = hub_with(wg_interface_peers=[{**PHONE, "name": "alice"}])
    assert_said(
        said(hub, ALICE), "hub", "wg_interface_peers", "'alice'", "a host of the inventory", "another name"
    )


def test_two_listed_peers_with_one_name() -> None:
    other = {**PHONE, "public_key": OTHER_KEY, "allowed_ips": ["192.168.7.10/32"]}
    hub = hub_with(wg_interface_peers=[PHONE, other])
    assert_said(said(hub, ALICE), "hub", "'phone'", "another peer in wg_interface_peers", "another name")


def test_a_device_with_the_name_of_a_host() -> None:
    device = {"name": "alice", "kind": "phone", "address": "192.168.7.9/24"}
    assert_said(
        said(hub_with(wg_client_config_devices=[device]), ALICE), "hub", "wg_client_config_devices", "'alice'"
    )
    assert said(hub_with(wg_client_config_devices=[{**device, "state": "absent"}]), ALICE) == []
