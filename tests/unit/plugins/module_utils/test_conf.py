# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import conf
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.plugins.module_utils import strategies

KEY = "zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM="
OTHER = "0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8="
BY_HAND = f"""# the VPN of the workshop
[interface]
address=10.0.0.1/24 , fd00::1/64   # both
Address = 10.1.0.1/24
DNS = 10.0.0.53
PrivateKey = {KEY}
FwMark = 0x2a

# this one
# is Alice
[Peer]
PublicKey = {OTHER}
AllowedIPs = 10.0.0.5/32,10.9.1.2/16
PersistentKeepalive = off
# [Peer]
# PublicKey = gone
"""

lines = st.sampled_from(
    [
        *BY_HAND.splitlines(),
        "[Peer]",
        "[Unknown]",
        "nonsense",
        "",
        "  ",
        "#",
        "a = b",
        "AllowedIPs =",
        "Table=off\r",
    ]
) | st.text(max_size=10)


@given(st.lists(lines).map("\n".join))
def test_what_is_only_read_is_rendered_as_it_was(text: str) -> None:
    try:
        parsed = conf.parse(text)
    except ValueError:
        assume(False)
    assert parsed.render() == text


@given(strategies.interfaces, strategies.peers())
def test_what_is_written_is_read(interface: conf.Interface, peers: dict[str, conf.Peer]) -> None:
    written = conf.parse("").with_interface(interface)
    for peer in peers.values():
        written = written.with_peer(peer)
    read = conf.parse(written.render())
    assert read.interface() == interface
    assert read.peers() == peers
    assert written.render().endswith("\n")
    assert "\n\n\n" not in written.render()


@given(strategies.interfaces, strategies.interfaces, strategies.peers(), strategies.peers())
def test_any_state_can_be_written_over_any_other(
    first: conf.Interface, second: conf.Interface, before: dict[str, conf.Peer], after: dict[str, conf.Peer]
) -> None:
    written = conf.parse(BY_HAND).with_interface(first)
    for peer in before.values():
        written = written.with_peer(peer)
    text = written.render()
    written = conf.parse(text).with_interface(second)
    for key in before:
        written = written.without_peer(key)
    for peer in after.values():
        written = written.with_peer(peer)
    again = written.with_interface(second)
    for peer in after.values():
        again = again.with_peer(peer)
    assert again == written
    read = conf.parse(written.render())
    assert read.interface() == second
    assert read.without_peer(OTHER).peers() == after
    for line in ("# the VPN of the workshop", "DNS = 10.0.0.53", "# this one\n# is Alice\n[Peer]"):
        assert line in written.render()


@given(strategies.interfaces, strategies.peers())
def test_a_masked_file_has_no_secret(interface: conf.Interface, peers: dict[str, conf.Peer]) -> None:
    written = conf.parse("").with_interface(interface)
    for peer in peers.values():
        written = written.with_peer(peer)
    secrets = {interface.private_key, *(peer.preshared_key for peer in peers.values())} - {None}
    assume(not secrets & set(peers))
    assert written.secrets() == secrets
    commented = conf.parse("#" + written.render().replace("\n", "\n# "))
    for masked in (written.masked(), written.masked(previous=conf.parse("")), commented.masked()):
        assert not any(secret in masked for secret in secrets if secret)
        assert all(f"PublicKey = {key}" in masked for key in peers)
    assert not any(secret in repr((interface, peers)) for secret in secrets if secret)


def test_a_file_by_hand_is_understood() -> None:
    read = conf.parse(BY_HAND)
    assert read.interface() == conf.Interface(
        addresses=("10.0.0.1/24", "fd00::1/64", "10.1.0.1/24"), private_key=KEY, fwmark=42
    )
    assert read.peers() == {OTHER: conf.Peer(OTHER, ("10.0.0.5/32", "10.9.0.0/16"), None, 0)}


def test_settings_that_mean_the_same_are_not_rewritten() -> None:
    read = conf.parse(BY_HAND)
    assert read.with_peer(replace(read.peers()[OTHER], persistent_keepalive_s=0)).render() == BY_HAND.replace(
        "= off", "= 0"
    )
    again = read.with_interface(read.interface()).render()
    assert "address=10.0.0.1/24 , fd00::1/64   # both\nAddress = 10.1.0.1/24\n" in again


def test_a_peer_goes_with_the_comments_above_it() -> None:
    assert conf.parse(BY_HAND).without_peer(OTHER).render() == BY_HAND[: BY_HAND.index("\n# this one")]
    assert conf.parse(BY_HAND).without_peer(KEY).render() == BY_HAND


def test_a_comment_within_the_section_above_stays_there() -> None:
    text = f"[Peer]\nPublicKey = {KEY}\n# PersistentKeepalive = 25\n[Peer]\nPublicKey = {OTHER}\n"
    assert conf.parse(text).without_peer(OTHER).render() == text[: text.rindex("[Peer]")]


def test_an_interface_section_is_added_in_front_of_peers() -> None:
    text = f"[Peer]\nPublicKey = {KEY}\n"
    added = conf.parse(text).with_interface(conf.Interface(("10.0.0.1/24",)))
    assert added.render() == f"[Interface]\nAddress = 10.0.0.1/24\n\n{text}"


def test_a_file_without_newline_at_its_end_gets_one() -> None:
    added = conf.parse("[Interface]\nMTU = 1400").with_peer(conf.Peer(KEY))
    assert added.render() == f"[Interface]\nMTU = 1400\n\n[Peer]\nPublicKey = {KEY}\n"


def test_secrets_in_comments_and_hooks_are_masked() -> None:
    text = (
        f"#PrivateKey = short\n# psk {KEY}\nPostUp = wg set %i private-key <(echo {KEY})\nPublicKey = {OTHER}"
    )
    masked = conf.parse(text).masked()
    assert masked == (
        "#PrivateKey = <not a key>\n# psk <key>\nPostUp = wg set %i private-key <(echo <key>)\n"
        f"PublicKey = {OTHER}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Interface]\nsaveconfig = True\n", "SaveConfig = true makes wg-quick overwrite"),
        ("[Interface]\n[Interface]\n", "two \\[Interface\\] sections"),
        ("[Interface]\nMTU = big\n", "MTU = big is not a number"),
        ("[Interface]\nListenPort = 0b1\n", "ListenPort = 0b1 is not a number"),
        ("[Peer]\n# Name = bob\n", "has no PublicKey: bob"),
        (f"[Peer]\nPublicKey={KEY}\n" * 2, "peer zcUx7.* has two \\[Peer\\] sections"),
    ],
)
def test_what_cannot_be_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _read_all(text)


def test_save_config_false_is_fine() -> None:
    _read_all("[Interface]\nSaveConfig = false\n# SaveConfig = true\n")


def _read_all(text: str) -> None:
    parsed = conf.parse(text)
    parsed.interface()
    parsed.peers()
