# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""A configuration as data and back; keys in all their forms."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.rendezvous.wireguard.plugins.filter.conf_parse import conf_parse
from ansible_collections.rendezvous.wireguard.plugins.filter.conf_render import conf_render
from ansible_collections.rendezvous.wireguard.plugins.filter.wireguard_key import wireguard_key
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from ansible_collections.rendezvous.wireguard.plugins.test.wireguard_key import wireguard_key as is_key

PRIVATE, PRESHARED, IN_A_HOOK = (keys.generate_private_key() for _ in range(3))
HUB = "zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM="
ALICE = "0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8="
TEXT = f"""\
[Interface]
Address = 192.168.7.5/24, fd00:7::5/64
PrivateKey = {PRIVATE}
ListenPort = 51820
PostUp = wg set %i peer {ALICE} preshared-key /dev/stdin <<<{IN_A_HOOK}
DNS = 192.168.7.1
DNS = 9.9.9.9

[Peer]
# Name = hub
PublicKey = {HUB}
PresharedKey = {PRESHARED}
AllowedIPs = 192.168.7.0/24
Endpoint = hub.example.net:51820
PersistentKeepalive = 13
"""
DATA: dict[str, Any] = {
    "interface": {
        "address": ["192.168.7.5/24", "fd00:7::5/64"],
        "public_key": keys.public_key(PRIVATE),
        "listen_port": 51820,
        "post_up": ["wg set %i peer <key> preshared-key /dev/stdin <<<<key>"],
        "other": {"DNS": ["192.168.7.1", "9.9.9.9"]},
    },
    "peers": [
        {
            "name": "hub",
            "public_key": HUB,
            "allowed_ips": ["192.168.7.0/24"],
            "endpoint": "hub.example.net:51820",
            "persistent_keepalive_s": 13,
        }
    ],
}


def test_a_configuration_is_data_without_secrets() -> None:
    assert conf_parse(TEXT) == DATA
    assert not any(secret in str(conf_parse(TEXT)) for secret in (PRIVATE, PRESHARED, IN_A_HOOK))


def test_with_secrets_it_is_all_there_and_comes_back_the_same() -> None:
    data = conf_parse(TEXT, secrets=True)
    assert data["interface"]["private_key"] == PRIVATE
    assert data["peers"][0]["preshared_key"] == PRESHARED
    assert conf_parse(conf_render(data), secrets=True) == data


def test_what_is_written_is_what_wg_quick_takes() -> None:
    interface = {"address": "192.168.7.9/24", "other": {"DNS": "192.168.7.1"}}
    peer = {
        "name": "hub",
        "public_key": HUB,
        "allowed_ips": ["192.168.7.0/24"],
        "persistent_keepalive_s": "25",
    }
    assert conf_render({"interface": interface, "peers": [peer]}) == (
        "[Interface]\nAddress = 192.168.7.9/24\nDNS = 192.168.7.1\n\n"
        f"[Peer]\n# Name = hub\nPublicKey = {HUB}\nAllowedIPs = 192.168.7.0/24\nPersistentKeepalive = 25\n"
    )


def test_settings_of_a_peer_that_have_no_name_of_their_own_are_kept() -> None:
    data = conf_parse(f"[Peer]\nPublicKey = {HUB}\nAdvancedSecurity = on\n[Peer]\nPublicKey = {ALICE}\n")
    assert [peer.get("other") for peer in data["peers"]] == [{"AdvancedSecurity": ["on"]}, None]
    assert "AdvancedSecurity = on" in conf_render(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Interface]\nListenPort = many\n", "ListenPort = many is not a number"),
        ("[Interface]\nSaveConfig = true\n", "remove that line"),
        ("[Peer]\nAllowedIPs = 192.168.7.9/32\n", "no PublicKey"),
        ("[Peer]\nPublicKey = short\n", "write what `wg pubkey` prints"),
        (7, "takes the text"),
    ],
)
def test_a_configuration_that_cannot_be_read(text: Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        conf_parse(text)


@pytest.mark.parametrize("key", [f"{PRIVATE[:-1]}", f"{PRIVATE[:-3]}*A="], ids=["cut", "no base64"])
def test_a_private_key_that_is_none_is_not_repeated(key: str) -> None:
    with pytest.raises(AnsibleFilterError, match="wg genkey") as parsing:
        conf_parse(f"[Interface]\nPrivateKey = {key}\n")
    with pytest.raises(AnsibleFilterError, match="wg genkey") as rendering:
        conf_render({"interface": {"private_key": key}})
    assert not any(PRIVATE[:20] in str(error.value) for error in (parsing, rendering))


PEER = {"public_key": ALICE, "allowed_ips": []}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (7, "takes a dictionary"),
        ({"interfaces": {}}, "interfaces: write interface and peers only"),
        ({"interface": {"adress": "192.168.7.5/24"}}, "adress"),
        ({"interface": {"address": "192.168.7.5"}}, "has no prefix"),
        ({"interface": {"listen_port": 70000}}, "listen_port 70000: write a number from 1 to 65535"),
        ({"interface": {"post_up": ["a\nPrivateKey = b"]}}, "one line"),
        ({"interface": {"other": {"DNS": "1.1.1.1\n[Peer]"}}}, "other: DNS"),
        ({"interface": {"other": {"MTU": 1420}}}, "other: MTU"),
        ({"interface": {"private_key": PRIVATE, "public_key": ALICE}}, "leave out one of them"),
        ({"peers": [{"public_key": ALICE}]}, "allowed_ips of peer .* is missing"),
        ({"peers": [{**PEER, "endpoint": "hub"}]}, "host:port"),
        ({"peers": [PEER, PEER]}, "is listed twice"),
    ],
)
def test_data_that_cannot_be_written(data: Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        conf_render(data)


def test_a_key_has_three_forms() -> None:
    urlsafe = "0ybDBWFYOKT0aOt3SVx4l4_uHyY7IIbtrUVJfBLjHE8"
    hexadecimal = wireguard_key(ALICE, "hex")
    assert len(hexadecimal) == 64
    for form in (ALICE, urlsafe, f"{urlsafe}=", hexadecimal, hexadecimal.upper()):
        assert is_key(form)
        assert wireguard_key(form) == ALICE
        assert wireguard_key(form, "urlsafe") == urlsafe


@pytest.mark.parametrize("text", ["", "hunter2", ALICE[:-2], f"{ALICE}=", f"{ALICE}\n", "f" * 63, 7, None])
def test_what_is_no_key_is_refused_and_not_repeated(text: Any) -> None:
    assert not is_key(text)
    with pytest.raises(AnsibleFilterError, match="a key is") as error:
        wireguard_key(text)
    assert "hunter2" not in str(error.value)


def test_a_form_that_there_is_not() -> None:
    with pytest.raises(AnsibleFilterError, match="'octal': write one of base64, urlsafe, hex"):
        wireguard_key(ALICE, "octal")
