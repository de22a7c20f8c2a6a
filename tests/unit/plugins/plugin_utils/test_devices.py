# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What may be written of a device, and the file that it imports."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import conf, keys
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _devices
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._devices import Agent, Device, Network
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plugins.module_utils import strategies

KEY, OTHER = (keys.public_key(keys.generate_private_key()) for _ in range(2))
NETWORK = Network(
    hub="hub",
    hub_addresses=("192.168.7.1/24",),
    endpoint="hub.example.net:51820",
    networks=("192.168.7.0/24",),
    agents={"windows": Agent(["start"], ["stop"]), "linux": Agent(["run %i"], ["end %i"])},
    owners={"192.168.7.1": "hub", "192.168.7.5": "alice"},
    hosts=frozenset({"hub", "alice"}),
    keys={OTHER: "printer"},
)
NO_HUB = Network()
PHONE = {"name": "phone", "kind": "phone", "address": "192.168.7.50/24"}
CENTER = {"name": "center", "kind": "hub", "address": "10.7.0.1/24", "endpoint": "c.example.net:51821"}


def problems(*options: Any, network: Network = NETWORK) -> list[str]:
    return _devices.read_devices(list(options), network)[2]


def read(*options: Any, network: Network = NETWORK) -> tuple[list[Device], Network]:
    devices, read_network, wrong = _devices.read_devices(list(options), network)
    assert wrong == []
    return devices, read_network


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([PHONE, {**PHONE, "address": "192.168.7.51/24"}], ("phone", "given twice", "another")),
        ([PHONE, {**PHONE, "name": "Phone", "address": "192.168.7.9/24"}], ("Phone", "'phone'", "twice")),
        ([PHONE, {**PHONE, "name": "tablet"}], ("tablet", "192.168.7.50/24", "phone", "write e.g.")),
        ([{**PHONE, "address": "192.168.7.5/24"}], ("phone", "192.168.7.5/24", "alice", "write e.g.")),
        ([{**PHONE, "address": "192.168.7.1/24"}], ("phone", "that of hub", "write e.g.")),
        ([{**PHONE, "address": ["192.168.7.8/24", "192.168.7.8/24"]}], ("phone", "twice", "write it once")),
        ([{**PHONE, "address": "192.168.8.50/24"}], ("phone", "8.50/24", "outside", "192.168.7.0/24")),
        ([{**PHONE, "address": "192.168.7.50/16"}], ("phone", "another prefix", "192.168.7.50/24")),
        ([{**PHONE, "address": "192.168.7.50"}], ("phone", "no prefix", "192.168.7.50/24")),
        ([{**PHONE, "address": "192.168.7.255/24"}], ("phone", "broadcast", "192.168.7.254/24")),
        ([{"name": "phone", "kind": "phone"}], ("phone", "address is missing", "192.168.7.103/24")),
        ([{**PHONE, "kind": "windows", "address": "192.168.7.9/32"}], ("phone", "prefix", "192.168.7.9/24")),
        ([{**PHONE, "public_key": KEY[:-2] + "="}], ("phone", "public_key", "wg pubkey")),
        ([{**PHONE, "public_key": OTHER}], ("phone", "public_key", "printer", "wg pubkey")),
        (
            [
                {**PHONE, "public_key": KEY},
                {**PHONE, "name": "tab", "address": "192.168.7.51/24", "public_key": KEY},
            ],
            ("tab", KEY, "phone", "wg pubkey"),
        ),
        ([{**PHONE, "kind": "fridge"}], ("phone", "kind 'fridge'", "phone, windows, linux, hub")),
        ([{"name": "phone", "address": "192.168.7.50/24"}], ("phone", "kind is missing", "phone, windows")),
        ([{**PHONE, "state": "gone"}], ("phone", "state 'gone'", "present, absent")),
        ([{**PHONE, "adress": "192.168.7.50/24"}], ("phone", "'adress'", "address")),
        ([{**PHONE, "mtu": 1}], ("phone", "mtu 1", "576 to 65535")),
        ([{**PHONE, "mtu": "big"}], ("phone", "mtu 'big'", "whole number")),
        ([{**PHONE, "listen_port": 65536}], ("phone", "listen_port 65536", "1 to 65535")),
        ([{**PHONE, "persistent_keepalive_s": True}], ("phone", "keepalive_s True", "whole number")),
        ([{**PHONE, "dns": "192.168.7.256"}], ("phone", "dns '192.168.7.256'", "address of a server")),
        ([{**PHONE, "dns": "a b"}], ("phone", "dns 'a b'", "or a domain")),
        ([{**PHONE, "networks": "192.168.7.1/24"}], ("phone", "networks", "host bits", "192.168.7.0/24")),
        ([{**PHONE, "agent": True}], ("phone", "agent", "windows or linux")),
        ([{**PHONE, "agent": "perhaps", "kind": "linux"}], ("phone", "agent 'perhaps'", "true or false")),
        ([{**PHONE, "name": "alice"}], ("alice", "host of the network", "another")),
        ([{**PHONE, "kind": "hub", "endpoint": "h:1"}], ("phone", "hub is the hub", "_hub to ''")),
        (["phone"], ("'phone' is no device", "{name: phone")),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_device_option_value_and_remedy(options: Any, words: Any) -> None:
    found = problems(*options)
    assert len(found) == 1, found
    assert all(word in found[0] for word in words), found


@pytest.mark.parametrize(
    "name",
    ["", None, "../x", "a/b", ".hidden", "-f", "a b", "phone\n", "é", "x" * 16, "NUL", "com1", "aux.x", "a."],
)
def test_a_name_that_is_no_safe_file_name_is_refused(name: Any) -> None:
    (problem,) = problems({**PHONE, "name": name})
    assert "1 to 15 letters" in problem


def test_all_problems_are_said_at_once() -> None:
    assert len(problems({**PHONE, "mtu": 1, "kind": "x"}, {**PHONE, "name": "/"}, 7)) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([PHONE], ("there is no hub", "kind: hub")),
        ([{**CENTER, "endpoint": None}], ("center", "endpoint is missing", "hub.example.net:51820")),
        (
            [CENTER, {**CENTER, "name": "other", "address": "10.7.0.2/24"}],
            ("center, other", "only one can be the hub"),
        ),
        ([CENTER, {**PHONE}], ("phone", "outside", "10.7.0.0/24")),
    ],
)  # fmt: skip
def test_without_a_host_one_device_is_the_hub(options: Any, words: Any) -> None:
    found = problems(*options, network=NO_HUB)
    assert len(found) == 1, found
    assert all(word in found[0] for word in words), found


def test_a_revoked_device_needs_nothing_but_its_name_and_frees_its_address() -> None:
    assert problems({"name": "old", "state": "absent"}) == []
    assert problems({**PHONE, "state": "absent"}, {**PHONE, "name": "new"}) == []


def test_names_to_make_again_have_to_be_listed() -> None:
    devices, _ = read(PHONE, {**PHONE, "name": "pc", "address": "192.168.7.51/24", "public_key": KEY})
    assert _devices.wanted_names(["phone"], "wg_client_config_regenerate", devices) == []
    assert _devices.wanted_names(["pc"], "wg_client_config_reissue", devices) == []
    (unknown,) = _devices.wanted_names(["fone"], "wg_client_config_reissue", devices)
    assert unknown.startswith(
        "wg_client_config_reissue 'fone' is no device that is listed: write one of pc, p"
    )
    (owners,) = _devices.wanted_names(["pc"], "wg_client_config_regenerate", devices)
    assert "its owner makes its key" in owners


def render(device: Device, network: Network = NETWORK, private_key: str | None = None) -> str:
    peers = _devices.peers_of(device, network, {"": OTHER}, [device])
    return _devices.render(device, network, peers, KEY, private_key)


def test_a_phone_sends_the_whole_network_to_the_hub() -> None:
    (phone,), network = read(PHONE)
    private_key = keys.generate_private_key()
    assert render(phone, network, private_key) == (
        f"# phone\n[Interface]\nPrivateKey = {private_key}\nAddress = 192.168.7.50/24\n\n"
        f"[Peer]\n# Name = hub\nPublicKey = {OTHER}\nAllowedIPs = 192.168.7.0/24\n"
        f"Endpoint = hub.example.net:51820\n"
        "PersistentKeepalive = 13\n"
    )


DUAL = replace(
    NETWORK,
    hub_addresses=("192.168.7.1/24", "fd77::1/64"),
    networks=("192.168.7.0/24", "fd77::/64", "10.1.0.0/24"),
)


@pytest.mark.parametrize(
    ("address", "networks", "sent"),
    [
        ("192.168.7.51/24", None, ["192.168.7.0/24", "10.1.0.0/24"]),
        ("fd77::51/64", None, ["fd77::/64"]),
        (["192.168.7.51/24", "fd77::51/64"], None, ["192.168.7.0/24", "fd77::/64", "10.1.0.0/24"]),
        ("192.168.7.51/24", ["0.0.0.0/0", "::/0"], ["0.0.0.0/0", "::/0"]),
    ],
)
def test_a_device_sends_what_is_of_its_own_families_unless_it_has_networks_of_its_own(
    address: Any, networks: Any, sent: list[str]
) -> None:
    (device,), network = read({**PHONE, "address": address, "networks": networks}, network=DUAL)
    (peer,) = conf.parse(render(device, network)).peers().values()
    assert list(peer.allowed_ips) == sent


def test_a_device_that_would_send_nothing_is_refused() -> None:
    six = {**PHONE, "address": "fd77::51/64"}
    (problem,) = problems(six, network=replace(DUAL, networks=("0.0.0.0/0",)))
    assert problem.startswith(
        "device phone: address fd77::51/64: none of wg_client_config_networks 0.0.0.0/0"
    )
    assert "write networks: [...] for it" in problem
    assert problems({**six, "networks": "::/0"}, network=replace(DUAL, networks=("0.0.0.0/0",))) == []


def test_windows_starts_and_stops_the_agent_and_others_only_if_asked() -> None:
    (pc, pi, quiet), network = read(
        {**PHONE, "name": "pc", "kind": "windows"},
        {**PHONE, "name": "pi", "kind": "linux", "agent": True, "address": "192.168.7.51/24"},
        {**PHONE, "name": "quiet", "kind": "windows", "agent": False, "address": "192.168.7.52/24"},
    )
    assert "PostUp = start\nPostDown = stop\n" in render(pc, network)
    assert "PostUp = run %i\nPostDown = end %i\n" in render(pi, network)
    assert "Post" not in render(quiet, network)


def test_without_the_private_key_a_comment_says_whose_it_is() -> None:
    (phone,), network = read({**PHONE, "public_key": KEY})
    text = render(phone, network)
    assert f"# PrivateKey = (the owner writes it here; its public key is {KEY})" in text
    assert conf.parse(text).interface().private_key is None


def test_a_hub_knows_all_others_and_listens_where_they_send_to() -> None:
    devices, network = read(
        CENTER,
        {**PHONE, "address": ["10.7.0.5/24"]},
        {"name": "old", "state": "absent"},
        network=NO_HUB,
    )
    peers = _devices.peers_of(devices[0], network, {"phone": KEY, "": OTHER, "center": OTHER}, devices)
    parsed = conf.parse(_devices.render(devices[0], network, peers, OTHER, None))
    assert {key: (peer.name, peer.allowed_ips) for key, peer in parsed.peers().items()} == {
        KEY: ("phone", ("10.7.0.5/32",))
    }
    assert parsed.interface().listen_port == 51821
    # The kernel sends redirects if either of the two is on.
    settings = ("ip_forward=1", "conf.all.send_redirects=0", "conf.%i.send_redirects=0")
    assert parsed.interface().post_up == tuple(
        f"sysctl -q -w net.ipv4.{setting} || true" for setting in settings
    )
    (peer,) = _devices.peers_of(devices[1], network, {"": OTHER}, devices)
    assert (peer.endpoint, list(peer.allowed_ips)) == ("c.example.net:51821", ["10.7.0.0/24"])


@st.composite
def devices(draw: st.DrawFn) -> Device:
    addresses = draw(st.lists(strategies.interface_addresses, min_size=1, max_size=3, unique=True))
    kind = draw(st.sampled_from(["phone", "windows", "linux"]))
    return Device(
        name=draw(st.from_regex(r"[a-z][a-z0-9]{0,14}", fullmatch=True)),
        kind=kind,
        addresses=tuple(addresses),
        networks=draw(st.none() | st.lists(strategies.networks, unique=True, max_size=3).map(tuple)),
        dns=draw(st.lists(st.ip_addresses().map(str), max_size=2).map(tuple)),
        mtu=draw(st.none() | st.integers(576, 65535)),
        listen_port=draw(st.none() | strategies.ports),
        persistent_keepalive_s=draw(st.none() | st.integers(0, 65535)),
        agent=kind != "phone" and draw(st.booleans()),
    )


@given(devices(), st.none() | strategies.keys)
def test_what_is_written_is_read_back_as_it_was_meant(device: Device, private_key: str | None) -> None:
    text = render(device, NETWORK, private_key)
    for parsed in (conf.parse(text), conf.parse(_devices.compact(text))):
        interface = parsed.interface()
        assert interface.private_key == private_key
        assert interface.addresses == tuple(str(ipaddress.ip_interface(text)) for text in device.addresses)
        assert (interface.mtu, interface.listen_port) == (device.mtu, device.listen_port)
        (peer,) = parsed.peers().values()
        four = any("." in text for text in device.addresses)
        common = NETWORK.networks if four else ()
        assert peer.allowed_ips == tuple(common if device.networks is None else device.networks)
        assert (peer.public_key, peer.endpoint) == (OTHER, NETWORK.endpoint)
        keepalive_s = 13 if device.persistent_keepalive_s is None else device.persistent_keepalive_s
        assert (peer.persistent_keepalive_s or 0) == keepalive_s
    assert private_key is None or private_key not in conf.parse(text).masked()
